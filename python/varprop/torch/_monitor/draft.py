"""A record in the making: what is known of a step, until the next begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from varprop._moments import Moments
from varprop._statistics import Observed
from varprop.torch import _door
from varprop.torch._monitor.listen import Ear, Heard, on_way_back
from varprop.torch._monitor.record import Record
from varprop.torch._monitor.signal import Signal, observed


class Draft:
    """What is known of a step.

    Parameters
    ----------
    step : int
    weights : dict
        The parameters of each layer that has any, by its name.
    statistics, signals : tuple of str
    """

    def __init__(
        self,
        step: int,
        weights: dict[str, list[torch.Tensor]],
        statistics: tuple[str, ...],
        signals: tuple[str, ...],
    ) -> None:
        self.step = step
        self.loss: float | None = None
        self.activations: list[Heard] | None = None
        self.gradients: list[Heard] = []
        self.ear: Ear | None = None
        self._statistics, self._signals = statistics, signals
        self._weights = weights
        histogram = "histogram" in statistics
        self.weight_gradients = {name: Signal(histogram) for name in weights}
        self.weights = {name: Signal(histogram) for name in weights}
        self._copies: dict[torch.Tensor, torch.Tensor] = {}
        self._known: set[torch.Tensor] = set()  # whose gradients were taken
        self._moved: dict[torch.Tensor, tuple[float, float]] = {}

    def copy(self, some: set[torch.Tensor]) -> None:
        """Keep what weights are, of those not kept yet."""
        if "weights" not in self._signals:
            return
        for name, own in self._weights.items():
            for weight in own:
                if weight in some and weight not in self._copies:
                    self._copies[weight] = weight.detach().clone()
                    self.weights[name].add(weight)

    def differentiated(self, some: set[torch.Tensor]) -> None:
        """Take the gradients that weights have."""
        if "weight_gradients" not in self._signals:
            return
        for name, own in self._weights.items():
            for weight in own:
                gradient = weight.grad
                if weight in some and weight not in self._known and gradient is not None:
                    self._known.add(weight)
                    dense = gradient.to_dense() if gradient.is_sparse else gradient
                    self.weight_gradients[name].add(dense)

    def moved(self, some: set[torch.Tensor]) -> None:
        """Take how far weights have moved."""
        for weight in some & self._copies.keys():
            copy = self._copies.pop(weight)
            size = _norm(copy)
            self._moved[weight] = _norm(copy.sub_(weight.detach())), size

    def settle(self) -> None:
        """Hear no more passes; of an optimizer that steps on the way back, still the rest of it."""
        if self.ear is not None:
            self.ear.full = True
            if not on_way_back():
                self.hush()

    def hush(self) -> None:
        """Take the hooks off the model, and what they have heard."""
        ear, self.ear = self.ear, None
        if ear is None:
            return
        steps = ear.latest()
        ear.__exit__()
        if self.activations is None and steps:
            self.activations = ear.left(steps)
        self.gradients = ear.returned(steps)

    def record(self) -> Record | None:
        """Return the record, None where no activation was heard."""
        self.hush()
        self._rest()
        if self.activations is None and "activations" in self._signals:
            return None
        forward = self.activations or []
        signals = {
            "activations": [(one.name, one.signal) for one in forward],
            "gradients": [(one.name, one.signal) for one in self.gradients],
            "weight_gradients": list(self.weight_gradients.items()),
            "weights": list(self.weights.items()),
        }
        found: dict[str, Observed] = {}
        for signal in self._signals:
            some = [numbers for _, numbers in signals[signal]]
            found[signal] = observed(some, self._statistics, signal == "activations")
        if "weights" in found:
            ratios = [self._ratio(own) for own in self._weights.values()]
            found["weights"]["update_ratio"] = np.array(ratios, np.float64)
        names = {signal: tuple(name for name, _ in signals[signal]) for signal in found}
        types = tuple(one.type for one in forward) if "activations" in found else ()
        return Record(self.step, found, names, types, self.loss)

    def _rest(self) -> None:
        """Take the weights that no optimizer has moved, which are what they were."""
        if "weights" in self._signals:
            for name, own in self._weights.items():
                for weight in own:
                    if weight not in self._copies and weight not in self._moved:
                        self.weights[name].add(weight)
        self._copies.clear()

    def nonfinite(self) -> tuple[str, str] | None:
        """Return the layer and the signal that left the finite numbers first."""
        back = [(one.name, one.signal) for one in reversed(self.gradients)]
        ways: list[tuple[str, Any]] = [
            ("activations", [(one.name, one.signal) for one in self.activations or []]),
            ("gradients", back),
            ("weight_gradients", reversed(self.weight_gradients.items())),
            ("weights", self.weights.items()),
        ]
        for name, way in ways:
            for layer, signal in way:
                if not signal.finite:
                    return layer, name
        return None

    def _ratio(self, own: list[torch.Tensor]) -> float:
        """Return |dw| / |w| of a layer's weights, NaN where no optimizer has stepped them."""
        known = [self._moved[weight] for weight in own if weight in self._moved]
        if not known:
            return float("nan")
        moved, size = (np.sqrt(np.square(side).sum()) for side in zip(*known, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.float64(moved) / size)


def _norm(tensor: torch.Tensor) -> float:
    moments = Moments()
    _door.observe(tensor, moments)
    return float(np.sqrt(moments.count * (moments.mean**2 + moments.var)))
