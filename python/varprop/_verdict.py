"""Whether a signal survives the depth: a word, and the numbers behind it, for either direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from math import prod
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

import numpy as np

from varprop._advice import Advice, advise
from varprop._numerals import WIDE
from varprop._spec import real
from varprop._statistics import FloatArray, mean_interval, probability
from varprop._table import WIDTH

if TYPE_CHECKING:
    from varprop._compile import Step
    from varprop.run import Run

Word = Literal["vanishing", "stable", "exploding"]

FRAGILE = 0.05  # share of failing trials from which a stable mean hides too much


class UnhealthySignal(AssertionError):  # noqa: N818  (it says what was found)
    """A signal or its gradient vanishes or explodes: see :meth:`Run.assert_healthy`."""

    __module__ = "varprop"


@dataclass(frozen=True)
class Direction:
    """How the second moment travels from one end of the network to the other.

    Attributes
    ----------
    word : {"vanishing", "stable", "exploding"} or None
        None where nothing is known: of the gradients, if all trials left the range going forward.
    layers : int
        Number of layers that count.
    log10_factor : float
        Decimal logarithm of the factor over the whole depth, mean over trials. It is infinite where
        most trials end at zero or out of range; else these are left out here, and count as failing.
    interval : tuple of float
        Confidence interval of `log10_factor`; NaN for a single trial.
    spread : float
        Standard deviation of the trials' logarithms; NaN for a single trial.
    failing : float
        Share of the trials whose own factor is beyond `max_factor`.
    fragile : bool
        The mean is stable, and yet at least 5% of the trials fail.
    """

    word: Word | None
    layers: int
    log10_factor: float
    interval: tuple[float, float]
    spread: float
    failing: float
    fragile: bool

    @property
    def log10_growth(self) -> float:
        """Decimal logarithm of the factor from one layer to the next."""
        return self._rate(self.log10_factor)

    @property
    def log10_growth_interval(self) -> tuple[float, float]:
        """Confidence interval of `log10_growth`."""
        return self._rate(self.interval[0]), self._rate(self.interval[1])

    @property
    def growth(self) -> float:
        """Factor from one layer to the next, geometric mean over layers and trials."""
        return _power(self.log10_growth)

    @property
    def growth_interval(self) -> tuple[float, float]:
        """Confidence interval of `growth`."""
        low, high = self.log10_growth_interval
        return _power(low), _power(high)

    def _rate(self, log10_factor: float) -> float:
        return log10_factor / max(1, self.layers - 1)


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether a signal survives the depth going forward, and its gradient coming back.

    Decided by the factor by which the second moment changes over the whole depth: of the
    activations from the first layer to the last, of the gradients of an example from the last to
    the first. While
    the mean over trials of its logarithm stays within `max_factor`, the direction is stable. Of a
    residual network the layers within branches do not count, but where no two others are. Nor do
    steps between layers of different numbers of positions (strides, pools, flattening), but where
    there is no other: a mean over positions has smaller numbers, and so has the gradient shared out
    among them. Like is held against like: where the last layer is a normalization or an activation
    of its own, the first of its kind is the first that counts, so that periods are whole.

    Attributes
    ----------
    max_factor : float
        The largest factor, up or down, that is stable.
    level : float
        Probability that the intervals cover.
    details : dict of str to Direction
        The numbers behind "forward" and "backward".
    stages : int
        Into how many stretches steps between different numbers of positions divide the layers.
    unit : {"layer", "block"}
        Whose factor the rate is. Of blocks of a model that was profiled, the first counts going
        forward only where its own factor is beyond `max_factor`: what it takes, embeddings say, may
        be of any size where it begins with a norm.
    underflow : bool
        Signals of most trials that end at zero have left the range of the dtype there.
    advice : Advice or None
        Of what is not stable, the change that mends it: ``advice.weight`` is a law for the weights
        of all layers, None where no scale of them does.

    Notes
    -----
    Of gradients the sum of squares over the units of a layer counts: unit by unit, those of ten
    outputs are larger than those of the thousand hidden units that they spread to.

    A trial that ends at exactly zero has vanished, one that left the range of the dtype has
    exploded; where it did so going forward, nothing is known of its gradients.

    Examples
    --------
    >>> import varprop as vp
    >>> run = vp.simulate(vp.mlp([100] * 31, weight="normal(std=0.2)"), inputs=50, trials=20)
    >>> run.verdict.forward, round(run.verdict.details["forward"].growth, 1)
    ('exploding', 4.0)
    """

    max_factor: float
    level: float
    details: dict[str, Direction]
    stages: int = 1
    advice: Advice | None = None
    underflow: bool = False
    unit: Literal["layer", "block"] = "layer"

    @classmethod
    def of(cls, run: Run, max_factor: float = 10, level: float = 0.95) -> Verdict:
        """Return the verdict on a run."""
        max_factor, level = real("max_factor", max_factor, least=1), probability(level)
        stages = _stages(run)
        bound = math.log10(max_factor)
        signal = run.activations.per_trial.log10_second_moment
        starts, counted = _starts(run, stages, signal, bound)
        forward = _through(stages, signal, starts)
        factors = {"forward": np.where(np.isnan(forward), np.inf, forward)}
        if "gradients" in run.observed:
            turned = [stage[::-1] for stage in reversed(stages)]
            units = np.log10(run.network.sizes["gradients"])
            sums = run.gradients.per_trial.log10_second_moment + units
            backward = _through(turned, sums, sums)
            factors["backward"] = backward[~np.isnan(backward)]
        layers = 1 + sum(len(stage) - 1 for stage in stages)
        counts = {"forward": layers + counted, "backward": layers}
        details = {
            name: _judged(logs, counts[name], bound, level) for name, logs in factors.items()
        }
        advice = None
        unhealthy = any(direction.word not in ("stable", None) for direction in details.values())
        if unhealthy and not run.network.is_profiled:
            ways = [details[way].log10_factor for way in details]
            advice = advise(run, stages, ways[0], ways[1] if len(ways) > 1 else math.nan, bound)
        underflow = bool(run.out_of_range) and details["forward"].log10_factor == -math.inf
        unit: Literal["layer", "block"] = "block" if run.network.blocks else "layer"
        return cls(max_factor, level, details, len(stages), advice, underflow, unit)

    @property
    def forward(self) -> Word | None:
        """The word on the activations."""
        return self.details["forward"].word

    @property
    def backward(self) -> Word | None:
        """The word on the gradients; None without a backward pass, or if all are unknown."""
        return self.details["backward"].word if "backward" in self.details else None

    def failed(self) -> list[str]:
        """Return the directions whose interval lies beyond the largest factor, in words."""
        bound, failed = math.log10(self.max_factor), []
        for name, direction in self.details.items():
            low, high = direction.interval
            if math.isnan(low):
                low = high = direction.log10_factor
            if low > bound or high < -bound:
                failed.append(f"{name} {direction.word}")
        return failed

    def __repr__(self) -> str:
        return f"Verdict(forward={self.forward!r}, backward={self.backward!r})"

    def __str__(self) -> str:
        lines = [
            line
            for name, direction in self.details.items()
            for line in _sentence(name, direction, self)
        ]
        if self.advice is not None:
            text = str(self.advice).replace(" x ", " x\0")  # of one piece
            lines += wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False)
        return "\n".join(lines).replace("\0", " ")


def _stages(run: Run) -> list[list[int]]:
    """Return the positions of the layers that count, by stretches of one number of positions."""
    steps = run.network.steps
    outside = [i for i, step in enumerate(steps) if step.trunk is not None]
    counted = outside if len(outside) > 1 else list(range(len(steps)))
    stages = [
        _whole([*same], steps)
        for _, same in groupby(counted, lambda i: (steps[i].trunk, _positions(run, steps[i])))
    ]
    return stages if any(len(stage) > 1 for stage in stages) else [counted]


def _positions(run: Run, step: Step) -> int:
    """Return the number of positions; blocks of a profile hand on one stream whatever theirs is."""
    return 1 if run.network.blocks else prod(step.output_shape[:-1])


def _whole(stage: list[int], steps: tuple[Step, ...]) -> list[int]:
    """Return the layers from the first of the last one's kind on, if that is one of these kinds."""
    last = steps[stage[-1]]
    if not last.pointwise:
        return stage
    first = next(i for i, position in enumerate(stage) if steps[position].role == last.role)
    return stage[first:] if first < len(stage) - 1 else stage


def _starts(
    run: Run, stages: list[list[int]], signal: FloatArray, bound: float
) -> tuple[FloatArray, int]:
    """Return what stages begin with: what their first layer gives, or of a block, what it takes.

    And the number of blocks that count so, as they change more than the bound, or are alone.
    """
    if not run.network.blocks:
        return signal, 0
    starts, counted = signal.copy(), 0
    taken = dict(
        zip(run.network.blocks, run.block_inputs.per_trial.log10_second_moment.T, strict=True)
    )
    for stage in stages:
        own = signal[:, stage[0]] - taken[stage[0]]
        if len(stage) == 1 or not abs(np.median(own)) <= bound:
            starts[:, stage[0]] = taken[stage[0]]
            counted += 1
    return starts, counted


def _through(stages: list[list[int]], logarithms: FloatArray, starts: FloatArray) -> FloatArray:
    """Return the logarithm of the factor through all stages: -inf where a signal is zero."""
    ends = [(stage[0], stage[-1]) for stage in stages]
    dead = np.isneginf(starts[:, ends[0][0]]) | np.isneginf(logarithms[:, ends[-1][1]])
    with np.errstate(invalid="ignore"):
        # Of layers, those alone change nothing, and one out of range would hide the others.
        steps = ends if starts is not logarithms else [e for e in ends if e[0] != e[1]] or ends
        factors = sum(logarithms[:, last] - starts[:, first] for first, last in steps)
        return np.where(dead, -np.inf, factors)


def _judged(logs: FloatArray, layers: int, bound: float, level: float) -> Direction:
    """Judge the logarithms of the trials' factors, of which some may be infinite."""
    if not logs.size:
        return Direction(None, layers, math.nan, (math.nan, math.nan), math.nan, math.nan, False)
    middle = np.sort(logs)[len(logs) // 2]
    living = logs[np.isfinite(logs)]
    known = np.isfinite(middle)
    mean = float(living.mean() if known else middle)
    ends = mean_interval(living, level) if known else (math.nan, math.nan)
    failing = float(np.mean(np.abs(logs) > bound))
    word: Word = "stable" if abs(mean) <= bound else "vanishing" if mean < 0 else "exploding"
    return Direction(
        word=word,
        layers=layers,
        log10_factor=mean,
        interval=(float(ends[0]), float(ends[1])),
        spread=float(living.std(ddof=1)) if known and len(living) > 1 else math.nan,
        failing=failing,
        fragile=word == "stable" and failing >= FRAGILE,
    )


def _sentence(name: str, direction: Direction, verdict: Verdict) -> list[str]:
    """Return what to tell of a direction, in lines."""
    count = max(1, direction.layers - (verdict.unit == "block"))  # between its two ends
    layers = f"{count} {verdict.unit}{'s' if count > 1 else ''}"
    if direction.word is None:
        return [f"{name}: unknown, as the signal going forward is out of range"]
    start = f"{name}: {direction.word}, "
    if math.isinf(direction.log10_factor):
        end = "out of range within"
        if direction.log10_factor < 0:
            end = "underflow to zero within" if verdict.underflow else "exactly zero after"
        return [f"{start}{end} {layers}"]
    lines = [f"{start}x {_factor(direction.log10_factor)} over {layers}"]
    indent = " " * (len(name) + 2)
    if direction.layers > 1:
        rate = f"(x {_rates(direction, verdict.unit)})"
        if len(lines[0]) + 1 + len(rate) <= WIDTH:
            lines[0] += f" {rate}"
        else:
            lines.append(indent + rate)
    if direction.fragile:
        lines.append(
            f"{indent}but fragile: {direction.failing:.0%} of single trials change more than "
            f"{verdict.max_factor:g}-fold"
        )
    low, high = direction.interval
    bound = math.log10(verdict.max_factor)
    if any(low < end < high for end in (-bound, bound)):
        lines.append(
            f"{indent}but uncertain: the {verdict.level:.0%} interval is x {_factor(low)} "
            f"to {_factor(high)}"
        )
    return lines


def _rates(direction: Direction, unit: str) -> str:
    """Write the growth and its interval, with the digits that the interval leaves."""
    low, high = direction.growth_interval
    if math.isnan(low):
        return f"{_decimals(direction.growth, 4)} a {unit}"
    width = high - low
    digits = 1 - math.floor(math.log10(width)) if 0 < width < math.inf else 4
    digits = min(max(digits, 1), 5)
    numbers = [_decimals(number, digits) for number in (direction.growth, low, high)]
    return f"{numbers[0]} a {unit}, {numbers[1]} to {numbers[2]}"


def _decimals(number: float, digits: int) -> str:
    return f"{number:.{digits}f}" if 0.01 <= number < 1e4 else f"{number:.3g}"


def _factor(logarithm: float) -> str:
    """Write ten to this power: two digits of it, whatever its size."""
    if -3 < logarithm < 4:
        return f"{10**logarithm:.2g}" if logarithm < 1.99 else f"{10**logarithm:.0f}"
    return f"{WIDE.power(10, WIDE.create_decimal_from_float(logarithm)):.1e}"


def _power(logarithm: float) -> float:
    """Return ten to this power, infinite where it is out of range."""
    return 10**logarithm if logarithm < 308 else logarithm * math.inf
