"""Do numbers have a law? Kolmogorov-Smirnov and the second moment, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from varprop import _core, activations
from varprop._draw import Draw, truncated_moments

Array = NDArray[np.float64]
Cumulants = tuple[float, float, float]  # of squares: logarithm of the transform, two derivatives

_ERF = activations.NAMES.index("erf")
_EXACT = 1000  # numbers up to which Kolmogorov-Smirnov is summed exactly
_STEEPEST = 100.0  # of the tilts of a bounded law that 200 nodes integrate
_FARTHEST = 9.5  # standard deviations, of the nodes


def moments(draw: Draw) -> tuple[float, float]:
    """Return mean and standard deviation of a law."""
    if draw.distribution == "uniform":
        return 0.5 * (draw.low + draw.high), (draw.high - draw.low) / math.sqrt(12.0)
    if draw.distribution == "truncated_normal":
        mean, variance = truncated_moments(draw.low, draw.high)
        return draw.mean + draw.std * mean, draw.std * math.sqrt(variance)
    return draw.mean, draw.std


def support(draw: Draw) -> tuple[float, float]:
    """Return the bounds that no number is beyond."""
    if draw.distribution == "truncated_normal":
        return draw.mean + draw.std * draw.low, draw.mean + draw.std * draw.high
    if draw.distribution == "constant":
        return draw.mean, draw.mean
    return draw.low, draw.high


def probability(draw: Draw, x: Array) -> Array:
    """Return P(X <= x), for each x, of a law that is not constant."""
    if draw.distribution == "uniform":
        return _within((x - draw.low) / (draw.high - draw.low))
    z = (x - draw.mean) / draw.std
    if draw.distribution == "normal":
        return _normal(z)
    low, high = _normal(np.array([draw.low, draw.high]))
    return _within((_normal(z) - low) / (high - low))


def _within(share: Array) -> Array:
    return np.minimum(np.maximum(share, 0.0), 1.0)


def _normal(z: Array) -> Array:
    values = z / math.sqrt(2.0)
    _core.activate(values, _ERF, 0.0, False)
    return 0.5 + 0.5 * values


def distance(draw: Draw, ordered: Array, step: float = 0.0, least: float = 0.0) -> float:
    """Return the Kolmogorov-Smirnov distance between sorted numbers and a law.

    The least over all numbers that round to these.

    Parameters
    ----------
    step : float
        Relative distance of neighbours in the numbers' dtype. As many steps are in the uniform
        numbers that torch makes those of 16 bits of: half of one counts as no distance.
    least : float
        Absolute distance of neighbours next to 0.
    """
    count = len(ordered)
    half = 0.5 * (step * np.abs(ordered) + least)
    ranks = np.arange(count + 1) / count
    above = ranks[1:] - probability(draw, ordered + half)
    below = probability(draw, ordered - half) - ranks[:-1]
    return max(0.0, float(max(above.max(), below.max())) - 0.5 * step)


def ks_pvalue(distance: float, count: int) -> float:
    """Return the probability that numbers of the law are so far from it, or farther.

    Twice that of one side, which bounds it from above and is exact where it is small: up to 1000
    numbers by the sum of Birnbaum and Tingey (1951), then Smirnov's expansion (1944).

    Examples
    --------
    >>> round(ks_pvalue(0.99, 1), 9), round(ks_pvalue(0.01, 100_000), 12)
    (0.02, 4.095e-09)
    """
    if distance <= 0.0:
        return 1.0
    if count > _EXACT:
        return min(1.0, 2.0 * math.exp(-((6.0 * count * distance + 1.0) ** 2) / (18.0 * count)))
    terms = np.arange(math.floor(count * (1.0 - distance)) + 1)
    factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    ways = factorials[count] - factorials[terms] - factorials[count - terms]
    with np.errstate(divide="ignore"):
        left = np.log(np.maximum(1.0 - distance - terms / count, 0.0))
    powers = (terms - 1) * np.log(distance + terms / count) + (count - terms) * left
    return min(1.0, 2.0 * distance * float(np.exp(ways + powers).sum()))


def second_moment_pvalue(draw: Draw, ratio: float, count: int) -> float:
    """Return the probability of a mean square about the law's mean so far off, or farther.

    Two-sided. The sum of squares of a normal has a chi-square law, of the others one without a
    name: both tails are the saddlepoint approximation of Lugannani and Rice (1980), within 17% of
    a chi-square's at one degree of freedom, 3% at five, and never less than 0.99 of it.

    Parameters
    ----------
    ratio : float
        The mean square about the law's mean, over the law's variance.

    Examples
    --------
    >>> round(second_moment_pvalue(Draw("normal", std=1.0), 1.05**2, 4096), 8)
    6.91e-06
    """
    if ratio <= 0.0:
        return 0.0
    tilt, (log, _, curvature) = _saddle(draw, ratio)
    exponent = count * max(0.0, tilt * ratio - log)
    if abs(tilt) == _STEEPEST:
        return min(1.0, 2.0 * math.exp(-exponent))  # Chernoff's bound
    w = math.copysign(math.sqrt(2.0 * exponent), tilt)
    if abs(w) < 0.01:
        return 1.0
    u = tilt * math.sqrt(count * curvature)
    density = math.exp(-exponent) / math.sqrt(2.0 * math.pi)
    tail = 0.5 * math.erfc(abs(w) / math.sqrt(2.0)) + density * abs(1.0 / u - 1.0 / w) * (
        1.0 if abs(u) < abs(w) else -1.0
    )
    return min(1.0, max(0.0, 2.0 * tail))


def _saddle(draw: Draw, ratio: float) -> tuple[float, Cumulants]:
    """Return the exponential tilt under which the squares have this mean, and their cumulants."""
    if draw.distribution == "normal":
        return 0.5 - 0.5 / ratio, (0.5 * math.log(ratio), ratio, 2.0 * ratio * ratio)
    cumulants = _squares(draw.distribution, draw.low, draw.high) if _cut(draw) else _flat()
    low, high = -_STEEPEST, _STEEPEST
    if cumulants(low)[1] >= ratio:
        return low, cumulants(low)
    if cumulants(high)[1] <= ratio:
        return high, cumulants(high)
    tilt = 0.0
    for _ in range(100):  # Newton's steps, halving where they leave the bracket
        found = cumulants(tilt)
        low, high = (tilt, high) if found[1] < ratio else (low, tilt)
        before, tilt = tilt, tilt + (ratio - found[1]) / found[2]
        if not low < tilt < high:
            tilt = 0.5 * (low + high)
        if abs(tilt - before) <= 1e-12 * (1.0 + abs(tilt)):
            break
    return before, found


def _cut(draw: Draw) -> bool:
    return draw.distribution == "truncated_normal"


def _flat() -> Callable[[float], Cumulants]:
    return _squares("uniform", -math.sqrt(3.0), math.sqrt(3.0))


@lru_cache(maxsize=64)
def _squares(distribution: str, low: float, high: float) -> Callable[[float], Cumulants]:
    """Return the cumulants of the squares of a bounded law in its standard deviations."""
    low, high = max(low, -_FARTHEST), min(high, _FARTHEST)
    places, weights = np.polynomial.legendre.leggauss(200)
    nodes = 0.5 * (low + high) + 0.5 * (high - low) * places
    if distribution == "truncated_normal":
        weights = weights * np.exp(-0.5 * nodes * nodes)
        mean, variance = truncated_moments(low, high)
        nodes = (nodes - mean) / math.sqrt(variance)
    squares, logs = nodes * nodes, np.log(weights / weights.sum())

    def cumulants(tilt: float) -> Cumulants:
        exponents = tilt * squares + logs
        largest = float(exponents.max())
        tilted = np.exp(exponents - largest)
        total = float(tilted.sum())
        mean = float(tilted @ squares) / total
        second = float(tilted @ np.square(squares - mean)) / total
        return largest + math.log(total), mean, second

    return cumulants
