"""Whether numbers that should be independent draws of a law are: tests, and words for failures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from varprop._draw import Draw
from varprop.torch._audit.goodness import (
    distance,
    ks_pvalue,
    moments,
    probability,
    second_moment_pvalue,
    support,
)
from varprop.torch._audit.measure import Measured

_MANY = 500  # numbers that show the mass at their ends
_FINE = 2.0**-23  # relative step of float32


@dataclass
class Finding:
    """What tests of one parameter found; p-values are None where nothing is random."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    std_pvalue: float | None = None
    ks_pvalue: float | None = None
    due_mean: float | None = None
    due_std: float | None = None

    @property
    def pvalue(self) -> float:
        """The smaller of both."""
        given = [p for p in (self.std_pvalue, self.ks_pvalue) if p is not None]
        return min(given, default=1.0)


def not_finite(numbers: Measured) -> list[str]:
    """Return how many numbers are NaN or infinite, where any is."""
    counts = {"NaN": numbers.nan, "infinite": numbers.infinite}
    many = "s" * (numbers.count > 1)
    return [f"{kind}: {n} of {numbers.count} number{many}" for kind, n in counts.items() if n]


def alike(numbers: Measured, least: float = 1.0) -> list[str]:
    """Return that all numbers are zero or equal, where chance leaves that more seldom than `least`.

    Two draws of a dtype are equal with about the probability of its relative step.
    """
    if numbers.count == 0 or numbers.low != numbers.high:
        return []
    rarity, bound = math.log(numbers.step), math.log(least)
    if numbers.low == 0.0 and rarity * numbers.count < bound:
        return ["all zeros" if numbers.count > 1 else "zero"]
    if rarity * (numbers.count - 1) < bound:
        return [f"all equal: {numbers.low:.4g}"]
    return []


def is_random(draw: Draw) -> bool:
    """Return whether a law leaves anything to chance."""
    return draw.distribution == "uniform" or draw.std > 0.0


def fit(draw: Draw, numbers: Measured, level: float, due: str) -> Finding:
    """Test numbers against a law of independent ones.

    Parameters
    ----------
    level : float
        Of each of the two tests.
    due : str
        What failures call the law: "declared", say.
    """
    mean, std = moments(draw)
    finding = Finding(not_finite(numbers), due_mean=mean, due_std=std)
    if finding.problems or numbers.count == 0:
        return finding
    if not is_random(draw):
        finding.problems += _constant(numbers, mean, due)
        return finding
    finding.problems += alike(numbers, level)
    if finding.problems:
        return finding
    problems = finding.problems
    finding.std_pvalue, finding.ks_pvalue = pvalues(draw, numbers)
    beyond = out_of_bounds(draw, numbers, due)
    if finding.std_pvalue < level:
        problems.append(_scale(numbers, mean, std, due))
    if beyond:
        problems.append(beyond)
    if finding.ks_pvalue < level and not problems:
        far = distance(draw, numbers.sample, numbers.step, numbers.least)
        problems.append(f"another law: Kolmogorov-Smirnov distance {far:.3g}")
    # Numbers of 32 bits do not meet at the ends by chance; of 16 bits they may.
    if (problems or numbers.step <= _FINE) and (clipped := _clipped(draw, numbers)):
        problems.append(clipped)
    return finding


def pvalues(draw: Draw, numbers: Measured) -> tuple[float, float]:
    """Return the p-values of the second moment and of Kolmogorov-Smirnov."""
    mean, std = moments(draw)
    root = math.hypot(numbers.std, numbers.mean - mean) / std
    # What torch's own draws of 16 bits leave: their uniform numbers have so many digits.
    coarse = 0.5 * numbers.step + (numbers.least / std) ** 2 / 24.0  # and rounding next to 0
    slack = min(abs(root - 1.0), coarse)
    root += math.copysign(slack, 1.0 - root)
    far = distance(draw, numbers.sample, numbers.step, numbers.least)
    return (
        second_moment_pvalue(draw, root * root, numbers.count),
        ks_pvalue(far, len(numbers.sample)),
    )


def out_of_bounds(draw: Draw, numbers: Measured, due: str = "") -> str:
    """Say which extreme is beyond a law's bounds, further than rounding brings it."""
    low, high = support(draw)
    if numbers.high > high + _rounding(numbers, high):
        return f"{numbers.high:.4g} is beyond the bound {high:.4g} ({due})"
    if numbers.low < low - _rounding(numbers, low):
        return f"{numbers.low:.4g} is beyond the bound {low:.4g} ({due})"
    return ""


def _constant(numbers: Measured, value: float, due: str) -> list[str]:
    low, high = numbers.low, numbers.high
    if max(abs(low - value), abs(high - value)) <= _rounding(numbers, value):
        return []
    found = f"all {low:.4g}" if low == high else f"from {low:.3g} to {high:.3g}"
    return [f"{found}, {due} {value:.4g}"]


def _rounding(numbers: Measured, value: float) -> float:
    return 0.0 if math.isinf(value) else numbers.step * abs(value) + numbers.least


def _scale(numbers: Measured, mean: float, std: float, due: str) -> str:
    """Say what is wrong with the second moment: the std, or else the mean."""
    if abs(numbers.mean - mean) > abs(numbers.std - std):
        return f"mean {numbers.mean:.3g}, {due} {mean:.3g}"
    return f"std {numbers.std:.3g}, {due} {std:.3g}: x {numbers.std / std:.3g}"


def _clipped(draw: Draw, numbers: Measured) -> str:
    """Say that many numbers lie at their extremes, and of which law they are within."""
    sample = numbers.sample
    count = len(sample)
    inner = sample[(sample > numbers.low) & (sample < numbers.high)]
    share = 1.0 - len(inner) / count
    least = 10.0 / count if numbers.step <= _FINE else max(0.005, 2.0 * numbers.step)
    if count < _MANY or not least <= share < 0.5:
        return ""
    words = f"{100.0 * share:.2g}% of the numbers are at the bounds"
    centre, half = 0.5 * (numbers.low + numbers.high), 0.5 * (numbers.high - numbers.low)
    cut = -NormalDist().inv_cdf(0.5 * share)
    within = (probability(Draw("normal", centre, half / cut), inner) - 0.5 * share) / (1.0 - share)
    ranks = (np.arange(len(inner)) + 0.5) / len(inner)
    if abs(centre) > 0.01 * half or np.abs(within - ranks).max() > 3.0 / math.sqrt(count):
        return f"{100.0 * share:.2g}% of the numbers are equal to the smallest or the largest"
    instead = ", not truncated" if draw.distribution == "truncated_normal" else ""
    return f"a normal clipped at {cut:.2g} std{instead}: {words}"
