"""What theory has of an unhealthy network with other weights: the factors a verdict would find."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from varprop import initializers, layers
from varprop._gain import Goal
from varprop._wide import spread
from varprop.initializers import Given
from varprop.layers import Conv2d, Dense, Elementwise, Layer, Residual
from varprop.network import Network

if TYPE_CHECKING:
    from varprop.run import Run
    from varprop.theory import Propagation

_MOST = 3000  # layers times positions, of which a propagation takes some 0.05 s
_HALVINGS = 12  # of the range of gains
_GAINS = (0.25, 30.0)


class Outlook(NamedTuple):
    """Decimal logarithms of factors, and the largest magnitude that chance at the start leaves."""

    forward: float
    backward: float
    worst: float


@dataclass(frozen=True)
class Theory:
    """The inputs of a run, the layers that count in its verdict, and by how much chance moves."""

    net: Network
    stages: list[list[int]]
    square: float
    mean: float
    chance: float

    @classmethod
    def of(cls, run: Run, stages: list[list[int]]) -> Theory | None:
        """Return it where there is SciPy, a theory of all layers, and little to compute."""
        net, given = run.network, run.given_inputs
        positions = sum(prod(step.output_shape[:-1]) for step in net.steps)
        given_weights = any(isinstance(step.law("weight"), Given) for step in net.steps)
        own = any(isinstance(step.layer, Elementwise) for step in net.steps)
        if positions > _MOST or given_weights or own:
            return None
        mean, square = 0.0, 1.0
        if given is not None:
            data = given.astype(np.float64)
            mean, square = float(data.mean()), float(np.mean(data * data))
        width = min(step.output_shape[-1] for step in net.steps)
        found = cls(net, stages, square, mean, spread(width))
        try:
            found._propagated(found.with_gain(lambda gain: f"variance_scaling({gain})", 1.0), 1.0)
        except (ImportError, NotImplementedError):
            return None
        except ValueError:  # out of range at this gain
            pass
        return found

    def _propagated(self, net: Network, times: float) -> Propagation:
        from varprop import theory

        mean = self.mean * math.sqrt(times)
        return theory.propagate(net, self.square * times, None, mean=mean)

    def _ways(self, net: Network, times: float = 1.0) -> tuple[float, float, float]:
        """Return logarithms of the factors forward and backward, and of the signal at the end."""
        found = self._propagated(net, times)
        there = found.activations.log10_second_moment
        units = np.log10(net.sizes["gradients"])
        with np.errstate(divide="ignore", invalid="ignore"):
            back = found.gradients.log10_second_moment + units
            forward = sum(there[stage[-1]] - there[stage[0]] for stage in self.stages)
            backward = sum(back[stage[0]] - back[stage[-1]] for stage in self.stages)
        return float(forward), float(backward), float(there[-1])

    def __call__(self, net: Network) -> Outlook | None:
        """Return what to expect of a network like that of the run, None if it leaves the range."""
        try:
            forward, backward, end = self._ways(net)
            others = [self._ways(net, times) for times in (1.0 / self.chance, self.chance)]
        except ValueError:
            return None
        # What chance did to the first layer is forgotten at the end, unless it grows.
        ends = [forward + other - end for _, _, other in others]
        worst = max(map(abs, [forward, backward, *ends, *(back for _, back, _ in others)]))
        return Outlook(forward, backward, worst) if math.isfinite(worst) else None

    def tuned(self, goal: Goal) -> tuple[Network, dict[str, float]] | None:
        """Return the network tuned to a goal and the factors on its weights, None if none is."""
        from varprop._tune import multiplied_by
        from varprop._tune_theory import factors

        try:
            found = factors(self.net, goal, self.square, self.mean)
        except (NotImplementedError, ValueError):
            return None
        return multiplied_by(self.net, found), found.by_layer

    def with_gain(self, law: Callable[[float], str], gain: float) -> Network:
        """Return the network with weights of one law."""
        weight = initializers.resolve(law(gain))

        def change(_: str, layer: Layer) -> list[Layer]:
            return [replace(layer, weight=weight) if isinstance(layer, Dense | Conv2d) else layer]

        return Network(self.net.inputs, layers.replaced(self.net.layers, change))

    def with_branches(self, scale: float) -> Network:
        """Return the network with branches of one scale."""

        def change(_: str, layer: Layer) -> list[Layer]:
            return [replace(layer, branch_scale=scale) if isinstance(layer, Residual) else layer]

        return Network(self.net.inputs, layers.replaced(self.net.layers, change))

    def balanced(self, law: Callable[[float], str]) -> float:
        """Return the gain at which neither way is worse: both factors grow with it."""
        low, high = np.log(_GAINS)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            try:
                total = sum(self._ways(self.with_gain(law, math.exp(middle)))[:2])
            except ValueError:  # beyond the range
                total = math.inf
            low, high = (middle, high) if total < 0.0 else (low, middle)
        return math.exp(0.5 * (low + high))
