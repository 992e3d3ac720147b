"""What a law of independent numbers asks of the core for one tensor."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple


class Draw(NamedTuple):
    """A distribution with its parameters.

    ==================== ==================================================
    ``constant``         ``mean``
    ``normal``           ``mean + std * z``
    ``uniform``          between ``low`` and ``high``
    ``truncated_normal`` ``mean + std * z``, given that ``low <= z <= high``
    ==================== ==================================================
    """

    distribution: Literal["constant", "normal", "uniform", "truncated_normal"]
    mean: float = 0.0
    std: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    @property
    def rms(self) -> float:
        """Square root of the second moment; 0 only where every number is 0."""
        if self.distribution == "uniform":
            low, high = 0.5 * self.low, 0.5 * self.high
            return math.hypot(low + high, (high - low) / math.sqrt(3.0))
        if self.distribution == "truncated_normal":
            mean, variance = truncated_moments(self.low, self.high)
            return math.hypot(self.mean + self.std * mean, self.std * math.sqrt(variance))
        return math.hypot(self.mean, self.std)

    def times(self, factor: float) -> Draw:
        """Return the law of the same numbers times a positive factor."""
        low, high = self.low, self.high
        if self.distribution == "uniform":
            low, high = factor * low, factor * high
        return Draw(self.distribution, factor * self.mean, factor * self.std, low, high)


def normal_probability(low: float, high: float) -> float:
    """Return P(low < z < high) of a standard normal, to full relative accuracy in the tails."""
    if low + high > 0.0:
        low, high = -high, -low
    return 0.5 * (math.erfc(-high / math.sqrt(2.0)) - math.erfc(-low / math.sqrt(2.0)))


def truncated_moments(low: float, high: float) -> tuple[float, float]:
    """Return mean and variance of a standard normal between low and high.

    Johnson, Kotz and Balakrishnan 1994, Continuous Univariate Distributions 1, chapter 13.
    """
    if (high - low) * (1.0 + abs(low + high)) < 0.01:  # nearly uniform; below, digits cancel
        return 0.5 * (low + high), (high - low) ** 2 / 12.0
    mass = math.sqrt(2.0 * math.pi) * normal_probability(low, high)
    at_low, at_high = (math.exp(-0.5 * z * z) / mass for z in (low, high))
    mean = at_low - at_high
    edges = sum(z * density for z, density in ((low, at_low), (-high, at_high)) if density)
    return mean, max(0.0, 1.0 + edges - mean * mean)
