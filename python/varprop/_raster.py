"""Filling convex polygons: in every row of pixels a polygon is one interval of columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def spans(x: Floats, y: Floats, height: int, width: int) -> tuple[Floats, Floats]:
    """Return the first column inside of each polygon in every row, and the first one after it.

    A pixel is inside where its centre is; a centre on the outline is inside on the left and the
    upper side only, so that polygons which share a side share no pixel.

    Parameters
    ----------
    x, y : ndarray, shape (corners, polygons)
        Corners of convex polygons, in pixels, y down; clockwise as one sees them.

    Returns
    -------
    begin, end : ndarray, shape (height, polygons)
        Whole numbers of 0 to `width`; equal where the polygon has no pixel in the row.
    """
    centres = np.arange(height)[:, np.newaxis] + 0.5
    left = np.full((height, x.shape[1]), -np.inf)
    right = np.full_like(left, np.inf)
    run, rise = np.roll(x, -1, axis=0) - x, np.roll(y, -1, axis=0) - y
    slope = np.divide(run, rise, out=np.zeros_like(run), where=rise != 0.0)
    on_left = np.where(rise < 0.0, x, -np.inf)  # clockwise: the left side goes up
    on_right = np.where(rise > 0.0, x, np.inf)
    along = np.empty_like(left)
    bound = np.empty_like(left)
    for side in range(len(x)):
        np.subtract(centres, y[side], out=along)
        along *= slope[side]
        np.maximum(left, np.add(along, on_left[side], out=bound), out=left)
        np.minimum(right, np.add(along, on_right[side], out=bound), out=right)
    within = (y.min(axis=0) <= centres) & (centres < y.max(axis=0))
    begin = np.clip(np.ceil(left - 0.5), 0.0, width)
    end = np.clip(np.ceil(right - 0.5), begin, width)
    return begin, np.where(within, end, begin)


def fill(begin: NDArray[np.integer], end: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Return the columns from `begin` to before `end` of every row, along a new last axis."""
    columns = np.arange(width, dtype=begin.dtype)
    inside: NDArray[np.bool_] = columns >= begin[..., np.newaxis]
    inside &= columns < end[..., np.newaxis]
    return inside
