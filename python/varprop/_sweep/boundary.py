"""Boundaries in a sweep: where a quantity crosses a level, and where theory has the edge."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from varprop import activations
from varprop._statistics import FloatArray
from varprop._sweep import view

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

_POINTS = 65  # of theory's line
_LABELS = ("layer_name", "statistic")  # coordinates that are not of the grid


class Edge(NamedTuple):
    """Theory's critical line on a map."""

    activation: str
    x: FloatArray
    y: FloatArray


def crossing(x: FloatArray, values: FloatArray, level: float) -> FloatArray:
    """Return where values, along their last axis, first reach or cross a level.

    Between neighbours they are taken as a straight line; where one is infinite, the other one's x
    is it, and between two infinities the middle.

    Parameters
    ----------
    x : ndarray, shape (n,), ascending
    values : ndarray, shape (..., n)
    level : float

    Returns
    -------
    ndarray, shape (...)
        NaN where they do not, or only across a NaN.

    Examples
    --------
    >>> print(crossing(np.array([1.0, 2.0, 4.0]), np.array([[-1.0, -0.5, 0.5], [3, 2, 1]]), 0.0))
    [ 3. nan]
    """
    # Where a value is the level, a piece of no length: it comes before the one that starts there.
    starts = np.repeat(np.arange(len(x)), 2)[:-1]
    ends = np.repeat(np.arange(len(x)), 2)[1:]
    above = np.sign(values - level)
    hit = above[..., starts] * above[..., ends] < 0
    hit[..., ::2] = above == 0
    first = hit.argmax(axis=-1)
    before = np.take_along_axis(values, starts[first][..., None], -1)[..., 0]
    after = np.take_along_axis(values, ends[first][..., None], -1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(before == level, 0.0, (level - before) / (after - before))
    lost, gone = np.isinf(before), np.isinf(after)
    share = np.where(lost | gone, 0.5 * (1.0 + lost - gone), share)
    share = np.where(hit.any(axis=-1), share, np.nan)
    return np.asarray(x[starts[first]] + share * (x[ends[first]] - x[starts[first]]))


def activation(dataset: Dataset) -> str | None:
    """Return the activation of all networks of a sweep; None where they differ or none is known.

    Of networks that are all chains of dense layers the sweep knows their activations; of several a
    text of the grid may tell which. The last layer may have another, which no signal has to pass.
    """
    known = [_named(name) for name in _listed(dataset.attrs.get("activations", ""))]
    texts = [
        coordinate
        for name, coordinate in dataset.coords.items()
        if coordinate.dtype.kind in "OUST" and name not in _LABELS
    ]
    told = {name for text in texts if text.size == 1 and (name := _named(str(text.values.item())))}
    chosen = [name for name in known if name and (len(known) == 1 or name in told)]
    return chosen[0] if len(chosen) == 1 else None


def _listed(text: str) -> list[str]:
    """Return the parts of "tanh, leaky_relu(slope=0.1, ...)", commas within brackets left alone."""
    return [part for part in re.split(r",\s*(?![^(]*\))", text) if part]


def _named(text: str) -> str | None:
    try:
        return str(activations.resolve(text))
    except (TypeError, ValueError):
        return None


def _edge(phi: str, sigma_b: FloatArray) -> FloatArray | None:
    """Return theory's critical sigma_w: NaN where there is none; None without any, or SciPy."""
    try:
        from varprop.theory import critical
    except ImportError:
        return None

    def at(size: float) -> float:
        try:
            return critical(phi, size).sigma_w
        except ValueError:  # such as NoCriticalPoint
            return np.nan

    found = np.array([at(float(size)) for size in sigma_b])
    return found if np.isfinite(found).any() else None


def line(dataset: Dataset, array: DataArray, x: str, y: str) -> Edge | None:
    """Return the points of theory's critical line over a map, by x and y; None without one.

    It is known over sigma_w and sigma_b; and over sigma_w and another dimension where sigma_b has
    one value.
    """
    other = x if y == "sigma_w" else y
    needed = ("sigma_w", "sigma_b", other)
    if "sigma_w" not in (x, y) or not all(view.is_numeric(array, name) for name in needed):
        return None
    phi, biases = activation(dataset), np.unique(array.coords["sigma_b"].values)
    if phi is None or (other != "sigma_b" and biases.size != 1):
        return None
    ends = _ends(array.coords[other].values)
    along = np.linspace(*ends, _POINTS) if other == "sigma_b" else np.array(ends)
    if other == "sigma_b":
        along = np.union1d(along, biases)
        along = along[along >= 0.0]
    weights = _edge(phi, along if other == "sigma_b" else np.repeat(biases, 2))
    if weights is None:
        return None
    return Edge(phi, weights, along) if x == "sigma_w" else Edge(phi, along, weights)


def _ends(values: FloatArray) -> tuple[float, float]:
    """Return the ends of a map's axis: half a cell beyond the first and the last value."""
    ordered = np.sort(values).astype(np.float64)
    steps = np.diff(ordered) if len(ordered) > 1 else np.ones(1)
    return float(ordered[0] - steps[0] / 2), float(ordered[-1] + steps[-1] / 2)
