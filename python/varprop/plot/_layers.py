"""Pictures of numbers by layer: variances and means, saturation, the gradients of parameters."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from varprop import _catalogue
from varprop._extras import require
from varprop._statistics import Fields, FloatArray, Statistics
from varprop.plot import _theory
from varprop.plot._frame import STEPS, Signal, canvas, explain, names, room, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from varprop.run import Run
    from varprop.theory import Agreement

_CENTRAL = (0.025, 0.975)  # the quantiles of the trials that bound the band
_FEW = 12  # layers whose names have room under the axis
_MARKED = 50  # layers that have room for a dot each
_FLOATS = 300  # decimal logarithms that a float can be the power of, with room for an axis


def variances(
    run: Run, signal: Signal, figure: Figure | None, beside: Agreement | None = None
) -> Figure:
    """Draw variances and means, and the way back beside the way forward."""
    back = "gradients" in run.observed
    forward: Statistics = getattr(run, signal)
    height = 5.5 if beside is None else 7.0
    figure = canvas(run, figure, (10.5 if back else 7, height))
    rows = (2, 1) if beside is None else (2, 1, 1)
    axes = figure.subplots(len(rows), 1 + back, sharex=True, height_ratios=rows, squeeze=False)
    _variance(axes[0, 0], run, forward, f"variance of the\n{words(signal)}")
    _mean(axes[1, 0], run, forward)
    _head(axes[0, 0], run, "forward")
    if back:
        of = "variance of the gradients\nby the pre-activations"
        _variance(axes[0, 1], run, run.gradients, of)
        _variance(axes[1, 1], run, run.weight_gradients, "variance of the\nweight gradients")
        _head(axes[0, 1], run, "backward")
    if beside is not None:
        _theory.draw(axes, beside, signal)
    _name_layers(axes[-1], run)
    explain(figure, axes[0, 0])
    return figure


def parameters(run: Run, _signal: Signal, figure: Figure | None) -> Figure:
    """Draw the variances of the gradients by weights and biases."""
    gradients = {"weight": run.weight_gradients, "bias": run.bias_gradients}
    figure = canvas(run, figure, (10.5, 4))
    axes = figure.subplots(1, 2, sharex=True)
    for one, (name, statistics) in zip(axes, gradients.items(), strict=True):
        _variance(one, run, statistics, f"variance of the {name} gradients")
    _name_layers(axes, run)
    explain(figure, axes[0])
    return figure


def shares(run: Run, _signal: Signal, figure: Figure | None) -> Figure:
    """Draw what share is saturated, has a slope of zero, is dead."""
    activations, trials = run.activations, run.activations.per_trial
    bound = _catalogue.threshold(run.statistics)
    lines = (
        (f"saturated: |phi'| < {bound:g}", activations.saturation, trials.saturation, "k-", "o"),
        ("zero slope: phi' = 0", activations.zero_slope, trials.zero_slope, "C0--", "s"),
        ("dead units: in the whole batch", activations.dead, trials.dead, "C3:", "^"),
    )
    figure = canvas(run, figure, (7, 4))
    axes = figure.subplots()
    layers = _places(run, activations)
    for label, pooled, per_trial, style, marker in lines:
        if len(layers) <= _MARKED:
            style += marker
        (line,) = axes.plot(layers, pooled, style, markersize=5, fillstyle="none", label=label)
        if run.trials > 1:
            _band(axes, layers, per_trial, color=line.get_color(), alpha=0.2)
    top = max(0.1, axes.get_ylim()[1])
    axes.set_ylim(-0.03 * top, top)
    axes.set_ylabel("share of activations\n(dead: of units)")
    if run.trials > 1:
        axes.collections[0].set_label(f"central 95% of {run.trials} trials")
    _name_layers([axes], run)
    explain(figure, axes)
    return figure


def _head(axes: Axes, run: Run, direction: str) -> None:
    """Write the verdict on a direction above it, and where it left the range of the dtype."""
    sentence = str(run.verdict).partition(f"{direction}: ")[2].partition("\n")[0]
    title = f"{direction}: {sentence.partition(' (')[0]}"
    if run.verdict.details[direction].fragile:
        title += ", but fragile"
    if run.out_of_range and direction == "forward":
        first = min(run.network.index(layer) for layer, _ in run.out_of_range)
        some = len({trial for _, trial in run.out_of_range})
        trials = f"{some} of {run.trials} trial{'s' if run.trials > 1 else ''}"
        title += f"\nout of the range of {run.dtype} from {run.layer_names[first]} on, in {trials}"
    lines = (textwrap.fill(line, room(axes)) for line in title.splitlines())
    axes.set_title("\n".join(lines), fontsize="medium", parse_math=False)


def _name_layers(lowest: Sequence[Axes], run: Run) -> None:
    """Label the axis of the layers: with their names where these are few."""
    count = len(run.layer_names)
    margin = 0.05 * (count - 1) or 0.5
    for axes in lowest:
        axes.set_xlabel("layer")
        axes.set_xlim(1 - margin, count + margin)
        if count > _FEW:
            ticker = require("matplotlib.ticker", "plot")
            axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", steps=STEPS, integer=True))
            continue
        labels = names(run)
        axes.set_xticks(range(1, count + 1), labels, parse_math=False)
        if sum(len(label) + 2 for label in labels) > room(axes):
            for text in axes.get_xticklabels():
                text.set(rotation=30, ha="right", rotation_mode="anchor")


def _places(run: Run, statistics: Statistics) -> NDArray[np.int64]:
    """Return where on the axis the layers are that have a signal; the first is at 1."""
    places = {name: place for place, name in enumerate(run.layer_names, start=1)}
    return np.array([places[name] for name in statistics.layer_names], np.int64)


def _variance(axes: Axes, run: Run, pooled: Statistics, label: str) -> None:
    """Draw variances, as logarithms where they are beyond the range of floats."""
    layers, logarithms = _places(run, pooled), (pooled.log10_var, pooled.per_trial.log10_var)
    sizes = logarithms[0][np.isfinite(logarithms[0])]
    if np.all(np.abs(sizes) < _FLOATS):
        _draw(axes, run, layers, *(10**values for values in logarithms))
        if sizes.size:
            axes.set_yscale("log", nonpositive="clip")
            low, high = np.log10(axes.get_ylim())
            missing = max(0, 2 - (high - low)) / 2
            if high - low > 6:
                ticker = require("matplotlib.ticker", "plot")
                exponents = ticker.MaxNLocator(6, steps=STEPS).tick_values(low, high)
                axes.set_yticks(10**exponents)
                axes.minorticks_off()
            axes.set_ylim(10 ** (low - missing), 10 ** (high + missing))
        axes.set_ylabel(label)
    else:
        _draw(axes, run, layers, *logarithms)
        axes.set_ylabel(f"log10 {label}")


def _mean(axes: Axes, run: Run, pooled: Statistics) -> None:
    """Draw means; an axis of a tenth of the standard deviation lets those near zero be so."""
    layers, sizes = _places(run, pooled), pooled.log10_var[np.isfinite(pooled.log10_var)]
    if sizes.size and np.ptp(sizes) > 6:
        _draw(axes, run, layers, _relative_mean(pooled), _relative_mean(pooled.per_trial))
        axes.set_ylabel("mean / std")
        least = 0.1
    else:
        _draw(axes, run, layers, pooled.mean, pooled.per_trial.mean)
        axes.set_ylabel("mean")
        least = 0.1 * 10 ** (min(_FLOATS, sizes.max(initial=-_FLOATS)) / 2)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -least), max(high, least))
    axes.axhline(0, color="0.5", linewidth=0.8, zorder=0)


def _relative_mean(fields: Fields) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(fields.observed["mean"] / np.sqrt(fields.observed["variance"]))


def _draw(
    axes: Axes, run: Run, layers: NDArray[np.int64], pooled: FloatArray, per_trial: FloatArray
) -> None:
    """Draw the lines of the pooled values and of the median trial over the band of the trials.

    Of a model that was profiled lines are those of its blocks, other modules are dots.
    """
    if run.network.blocks:
        line = np.isin(layers - 1, run.network.blocks)
        axes.plot(layers[~line], pooled[~line], ".", color="0.6", label="other modules")
        layers, pooled, per_trial = layers[line], pooled[line], per_trial[:, line]
        if not layers.size:
            return
    trials = len(per_trial)
    if trials > 1:
        _band(axes, layers, per_trial, color="0.8", label=f"central 95% of {trials} trials")
    style = "k.-" if len(pooled) <= _MARKED else "k-"
    axes.plot(layers, pooled, style, linewidth=1.2, label="all trials pooled")
    if trials > 1:
        with np.errstate(invalid="ignore"):
            median = np.median(per_trial, axis=0)
        axes.plot(layers, median, "C0--", linewidth=1.2, label="median trial")


def _band(axes: Axes, layers: NDArray[np.int64], per_trial: FloatArray, **style: Any) -> None:
    # Values that some trial has, not between two: zeros and infinities stay what they are.
    low, high = np.quantile(per_trial, _CENTRAL, axis=0, method="inverted_cdf")
    axes.fill_between(layers, low, high, linewidth=0, **style)
