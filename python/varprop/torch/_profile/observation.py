"""The statistics of a trial's signals and gradients, and of all trials as a run keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from varprop import _catalogue
from varprop._moments import Moments
from varprop._statistics import Observed
from varprop.torch import _door
from varprop.torch._profile.trunk import Told
from varprop.torch._profile.watch import Call


class Numbers(NamedTuple):
    """What moments tell, as plain numbers.

    Objects of the core, left from each trial between large tensors, would let the heap grow.
    """

    number: int
    mean: float
    variance: float
    minimum: float
    maximum: float
    m3: float
    m4: float

    @classmethod
    def of(cls, moments: Moments) -> Numbers:
        """Return what some moments tell."""
        count, sets = int(moments.count), moments._sets
        mean, variance = float(moments.mean), float(moments.var)
        third, fourth = (float(m[0]) / max(1, count) for m in (sets.m3, sets.m4))
        return cls(count, mean, variance, float(moments.min), float(moments.max), third, fourth)


_UNKNOWN = Numbers(0, *[math.nan] * 6)


class Observation:
    """What one trial gave: the statistics of each step, by signal."""

    def __init__(self, steps: list[Told], leaf: torch.Tensor | None) -> None:
        calls = [step.call for step in steps]
        self.signals = {
            "preactivations": [Numbers.of(call.entered.moments) for call in calls],
            "activations": [Numbers.of(call.left.moments) for call in calls],
            "gradients": [_gradient(call) for call in calls],
            "weight_gradients": _by_parameters(steps, weights=True),
            "bias_gradients": _by_parameters(steps, weights=False),
            "input_gradients": [] if leaf is None else [_of_tensors([leaf])],
            "block_inputs": [
                _UNKNOWN if step.call.took is None else Numbers.of(step.call.took.moments)
                for step in steps
                if step.stretch
            ],
        }
        self.structure = [(step.call.name, step.type, step.call.shape) for step in steps]
        lost = (i for i, n in enumerate(self.signals["activations"]) if not math.isfinite(n.mean))
        self.lost = next(lost, None)


def _gradient(call: Call) -> Numbers:
    """Return what a gradient's moments tell: unknown where none can come, zeros where none came."""
    if call.returned is None:
        return _UNKNOWN
    if call.returned.moments.count:
        return Numbers.of(call.returned.moments)
    return Numbers(int(call.left.moments.count), *[0.0] * 6)


def _by_parameters(steps: list[Told], weights: bool) -> list[Numbers]:
    tensors = [[own.tensor for own in step.owned if own.is_weight == weights] for step in steps]
    return [_of_tensors(own) for own in tensors if own]


def _of_tensors(tensors: Iterable[torch.Tensor]) -> Numbers:
    """Return what the moments of the gradients that tensors have tell, of all together."""
    moments = Moments()
    for tensor in tensors:
        gradient = tensor.grad
        if gradient is None:
            moments.update(np.broadcast_to(np.float32(0.0), tensor.numel()))
        else:
            _door.observe(gradient.to_dense() if gradient.is_sparse else gradient, moments)
    return Numbers.of(moments)


def observed(observations: list[Observation], statistics: tuple[str, ...]) -> dict[str, Observed]:
    """Return the statistics of all trials as a run keeps them."""
    found = {}
    for signal in _catalogue.SIGNALS:
        trials = [observation.signals[signal] for observation in observations]
        shape = len(trials), len(trials[0])
        if not trials[0] and signal in ("input_gradients", "block_inputs"):
            continue  # inputs are no real numbers, there are no blocks
        table = np.array(trials, np.float64).reshape(*shape, len(Numbers._fields))
        for row, observation in enumerate(observations):
            if observation.lost is not None:  # of what comes after, nothing is known
                known = observation.lost if signal in _catalogue.SIGNALS[:2] else 0
                table[row, known:, 1:] = np.nan
        numbers = dict(zip(Numbers._fields, np.moveaxis(table, -1, 0), strict=True))
        numbers["count"] = numbers["number"].max(axis=0).clip(1).astype(np.int64)
        numbers["exponent"] = np.zeros(shape, np.int64)
        wanted = _catalogue.keys(statistics, signal)
        found[signal] = {name: np.ascontiguousarray(numbers[name]) for name in wanted}
    return found


def out_of_range(observations: list[Observation], first: int) -> list[tuple[str, int]]:
    """Return names of the steps, and trials, where a signal left the range of its dtype."""
    return [
        (observation.structure[observation.lost][0], first + trial)
        for trial, observation in enumerate(observations)
        if observation.lost is not None
    ]


def check_same(observations: list[Observation], first: int) -> None:
    """Raise the error of a model that calls other modules in some trial than in the first."""
    wanted = observations[0].structure
    for trial, observation in enumerate(observations):
        if observation.structure != wanted:
            raise ValueError(
                f"model must call the same modules in each trial, in trial {first + trial} it "
                f"called others than in trial {first}"
            )
