"""The edge of chaos: the weights' size at which differences neither die out nor grow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import optimize

from varprop import _spec
from varprop.theory._kernels import LEAST, Activation, Kernel, kernel
from varprop.theory._length_map import FARTHEST, GRID, LengthMap
from varprop.theory.gaussian import Array


class NoCriticalPoint(ValueError):  # noqa: N818
    """An activation has no edge of chaos at this size of the biases."""

    __module__ = "varprop.theory"


@dataclass(frozen=True)
class CriticalPoint:
    """Where chi_1 = 1.

    Attributes
    ----------
    activation : str
    sigma_b : float
    sigma_w : float
        Weights of variance sigma_w^2 / fan_in are on the edge.
    q : float
        The stable fixed point there. 0 where the edge is a limit: signals die out, but slower than
        exponentially. Where every q is a fixed point (relu at sigma_b = 0), 1.
    """

    activation: str
    sigma_b: float
    sigma_w: float
    q: float


def critical(activation: Activation, sigma_b: float = 0.0) -> CriticalPoint:
    """Return the edge of chaos (Schoenholz et al. 2017; Hayou et al. 2019).

    There sigma_w^2 = 1 / E[phi'(sqrt(q) z)^2] at the stable fixed point q. All q up to 10^14 with
    E[phi^2] / E[phi'^2] + sigma_b^2 = q are looked at, and of those which are stable that which a
    q of 1 goes to is preferred, then the smallest.

    Parameters
    ----------
    activation : str, ActivationFunction, Elementwise or callable
        As in :func:`fixed_points`.
    sigma_b : float

    Returns
    -------
    CriticalPoint

    Raises
    ------
    NoCriticalPoint
        chi_1 is 1 at no stable fixed point.

    Examples
    --------
    >>> edge = critical("tanh", sigma_b=0.05**0.5)
    >>> round(edge.sigma_w**2, 12), round(edge.q, 12)
    (1.760954639607, 0.570047881641)
    >>> critical("relu", sigma_b=0.1)
    Traceback (most recent call last):
        ...
    varprop.theory.NoCriticalPoint: relu has no edge of chaos at sigma_b = 0.1
    """
    phi = kernel(activation)
    sigma_b = _spec.real("sigma_b", sigma_b, least=0.0)
    stable = []
    for q in _candidates(phi, sigma_b):
        beside = max(q, LEAST)
        sigma_w = 1.0 / math.sqrt(float(phi.slope_square(beside)))
        ends = LengthMap(phi, sigma_w, sigma_b).limit(1.0)
        reached = math.isclose(ends, q, rel_tol=1e-6, abs_tol=1e-9)
        # A limit q = 0 has the slope 1 itself: stable if the way from 1 leads there.
        if reached or (q > 0.0 and abs(sigma_w**2 * float(phi.growth(q))) < 1.0):
            stable.append((not reached, CriticalPoint(phi.name, sigma_b, sigma_w, q)))
    if not stable:
        raise NoCriticalPoint(f"{phi.name} has no edge of chaos at sigma_b = {sigma_b:g}")
    return min(stable, key=lambda found: (found[0], found[1].q))[1]


def _candidates(phi: Kernel, sigma_b: float) -> list[float]:
    """Return every q that is a fixed point where chi_1 is 1."""
    squares, slopes = _table(phi)
    alive = slopes > 0.0
    if not alive.any():
        return []
    q, squares, slopes = GRID[alive], squares[alive], slopes[alive]
    with np.errstate(over="ignore"):
        excess = (squares / slopes + sigma_b**2) / q - 1.0
    if sigma_b == 0.0 and float(phi.square(0.0)) == 0.0:
        if (np.abs(excess) <= phi.accuracy).all():  # a line, or one with a bend at 0
            return [1.0]
        found = [0.0] if float(phi.slope_square(LEAST)) > 0.0 else []
    else:
        found = []

    def at(q: float) -> float:
        square, slope = float(phi.square(q)), float(phi.slope_square(q))
        return (square / slope + sigma_b**2) / q - 1.0

    while excess[-1] > phi.accuracy and q[-1] < FARTHEST and sigma_b > 0.0:
        q = np.append(q, 10.0 * q[-1])
        excess = np.append(excess, at(q[-1]))
    sides = np.where(excess > phi.accuracy, 1, np.where(excess < -phi.accuracy, -1, 0))
    known = np.flatnonzero(sides)
    for i, j in pairwise(known):
        if sides[i] != sides[j]:
            found.append(float(optimize.brentq(at, q[i], q[j], xtol=1e-300, rtol=1e-15)))
    return found


@lru_cache(maxsize=32)
def _table(phi: Kernel) -> tuple[Array, Array]:
    return phi.square(GRID), phi.slope_square(GRID)
