"""A picture of a run: the variance of every layer, and the mean below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from varprop._extras import require
from varprop._report import heading
from varprop._spec import unknown
from varprop._statistics import Fields, FloatArray, Statistics
from varprop.run import SIGNALS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from varprop.run import Run

__all__ = ["plot"]

_CENTRAL = (0.025, 0.975)  # the quantiles of the trials that bound the band
_FEW = 12  # layers whose names have room under the axis
_FLOATS = 300  # decimal logarithms that a float can be the power of, with room for an axis


def plot(
    run: Run,
    signal: Literal["preactivations", "activations"] = "activations",
    *,
    figure: Figure | None = None,
) -> Figure:
    """Draw the variance of every layer on a logarithmic axis, and the mean below it.

    The full lines are those of all trials pooled, which in deep networks hang on the few largest;
    the dashed ones are the medians of the trials, and the bands hold the central 95% of them. Where
    the standard deviation changes more than a thousandfold over the layers, the mean is shown in
    its units. A line above says where values left the range of the dtype.

    Parameters
    ----------
    run : Run
        What to draw.
    signal : {"activations", "preactivations"}
        Whose variance and mean.
    figure : matplotlib Figure, optional
        Where to draw; by default a new figure that pyplot does not know.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if signal not in SIGNALS:
        raise unknown("signal", signal, SIGNALS)
    if figure is None:
        figure = require("matplotlib.figure", "plot").Figure(figsize=(7, 5), layout="constrained")
    pooled: Statistics = getattr(run, signal)
    of = signal.replace("pre", "pre-")
    figure.suptitle("\n".join(heading(run)), fontsize="small", parse_math=False)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))

    logarithms = pooled.log10_var, pooled.per_trial.log10_var
    sizes = logarithms[0][np.isfinite(logarithms[0])]
    if np.all(np.abs(sizes) < _FLOATS):
        if sizes.size:
            upper.set_yscale("log", nonpositive="clip")
        _draw(upper, *(10**values for values in logarithms))
        upper.set_ylabel(f"variance of the\n{of}")
    else:
        _draw(upper, *logarithms)
        upper.set_ylabel(f"log10 variance of\nthe {of}")
    if run.trials > 1:
        upper.legend(frameon=False)
    if run.out_of_range:
        upper.set_title(_out_of_range(run), fontsize="small", color="C3", parse_math=False)

    if sizes.size and np.ptp(sizes) > 6:
        _draw(lower, _relative_mean(pooled), _relative_mean(pooled.per_trial))
        lower.set_ylabel("mean / std")
    else:
        _draw(lower, pooled.mean, pooled.per_trial.mean)
        lower.set_ylabel("mean")
    lower.axhline(0, color="0.5", linewidth=0.8, zorder=0)
    lower.set_xlabel("layer")
    if len(run.layer_names) <= _FEW:
        layers = range(1, len(run.layer_names) + 1)
        lower.set_xticks(layers, run.layer_names, parse_math=False)
        lower.tick_params(axis="x", rotation=30 * (max(map(len, run.layer_names)) > 7))
    else:
        lower.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _out_of_range(run: Run) -> str:
    """Return where values left the range of the dtype, in a line."""
    first = min(run.network.index(layer) for layer, _ in run.out_of_range)
    some = len({trial for _, trial in run.out_of_range})
    trials = f"{some} of {run.trials} trial{'s' if run.trials > 1 else ''}"
    return f"out of the range of {run.dtype} from {run.layer_names[first]} on, in {trials}"


def _draw(axes: Axes, pooled: FloatArray, per_trial: FloatArray) -> None:
    """Draw the lines of the pooled values and of the median trial over the band of the trials."""
    layers = np.arange(1, len(pooled) + 1)
    trials = len(per_trial)
    if trials > 1:
        # Values that some trial has, not between two: zeros and infinities stay what they are.
        low, high = np.quantile(per_trial, _CENTRAL, axis=0, method="inverted_cdf")
        label = f"central 95% of {trials} trials"
        axes.fill_between(layers, low, high, color="0.8", linewidth=0, label=label)
    style = "k.-" if len(pooled) <= 50 else "k-"
    axes.plot(layers, pooled, style, linewidth=1.2, label="all trials pooled")
    if trials > 1:
        with np.errstate(invalid="ignore"):
            median = np.median(per_trial, axis=0)
        axes.plot(layers, median, "C0--", linewidth=1.2, label="median trial")


def _relative_mean(fields: Fields) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(fields.observed["mean"] / np.sqrt(fields.observed["variance"]))
