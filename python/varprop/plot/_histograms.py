"""Glorot and Bengio's (2010) figures 6 and 7: the distributions of signals and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop import _histogram
from varprop._extras import require
from varprop._statistics import FloatArray, Statistics
from varprop.plot._frame import Signal, canvas, explain, names, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from varprop.activations import ActivationFunction
    from varprop.run import Run

_TAIL = 0.5  # percent of a layer's numbers left out at each end of a histogram's axis
_HIDES = 3  # times the rest of a curve: a higher peak of zeros is left out
_PEAKED = 10  # the peak above which the axis is logarithmic
_APART = 10  # times wider than the narrowest the middle layer may be before each has its own unit
_WIDEST = 1.5  # times the second widest layer: what an axis shows of the widest
_UNBOUNDED = (-math.inf, math.inf)
_DASHES = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (2, 1.2)), (0, (6, 2, 1, 2, 1, 2)), (0, (1, 1)))


def histograms(run: Run, signal: Signal, figure: Figure | None) -> Figure:
    """Draw a curve for each layer, or for some; of its gradients too where there are any."""
    panels = {words(signal)[:-1]: getattr(run, signal)}
    if "gradients" in run.observed:
        panels["gradient by the pre-activation"] = run.gradients
    for statistics in panels.values():
        statistics.histogram()  # or the error that says how to collect it
    last = len(run.layer_names) - 1
    chosen = np.linspace(0, last, min(last + 1, len(_DASHES))).round().astype(int)
    figure = canvas(run, figure, (10.5 if len(panels) > 1 else 7, 4.5))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for one, (of, statistics) in zip(axes, panels.items(), strict=True):
        bounds = [_UNBOUNDED] * len(chosen)
        if of == "activation":
            bounds = [_bounds(run.network.steps[layer].activation) for layer in chosen]
        _densities(one, statistics, chosen, bounds, of)
    labels = names(run)
    for line, layer in zip(axes[0].lines, chosen, strict=True):
        line.set_label(labels[layer])
    explain(figure, axes[0])
    return figure


def _bounds(phi: ActivationFunction | None) -> tuple[float, float]:
    """Return between which numbers the activations lie."""
    if phi is None:
        return _UNBOUNDED
    values = phi.value([-1e300, -1e3, *np.linspace(-10, 10, 2001), 1e3, 1e300])
    low, high = float(values.min()), float(values.max())
    return low if low > -100 else -math.inf, high if high < 100 else math.inf


def _densities(
    axes: Axes,
    statistics: Statistics,
    chosen: NDArray[np.int64],
    bounds: Sequence[tuple[float, float]],
    of: str,
) -> None:
    """Draw the distributions of some layers, on an axis that suits most of them."""
    counts, mean, variance, exponent = (
        statistics.observed[key][chosen] for key in ("histogram", "mean", "variance", "exponent")
    )
    shapes = [
        _shape(count, *np.ldexp(ends, -power))
        for count, ends, power in zip(counts, bounds, exponent, strict=True)
    ]
    if _far_apart(shapes, exponent):
        size = np.hypot(mean, np.sqrt(variance))
        unit = 1 / np.where(np.isfinite(size) & (size > 0), size, np.nan)
        of += " / root mean square of its layer"
    else:
        unit = np.ldexp(1.0, exponent)
    colors = require("matplotlib", "plot").colormaps["viridis"](np.linspace(0, 0.75, len(chosen)))
    for shape, scale, color, dashes in zip(shapes, unit, colors, _DASHES, strict=False):
        axes.plot(shape.x * scale, shape.density / scale, color=color, linestyle=dashes)
    ends = np.array([shape.ends for shape in shapes]) * unit[:, None]
    ends = ends[np.isfinite(ends).all(axis=1)]
    if ends.size:
        widest = _WIDEST * np.sort(np.abs(ends).max(axis=1))[-2:][0]
        left, right = max(ends.min(initial=0), -widest), min(ends.max(initial=0), widest)
        margin = 0.1 * (right - left)
        axes.set_xlim(left - margin, right + margin)
    axes.ticklabel_format(scilimits=(-3, 4), useMathText=True)
    peaks = [shape.peak for shape in shapes if shape.x.size]
    if peaks and np.median(peaks) > _PEAKED:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(bottom=axes.get_ylim()[1] / 1e5)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(of)
    axes.set_ylabel("density")
    zeros = [shape.zeros for shape in shapes]
    if any(zeros):
        least, most = (f"{share:.0%}" for share in (min(filter(None, zeros)), max(zeros)))
        share = most if least == most else f"{least} to {most}"
        axes.set_title(f"not drawn: {share} at or close to zero", fontsize="medium")


class _Shape(NamedTuple):
    """The distribution of a layer's numbers, all over a power of two."""

    x: FloatArray
    density: FloatArray
    ends: tuple[float, float]  # beyond which there are few numbers; NaN where there are none
    zeros: float  # the share that is left out for being zero
    peak: float = 0.0  # the density near zero times the reach, of a normal 1

    @property
    def reach(self) -> float:
        """The distance from zero to the farther end."""
        return max(-self.ends[0], self.ends[1])


def _far_apart(shapes: Sequence[_Shape], exponent: NDArray[np.int64]) -> bool:
    """Tell whether an axis for most layers would not show the narrow ones, or has no numbers."""
    octaves = np.log2([shape.reach for shape in shapes]) + exponent
    octaves = octaves[np.isfinite(octaves)]
    if not octaves.size:
        return False
    apart = np.median(octaves) - octaves.min() > math.log2(_APART)
    return bool(apart or np.abs(octaves).max() > 1000)


def _shape(counts: NDArray[np.int64], low: float, high: float) -> _Shape:
    """Join the fine bins of a layer between its bounds into those of a curve.

    These are the multiples of a power of two, but for zero, and far out, where the fine bins are
    wider, they themselves. What was counted in a bin that begins at a bound goes to the last.
    Zeros, where they are a peak that hides the rest, go nowhere.
    """
    fine, middle, total = _histogram.EDGES, _histogram.BINS // 2, max(counts.sum(), 1)
    zeros = counts[middle] / total
    others = np.where(np.arange(len(counts)) == middle, 0, counts)
    if not others.any():
        return _Shape(np.zeros(0), np.zeros(0), (math.nan, math.nan), zeros)
    magnitudes = np.where(fine[:-1] > 0, others + others[::-1], 0)
    typical = float(_histogram.percentile(magnitudes, 50))
    left, right = (float(_histogram.percentile(others, q)) for q in (_TAIL, 100 - _TAIL))
    octave = math.floor(min(math.log2(typical), math.log2(max(-left, right)) - 2))
    with np.errstate(invalid="ignore"):
        edges = fine[(fine % 2.0 ** (octave - 2) == 0) | np.isinf(fine)]
    edges = np.unique(edges.clip(low, high))
    place = (np.searchsorted(edges, fine[:-1], side="right") - 1).clip(0, len(edges) - 2)
    widths = np.diff(edges)
    density = np.bincount(place, counts, minlength=len(widths)) / widths / total
    near = place[middle]
    if density[near] > _HIDES * np.delete(density, near).max(initial=0):
        count = counts[place == near].sum() - counts[middle]
        width = widths[near] - (min(high, fine[middle + 1]) - max(low, fine[middle]))
        density[near] = count / width / total if width else np.nan
    else:
        zeros = 0.0
    x = (edges[:-1] + edges[1:]) / 2
    if math.isfinite(low):
        x, density = np.array([low, low, *x]), np.array([0, density[0], *density])
    if math.isfinite(high):
        x, density = np.array([*x, high, high]), np.array([*density, density[-1], 0])
    finite = np.isfinite(x) & np.isfinite(density)
    x, density = x[finite], density[finite]
    reach = max(-left, right)
    peak = float(density.max(where=np.abs(x) < reach / 4, initial=0)) * reach
    return _Shape(x, density, (left, right), zeros, peak if math.isinf(high) else 0.0)
