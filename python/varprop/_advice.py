"""What mends an unhealthy network: a law of its weights, or why no scale of them can."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varprop import _wide, initializers
from varprop.initializers import Law, Orthogonal, Scaled
from varprop.layers import Dense, Residual

if TYPE_CHECKING:
    from varprop._compile import Step
    from varprop.run import Run

Array = NDArray[np.float64]

_MARGIN = 0.9  # of the bound on logarithms that a prediction may use
_SURE = 0.5  # ... if that is by a law of a name, which then is good enough
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
        return _of_residuals(run, forward, bound)
    counted = [net.steps[i] for stage in stages for i in stage[1:] if net.steps[i].weight_shape]
    if _scale_free(run) and counted:
        return _of_homogeneous(run, counted, forward, backward, bound)
    if _dense(run):
        return _of_chain(run, bound, not math.isnan(backward))
    return _ELSEWHERE


_ELSEWHERE = Advice("to mend it: vp.tune(net, method='measured') scales the weights of each layer")
_SUMS = Advice("to mend it: skip_scale and branch_scale, which decide what sums keep")


def _dense(run: Run) -> bool:
    """Return whether a network is a chain of dense layers."""
    steps = run.network.steps
    return all(isinstance(step.layer, Dense) and len(step.input_shape) == 1 for step in steps)


# --- networks that pass on a factor as it is ------------------------------------------------------


def _scale_free(run: Run) -> bool:
    """Return whether a factor on all weights is one on all signals, biases too being nothing."""
    return all(op.homogeneous and op.bias.source == "absent" for op in run.network.operations)


def _of_homogeneous(
    run: Run, counted: list[Step], forward: float, backward: float, bound: float
) -> Advice:
    """Measured factors change with the weights' squares, at every width."""
    stds = [_std(step) for step in counted]
    known = [std for std in stds if std is not None]
    if len(known) < len(stds):
        return _of_chain(run, bound, not math.isnan(backward)) if _dense(run) else _ELSEWHERE
    if math.isinf(forward) or math.isinf(backward):
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
        return _ELSEWHERE
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
            "no scale of the weights mends it: at every gain chance lets signals die or explode; a "
            "normalization between the layers does"
        )
    if goes_back:
        return _neither(nearest, backward)
    return _weight(_law(run, nearest), chain.factors(np.array([nearest])).middle(0)[0])


# --- residuals ----------------------------------------------------------------------------------


def _of_residuals(run: Run, forward: float, bound: float) -> Advice:
    """Where each block multiplies the mean square by G, the branch adds G - skip_scale^2."""
    blocks = [s.layer for s in run.network.steps if isinstance(s.layer, Residual)]
    scales = {(block.branch_scale, block.skip_scale) for block in blocks}
    if len(scales) != 1 or not bound < forward < math.inf:
        return _SUMS
    branch, skip = scales.pop()
    added = 10 ** (forward / len(blocks)) - skip**2
    if added <= 0.0:
        return _SUMS
    scale = abs(branch) / math.sqrt(added * len(blocks))
    return Advice(f"to mend it: branch_scale={scale:.3g}, so that sums grow little")


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
    ways = f"x {10**forward:.2g} forward"
    if backward is not None:
        ways += f", x {10**backward:.2g} backward"
    return Advice(f"to mend it: weight={law!r}, about {ways}", law)


def _neither(forward: float, backward: float) -> Advice:
    return Advice(
        f"no scale of the weights mends it: forward needs a gain of {forward:.3g}, backward "
        f"{backward:.3g}"
    )
