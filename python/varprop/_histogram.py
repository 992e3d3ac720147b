"""Counts of numbers in fixed bins, 16 in each octave of magnitude: shifted, pooled, read off."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Counts = NDArray[np.int64]

PARTS = 16  # equal bins in each octave
OCTAVES = range(-10, 6)  # an octave o holds the magnitudes from 2^o up to 2^(o + 1)

_STARTS = np.ldexp(1 + np.arange(PARTS) / PARTS, np.array(OCTAVES)[:, None]).ravel()
_MAGNITUDES = np.array([*_STARTS, 2.0**OCTAVES.stop, np.inf])

#: The ends of the bins, ascending: two that are open, one around zero, and 256 to either side.
EDGES = np.concatenate([-_MAGNITUDES[::-1], _MAGNITUDES])
BINS = len(EDGES) - 1

_MIDDLE = BINS // 2
_STEPS = np.arange(BINS) - _MIDDLE  # bins away from the middle one


def pooled(counts: Counts, octaves: NDArray[np.int64]) -> Counts:
    """Return the counts of all trials' numbers, each trial's multiplied by a power of two.

    What leaves the window falls into an end or the middle; numbers beyond an end move as if they
    were next to it.

    Parameters
    ----------
    counts : ndarray of int, shape (trials, layers, 515)
    octaves : ndarray of int, shape (trials, layers)
        The powers of two.

    Returns
    -------
    ndarray of int, shape (layers, 515)
    """
    octaves = octaves.clip(-len(OCTAVES) - 1, len(OCTAVES))  # beyond, nothing changes any more
    total = np.zeros(counts.shape[1:], np.int64)
    for shift in np.unique(octaves):
        part = counts.sum(axis=0, where=(octaves == shift)[..., None])
        distance = (np.abs(_STEPS) + PARTS * shift).clip(0, _MIDDLE)
        np.add.at(total.T, _MIDDLE + np.sign(_STEPS) * distance, part.T)
    return total


def percentile(counts: Counts, q: float) -> FloatArray:
    """Return the number below which q percent of the numbers lie, linear inside a bin.

    Numbers in the middle bin count as zero, those beyond the ends as the ends.

    Parameters
    ----------
    counts : ndarray of int, shape (..., 515)
    q : float
        From 0 to 100.

    Returns
    -------
    ndarray, shape (...)
        NaN where nothing was counted.
    """
    low, high = EDGES[:-1].clip(EDGES[1], EDGES[-2]), EDGES[1:].clip(EDGES[1], EDGES[-2])
    low[_MIDDLE] = high[_MIDDLE] = 0
    below = counts.cumsum(axis=-1)
    wanted = below[..., -1] * (q / 100)
    # The first bin that reaches so far; an empty one never is.
    place = (below < np.maximum(wanted, 0.5)[..., None]).sum(axis=-1).clip(max=BINS - 1)

    def there(values: NDArray[Any]) -> FloatArray:
        return np.asarray(np.take_along_axis(values, place[..., None], axis=-1)[..., 0])

    inside = there(counts)
    share = (wanted - (there(below) - inside)) / np.maximum(inside, 1)
    value = low[place] + share * (high[place] - low[place])
    return np.where(below[..., -1] > 0, value, np.nan)
