"""The factors on weights that meet a goal at infinite width: one walk over the layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import optimize

from varprop._compile import Step
from varprop._gain import Goal
from varprop._tune_report import Factors, blocks, multiplied, untuned
from varprop.initializers import Constant
from varprop.layers import Conv2d, Dense
from varprop.network import Network
from varprop.theory import _law_moments
from varprop.theory._propagate import _forward, _passed
from varprop.theory._signal import Signal

_FARTHEST = 1e12  # beyond which no factor is looked for


def factors(net: Network, goal: Goal, q: float, mean: float) -> Factors:
    """Return what to multiply weights by where inputs have this second moment and mean."""
    places = net.input_shape[:-1] or (1,)
    moments = [np.full(places, moment) for moment in (mean, q, math.nan)]
    start = Signal(moments[0], moments[1], moments[2], gaussian=True, roots=frozenset({-1}))
    found = Factors({}, untuned(net))
    ends = dict(blocks(net))

    def tuned(step: Step, x: Signal, position: int) -> Step:
        if position not in ends:
            return step
        if goal == "unit_variance":
            factor = _of_variance(step, x, position)
        else:
            factor = _of_slopes(net.steps[position : ends[position]], x, position)
        if isinstance(factor, str):
            found.left[step.name] = factor
            return step
        found.by_layer[step.name] = factor
        return step._replace(layer=multiplied(step.layer, factor))

    _forward(net, start, tuned)
    return found


def _of_variance(step: Step, x: Signal, position: int) -> float | str:
    """Return the factor that brings pre-activations to variance 1, or why there is none."""
    layer = step.layer
    assert isinstance(layer, Dense | Conv2d)
    bare = step._replace(layer=replace(layer, bias=None))
    square = float(_passed(bare, x, position).before.square.mean())
    biases = 0.0
    if layer.bias is not None:
        biases = _law_moments.moments(layer.bias, step.output_shape[-1:])[1]
    if square == 0.0:
        return "its products are 0"
    if biases >= 1.0:
        return f"its biases have variance {biases:.4g}"
    return math.sqrt((1.0 - biases) / square)


def _of_slopes(steps: tuple[Step, ...], x: Signal, position: int) -> float | str:
    """Return the factor that brings chi_1 to 1 up to the next weights, or why there is none."""
    first, *others = steps
    if first.law("weight") == Constant(0.0):
        return "its products are 0"

    def logarithm(log_factor: float) -> float:
        layer = multiplied(first.layer, math.exp(log_factor))
        one = _passed(first._replace(layer=layer), x, position)
        chi_1 = one.chi_1
        for place, step in enumerate(others, position + 1):
            one = _passed(step, one.after, place)
            chi_1 *= one.chi_1
        return math.log(chi_1) if chi_1 > 0.0 else -math.inf

    root = _root(logarithm)
    return "chi_1 is 1 at no scale" if root is None else math.exp(root)


def _root(f: Callable[[float], float]) -> float | None:
    """Return a zero of a function of a logarithm that grows by up to 2 for each unit."""
    here, value, step = 0.0, f(0.0), 1.0
    if not math.isfinite(value):
        return None
    if abs(f(-0.5 * value)) <= 1e-15:  # chi_1 is a multiple of the factor's square
        return -0.5 * value
    sign = math.copysign(1.0, -value)
    while abs(here) < math.log(_FARTHEST):
        there = here + sign * step
        if f(there) * sign >= 0.0:
            return float(optimize.brentq(f, *sorted((here, there)), xtol=1e-14, rtol=1e-14))
        here, step = there, 2.0 * step
    return None
