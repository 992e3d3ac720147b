"""A network as a flat list: its layers in order of execution, and what the core does for each."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop import _layer, activations
from varprop._draw import Draw
from varprop._images import Window
from varprop._layer import Layer, Shape
from varprop._module import Module
from varprop.activations import ActivationFunction
from varprop.initializers import Given, Law
from varprop.layers import (
    Activation,
    AvgPool2d,
    BatchNorm,
    Bias,
    Conv2d,
    Dense,
    Dropout,
    Elementwise,
    Flatten,
    GlobalAvgPool,
    LayerNorm,
    Normalization,
    Residual,
    RMSNorm,
    Scale,
    Sequential,
)

INPUTS = -1  # the position of the network's inputs among its steps
NONE = -2

Part = Literal["weight", "bias"]


class Step(NamedTuple):
    """A layer in order of execution: the layers of a residual's branch come before it.

    Attributes
    ----------
    name : str
        With the names of the layers that it lies within: ``residual1.dense1``.
    layer : Layer
    kind : str
        "dense", "conv", "residual" ...
    input_shape, output_shape : tuple of int
        (features,) or (height, width, channels) of one example; a residual's input is the output
        of its branch.
    skip : int or None
        Of a residual, the position of the step whose activations its branch started from, -1 for
        the network's inputs; None for all other layers.
    depth : int
        How many branches it lies within.
    """

    name: str
    layer: Layer
    kind: str
    input_shape: Shape
    output_shape: Shape
    skip: int | None = None
    depth: int = 0

    @property
    def activation(self) -> ActivationFunction | None:
        """The activation function that ends the layer, None where it has none."""
        match self.layer:
            case Dense() | Conv2d():
                return self.layer.activation
            case Activation():
                return self.layer.function
        return None

    @property
    def weight_shape(self) -> Shape | None:
        """Shape of the weights: (fan_in, width) of dense layers, four axes of convolutions.

        Of a module that was profiled, how many numbers they have.
        """
        if isinstance(self.layer, Module):
            return (self.layer.count(weights=True),) if self.layer.count(weights=True) else None
        _, shape = self.layer.parameters(self.input_shape).get("weight", (None, None))
        return shape

    @property
    def bias_shape(self) -> Shape | None:
        """Shape of the biases, which dense layers and convolutions have even where they are None.

        Their gradients are there all the same.
        """
        if isinstance(self.layer, Module):
            return (self.layer.count(weights=False),) if self.layer.count(weights=False) else None
        has = isinstance(self.layer, (Dense, Conv2d, Bias))
        return self.output_shape[-1:] if has else None

    def qualified(self, part: Part) -> str:
        """Return the name under which the weights or the biases are drawn."""
        layer = self.layer
        return layer.qualified(part) if isinstance(layer, Module) else f"{self.name}.{part}"

    def law(self, part: Part) -> Law | None:
        """Return the law of the weights or of the biases, None where there are none."""
        if isinstance(self.layer, Module):
            return self.layer.law(weights=part == "weight")
        law, _ = self.layer.parameters(self.input_shape).get(part, (None, None))
        return law

    @property
    def trunk(self) -> str | None:
        """The stretch of the way through the network that it is a step of; None within branches."""
        if isinstance(self.layer, Module):
            return self.layer.stretch
        return None if self.depth else ""

    @property
    def role(self) -> str:
        """What it does, by which a verdict holds like against like: all activations are alike."""
        return self.layer.role if isinstance(self.layer, Module) else self.kind

    @property
    def pointwise(self) -> bool:
        """Whether it is a normalization or an activation of its own."""
        if isinstance(self.layer, Module):
            return self.layer.pointwise and self.role != "dropout"
        return isinstance(self.layer, Normalization | Activation | Elementwise)


def steps(layers: Iterable[Layer], shape: Shape) -> tuple[Step, ...]:
    """Return all layers in order of execution, checked to fit each other.

    Raises
    ------
    ValueError
        A layer does not fit what enters it, or a law its tensor's shape; the layer is named.
    """
    found: list[Step] = []
    _walk(layers, shape, "", 0, found)
    return tuple(found)


def _walk(
    layers: Iterable[Layer], shape: Shape, within: str, depth: int, found: list[Step]
) -> Shape:
    """Append the steps of a container, and return the shape that it ends with."""
    for layer in layers:
        name, entered, skip = f"{within}{layer.name}", shape, None
        if isinstance(layer, Sequential):
            shape = _walk(layer.layers, shape, f"{name}.", depth, found)
            continue
        if isinstance(layer, Residual):
            skip = len(found) - 1
            entered = _walk(layer.layers, shape, f"{name}.", depth + 1, found)
        try:
            out = layer.output_shape(shape)
            if prod(out) >= 2**31:
                raise ValueError(f"must have under 2**31 outputs, got {_layer.written(out)}")
            for law, tensor in layer.parameters(shape).values():
                law.compile(tensor)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from None
        kind = layer.type if isinstance(layer, Module) else layer.kind
        found.append(Step(name, layer, kind, entered, out, skip, depth))
        shape = out
    return shape


# --- for the core -------------------------------------------------------------------------------


class Parameter(NamedTuple):
    """A tensor of weights or biases, compiled.

    ========== ===============================================
    ``absent`` zeros, or no such tensor
    ``drawn``  number by number from `draw`
    ``given``  an array
    ``formed`` by the law, whole, anew in each trial
    ========== ===============================================

    `rms` is the root mean square of its numbers, where that is known before they are formed.
    """

    source: Literal["absent", "drawn", "given", "formed"]
    draw: Draw
    rms: float


_NOTHING = Draw("constant", 0.0)
_ABSENT = Parameter("absent", _NOTHING, 0.0)
_MASK = Draw("uniform", low=-1.0, high=1.0)


class Operation(NamedTuple):
    """One step, compiled: what the core does.

    Shapes are (height, width, channels), of features (1, 1, features).

    =============== ==============================================================================
    ``dense``       x W + b at every position, then the activation
    ``conv``        the same on the window's patches, in groups
    ``map``         factor x, then the activation
    ``bias``        x + b
    ``join``        skip_scale times the activations of step `skip` (-1: the inputs) + factor x
    ``layernorm``   over the last axis; ``rmsnorm`` too, ``batchnorm`` over all others; factor: eps
    ``dropout``     x / (1 - factor) where the weight, drawn for every number, is over 2 factor - 1
    ``pool``        means over the window
    ``flatten``     the same numbers, in one row: position by position, or `channels_first`
    ``elementwise`` a function of Python's
    =============== ==============================================================================

    `homogeneous` says that a factor a > 0 on what enters comes out as a factor a, biases aside.
    """

    kind: str
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    weight: Parameter = _ABSENT
    bias: Parameter = _ABSENT
    activation: int = 0
    parameter: float = 0.0
    homogeneous: bool = True
    factor: float = 1.0
    skip: int = NONE
    skip_scale: float = 1.0
    window: Window = Window()
    groups: int = 1
    channels_first: bool = False


def operation(step: Step) -> Operation:
    """Return what the core does for a step."""
    layer = step.layer
    plain = Operation("map", _image(step.input_shape), _image(step.output_shape))
    phi = step.activation
    if phi is not None:
        plain = plain._replace(
            activation=activations.NAMES.index(phi.name),
            parameter=phi.parameter,
            homogeneous=phi.homogeneous,
        )
    tensors = layer.parameters(step.input_shape)
    compiled = {part: _compiled(*tensor) for part, tensor in tensors.items()}
    plain = plain._replace(
        weight=compiled.get("weight", _ABSENT), bias=compiled.get("bias", _ABSENT)
    )
    match layer:
        case Dense():
            return plain._replace(kind="dense")
        case Conv2d():
            window = layer.window(step.input_shape)
            return plain._replace(kind="conv", window=window, groups=layer.groups)
        case Activation():
            return plain
        case Bias():
            return plain._replace(kind="bias")
        case Scale():
            return plain._replace(factor=layer.factor)
        case Residual():
            skip = NONE if step.skip is None else step.skip
            join = plain._replace(kind="join", skip=skip, skip_scale=layer.skip_scale)
            return join._replace(factor=layer.branch_scale)
        case LayerNorm() | RMSNorm() | BatchNorm():
            return plain._replace(kind=layer.kind, factor=layer.eps, homogeneous=False)
        case Dropout():
            mask = Parameter("drawn", _MASK, _MASK.rms)
            return plain._replace(kind="dropout", factor=layer.rate, weight=mask)
        case AvgPool2d() | GlobalAvgPool():
            return plain._replace(kind="pool", window=layer.window(step.input_shape))
        case Flatten():
            return plain._replace(kind="flatten", channels_first=layer.channels_first)
        case Elementwise():
            return plain._replace(kind="elementwise", homogeneous=False)
        case Module():
            raise TypeError(
                f"layer {step.name!r} is a module that was profiled: it cannot be simulated"
            )
    raise TypeError(f"layer {step.name!r} must be one of varprop's, got {layer!r}")


def _image(shape: Shape) -> tuple[int, int, int]:
    return _layer.image(shape) if len(shape) == 3 else (1, 1, shape[0])


def _compiled(law: Law, shape: Shape) -> Parameter:
    draw = law.compile(shape)
    if draw == _NOTHING:
        return _ABSENT
    if draw is not None:
        return Parameter("drawn", draw, draw.rms)
    if isinstance(law, Given):
        return Parameter("given", _NOTHING, root_mean_square(law.array))
    return Parameter("formed", _NOTHING, 0.0)


def root_mean_square(values: NDArray[Any]) -> float:
    """Return the root mean square of numbers up to the ends of their range."""
    largest = float(np.max(np.abs(values)))
    if largest == 0.0:
        return 0.0
    return largest * float(np.sqrt(np.mean(np.square(values / largest, dtype=np.float64))))
