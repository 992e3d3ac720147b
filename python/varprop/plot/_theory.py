"""Theory in the picture of a run: lines beside the variances, and z below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from varprop.plot._frame import Signal
    from varprop.theory import Agreement, Beside, LayerMoments

_MARKED = 50  # layers that have room for a dot each


def draw(axes: NDArray[np.object_], beside: Agreement, signal: Signal) -> None:
    """Draw theory into the axes of variances, (3, 1) or with the way back (3, 2)."""
    limit, found = getattr(beside.propagation, signal), getattr(beside, signal)
    _lines(axes[0, 0], limit, found)
    if axes[1, 0].get_ylabel() == "mean":
        layers = np.arange(1, len(limit.mean) + 1)
        axes[1, 0].plot(layers, limit.mean, "C1-.", linewidth=1.2)
    _deviations(axes[2, 0], beside, found)
    if axes.shape[1] == 1:
        return
    if beside.gradients is None:
        axes[2, 1].set_title("no theory of gradients of this loss", fontsize="medium")
        axes[2, 1].set_yticks([])
        return
    _lines(axes[0, 1], beside.propagation.gradients, beside.gradients)
    _deviations(axes[2, 1], beside, beside.gradients)


def _lines(axes: Axes, limit: LayerMoments, found: Beside) -> None:
    """Draw variances of infinite width, and of the typical trial, whatever the axis is of."""
    layers = np.arange(1, len(limit.mean) + 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.log10(limit.var) - limit.log10_second_moment  # of the mean square
        curves = (np.log10(limit.var), found.theory + share)
        if axes.get_yscale() == "log":
            curves = (10 ** curves[0], 10 ** curves[1])
    low, high = axes.get_ylim()
    names = ("theory: infinite width", "theory: typical trial")
    for curve, style, name in zip(curves, ("C1-.", "C3:"), names, strict=True):
        axes.plot(layers, curve, style, linewidth=1.5, label=name)
        known = curve[np.isfinite(curve) & ((curve > 0.0) | (axes.get_yscale() != "log"))]
        low, high = min(low, known.min(initial=low)), max(high, known.max(initial=high))
    axes.set_ylim(low, high)


def _deviations(axes: Axes, beside: Agreement, found: Beside) -> None:
    """Draw z of each layer, between the bounds beyond which a run disagrees."""
    layers = np.arange(1, len(found.z) + 1)
    axes.axhline(0.0, color="0.5", linewidth=0.8, zorder=0)
    for bound in (-beside.bound, beside.bound):
        axes.axhline(bound, color="C3", linewidth=0.8, linestyle="--", zorder=0)
    axes.plot(layers, found.z, "k." if len(layers) <= _MARKED else "k-", linewidth=1.0)
    most = 1.2 * max(beside.bound, np.nanmax(np.abs(found.z), initial=0.0))
    axes.set_ylim(-most, most)
    axes.set_ylabel("z")
