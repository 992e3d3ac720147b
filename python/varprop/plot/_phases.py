"""The picture of a phase diagram: where inputs' correlation ends, and how deep signals go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from varprop._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from varprop.theory import PhaseDiagram

_EDGE = "edge of chaos, χ₁ = 1"
_DEEPEST = 1e4  # the end of the colours of the depth scale


def draw(found: PhaseDiagram, figure: Figure | None) -> Figure:
    """Draw two maps over the grid; grey is where q grows without bound."""
    if figure is None:
        figure = require("matplotlib.figure", "plot").Figure(figsize=(9, 4))
    if figure.get_layout_engine() is None:
        figure.figure.set_layout_engine("constrained")
    colors = require("matplotlib.colors", "plot")
    left, right = figure.subplots(1, 2, sharey=True)
    depth = np.clip(found.xi_c, None, _DEEPEST)  # NaN stays
    positive = depth[depth > 0]
    low = float(positive.min()) if positive.size else 1.0
    high = max(float(positive.max()), 10.0 * low) if positive.size else 10.0
    maps = (
        (left, found.c, colors.Normalize(0, 1), "correlation of two inputs, deep down"),
        (right, depth, colors.LogNorm(low, high), "layers in which it comes nearer by e"),
    )
    for axes, values, norm, title in maps:
        mesh = axes.pcolormesh(
            found.sigma_w,
            found.sigma_b,
            np.ma.masked_invalid(values),
            norm=norm,
            shading="nearest",
            rasterized=True,
        )
        axes.set_facecolor("0.85")
        axes.set_xlabel("sigma_w")
        axes.set_title(title, fontsize="medium")
        figure.colorbar(mesh, ax=axes)
        _edge(axes, found)
    left.set_ylabel("sigma_b")
    unbounded = ", grey: q grows without bound" if (found.phase == "unbounded").any() else ""
    edge = f", line: {_EDGE}" if left.collections[1:] else ""
    figure.suptitle(f"{found.activation}{edge}{unbounded}", fontsize="small", parse_math=False)
    return figure


def _edge(axes: Axes, found: PhaseDiagram) -> None:
    """Draw the line of chi_1 = 1 where the grid has both phases."""
    chi = found.chi_1
    if min(chi.shape) > 1 and np.nanmin(chi) < 1 < np.nanmax(chi):
        chi = np.ma.masked_invalid(chi)
        axes.contour(found.sigma_w, found.sigma_b, chi, [1.0], colors="C3", linewidths=1.5)
