"""Expectations over one and two Gaussians by adaptive quadrature, each with an error estimate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec

__all__ = ["Estimate", "expectation", "expectation2"]

Array = NDArray[np.float64]
Function = Callable[[Array], Any]  # number by number, of any shape
Integrand = Callable[[Array, NDArray[np.intp]], Array]  # of points (P, n), owners (P,) of the rows

TOLERANCE = 1e-12  # of halving a panel, relative: what is left is near rounding

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_REACH = 26.0  # beyond, the density is under 1e-147 of its peak
_GRID = np.array([-_REACH, -12.0, -5.0, -2.0, 0.0, 2.0, 5.0, 12.0, _REACH])
_FEATURES = np.array([-16.0, -4.0, -1.0, 0.0, 1.0, 4.0, 16.0])  # where activations bend
_DEEPEST = 60  # halvings: past a jump each takes half of the error away
_MOST = 200_000  # panels at a time, of which each has 16 numbers ...
_MOST_OUTER = 500  # ... or as many inner expectations


class Estimate(NamedTuple):
    """A value, and about how far it may be off; floats or arrays of one shape."""

    value: Any
    error: Any


def expectation(
    f: Function,
    q: ArrayLike = 1.0,
    mean: ArrayLike = 0.0,
    *,
    kinks: Iterable[float] = (),
    tolerance: float = TOLERANCE,
) -> Estimate:
    """Return E[f(u)] of a Gaussian u.

    Parameters
    ----------
    f : callable
        Of an array, the array of its values.
    q, mean : float or array
        Variance and mean of u; of arrays the result has their common shape.
    kinks : iterable of float
        Where f or its derivative jumps; intervals end there. Others are found by halving.
    tolerance : float
        Relative, of E|f|: intervals are halved until that changes less.

    Returns
    -------
    Estimate
        Value and error. The error is that of the last halving but one, so far too large where f is
        smooth; rounding, near 1e-16, is not in it.

    Raises
    ------
    ValueError
        A variance is negative, or the expectation is not finite, as far as 26 standard deviations
        show.

    Examples
    --------
    >>> value, error = expectation(lambda u: np.maximum(u, 0.0) ** 2, q=3.0, kinks=[0.0])
    >>> round(value, 12), error < 1e-12
    (1.5, True)
    """
    if not callable(f):
        raise TypeError(f"f must be callable, got {f!r}")
    variances, means = np.broadcast_arrays(np.asarray(q, np.float64), np.asarray(mean, np.float64))
    shape, kinks = variances.shape, tuple(kinks)
    _spread(variances)
    value, error = _expect(f, means.ravel(), np.sqrt(variances.ravel()), kinks, tolerance)
    if not shape:
        return Estimate(float(value[0]), float(error[0]))
    return Estimate(value.reshape(shape), error.reshape(shape))


def expectation2(
    f: Function,
    g: Function,
    q: float | tuple[float, float] = 1.0,
    c: float = 0.0,
    mean: float | tuple[float, float] = 0.0,
    *,
    kinks: Iterable[float] = (),
    tolerance: float = TOLERANCE,
) -> Estimate:
    """Return E[f(u) g(v)] of two Gaussians.

    The expectation of g given u, a smooth function of u, is one quadrature at every point of the
    other.

    Parameters
    ----------
    f, g : callable
        Of an array, the array of its values.
    q, mean : float or (float, float)
        Variances and means of u and v; one number for both.
    c : float
        Their correlation, from -1 to 1.
    kinks : iterable of float
        Where f or g or a derivative jumps.
    tolerance : float
        As in :func:`expectation`.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> value, error = expectation2(np.sin, np.sin, q=2.0, c=0.5)
    >>> abs(value - math.exp(-2.0) * math.sinh(1.0)) < 1e-12, error < 1e-12
    (True, True)
    """
    q1, q2 = (float(x) for x in (q if isinstance(q, tuple) else (q, q)))
    m1, m2 = (float(x) for x in (mean if isinstance(mean, tuple) else (mean, mean)))
    c, kinks = _spec.real("c", c, least=-1.0, most=1.0), tuple(kinks)
    _spread(np.array([q1, q2]))
    s1, s2 = math.sqrt(q1), math.sqrt(q2)
    if s1 == 0.0 or s2 == 0.0 or abs(c) == 1.0:  # a function of one Gaussian z
        z_kinks = [(k - m) / s for k in kinks for m, s in ((m1, s1), (m2, c * s2)) if s]
        features = [(_FEATURES - m) / s for m, s in ((m1, s1), (m2, s2)) if s]
        edges = _edges(np.concatenate([_GRID, np.sort(z_kinks), *features])[None])
        sign = c if abs(c) == 1.0 else 1.0

        def of_one(z: Array, _: NDArray[np.intp]) -> Array:
            return np.asarray(_values(f, m1 + s1 * z) * _values(g, m2 + sign * s2 * z))

        if s1 == 0.0 and s2 == 0.0:
            return Estimate(float(of_one(np.zeros((1, 1)), np.zeros(1, np.intp))[0, 0]), 0.0)
        value, error = _integrate(of_one, edges, tolerance)
        return Estimate(float(value[0]), float(error[0]))

    rest = s2 * math.sqrt((1.0 - c) * (1.0 + c))  # of v, given u
    inner_error = 0.0

    def of_both(z: Array, _: NDArray[np.intp]) -> Array:
        nonlocal inner_error
        means = (m2 + c * s2 * z).ravel()
        given, error = _expect(g, means, np.full(means.shape, rest), kinks, tolerance)
        inner_error = max(inner_error, float(error.max()))
        return np.asarray(_values(f, m1 + s1 * z) * given.reshape(z.shape))

    # E[g | u] has the bends of g, smoothed over a width in z; by itself it may be rounding alone.
    bends = []
    if rest < 0.5 * abs(c) * s2:
        at, width = (np.array([*kinks, *_FEATURES]) - m2) / (c * s2), rest / (abs(c) * s2)
        sharp = at[: len(kinks)]
        bends = [*at, *(sharp - 8.0 * width), *(sharp + 8.0 * width)]
    edges = _edges(_marks(np.array([m1]), np.array([s1]), kinks, bends))
    sizes = [
        _expect(partial(_size, h), np.array([m]), np.array([s]), kinks, 1e-3)[0][0]
        for h, m, s in ((f, m1, s1), (g, m2, s2))
    ]
    value, error = _integrate(of_both, edges, tolerance, sizes[0] * sizes[1], _MOST_OUTER)
    return Estimate(float(value[0]), float(error[0] + inner_error * sizes[0]))


def _spread(variances: Array) -> None:
    if not (variances >= 0.0).all() or not np.isfinite(variances).all():
        raise ValueError(f"q must be a finite number >= 0, got {float(variances.min())!r}")


def _values(f: Function, x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(f(x), np.float64)


def _size(f: Function, x: Array) -> Array:
    return np.abs(_values(f, x))


def _expect(
    f: Function, means: Array, stds: Array, kinks: Iterable[float], tolerance: float
) -> tuple[Array, Array]:
    """Return values and errors of E f(mean + std z), one for each mean and std."""
    exact = stds == 0.0
    value, error = np.zeros(means.shape), np.zeros(means.shape)
    if exact.any():
        value[exact] = _values(f, means[exact])
    if not exact.all():
        m, s = means[~exact], stds[~exact]

        def integrand(z: Array, owner: NDArray[np.intp]) -> Array:
            return _values(f, m[owner, None] + s[owner, None] * z)

        value[~exact], error[~exact] = _integrate(integrand, _edges(_marks(m, s, kinks)), tolerance)
    return value, error


def _marks(means: Array, stds: Array, kinks: Iterable[float], more: Iterable[float] = ()) -> Array:
    """Return where intervals of z end, unsorted, (owners, marks)."""
    at = np.concatenate([_FEATURES, np.array([*kinks], np.float64)])
    fixed = np.concatenate([_GRID, np.array([*more], np.float64)])
    with np.errstate(over="ignore"):
        bends = (at - means[:, None]) / stds[:, None]
    return np.concatenate([np.broadcast_to(fixed, (len(means), len(fixed))), bends], axis=1)


def _edges(marks: Array) -> Array:
    return np.sort(np.clip(marks, -_REACH, _REACH), axis=1)


def _integrate(
    f: Integrand, edges: Array, tolerance: float, least: float = 0.0, most: int = _MOST
) -> tuple[Array, Array]:
    """Return for each owner, a row of edges, the integral of f times the normal density.

    All owners' panels are halved together, those whose halves agree with the whole left out: to
    the tolerance of the integral of |f|, or of `least` if that is more.
    """
    count = len(edges)
    owner = np.repeat(np.arange(count), edges.shape[1] - 1)
    left, right = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    wide = right > left
    owner, left, right = owner[wide], left[wide], right[wide]
    whole = _panels(f, owner, left, right)
    value, error, size = np.zeros(count), np.zeros(count), np.zeros(count)
    for halving in range(_DEEPEST):
        middle = 0.5 * (left + right)
        parts = np.stack(
            [_panels(f, owner, left, middle), _panels(f, owner, middle, right)], axis=1
        )
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is said below
            better = parts.sum(axis=1)
            change = np.abs(better - whole)
        if not np.isfinite(change).all():
            raise ValueError("the expectation is not finite in float64")
        scale = size + np.bincount(owner, np.abs(parts).sum(axis=1), count)
        scale = np.maximum(scale, least)
        again = change > 0.1 * tolerance * scale[owner]
        if halving == _DEEPEST - 1 or 2 * again.sum() > most:
            again[:] = False
        for total, of_panels in ((value, better), (error, change), (size, np.abs(better))):
            total += np.bincount(owner[~again], of_panels[~again], count)
        if not again.any():
            break
        owner = np.repeat(owner[again], 2)
        left, right = (
            np.stack([ends[again], other[again]], axis=1).ravel()
            for ends, other in ((left, middle), (middle, right))
        )
        whole = parts[again].ravel()
    ends = np.abs(f(np.full((count, 1), _REACH) * [-1.0, 1.0], np.arange(count)))
    if not (ends * math.exp(-0.5 * _REACH**2) <= 1e-9 * size[:, None] + 1e-130).all():
        raise ValueError("the expectation is not finite in float64")
    return value, error


def _panels(f: Integrand, owner: NDArray[np.intp], left: Array, right: Array) -> Array:
    """Return the integral over each panel, by Gauss and Legendre's rule of 16 points."""
    half = 0.5 * (right - left)
    z = 0.5 * (left + right)[:, None] + half[:, None] * _NODES
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return np.asarray(half * ((f(z, owner) * density) @ _WEIGHTS))
