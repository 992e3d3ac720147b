"""The statistics of a trial's signals and gradients, and of all trials as a run keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from varprop import _catalogue
from varprop._moments import Moments
from varprop._statistics import Observed
from varprop.torch import _door
from varprop.torch._profile.trunk import Told
from varprop.torch._profile.watch import Seen


class Observation:
    """What one trial gave: the statistics of each step, by signal."""

    def __init__(self, steps: list[Told], leaf: torch.Tensor | None) -> None:
        self.steps = steps
        calls = [step.call for step in steps]
        self.signals = {
            "preactivations": [call.entered.moments for call in calls],
            "activations": [call.left.moments for call in calls],
            "gradients": [_gradient(call.returned, call.entered) for call in calls],
            "weight_gradients": _by_parameters(steps, weights=True),
            "bias_gradients": _by_parameters(steps, weights=False),
            "input_gradients": [] if leaf is None else [_of_tensors([leaf])],
        }
        means = [moments.mean for moments in self.signals["activations"]]
        finite = np.isfinite(means)
        self.lost = int(np.argmin(finite)) if not finite.all() else None

    @property
    def structure(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Names, classes and shapes: what has to be the same in all trials."""
        return [(step.call.name, step.type, step.call.shape) for step in self.steps]


def _gradient(returned: Seen | None, entered: Seen) -> Moments:
    """Return the moments of a gradient: unknown where none can come, zeros where none came."""
    if returned is None or returned.moments.count:
        return Moments() if returned is None else returned.moments
    return _zeros(entered.moments.count)


def _zeros(count: int) -> Moments:
    moments = Moments()
    moments.update(np.broadcast_to(np.float32(0.0), count))
    return moments


def _by_parameters(steps: list[Told], weights: bool) -> list[Moments]:
    tensors = [[own.tensor for own in step.owned if own.is_weight == weights] for step in steps]
    return [_of_tensors(own) for own in tensors if own]


def _of_tensors(tensors: Iterable[torch.Tensor]) -> Moments:
    """Return the moments of the gradients that tensors have, of all together."""
    moments = Moments()
    for tensor in tensors:
        gradient = tensor.grad
        if gradient is None:
            moments.merge(_zeros(tensor.numel()))
        else:
            _door.observe(gradient.to_dense() if gradient.is_sparse else gradient, moments)
    return moments


def observed(observations: list[Observation], statistics: tuple[str, ...]) -> dict[str, Observed]:
    """Return the statistics of all trials as a run keeps them."""
    lost = [observation.lost for observation in observations]
    found = {}
    for signal in _catalogue.SIGNALS:
        trials = [observation.signals[signal] for observation in observations]
        if trials[0] or signal != "input_gradients":  # inputs that are no real numbers have none
            forward = signal in _catalogue.SIGNALS[:2]
            columns = _columns(trials)
            for row, layer in enumerate(lost):
                if layer is not None:  # of what comes after, nothing is known
                    for values in columns.values():
                        values[row, layer if forward else 0 :] = np.nan
            counts = [[int(moments.count) for moments in trial] for trial in trials]
            found[signal] = {
                "count": np.array(counts, np.int64).reshape(len(trials), -1).max(axis=0).clip(1),
                "exponent": np.zeros((len(trials), len(trials[0])), np.int64),
                **columns,
            }
            wanted = _catalogue.keys(statistics, signal)
            found[signal] = {name: found[signal][name] for name in wanted}
    return found


def _columns(trials: list[list[Moments]]) -> dict[str, NDArray[np.float64]]:
    """Return what moments have, arrays of shape (trials, layers)."""
    get: dict[str, Callable[[Moments], float]] = {
        "mean": lambda m: m.mean,
        "variance": lambda m: m.var,
        "minimum": lambda m: m.min,
        "maximum": lambda m: m.max,
        "m3": lambda m: m._sets.m3[0] / max(1, m.count),
        "m4": lambda m: m._sets.m4[0] / max(1, m.count),
    }
    shape = len(trials), len(trials[0])
    return {
        name: np.array([[of(m) for m in trial] for trial in trials], np.float64).reshape(shape)
        for name, of in get.items()
    }


def out_of_range(observations: list[Observation], first: int) -> list[tuple[str, int]]:
    return [
        (observation.steps[observation.lost].call.name, first + trial)
        for trial, observation in enumerate(observations)
        if observation.lost is not None
    ]


def check_same(observations: list[Observation], first: int) -> None:
    wanted = observations[0].structure
    for trial, observation in enumerate(observations):
        if observation.structure != wanted:
            raise ValueError(
                f"model must call the same modules in each trial, in trial {first + trial} it "
                f"called others than in trial {first}"
            )
