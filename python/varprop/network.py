"""What is simulated: a network's inputs, its layers, and the laws of their weights and biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec, activations, initializers
from varprop._draw import Draw
from varprop.activations import ActivationFunction
from varprop.initializers import Given, Law

__all__ = ["Dense", "Network", "mlp"]

LawLike = str | Law | ArrayLike


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


class Operation(NamedTuple):
    """One layer, compiled: what the core does."""

    fan_in: int
    width: int
    weight: Parameter
    bias: Parameter
    activation: int
    parameter: float
    homogeneous: bool


def _size(value: object, argument: str) -> int:
    """Return a width as an int, or say what is wrong with it."""
    size = _spec.integer(argument, value, least=1)
    if size >= 2**31:
        raise ValueError(f"{argument} must be under 2**31, got {size}")
    return size


@dataclass(frozen=True, init=False, slots=True)
class Dense:
    """A fully connected layer: ``phi(X W + b)`` with W of shape (fan_in, width).

    Parameters
    ----------
    width : int
        Number of units.
    activation : str or ActivationFunction
        A name such as ``"tanh"`` or ``"leaky_relu(slope=0.2)"``.
    weight : str, Law or array
        Law of the weights, or the weights themselves, shape (fan_in, width).
    bias : str, Law, array or None
        Law of the biases, shape (width,); None for a layer without.
    name : str, optional
        Unique in its network; by default dense1, dense2, ... in order of execution.

    Examples
    --------
    >>> Dense(10, "tanh", weight="glorot_uniform").activation.name
    'tanh'
    """

    width: int
    activation: ActivationFunction
    weight: Law
    bias: Law | None
    name: str | None

    def __init__(
        self,
        width: int,
        activation: str | ActivationFunction = "linear",
        weight: LawLike = "lecun_normal",
        bias: LawLike | None = "zeros",
        name: str | None = None,
    ) -> None:
        if name is not None and (not str(name).strip() or "." in name):
            raise ValueError(f"name must be a non-empty string without dots, got {name!r}")
        law = None if bias is None else initializers.resolve(bias, "bias")
        for field, value in (
            ("width", _size(width, "width")),
            ("activation", activations.resolve(activation)),
            ("weight", initializers.resolve(weight, "weight")),
            ("bias", law),
            ("name", name),
        ):
            object.__setattr__(self, field, value)

    def renamed(self, name: str) -> Dense:
        """Return the same layer under another name."""
        return Dense(self.width, self.activation, self.weight, self.bias, name)

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as plain values; given arrays stay arrays."""
        return {
            "kind": "dense",
            "name": self.name,
            "width": self.width,
            "activation": str(self.activation),
            "weight": initializers.to_value(self.weight),
            "bias": None if self.bias is None else initializers.to_value(self.bias),
        }


@dataclass(frozen=True, init=False, repr=False)
class Network:
    """Inputs and layers, checked to fit each other.

    Parameters
    ----------
    inputs : int
        Number of input features.
    layers : iterable of Dense
        In order of execution.

    Raises
    ------
    ValueError
        A law does not take its layer's shape, or two layers have one name.

    Examples
    --------
    >>> net = Network(64, [Dense(1000, "tanh", weight="glorot_uniform"), Dense(10)])
    >>> net.layer_names, net.shapes
    (('dense1', 'dense2'), ((64, 1000), (1000, 10)))
    """

    inputs: int
    layers: tuple[Dense, ...]

    def __init__(self, inputs: int, layers: Iterable[Dense]) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a list of layers, got {layers!r}")
        layers = tuple(layers)
        for position, layer in enumerate(layers):
            if not isinstance(layer, Dense):
                raise TypeError(f"layers[{position}] must be a Dense layer, got {layer!r}")
        if not layers:
            raise ValueError("layers must not be empty")
        named = tuple(
            layer if layer.name else layer.renamed(f"dense{position}")
            for position, layer in enumerate(layers, start=1)
        )
        object.__setattr__(self, "inputs", _size(inputs, "inputs"))
        object.__setattr__(self, "layers", named)
        names = self.layer_names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"layer names must be unique, got {twice!r} more than once")
        for layer, shape in zip(named, self.shapes, strict=True):
            try:
                layer.weight.compile(shape)
                if layer.bias is not None:
                    layer.bias.compile(shape[1:])
            except ValueError as error:
                raise ValueError(f"layer {layer.name!r}: {error}") from None

    def __repr__(self) -> str:
        widths = " -> ".join(
            f"{width} x {count}" if count > 1 else str(width)
            for width, same in groupby(layer.width for layer in self.layers)
            for count in [len(list(same))]
        )
        return f"<Network: {len(self.layers)} dense layers, {self.inputs} -> {widths}>"

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in order of execution."""
        return tuple(str(layer.name) for layer in self.layers)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes (fan_in, fan_out) of the weight matrices."""
        widths = (self.inputs, *(layer.width for layer in self.layers))
        return tuple(pairwise(widths))

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The network as a flat list of what to do."""
        return tuple(
            Operation(
                *shape,
                _compile(layer.weight, shape),
                _compile(layer.bias, shape[1:]),
                activations.NAMES.index(layer.activation.name),
                layer.activation.parameter,
                layer.activation.homogeneous,
            )
            for layer, shape in zip(self.layers, self.shapes, strict=True)
        )

    @cached_property
    def given(self) -> dict[int, NDArray[Any]]:
        """The weights and biases that are given, by their positions in `parameter_names`."""
        laws = (law for layer in self.layers for law in (layer.weight, layer.bias))
        return {i: law.array for i, law in enumerate(laws) if isinstance(law, Given)}

    @cached_property
    def parameter_range(self) -> tuple[float, float]:
        """Smallest and largest root mean square of weights and biases, zeros left out."""
        sizes = [p.rms for op in self.operations for p in (op.weight, op.bias) if p.rms]
        return min(sizes, default=1.0), max(sizes, default=1.0)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the weights and biases, two a layer: the names under which they are drawn."""
        return tuple(f"{name}.{part}" for name in self.layer_names for part in ("weight", "bias"))

    def index(self, layer: str | int) -> int:
        """Return the position of a layer given by name or position."""
        if isinstance(layer, str):
            if layer not in self.layer_names:
                raise _spec.unknown("layer", layer, self.layer_names)
            return self.layer_names.index(layer)
        position = _spec.integer("layer", layer, least=-len(self.layers))
        if position >= len(self.layers):
            raise ValueError(f"layer must be under {len(self.layers)}, got {position}")
        return position % len(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the network as plain values; given arrays stay arrays."""
        return {"inputs": self.inputs, "layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Network:
        """Return the network that :meth:`to_dict` described."""
        layers = []
        for entry in description["layers"]:
            fields = dict(entry)
            if fields.pop("kind", "dense") != "dense":
                raise ValueError(f"layer kind must be 'dense', got {entry['kind']!r}")
            layers.append(Dense(**fields))
        return cls(description["inputs"], layers)


def _compile(law: Law | None, shape: tuple[int, ...]) -> Parameter:
    nothing = Draw("constant", 0.0)
    draw = nothing if law is None else law.compile(shape)
    if draw == nothing:
        return Parameter("absent", nothing, 0.0)
    if draw is not None:
        return Parameter("drawn", draw, draw.rms)
    if isinstance(law, Given):
        return Parameter("given", nothing, root_mean_square(law.array))
    return Parameter("formed", nothing, 0.0)


def root_mean_square(values: NDArray[Any]) -> float:
    """Return the root mean square of numbers up to the ends of their range."""
    largest = float(np.max(np.abs(values)))
    if largest == 0.0:
        return 0.0
    return largest * float(np.sqrt(np.mean(np.square(values / largest, dtype=np.float64))))


def mlp(
    sizes: Sequence[int],
    activation: str | ActivationFunction = "linear",
    weight: LawLike = "lecun_normal",
    bias: LawLike | None = "zeros",
    output_activation: str | ActivationFunction | None = None,
) -> Network:
    """Return a chain of dense layers.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, then one width per layer.
    activation : str or ActivationFunction
        Follows every layer, the last one too.
    weight, bias : str, Law, array or None
        Laws shared by all layers.
    output_activation : str or ActivationFunction, optional
        Replaces the last layer's activation.

    Returns
    -------
    Network

    Examples
    --------
    >>> mlp([100] * 101, weight="normal(std=0.1)").layer_names[-1]
    'dense100'
    """
    sizes = _spec.sizes("sizes", sizes)
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold the inputs and at least one layer, got {sizes!r}")
    kinds = [activation] * (len(sizes) - 1)
    if output_activation is not None:
        kinds[-1] = output_activation
    layers = [
        Dense(_size(width, f"sizes[{position}]"), kind, weight, bias)
        for position, (width, kind) in enumerate(zip(sizes[1:], kinds, strict=True), start=1)
    ]
    return Network(_size(sizes[0], "sizes[0]"), layers)
