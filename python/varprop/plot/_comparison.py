"""The picture of a comparison: effective learning rates, and the first step's updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from varprop._extras import require
from varprop._table import shortened
from varprop.plot._frame import explain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from varprop._comparison import Comparison

_SHOWN = {"sgd": "SGD", "adam": "Adam"}
_COLOURS = {"sgd": "C0", "adam": "C3"}
_NAME = 20  # characters of a parameter's name


def draw(found: Comparison, figure: Figure | None) -> Figure:
    """Draw one row for each parameter: how b's steps compare with those of a."""
    if figure is None:
        height = 2.4 + 0.3 * len(found.parameters)
        figure = require("matplotlib.figure", "plot").Figure(figsize=(9, min(height, 20)))
    if figure.get_layout_engine() is None:
        figure.figure.set_layout_engine("constrained")
    rates, updates = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(found.parameters))
    for kind, label in _SHOWN.items():
        style = {"color": _COLOURS[kind], "linestyle": "none"}
        ratio = list(found.effective_rate_ratio[kind].values())
        rates.plot(ratio, rows, marker="o", label=f"{label}: measured", **style)
        predicted = 1.0 / np.array(list(found.multipliers[kind].values()))
        rates.plot(
            predicted, rows, marker="|", markersize=14, label=f"{label}: 1 / multiplier", **style
        )
        pairs = np.array(list(found.relative_updates[kind].values()))
        for sizes, net, fill in zip(pairs.T, "ab", ("full", "none"), strict=True):
            updates.plot(
                np.where(np.isfinite(sizes), sizes, np.nan),
                rows + (0.12 if kind == "adam" else -0.12),
                marker="s",
                fillstyle=fill,
                label=f"{label}, {net}",
                **style,
            )
    rates.axvline(1.0, color="0.6", linewidth=0.8, zorder=0)
    rates.set_xlabel("effective learning rate, b / a")
    updates.set_xlabel(
        "|dw| / |w| of the first step\n"
        + ", ".join(f"{label} {found.learning_rates[kind]:g}" for kind, label in _SHOWN.items())
    )
    rates.set_yticks(rows, shortened(list(found.parameters), _NAME), parse_math=False)
    rates.set_ylim(len(rows) - 0.5, -0.5)
    for axes in (rates, updates):
        _scale(axes)
    size = float(np.max(found.measured["size"]))
    same = "the same function" if found.same_function else "different functions"
    figure.suptitle(
        f"{same}: outputs of up to {size:.3g} differ by at most {found.difference:.2g}",
        fontsize="medium",
    )
    explain(figure, rates, updates)
    return figure


def _scale(axes: Axes) -> None:
    """Let the axis be logarithmic, at least two decades wide."""
    numbers = np.concatenate([np.ravel(line.get_xdata()) for line in axes.lines]).astype(float)
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    if not numbers.size:
        return
    low, high = np.log10(numbers.min()), np.log10(numbers.max())
    margin = max(0.05 * (high - low), (2.0 - (high - low)) / 2, 0.1)
    axes.set_xscale("log", nonpositive="mask")
    axes.set_xlim(10 ** (low - margin), 10 ** (high + margin))
    axes.minorticks_off()
    axes.grid(axis="x", color="0.9")
