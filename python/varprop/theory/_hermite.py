"""The correlation map as a power series: quick where a network is not near its edge."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from varprop.theory._fixed_points import below_one, correlation
from varprop.theory._kernels import Kernel
from varprop.theory.gaussian import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_EDGES = np.concatenate([np.arange(-12.0, 12.5, 0.5), [-26.0, -19.0, 19.0, 26.0]])
_BENDS = np.array([-16.0, -4.0, -1.0, -0.25, 0.0, 0.25, 1.0, 4.0, 16.0])
_COUNTS = (60, 250, 1000)  # of coefficients, until what is left out does not matter
_LEFT_OUT = 1e-11


def coefficients(phi: Kernel, q: float, count: int) -> Array:
    """Return the squares a_n^2 in E phi(u1) phi(u2) = sum a_n^2 c^n, for variances of q.

    a_n = E phi(sqrt(q) z) h_n(z), h_n being Hermite's polynomials over sqrt(n!) (Mehler; Daniely,
    Frostig and Singer 2016, section 4).

    Parameters
    ----------
    phi : Kernel
    q : float
    count : int
        n runs from 0 to count - 1.

    Examples
    --------
    >>> from varprop.theory._kernels import kernel
    >>> coefficients(kernel("linear"), 2.0, 4).round(12)
    array([0., 2., 0., 0.])
    """
    root = math.sqrt(q)
    edges = np.concatenate([_EDGES, _BENDS / root, np.array(phi.kinks) / root])
    edges = np.unique(np.clip(edges, -26.0, 26.0))
    half = 0.5 * np.diff(edges)
    z = (edges[:-1] + half)[:, None] + half[:, None] * _NODES
    weights, z = (half[:, None] * _WEIGHTS).ravel(), z.ravel()
    with np.errstate(under="ignore"):
        # Half of the density goes with h_n, which then stays bounded.
        side = np.exp(-0.25 * z * z) / (2.0 * math.pi) ** 0.25
        weighted = weights * side * phi.value(root * z)
        found = np.zeros(count)
        before, here = np.zeros(z.shape), side
        for n in range(count):
            found[n] = weighted @ here
            before, here = here, (z * here - math.sqrt(n) * before) / math.sqrt(n + 1.0)
    return found**2


@lru_cache(maxsize=4096)
def _coefficients(phi: Kernel, q: float, count: int) -> tuple[Array, float]:
    squares = coefficients(phi, q, count)
    return squares, max(float(phi.square(q)) - float(squares.sum()), 0.0)


def solve(phi: Kernel, w: float, b: float, q: float) -> tuple[float, float]:
    """Return what :func:`varprop.theory._fixed_points.correlation` does, to 1e-10 or so.

    What the series leaves out lies between 0 and the rest of E phi^2 times c^count; where that is
    not nothing, it is quadrature's turn.
    """
    if phi.closed:
        return correlation(phi, w, b, q)
    for count in _COUNTS:
        squares, rest = _coefficients(phi, q, count)
        series = np.append(w * squares, w * rest) / q
        series[0] += b / q
        c = below_one(lambda c, s=series: float(np.polynomial.polynomial.polyval(c, s)) - c)  # type: ignore[misc]
        slope = float(np.polynomial.polynomial.polyval(c, series[1:] * np.arange(1.0, count + 1)))
        left_out = count * series[-1] * c ** (count - 1)
        if left_out <= _LEFT_OUT * (1.0 - slope):
            return c, slope
    return correlation(phi, w, b, q)
