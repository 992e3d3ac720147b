"""Pictures of a training: Glorot and Bengio's (2010) figures 2, 3, 4, 8 and 9, and others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from varprop._extras import require
from varprop._spec import unknown
from varprop._table import shortened
from varprop.plot._frame import room
from varprop.torch._monitor.record import SIGNALS, LayerStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from varprop.torch._monitor.history import History

Kind = Literal[
    "activations",
    "percentiles",
    "gradients",
    "weight_gradients",
    "updates",
    "saturation",
    "histograms",
]

_MARKS = "osD^v<>ph*"
_MARKED = 60  # records that have room for a mark each
_BARS = 15  # that a layer has room for
_LAYERS = 8  # that are told from each other in one picture
_NAME = 18  # characters of a layer's name
_MARK = 6  # characters that its mark and a gap take
_APART = 10  # times the narrowest layer: how wide others are where each has its own unit
_WORDS = {
    "activations": "activation",
    "gradients": "gradient by the pre-activation",
    "weight_gradients": "weight gradient",
    "weights": "weight",
}


def plot(
    history: History,
    kind: Kind | None = None,
    *,
    layers: Iterable[str] | None = None,
    signal: str = "activations",
    steps: int | Iterable[int] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw a training; see :meth:`varprop.torch._monitor.history.History.plot`."""
    if kind is not None and kind not in get_args(Kind):
        raise unknown("kind", kind, get_args(Kind))
    if signal not in SIGNALS:
        raise unknown("signal", signal, SIGNALS)
    if kind != "histograms" and (signal != "activations" or steps is not None):
        raise ValueError("signal and steps are of kind 'histograms' alone")
    if not history.records:
        raise ValueError("there is no record yet")
    chosen = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
    if kind == "histograms":
        at = _steps(history, signal, steps)
        axes = _canvas(figure, (5.5 * min(3, len(at)), 3.6 * -(-len(at) // 3)), len(at))
        for one, step in zip(axes, at, strict=False):
            _histograms(one, history, signal, step, chosen)
    elif kind is None:
        axes = _canvas(figure, (11, 7.5), 4)
        _DRAW["activations"](axes[0], history, chosen)
        _DRAW["percentiles"](axes[1], history, chosen)
        _histograms(axes[2], history, "weight_gradients", history.records[0].step, None)
        _DRAW["weight_gradients"](axes[3], history, None)
    else:
        axes = _canvas(figure, (7, 4.2), 1)
        _DRAW[kind](axes[0], history, chosen)
    drawn = cast("Figure", axes[0].figure)
    if history.first_nonfinite is not None:
        drawn.suptitle(str(history.first_nonfinite), fontsize="small", color="C3", parse_math=False)
    return drawn


def _canvas(figure: Figure | None, size: tuple[float, float], count: int) -> list[Axes]:
    if figure is None:
        figure = require("matplotlib.figure", "plot").Figure(figsize=size)
    if figure.get_layout_engine() is None:
        figure.figure.set_layout_engine("constrained")
    columns = 2 if count == 4 else min(3, count)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return list(axes[:count])


def _steps(history: History, signal: str, steps: int | Iterable[int] | None) -> list[int]:
    known = history.steps.tolist()
    if steps is None:  # what is recorded after the last step has no gradients
        have = [one.step for one in history.records if one.of(signal).observed["histogram"].any()]
        return list(dict.fromkeys((have or known)[i] for i in (0, -1)))
    asked = [steps] if isinstance(steps, int) else list(steps)
    for step in asked:
        if step not in known:
            near = min(known, key=lambda one: abs(one - step))
            raise ValueError(f"steps: {step!r} is not recorded, the nearest is {near}")
    if not asked:
        raise ValueError("steps must not be empty")
    return asked


def _layers(history: History, found: LayerStatistics, chosen: list[str] | None) -> list[str]:
    """Return the layers to draw, of many so many, evenly."""
    if chosen is not None:
        for layer in chosen:
            found.of(layer)
        return chosen
    hidden = history.hidden
    names = [name for name in found.layer_names if name in hidden]
    names = names or list(
        found.layer_names[:-1] or found.layer_names
    )  # of weights, all but the last
    places = np.linspace(0, len(names) - 1, min(_LAYERS, len(names))).round().astype(int)
    return [names[place] for place in places]


def _lines(
    axes: Axes, history: History, signal: str, chosen: list[str] | None, draw: Callable[..., None]
) -> None:
    """Draw something of each layer over the steps, with a colour and a mark of its own."""
    found: LayerStatistics = getattr(history, signal)
    layers = _layers(history, found, chosen)
    if not layers:
        raise ValueError(f"no layer has {signal.replace('_', ' ')}")
    labels = shortened(layers, _NAME)
    colours = require("matplotlib", "plot").colormaps["viridis"](np.linspace(0, 0.9, len(layers)))
    for i, layer in enumerate(layers):
        place = found.of(layer)
        style = {"color": colours[i], "marker": _MARKS[i % len(_MARKS)], "markersize": 4}
        style["markevery"] = max(1, len(history.records) // _MARKED)
        draw(axes, history.steps, found, place, {**style, "label": labels[i]})
    axes.set_xlabel("step")
    _explain(axes)


def _explain(axes: Axes) -> None:
    """Put the names of the layers above the axes, where no line is."""
    names = axes.get_legend_handles_labels()[1]
    columns = room(axes) // (_MARK + max(map(len, names)))
    legend = axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=max(1, min(columns, 5 if len(names) == 5 else 4)),
        columnspacing=1.2,
        handlelength=1.6,
        fontsize="small",
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a layer may have any name


def _spread(axes: Axes, steps: Any, found: LayerStatistics, i: int, style: dict[str, Any]) -> None:
    every = -(-len(steps) // _BARS)
    bars = (i % every, every)  # of layers side by side, where there is room
    drawn = axes.errorbar(
        steps, found.mean[:, i], found.std[:, i], capsize=2, lw=1, errorevery=bars, **style
    )
    for bar in drawn[2]:
        bar.set_alpha(0.5)


def _percentiles(
    axes: Axes, steps: Any, found: LayerStatistics, i: int, style: dict[str, Any]
) -> None:
    axes.plot(steps, found.std[:, i], lw=1.2, **style)
    axes.plot(steps, found.p98[:, i], ls="none", **style | {"fillstyle": "none", "label": None})


def _std(axes: Axes, steps: Any, found: LayerStatistics, i: int, style: dict[str, Any]) -> None:
    axes.plot(steps, found.std[:, i], lw=1.2, **style)


def _ratio(axes: Axes, steps: Any, found: LayerStatistics, i: int, style: dict[str, Any]) -> None:
    axes.plot(steps, found.update_ratio[:, i], lw=1.2, **style)


def _flat(axes: Axes, steps: Any, found: LayerStatistics, i: int, style: dict[str, Any]) -> None:
    axes.plot(steps, found.saturation[:, i], lw=1.2, **style)
    axes.plot(steps, found.dead[:, i], ls="none", **style | {"fillstyle": "none", "label": None})


def _over_steps(
    signal: str, draw: Callable[..., None], label: str, logarithmic: bool
) -> Callable[[Axes, History, list[str] | None], None]:
    def drawn(axes: Axes, history: History, chosen: list[str] | None) -> None:
        _lines(axes, history, signal, chosen, draw)
        axes.set_ylabel(label)
        values = np.concatenate([line.get_ydata() for line in axes.lines] or [np.empty(0)])
        if signal == "activations" and draw is _flat:
            top = 1.05 * max(0.1, np.nanmax(values, initial=0.0))
            axes.set_ylim(-0.03 * top, top)
        if logarithmic and np.any(np.isfinite(values) & (values > 0)):
            axes.set_yscale("log", nonpositive="mask")

    return drawn


_DRAW: dict[str, Callable[[Axes, History, list[str] | None], None]] = {
    "activations": _over_steps("activations", _spread, "activation: mean and std (bars)", False),
    "percentiles": _over_steps(
        "activations", _percentiles, "activation: std (lines),\n98th percentile (open marks)", False
    ),
    "gradients": _over_steps(
        "gradients", _std, "std of the gradients\nby the pre-activations", True
    ),
    "weight_gradients": _over_steps("weight_gradients", _std, "std of the weight gradients", True),
    "updates": _over_steps("weights", _ratio, "|dw| / |w| of a step", True),
    "saturation": _over_steps(
        "activations", _flat, "share of activations saturated (lines),\nof units dead (open marks)",
        False,
    ),
}  # fmt: skip


def _histograms(
    axes: Axes, history: History, signal: str, step: int, chosen: list[str] | None
) -> None:
    """Draw the densities of a signal of each layer at a step."""
    record = next(record for record in history.records if record.step == step)
    found = record.of(signal)
    layers = _layers(history, found, chosen)
    labels = shortened(layers, _NAME)
    colours = require("matplotlib", "plot").colormaps["viridis"](np.linspace(0, 0.9, len(layers)))
    counts, edges = found.histogram()
    shown = [i for i, layer in enumerate(layers) if counts[found.of(layer)].any()]
    places = [found.of(layers[i]) for i in shown]
    curves = [_density(counts[place], edges[place]) for place in places]
    size = np.array([far for _, _, far in curves])
    own = size.size and np.median(size) > _APART * size.min()
    unit = np.hypot(found.mean[places], found.std[places]) if own else np.ones(len(places))
    reach = float(np.max(size / unit, initial=0.0))
    for i, (x, density, _), scale in zip(shown, curves, unit, strict=True):
        axes.plot(x / scale, density * scale, color=colours[i], lw=1.2, label=labels[i])
    of = " / root mean square of its layer" if own else ""
    axes.set_xlabel(f"{_WORDS[signal]}{of}, step {step}")
    axes.set_ylabel("density")
    if reach > 0:
        axes.set_xlim(-1.05 * reach, 1.05 * reach)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(require("matplotlib.ticker", "plot").MaxNLocator(5))
        _explain(axes)


def _density(
    counts: NDArray[np.int64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return a curve of densities, and how far 99.8% of the numbers reach.

    Bins are put together into some of nearly equal width: those near zero are very narrow.
    """
    inner, bounds = counts[1:-1], edges[1:-1]
    share = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(share, (0.001, 0.999))
    far = float(max(abs(edges[max(low, 1)]), abs(edges[min(high + 1, len(edges) - 2)])))
    kept, last = [0], bounds[0]
    for k in range(1, len(bounds)):
        if bounds[k] - last >= far / 60 or k == len(bounds) - 1:
            kept.append(k)
            last = bounds[k]
    ends = bounds[kept]
    sums = np.add.reduceat(inner, kept[:-1])
    density = sums / counts.sum() / np.diff(ends)
    return (ends[:-1] + ends[1:]) / 2, density, far
