"""Pictures of a sweep: maps over two dimensions of its grid, and curves over the layers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from varprop._extras import require
from varprop._statistics import ON_LOGARITHM, FloatArray
from varprop._sweep import view
from varprop._sweep.boundary import Edge
from varprop._table import shortened
from varprop.plot._frame import STEPS, explain, room

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from xarray import DataArray, Dataset

_SHARES = ("correlation", "saturation", "zero_slope", "dead")
_LABELS = ("layer", "layer_name", "last_layer", "statistic")  # coordinates not of the grid
_DIVERGING = "RdBu_r"
_WEAKEST = 4  # times that one side of zero may be longer than the other, in colours
_FEW = 8  # curves that have room in a legend
_WIDE = 100  # times that values may differ on an even axis
_NAME = 14  # characters of a text on an axis
_GREY = "0.85"


class About(NamedTuple):
    """What a picture is of."""

    dataset: Dataset
    statistic: str
    layer: int | str | None = None

    def words(self, array: DataArray) -> str:
        """Return the quantity, its layer and its statistic in words."""
        trials = self.dataset.attrs.get("trials")
        s = "" if trials == 1 else "s"
        of = " over trials" if trials is None else f" of {trials} trial{s}"
        where = "" if "layer" in array.dims else f", {self._where(array)}"
        return f"{named(array)}{where}, {self.statistic}{of}"

    def _where(self, array: DataArray) -> str:
        name = array.coords["layer_name"].values if "layer_name" in array.coords else ""
        if self.layer is not None:
            number = array.coords["layer"].values
            return f"layer {number}" + (f" ({name})" if str(name) else "")
        return "last layer"


def named(array: DataArray) -> str:
    """Return what a quantity is called in a picture."""
    return str(array.attrs.get("long_name", array.name))


def phases(
    array: DataArray,
    about: About,
    theory: Edge | None,
    level: float | None,
    figure: Figure | None,
) -> Figure:
    """Draw a map over the two dimensions of an array, (y, x), with theory's edge and a level."""
    figure = _canvas(figure, (6.5, 5))
    y, x = map(str, array.dims)
    for name in (x, y):
        if view.is_numeric(array, name):
            array = array.sortby(name)
    axes = figure.subplots()
    values = array.values.astype(np.float64)
    norm, colours = _norm(array, values, about.statistic)
    shown = np.ma.masked_invalid(np.clip(values, norm.vmin, norm.vmax))
    edges = [_axis(axes, which, array, name) for which, name in (("x", x), ("y", y))]
    mesh = axes.pcolormesh(*edges, shown, norm=norm, cmap=colours, rasterized=True)
    axes.set_facecolor(_GREY)
    beyond = (bool(np.any(values == -np.inf)), bool(np.any(values == np.inf)))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    figure.colorbar(mesh, ax=axes, label=named(array), extend=extend.get(beyond, "neither"))
    said = []
    if theory is not None and _is_inside(axes, theory):
        _outlined(axes, theory)
        said.append(f"line: edge of chaos of {theory.activation}, χ₁ = 1")
    if level is not None and min(values.shape) > 1 and _crosses(values, level):
        _level(axes, array, x, y, level)
        said.append(f"dashed: {level:g}")
    if np.isnan(values).any():
        said.append(f"grey: {_grey(array, about.dataset)}")
    heading = [about.words(array), *_fixed(array, (x, y)), *([", ".join(said)] if said else [])]
    _head(figure, heading)
    return figure


def profiles(array: DataArray, about: About, over: str | None, figure: Figure | None) -> Figure:
    """Draw curves over the layers, one for each value of a dimension, with bands of means."""
    figure = _canvas(figure, (7, 4.5))
    numeric = over is not None and view.is_numeric(array, over)
    if over is not None and numeric:
        array = array.sortby(over)
    count = 1 if over is None else array.sizes[over]
    axes = figure.subplots()
    layers = array.coords["layer"].values
    bar = numeric and count > _FEW
    colours = _colours(array, over if numeric else None, count)
    for i in range(count):
        curve = array if over is None else array.isel({over: i})
        label = _label(curve, over)
        rows = (curve.sel(statistic=name).values for name in (about.statistic, "low", "high"))
        values, low, high = (row.astype(np.float64) for row in rows)
        known = ~np.isnan(values)  # layers without the signal are passed over
        style = ".-" if known.sum() <= 50 and count <= _FEW else "-"
        label += "" if known.any() else " (no value)"
        (line,) = axes.plot(layers[known], values[known], style, color=colours[i], label=label)
        if about.statistic == "mean" and count <= _FEW and np.isfinite(low).any():
            band = axes.fill_between(layers[known], low[known], high[known], linewidth=0)
            band.set(color=line.get_color(), alpha=0.2)
    _value_axis(axes, array, about.statistic)
    axes.set_xlabel("layer")
    ticker = require("matplotlib.ticker", "plot")
    axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", steps=STEPS, integer=True))
    axes.set_ylabel(named(array))
    bands = about.statistic == "mean" and bool(axes.collections)
    level = f"{100 * about.dataset.attrs.get('level', 0.95):g}%"
    typical = " of the typical trial" if _field(array) in ON_LOGARITHM else ""
    said = f", bands: {level} intervals{typical}" if bands else ""
    heading = [about.words(array) + said]
    _head(figure, [*heading, *_fixed(array, () if over is None else (over,))])
    if bar and over is not None:
        colors, cm = require("matplotlib.colors", "plot"), require("matplotlib.cm", "plot")
        ends = array.coords[over].values[[0, -1]].astype(np.float64)
        kind = colors.LogNorm if _is_geometric(array.coords[over].values) else colors.Normalize
        figure.colorbar(cm.ScalarMappable(kind(*ends), "viridis"), ax=axes, label=over)
    else:
        explain(figure, axes)
    return figure


def _canvas(figure: Figure | None, size: tuple[float, float]) -> Figure:
    if figure is None:
        figure = require("matplotlib.figure", "plot").Figure(figsize=size)
    if figure.get_layout_engine() is None:
        figure.figure.set_layout_engine("constrained")
    return figure


def _head(figure: Figure, lines: list[str]) -> None:
    text = "\n".join(textwrap.fill(line, room(figure)) for line in lines)
    figure.suptitle(text, fontsize="small", parse_math=False)


def _fixed(array: DataArray, used: tuple[str, ...]) -> list[str]:
    """Return a line of what the grid's other dimensions are, where there are some."""
    texts = [
        f"{name} = {view.values(array.expand_dims(str(name)), str(name))}"
        for name, coordinate in array.coords.items()
        if not coordinate.dims and name not in (*_LABELS, *used)
    ]
    return [", ".join(texts)] if texts else []


def _axis(axes: Axes, which: str, array: DataArray, name: str) -> FloatArray:
    """Label an axis, and return where its cells end: numbers are placed, texts are counted."""
    getattr(axes, f"set_{which}label")(name)
    if not view.is_numeric(array, name):
        texts = [str(text) for text in array.coords[name].values] if name in array.coords else []
        count = array.sizes[name]
        labels = shortened(texts or [str(i) for i in range(count)], _NAME)
        getattr(axes, f"set_{which}ticks")(range(count), labels, parse_math=False)
        if which == "x" and sum(len(label) + 2 for label in labels) > room(axes):
            for text in axes.get_xticklabels():
                text.set(rotation=30, ha="right", rotation_mode="anchor")
        return np.arange(count + 1, dtype=np.float64) - 0.5
    if name == "layer":
        ticker = require("matplotlib.ticker", "plot")
        getattr(axes, f"{which}axis").set_major_locator(ticker.MaxNLocator("auto", integer=True))
    values = array.coords[name].values.astype(np.float64)
    geometric = _is_geometric(values)
    if geometric:
        getattr(axes, f"set_{which}scale")("log")
        values = np.log(values)
    middles = (values[:-1] + values[1:]) / 2
    first, last = (values[1] - values[0], values[-1] - values[-2]) if middles.size else (1.0, 1.0)
    ends = (values[0] - first / 2, values[-1] + last / 2)
    edges: FloatArray = np.concatenate((ends[:1], middles, ends[1:]))
    if geometric:
        edges = np.exp(edges, dtype=np.float64)
    getattr(axes, f"set_{which}lim")(edges[0], edges[-1])
    return edges


def _is_geometric(values: FloatArray) -> bool:
    """Return whether ascending numbers are more even on a logarithmic axis: 64, 128, 256."""
    if len(values) < 3 or values[0] <= 0 or values[-1] < 4 * values[0]:
        return False
    even = [np.ptp(steps) / steps.mean() for steps in (np.diff(values), np.diff(np.log(values)))]
    return bool(even[1] < even[0])


def _norm(array: DataArray, values: FloatArray, statistic: str) -> tuple[Normalize, str]:
    """Return which colours numbers have: around zero where they have both signs."""
    colors = require("matplotlib.colors", "plot")
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if _field(array) in _SHARES and statistic != "std":
        return (colors.Normalize(-1, 1), _DIVERGING) if low < -0.1 else (_unit(colors), "viridis")
    if low < 0.0 < high:
        ends = (min(low, -high / _WEAKEST), max(high, -low / _WEAKEST))
        return colors.TwoSlopeNorm(0.0, *ends), _DIVERGING
    if _is_wide(array, statistic, low, high):
        return colors.LogNorm(low, high), "viridis"
    margin = 0.0 if high > low else 0.5
    return colors.Normalize(low - margin, high + margin), "viridis"


def _field(array: DataArray) -> str:
    return str(array.attrs.get("field", str(array.name).rpartition(".")[2]))


def _is_wide(array: DataArray, statistic: str, low: float, high: float) -> bool:
    """Return whether numbers need a logarithmic scale."""
    logarithm = view.is_logarithm(array) and statistic != "std"
    return not logarithm and low > 0.0 and high > _WIDE * low


def _outlined(axes: Axes, edge: Edge) -> None:
    """Draw theory's line, or a dot where it is one point, to be seen on any colour."""
    effects = require("matplotlib.patheffects", "plot")
    alone = int((np.isfinite(edge.x) & np.isfinite(edge.y)).sum()) == 1
    halo = [effects.Stroke(linewidth=3.5, foreground="white"), effects.Normal()]
    style = "ko" if alone else "k-"
    axes.plot(edge.x, edge.y, style, linewidth=1.5, path_effects=halo)


def _is_inside(axes: Axes, edge: Edge) -> bool:
    """Return whether some of it is on the map."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inside = (left <= edge.x) & (edge.x <= right) & (low <= edge.y) & (edge.y <= high)
    return bool(inside.any())


def _crosses(values: FloatArray, level: float) -> bool:
    known = values[~np.isnan(values)]
    return bool(known.size) and known.min() < level < known.max()


def _level(axes: Axes, array: DataArray, x: str, y: str, level: float) -> None:
    """Draw where the values have a level; infinite ones are as far from it as the farthest."""
    values = array.values.astype(np.float64)
    finite = values[np.isfinite(values)]
    most = float(np.abs(finite - level).max(initial=0.0)) or 1.0
    clipped = np.ma.masked_invalid(np.clip(values, level - most, level + most))
    places = (array.coords[name].values for name in (x, y))
    axes.contour(*places, clipped, [level], colors="k", linewidths=1.5, linestyles="dashed")


def _grey(array: DataArray, dataset: Dataset) -> str:
    """Say why cells are grey: how many of the points failed, and that others have no value."""
    missing, count = array.isnull(), 0
    if "error" in dataset:
        errors = dataset["error"]
        chosen = {name: array.coords[name] for name in errors.dims if name in array.coords}
        failed = (errors.sel(chosen) != "").squeeze(drop=True)
        count, missing = int(failed.sum()), missing & ~failed
    others = int(missing.sum())
    parts = []
    if count:
        parts.append(f"{count} point{'s' * (count > 1)} failed")
    if others:
        parts.append("no value" if not count else f"{others} without a value")
    return ", ".join(parts)


def _colours(array: DataArray, over: str | None, count: int) -> list[object]:
    """Return a colour for each curve: of numbers in order, of texts different ones."""
    if over is None:
        if count <= 10:
            return [f"C{i}" for i in range(count)] if count > 1 else ["k"]
        share = np.linspace(0, 1, count)
    else:
        values = array.coords[over].values.astype(np.float64)
        values = np.log(values) if _is_geometric(values) else values
        share = (values - values[0]) / (np.ptp(values) or 1.0)
        share = share if count > _FEW else 0.9 * share  # yellow lines alone are hard to see
    colours: list[object] = list(require("matplotlib", "plot").colormaps["viridis"](share))
    return colours


def _label(curve: DataArray, over: str | None) -> str:
    if over is None:
        return named(curve)
    if over not in curve.coords:
        return over
    value = curve.coords[over].values.item()
    return f"{over} = {value:.4g}" if isinstance(value, float) else f"{over} = {value}"


def _value_axis(axes: Axes, array: DataArray, statistic: str) -> None:
    """Let the axis be of shares, or logarithmic where positive numbers differ much."""
    values = array.sel(statistic=statistic).values.astype(np.float64)
    known = values[np.isfinite(values)]
    if not known.size:
        return
    if _field(array) in _SHARES and statistic == "mean":
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -1.03), min(high, 1.03))
    elif _is_wide(array, statistic, known.min(), known.max()):
        axes.set_yscale("log", nonpositive="clip")


def _unit(colors: object) -> Normalize:
    norm: Normalize = colors.Normalize(0.0, 1.0)  # type: ignore[attr-defined]
    return norm
