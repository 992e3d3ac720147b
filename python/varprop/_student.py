"""Student's t distribution: the critical value of a two-sided interval, without SciPy."""

from __future__ import annotations

import math
from statistics import NormalDist

_MANY = 1000  # degrees of freedom from which the expansion is right to 1e-12


def critical(level: float, freedom: int) -> float:
    """Return the t with P(|T| <= t) = level for Student's T.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964): the probability in closed
    form (26.7.3, 26.7.4) is solved for t; for many degrees of freedom its asymptotic inverse
    (26.7.5) is used.

    Parameters
    ----------
    level : float
        Probability between the two ends, in (0, 1).
    freedom : int
        Degrees of freedom, at least 1.

    Examples
    --------
    >>> round(critical(0.95, 9), 4)
    2.2622
    """
    return _expansion(level, freedom) if freedom > _MANY else _solution(level, freedom)


def _solution(level: float, freedom: int) -> float:
    """Solve for the angle arctan(t / sqrt(freedom)) by Newton's method.

    The probability is concave in the angle, so that the steps rise to the solution from zero.
    """
    odd = freedom % 2
    slope = 2 * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    slope /= math.sqrt(math.pi)
    angle, step = 0.0, math.inf
    while step > 1e-15 * angle:
        cosine, sine = math.cos(angle), math.sin(angle)
        term = sine * cosine if odd else sine
        total = term if freedom > 1 else 0.0
        for k in range(2 + odd, freedom, 2):
            term *= cosine * cosine * (k - 1) / k
            total += term
        probability = 2 / math.pi * (angle + total) if odd else total
        step = (level - probability) / (slope * cosine ** (freedom - 1))
        angle += step
    return math.sqrt(freedom) * math.tan(angle)


def _expansion(level: float, freedom: int) -> float:
    """Return the first four terms in 1 / freedom after the normal's quantile."""
    x = -NormalDist().inv_cdf((1 - level) / 2)
    y = x * x
    terms = (
        x,
        x * (y + 1) / 4,
        x * ((5 * y + 16) * y + 3) / 96,
        x * (((3 * y + 19) * y + 17) * y - 15) / 384,
        x * ((((79 * y + 776) * y + 1482) * y - 1920) * y - 945) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
