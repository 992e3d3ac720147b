"""What mends an unhealthy network: a law of its weights, or why no scale of them can."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varprop import _wide, initializers
from varprop._branches import Branches
from varprop._gain import Goal
from varprop._outlook import Theory
from varprop.initializers import Given, Law, Orthogonal, Scaled
from varprop.layers import Dense, Residual

if TYPE_CHECKING:
    from varprop._compile import Step
    from varprop.run import Run

Array = NDArray[np.float64]

_MARGIN = 0.9  # of the bound on logarithms that a prediction may use
_SURE = 0.5  # ... if that is by a law of a name, which then is good enough
_SAME = 0.02  # of the logarithm of a factor that tuning would not change
_NEAR = 0.3  # ... of the decimal one of a variance that is about 1
_SMALLER = 30  # tries of smaller branches
_INSIDE = 0.7  # of the bound, of branches
_FARTHEST = 30.0  # decimal logarithm of a gain
_NAMED = {"lecun_normal": 1.0, "he_normal": math.sqrt(2.0)}  # gains
_NOT_CUT = {"kaiming_normal(nonlinearity='linear')": 1.0, "kaiming_normal": math.sqrt(2.0)}


@dataclass(frozen=True)
class Advice:
    """What would mend a network.

    Attributes
    ----------
    text : str
        In words.
    weight : str or None
        The law for the weights of all layers that mends it; None where no scale of them can, or
        none is known.
    """

    text: str
    weight: str | None = None

    def __str__(self) -> str:
        return self.text


def advise(
    run: Run, stages: list[list[int]], forward: float, backward: float, bound: float
) -> Advice:
    """Return what mends a run whose factors' logarithms are these, backward NaN if unknown.

    Parameters
    ----------
    run : Run
    stages : list of list of int
        Positions of the layers that count, by stretches.
    forward, backward : float
        Decimal logarithms of the factors from the first to the last, and back.
    bound : float
        What the magnitude of both may be.
    """
    net = run.network
    if any(isinstance(step.layer, Residual) for step in net.steps):
        return _of_residuals(run, stages, forward, backward, bound)
    counted = [net.steps[i] for stage in stages for i in stage[1:] if net.steps[i].weight_shape]
    if _scale_free(run) and counted:
        return _of_homogeneous(run, stages, counted, forward, backward, bound)
    return _of_others(run, stages, forward, backward, bound)


_CHANCE = "chance lets signals die or explode"
_TUNE = "to mend it: vp.tune(net, method='measured') scales the weights of each layer"
_SUMS = Advice("to mend it: skip_scale and branch_scale, which decide what sums keep")


def _of_others(
    run: Run, stages: list[list[int]], forward: float, backward: float, bound: float
) -> Advice:
    """By the tables of a chain of dense layers; else by theory, or what the run itself tells."""
    steps = run.network.steps
    if all(isinstance(step.layer, Dense) and len(step.input_shape) == 1 for step in steps):
        return _of_chain(run, bound, not math.isnan(backward))
    theory = Theory.of(run, stages)
    return _measured(run, forward, backward, bound) if theory is None else _of(run, theory, bound)


# --- networks that pass on a factor as it is ------------------------------------------------------


def _scale_free(run: Run) -> bool:
    """Return whether a factor on all weights is one on all signals, biases too being nothing."""
    return all(op.homogeneous and op.bias.source == "absent" for op in run.network.operations)


def _of_homogeneous(
    run: Run,
    stages: list[list[int]],
    counted: list[Step],
    forward: float,
    backward: float,
    bound: float,
) -> Advice:
    """Measured factors change with the weights' squares, at every width."""
    stds = [_std(step) for step in counted]
    known = [std for std in stds if std is not None]
    lost = math.isinf(forward) or math.isinf(backward)
    if len(known) < len(stds) or (lost and run.out_of_range):
        return _of_others(run, stages, forward, backward, bound)
    if lost:
        return Advice("no scale of the weights mends it: what is exactly zero has none")
    both = [forward, forward if math.isnan(backward) else backward]

    def after(law: Law) -> list[float]:
        now = (law.compile(step.weight_shape or ()) for step in counted)
        change = sum(
            2.0 * math.log10(draw.rms / std)
            for draw, std in zip(now, known, strict=True)
            if draw is not None
        )
        return [logarithm + change for logarithm in both]

    for name in _named(run):
        found = after(initializers.resolve(name))
        if max(map(abs, found)) <= _SURE * bound:
            return _weight(name, *found[: 1 + (not math.isnan(backward))])
    start = after(initializers.resolve("lecun_normal"))
    needs = [-one / (2.0 * len(counted)) for one in start]  # decimal logarithms of gains
    if max(map(abs, needs)) > _FARTHEST:
        return Advice(_TUNE)
    gain = 10 ** (0.5 * sum(needs))
    text = _law(run, gain)
    found = after(initializers.resolve(text))
    if max(map(abs, found)) <= _MARGIN * bound:
        return _weight(text, *found[: 1 + (not math.isnan(backward))])
    return _neither(*(10**need for need in needs))


def _std(step: Step) -> float | None:
    """Return the weights' standard deviation, None where it is not known or their mean is not 0."""
    law, shape = step.law("weight"), step.weight_shape
    assert law is not None
    assert shape is not None
    plain, factor = (law.of, law.factor) if isinstance(law, Scaled) else (law, 1.0)
    if isinstance(plain, Orthogonal):
        return factor * plain.gain / math.sqrt(max(math.prod(shape[:-1]), shape[-1]))
    draw = law.compile(shape)
    if draw is None or draw.rms == 0.0:
        return None
    mean = 0.5 * (draw.low + draw.high) if draw.distribution == "uniform" else draw.mean
    if draw.distribution == "constant" or abs(mean) > 1e-9 * draw.rms:
        return None
    return draw.rms


# --- chains of dense layers ---------------------------------------------------------------------


def _of_chain(run: Run, bound: float, goes_back: bool) -> Advice:
    """Factors as wide networks have them, of a gain of all layers."""
    chain = _wide.Chain.of(run)

    def promising(law: str, gain: float, share: float) -> Advice | None:
        found = chain.factors(np.array([gain]))
        if found.worst[0] > share * bound:
            return None
        return _weight(law, *found.middle(0)[: 1 + goes_back])

    for name, gain in _named(run).items():
        if advice := promising(name, gain, _SURE):
            return advice
    gain = chain.best(lambda found: found.worst)
    if advice := promising(_law(run, gain), gain, _MARGIN):
        return advice
    backward = chain.best(lambda found: found.worst_backward)
    nearest = chain.nearest(backward, _MARGIN * bound)
    if nearest is None:
        return Advice(
            f"no scale of the weights mends it: at every gain {_CHANCE}; a normalization between "
            "the layers does, or biases and the gain that is critical with them"
        )
    if goes_back:
        return _neither(nearest, backward)
    return _weight(_law(run, nearest), chain.factors(np.array([nearest])).middle(0)[0])


# --- other networks -------------------------------------------------------------------------------


def _of(run: Run, theory: Theory, bound: float) -> Advice:
    """Try by theory: weights tuned to unit variance, of one gain, tuned to the edge of chaos."""
    most = _MARGIN * bound
    if not _is_tuned(run, "unit_variance") and (tuned := theory.tuned("unit_variance")):
        net, factors = tuned
        found = theory(net)
        changes = any(abs(math.log(factor)) > _SAME for factor in factors.values())
        if changes and found and found.worst <= most:
            return Advice(f"{_TUNE}, {_about(*found[:2])}")
    gain = theory.balanced(lambda gain: _law(run, gain))
    law = _law(run, gain)
    best = theory(theory.with_gain(lambda _: law, gain))
    if best and best.worst <= most:
        return _weight(law, *best[:2])
    if not _is_tuned(run, "critical") and (tuned := theory.tuned("critical")):
        found = theory(tuned[0])
        if found and found.worst <= most:
            return Advice(f"to mend it: vp.tune(net, goal='critical'), {_about(*found[:2])}")
    nothing = "no one scale of all weights mends it"
    if best is None:
        return Advice(nothing)
    if max(map(abs, best[:2])) <= most:
        return Advice(f"{nothing}: at the best, {law!r}, {_CHANCE}")
    return Advice(f"{nothing}: at best, with {law!r}, {_about(*best[:2])}")


def _is_tuned(run: Run, goal: Goal) -> bool:
    from varprop._tune import TunedNetwork

    return isinstance(run.network, TunedNetwork) and run.network.report.goal == goal


def _measured(run: Run, forward: float, backward: float, bound: float) -> Advice:
    """Where there is no theory: tune, unless all layers have a variance near 1 already."""
    laws = ((i, step.law("weight")) for i, step in enumerate(run.network.steps))
    at = [i for i, law in laws if law is not None and not isinstance(law, Given)]
    if not at:
        return Advice("no law of weights mends it: they are given, or there are none")
    off = run.preactivations.per_trial.log10_var[:, at].mean(axis=0)
    if not _is_tuned(run, "unit_variance") and not np.all(np.abs(off) < _NEAR):
        return Advice(_TUNE)
    if forward * backward < 0.0 and min(abs(forward), abs(backward)) > bound:
        return Advice("no scale of the weights mends it: one way needs smaller ones, one larger")
    total = forward if math.isnan(backward) else forward + backward
    than = "smaller" if total > 0.0 else "larger"
    return Advice(
        f"to mend it: {than} weights in all layers, little by little; they have variance 1 already"
    )


# --- residuals ------------------------------------------------------------------------------------


def _of_residuals(
    run: Run, stages: list[list[int]], forward: float, backward: float, bound: float
) -> Advice:
    """Find branches so small that sums grow by little more than e: by theory, where there is one.

    Nested blocks share the scale.
    """
    blocks = [s.layer for s in run.network.steps if isinstance(s.layer, Residual)]
    scales = {(block.branch_scale, block.skip_scale) for block in blocks}
    grows = bound < max(forward, -math.inf if math.isnan(backward) else backward) < math.inf
    if len(scales) != 1 or not grows:
        return _SUMS
    branch, skip = scales.pop()
    scale = min(Branches.of(run).scale(skip), abs(branch))
    if theory := Theory.of(run, stages):
        for _ in range(_SMALLER):
            found = theory(theory.with_branches(_short(scale)))
            if found and found.worst <= _INSIDE * bound:
                return Advice(
                    f"to mend it: branch_scale={_short(scale)}, so that sums grow little, "
                    f"{_about(*found[:2])}"
                )
            scale *= 0.8
        return _SUMS
    if not 0.0 < scale < abs(branch):
        return _SUMS
    return Advice(f"to mend it: branch_scale={_short(scale)}, so that sums grow little")


def _short(scale: float) -> float:
    return float(f"{scale:.3g}")


# --- words --------------------------------------------------------------------------------------


def _named(run: Run) -> dict[str, float]:
    """Return laws of a name with their gains: normals that are cut have to be drawn."""
    return _NOT_CUT if run.method == "implicit" else _NAMED


def _law(run: Run, gain: float) -> str:
    """Write weights of variance gain^2 / fan_in: by their std where all layers have one."""
    fans = {initializers.fans(shape)[0] for shape in run.network.shapes}
    if len(fans) == 1:
        return f"normal(std={gain / math.sqrt(fans.pop()):.4g})"
    whole = ", distribution='untruncated_normal'" if run.method == "implicit" else ""
    return f"variance_scaling({gain**2:.4g}{whole})"


def _weight(law: str, forward: float, backward: float | None = None) -> Advice:
    return Advice(f"to mend it: weight={law!r}, {_about(forward, backward)}", law)


def _about(forward: float, backward: float | None = None) -> str:
    ways = f"about x {10**forward:.2g} forward"
    return ways if backward is None else f"{ways}, x {10**backward:.2g} backward"


def _neither(forward: float, backward: float) -> Advice:
    return Advice(
        f"no scale of the weights mends it: backward needs a gain of {backward:.3g}, and the "
        f"nearest at which forward is stable is {forward:.3g}"
    )
