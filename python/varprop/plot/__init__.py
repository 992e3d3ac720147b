"""Pictures of a run: variances, histograms, saturation and gradients, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from varprop._spec import unknown
from varprop.plot import _histograms, _layers
from varprop.plot._frame import Signal

if TYPE_CHECKING:
    from typing import Literal

    from matplotlib.figure import Figure

    from varprop.run import Run

__all__ = ["plot"]

_KINDS = {
    "histograms": _histograms.histograms,
    "saturation": _layers.shares,
    "weight_gradients": _layers.parameters,
}


def plot(
    run: Run,
    signal: Signal = "activations",
    *,
    kind: Literal["variance", "histograms", "saturation", "weight_gradients"] = "variance",
    theory: bool = False,
    figure: Figure | None = None,
) -> Figure:
    """Draw a run, layer by layer.

    - "variance": the variance on a logarithmic axis of at least two decades, and the mean below it
      (where the standard deviation changes more than a thousandfold, in its units). After a
      backward pass beside them the variance of the gradients by the pre-activations, and by the
      weights below. Above, the verdict, and where values left the range of the dtype.
    - "histograms": Glorot and Bengio's (2010) figures 6 and 7, the distributions of the signal and
      of its gradients, a curve for each layer or for six. Zeros are left out where they hide
      the rest, and a line says so. Where the layers differ too much for one axis, each is in units
      of its root mean square; where they have sharp peaks and long tails, densities are on a
      logarithmic axis. Needs the statistic "histogram".
    - "saturation": the shares of saturated activations, of slopes that are zero and of dead units.
      Needs the statistic "saturation".
    - "weight_gradients": the variances of the gradients by weights and biases, level or not. Needs
      a backward pass.

    Full lines are those of all trials pooled: variances in deep networks hang on the few largest.
    Dashed ones are the medians of the trials, and bands hold the central 95% of them.

    Parameters
    ----------
    run : Run
        What to draw.
    signal : {"activations", "preactivations"}
        Of which signal going forward the variance or the histograms are.
    kind : {"variance", "histograms", "saturation", "weight_gradients"}
        Which picture.
    theory : bool
        Of kind "variance": whether to draw what theory has beside it, of infinite width and, as far
        as it knows, of the typical trial; and below z, how many standard errors the trials are from
        it: see :meth:`varprop.Run.theory`.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw; by default a new figure that pyplot does not know.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        The signal or the kind is unknown, or what it shows was not collected; or theory is asked
        for, of a run of one trial or another kind.
    NotImplementedError
        There is no theory of the network, or of its given inputs.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([100] * 6, "tanh", weight="torch_linear")
    >>> run = vp.simulate(net, inputs=50, backward=True, statistics="histogram")
    >>> [axes.get_xlabel() for axes in run.plot(kind="histograms").axes]
    ['activation', 'gradient by the pre-activation']
    """
    if signal not in get_args(Signal):
        raise unknown("signal", signal, get_args(Signal))
    if kind not in ("variance", *_KINDS):
        raise unknown("kind", kind, ("variance", *_KINDS))
    if kind in ("saturation", "weight_gradients") and signal != "activations":
        raise ValueError(f"signal must be 'activations' for kind {kind!r}, got {signal!r}")
    if theory and kind != "variance":
        raise ValueError(f"theory must be False for kind {kind!r}, got True")
    if kind == "variance":
        return _layers.variances(run, signal, figure, run.theory() if theory else None)
    return _KINDS[kind](run, signal, figure)
