"""A network in one trial whose weights take a step: its gradients, and where its outputs go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop import layers
from varprop._job import Job
from varprop._weights import weights
from varprop.initializers import Given, Law
from varprop.layers import Bias, Conv2d, Dense, Layer
from varprop.network import Network, Step, root_mean_square

Array = NDArray[np.float64]
Parameters = dict[str, Array]  # weights and biases, or what belongs to them, by "layer.weight" ...


class Tensor(NamedTuple):
    """The weights or the biases of a layer."""

    name: str
    law: Law
    shape: tuple[int, ...]


def tensors(steps: Iterable[Step]) -> list[Tensor]:
    """Return all weights and biases, by their names in the contract."""
    return [
        Tensor(f"{step.name}.{part}", law, shape)
        for step in steps
        for part, (law, shape) in step.layer.parameters(step.input_shape).items()
    ]


def _sgd(gradient: Array, _eps: float) -> Array:
    return -gradient


def _adam(gradient: Array, eps: float) -> Array:
    """Return Adam's first step: its moments are the gradient and its square, bias corrected."""
    return -gradient / (np.abs(gradient) + eps)


DIRECTIONS = {"sgd": _sgd, "adam": _adam}
"""What is added to the weights in the first step, but for the learning rate."""


class Stepper:
    """A network in one trial: its parameters and gradients, and how far a step moves its outputs.

    Attributes
    ----------
    parameters, gradients : dict
        By name, ``dense1.weight``.
    signals : list of list of array
        For each layer with weights, the activations from it to the next such layer.
    """

    def __init__(self, job: Job, trial: int, eps: float, step_done: Callable[[], None]) -> None:
        self.job, self.trial, self.eps, self.step_done = job, trial, eps, step_done
        net = job.net
        options: dict[str, Any] = {"seed": job.seed, "trial": trial, "dtype": job.dtype}
        self.parameters = {
            name: weights(shape, law, name=name, **options).astype(np.float64)
            for name, law, shape in tensors(net.steps)
        }
        whole = self._run(job, range(len(net.steps)), parameters=True)
        self.gradients = _named_gradients(net, whole)
        activations = whole["activations"]
        self.outputs: Array = activations[-1]
        if not np.isfinite(self.outputs).all():
            places = [not np.isfinite(signal).all() for signal in activations]
            raise ValueError(
                f"layer {net.layer_names[places.index(True)]!r} leaves the range of floats in "
                f"trial {trial}: there are no outputs to compare"
            )
        for name, gradient in self.gradients.items():
            if not np.isfinite(gradient).all():
                raise ValueError(f"the gradient by {name!r} is not finite in trial {trial}")
        starts = [i for i, step in enumerate(net.steps) if step.weight_shape is not None]
        ends = [*starts[1:], len(net.steps)]
        self.signals = [activations[i:j] for i, j in zip(starts, ends, strict=True)]

    def direction(self, kind: str, name: str, eps: float | None = None) -> Array:
        """Return what a learning rate of 1 adds to a parameter."""
        return DIRECTIONS[kind](self.gradients[name], self.eps if eps is None else eps)

    def movement(self, steps: Parameters) -> Array:
        """Return by how much the outputs move when these are added to the parameters."""
        for name, step in steps.items():
            if not np.isfinite(step).all():
                raise ValueError(f"a step of {name!r} is beyond the range of floats")
        net = self.job.net
        stepped = _given({name: self.parameters[name] + step for name, step in steps.items()})
        other = Network(net.inputs, layers.replaced(net.layers, stepped))
        whole = self._run(self.job._replace(net=other, loss=None), [len(net.steps) - 1])
        return np.asarray(whole["activations"][-1] - self.outputs)

    def sensitivity(self, kind: str, name: str) -> float:
        """Return how far the outputs move for each unit of learning rate, in small steps."""
        direction = self.direction(kind, name)
        length = root_mean_square(direction)
        if length == 0.0:
            self.step_done()
            return 0.0
        # eps^(1/3) balances the rounding of the outputs and the step's own square.
        least = float(np.cbrt(np.finfo(self.job.dtype).eps))
        rate = least * (root_mean_square(self.parameters[name]) or 1.0) / length
        return root_mean_square(self.movement({name: rate * direction})) / rate

    def _run(
        self, job: Job, activations: Iterable[int], *, parameters: bool = False
    ) -> dict[str, Any]:
        core = job.core(self.trial, 1)
        plan = job.plan(core, 1)
        found = job.run(core, plan, activations=list(activations), parameters=parameters)
        self.step_done()
        return dict(found["whole"])


def _given(parameters: Parameters) -> Callable[[str, Layer], list[Layer]]:
    """Return what replaces laws by arrays."""
    laws = {name: Given(array) for name, array in parameters.items()}

    def change(name: str, layer: Layer) -> list[Layer]:
        weight, bias = laws.get(f"{name}.weight"), laws.get(f"{name}.bias")
        match layer:
            case Dense() | Conv2d():
                return [replace(layer, weight=weight or layer.weight, bias=bias or layer.bias)]
            case Bias():
                return [replace(layer, law=bias or layer.law)]
        return [layer]

    return change


def _named_gradients(net: Network, whole: dict[str, Any]) -> Parameters:
    """Return the gradients by the parameters that a network has, in their shapes."""
    names = [f"{name}.weight" for name in net.weight_names]
    names += [f"{name}.bias" for name in net.bias_names]
    arrays = [*whole["weight_gradients"], *whole["bias_gradients"]]
    found = dict(zip(names, arrays, strict=True))
    return {name: found[name].reshape(shape) for name, _, shape in tensors(net.steps)}
