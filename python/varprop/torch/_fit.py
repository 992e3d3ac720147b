"""Whether numbers that should be independent draws of a law are: tests, and words for failures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from varprop._draw import Draw
from varprop.torch._goodness import (
    distance,
    ks_pvalue,
    moments,
    probability,
    second_moment_pvalue,
    support,
)
from varprop.torch._measure import Measured

_MANY = 500  # numbers that show the mass at their ends


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


def degenerate(numbers: Measured, least: float = 0.0) -> list[str]:
    """Return what no law leaves: NaN, infinities; zeros and equals rarer than `least`."""
    found = []
    if numbers.nan:
        found.append(f"NaN: {_share(numbers.nan, numbers.count)}")
    if numbers.infinite:
        found.append(f"infinite: {_share(numbers.infinite, numbers.count)}")
    if found or numbers.count == 0 or numbers.low != numbers.high:
        return found
    rarity = math.log(numbers.step)
    bound = math.log(least) if least > 0.0 else math.inf
    if numbers.low == 0.0 and rarity * numbers.count < bound:
        found.append("all zeros" if numbers.count > 1 else "zero")
    elif numbers.low != 0.0 and rarity * (numbers.count - 1) < bound:
        found.append(f"all equal: {numbers.low:.4g}")
    return found


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
    finding = Finding(degenerate(numbers, level), due_mean=mean, due_std=std)
    if finding.problems or numbers.count == 0:
        return finding
    if not is_random(draw):
        if max(abs(numbers.low - mean), abs(numbers.high - mean)) > _rounding(numbers, mean):
            size = f"from {numbers.low:.3g} to {numbers.high:.3g}"
            finding.problems.append(f"{size}, {due} {mean:.4g}")
        return finding
    problems = finding.problems
    finding.std_pvalue, finding.ks_pvalue = pvalues(draw, numbers)
    beyond = out_of_bounds(draw, numbers)
    if finding.std_pvalue < level:
        problems.append(_scale(numbers, mean, std, due))
    if beyond:
        problems.append(f"{beyond}, {due}")
    if finding.ks_pvalue < level and not problems:
        far = distance(draw, numbers.sample, numbers.step, numbers.least)
        problems.append(f"another law: Kolmogorov-Smirnov distance {far:.3g}")
    if problems and (clipped := _clipped(draw, numbers)):
        problems.append(clipped)
    return finding


def pvalues(draw: Draw, numbers: Measured) -> tuple[float, float]:
    """Return the p-values of the second moment and of Kolmogorov-Smirnov."""
    mean, std = moments(draw)
    root = math.hypot(numbers.std, numbers.mean - mean) / std
    # What torch's own draws of 16 bits leave: their uniform numbers have so many digits.
    slack = min(abs(root - 1.0), 0.5 * numbers.step)
    root += math.copysign(slack, 1.0 - root)
    far = distance(draw, numbers.sample, numbers.step, numbers.least)
    return (
        second_moment_pvalue(draw, root * root, numbers.count),
        ks_pvalue(far, len(numbers.sample)),
    )


def out_of_bounds(draw: Draw, numbers: Measured) -> str:
    """Return which extreme is beyond a law's bounds, further than rounding brings it."""
    low, high = support(draw)
    if numbers.high > high + _rounding(numbers, high):
        return f"{numbers.high:.4g} is beyond the bound {high:.4g}"
    if numbers.low < low - _rounding(numbers, low):
        return f"{numbers.low:.4g} is beyond the bound {low:.4g}"
    return ""


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
    at_ends = int((sample == numbers.low).sum() + (sample == numbers.high).sum())
    share = at_ends / count
    if count < _MANY or share < max(0.005, 2.0 * numbers.step):
        return ""
    words = f"{100.0 * share:.1f}% of the numbers are at the bounds"
    centre, half = 0.5 * (numbers.low + numbers.high), 0.5 * (numbers.high - numbers.low)
    cut = -NormalDist().inv_cdf(0.5 * share) if share < 1.0 else 0.0
    if cut > 0.0 and abs(centre) < 0.01 * half:
        normal = Draw("normal", centre, half / cut)
        inner = sample[(sample > numbers.low) & (sample < numbers.high)]
        at = (np.arange(len(inner)) + 0.5) / len(inner)
        within = (probability(normal, inner) - 0.5 * share) / (1.0 - share)
        if len(inner) > 0.5 * count and float(np.abs(within - at).max()) < 3.0 / math.sqrt(count):
            instead = ", not truncated" if draw.distribution == "truncated_normal" else ""
            return f"a normal clipped at {cut:.2g} std{instead}: {words}"
    return f"clipped: {words}"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} number{'s' if whole > 1 else ''}"
