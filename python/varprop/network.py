"""What is simulated: a network's inputs, its layers, and the laws of their weights and biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import prod
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from varprop import _compile, _layer, _spec, layers
from varprop._compile import Operation, Parameter, Step, root_mean_square
from varprop._layer import LawLike, Layer, Shape
from varprop._module import Module
from varprop.activations import ActivationFunction
from varprop.initializers import Given
from varprop.layers import Dense

if TYPE_CHECKING:
    from varprop._summary import Summary

__all__ = [
    "Dense",
    "Network",
    "Operation",
    "Parameter",
    "Step",
    "mlp",
    "root_mean_square",
]


@dataclass(frozen=True, init=False, repr=False)
class Network:
    """Inputs and layers, checked to fit each other.

    Parameters
    ----------
    inputs : int or (int, int, int)
        Number of input features; or height, width and channels of an image.
    layers : iterable of Layer
        In order of execution: :class:`Dense`, :class:`Conv2d`, :class:`Residual` ...

    Raises
    ------
    ValueError
        A layer does not fit what enters it, a law does not take its tensor's shape, or two layers
        have one name; the layer is named.

    Examples
    --------
    >>> net = Network(64, [Dense(1000, "tanh", weight="glorot_uniform"), Dense(10)])
    >>> net.layer_names, net.shapes
    (('dense1', 'dense2'), ((64, 1000), (1000, 10)))
    >>> from varprop import Conv2d, Flatten, LayerNorm, Residual
    >>> block = Residual([LayerNorm(), Conv2d(16, 3, activation="relu"), Conv2d(16, 3)])
    >>> Network((8, 8, 3), [Conv2d(16, 3), block, Flatten(), Dense(10)]).layer_names[1:4]
    ('residual1.layernorm1', 'residual1.conv1', 'residual1.conv2')
    """

    inputs: int | tuple[int, int, int]
    layers: tuple[Layer, ...]

    def __init__(self, inputs: int | Sequence[int], layers: Iterable[Layer]) -> None:
        object.__setattr__(self, "layers", _layer.named("layers", layers))
        object.__setattr__(self, "inputs", _checked_inputs(inputs, any_shape=self.is_profiled))
        _ = self.steps  # or the error of a layer that does not fit

    def __repr__(self) -> str:
        inputs, outputs = map(_layer.written, (self.input_shape, self.output_shape))
        kinds = [step.kind for step in self.steps]
        if set(kinds) != {"dense"}:
            counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
            return f"<Network: {len(kinds)} layers, {inputs} -> {outputs}: {counts}>"
        widths = " -> ".join(
            f"{width} x {count}" if count > 1 else str(width)
            for width, same in groupby(step.output_shape[-1] for step in self.steps)
            for count in [len(list(same))]
        )
        return f"<Network: {len(kinds)} dense layers, {inputs} -> {widths}>"

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All layers in order of execution: those of a residual's branch, then the residual."""
        return _compile.steps(self.layers, self.input_shape)

    @property
    def is_profiled(self) -> bool:
        """Whether it is what a profile saw of another framework's model."""
        return isinstance(self.layers[0], Module)

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Positions of the repeated blocks of a model that was profiled, where it has some."""
        return tuple(i for i, step in enumerate(self.steps) if step.trunk)

    @property
    def input_shape(self) -> Shape:
        """Shape of one example: (features,) or (height, width, channels)."""
        return (self.inputs,) if isinstance(self.inputs, int) else self.inputs

    @property
    def output_shape(self) -> Shape:
        """Shape of one example's last activations."""
        return self.steps[-1].output_shape

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Names of all layers, in order of execution, nested ones joined by dots."""
        return tuple(step.name for step in self.steps)

    @cached_property
    def weight_names(self) -> tuple[str, ...]:
        """Names of the layers that have weights."""
        return tuple(step.name for step in self.steps if step.weight_shape is not None)

    @cached_property
    def bias_names(self) -> tuple[str, ...]:
        """Names of the layers that add biases, where they are None too."""
        return tuple(step.name for step in self.steps if step.bias_shape is not None)

    def names(self, signal: str) -> tuple[str, ...]:
        """Return the names of the layers that a signal of a run has: "weight_gradients" ..."""
        few = {
            "weight_gradients": self.weight_names,
            "bias_gradients": self.bias_names,
            "input_gradients": ("input",),
            "block_inputs": tuple(self.layer_names[i] for i in self.blocks),
        }
        return few.get(signal, self.layer_names)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the weights, of those layers that have some.

        (fan_in, fan_out) of dense layers; (height, width, in / groups, out) of convolutions.
        """
        shapes = (step.weight_shape for step in self.steps)
        return tuple(shape for shape in shapes if shape is not None)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The network as a flat list of what to do."""
        return tuple(_compile.operation(step) for step in self.steps)

    @cached_property
    def given(self) -> dict[int, NDArray[Any]]:
        """The weights and biases that are given, by their positions in `parameter_names`."""
        laws = [law for step in self.steps for law in (step.law("weight"), step.law("bias"))]
        return {i: law.array for i, law in enumerate(laws) if isinstance(law, Given)}

    @cached_property
    def sizes(self) -> dict[str, NDArray[np.int64]]:
        """How many numbers each signal has in every layer, for one example where it has some."""
        outputs = [step.output_shape for step in self.steps]
        shapes: dict[str, Sequence[Shape | None]] = {
            **dict.fromkeys(("preactivations", "activations", "gradients"), outputs),
            "weight_gradients": [step.weight_shape for step in self.steps],
            "bias_gradients": [step.bias_shape for step in self.steps],
            "input_gradients": [self.input_shape],
        }
        return {
            signal: np.array([prod(shape) for shape in found if shape], dtype=np.int64)
            for signal, found in shapes.items()
        }

    @cached_property
    def parameter_range(self) -> tuple[float, float]:
        """Smallest and largest root mean square of weights and biases, zeros left out."""
        sizes = [p.rms for op in self.operations for p in (op.weight, op.bias) if p.rms]
        return min(sizes, default=1.0), max(sizes, default=1.0)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """Names under which weights and biases are drawn, two a layer, whether it has them or not.

        Dropout draws its mask in the place of weights.
        """
        return tuple(
            f"{step.name}.{part}"
            for step in self.steps
            for part in ("mask" if step.kind == "dropout" else "weight", "bias")
        )

    def index(self, layer: str | int) -> int:
        """Return the position of a layer, among all, given by name or position."""
        if isinstance(layer, str):
            if layer not in self.layer_names:
                raise _spec.unknown("layer", layer, self.layer_names)
            return self.layer_names.index(layer)
        position = _spec.integer("layer", layer, least=-len(self.steps))
        if position >= len(self.steps):
            raise ValueError(f"layer must be under {len(self.steps)}, got {position}")
        return position % len(self.steps)

    def summary(self, batch: int = 1) -> Summary:
        """Return layers, shapes, laws, parameters and FLOPs; printed, they are a table.

        Parameters
        ----------
        batch : int
            Number of examples of which the FLOPs are.

        Examples
        --------
        >>> Network(64, [Dense(1000, "tanh"), Dense(10)]).summary().parameters
        75010
        """
        from varprop import _summary

        return _summary.summarize(self, batch)

    def to_dict(self) -> dict[str, Any]:
        """Return the network as plain values; given arrays stay arrays.

        Raises
        ------
        ValueError
            A layer is :class:`Elementwise`: a function is no plain value.
        """
        for step in self.steps:
            if step.kind == "elementwise":
                raise ValueError(f"layer {step.name!r} holds a function, which a file cannot")
        inputs = self.inputs if isinstance(self.inputs, int) else list(self.inputs)
        return {"inputs": inputs, "layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Network:
        """Return the network that :meth:`to_dict` described."""
        return cls(description["inputs"], layers.all_from_dict(description["layers"], "layers"))

    @classmethod
    def from_toml(cls, path: str | PathLike[str]) -> Network:
        """Read a network from a file of TOML, up to 10 MB; :meth:`to_toml` writes it.

        ``inputs = 784`` or ``inputs = [64, 96, 3]``, then for each layer a table ``[[layers]]``:
        its ``kind`` ("conv", "residual" ...: names of layers by default, without number; "dense"
        where it has none), and the arguments of its constructor. The layers within a residual or
        a sequential are ``[[layers.layers]]``.

        Raises
        ------
        ValueError
            The file is not TOML, or what is wrong with the network, by its key:
            ``layers[2].width must be an integer >= 1, got 0``.
        """
        from varprop import _toml

        return _toml.load(path)

    def to_toml(self, path: str | PathLike[str] | None = None) -> str:
        """Return the network as TOML, and write it to a file where one is named.

        Raises
        ------
        ValueError
            A layer has given weights, or a function of Python's: a file of TOML is for people.

        Examples
        --------
        >>> print(mlp([784, 10], "tanh").to_toml())
        inputs = 784
        <BLANKLINE>
        [[layers]]
        kind = "dense"
        width = 10
        activation = "tanh"
        weight = "lecun_normal"
        bias = "zeros"
        <BLANKLINE>
        """
        from varprop import _toml

        return _toml.save(self, path)


def _checked_inputs(inputs: object, any_shape: bool) -> int | tuple[int, ...]:
    if not isinstance(inputs, (tuple, list)):
        return _layer.size("inputs", inputs)
    if len(inputs) != 3 and not any_shape:
        raise ValueError(
            f"inputs must be an integer or (height, width, channels), got {inputs!r:.80}"
        )
    shape = tuple(_layer.size(f"inputs[{axis}]", number) for axis, number in enumerate(inputs))
    if prod(shape) >= 2**31:
        raise ValueError(f"inputs must be under 2**31 numbers, got {_layer.written(shape)}")
    return shape


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
        Dense(_layer.size(f"sizes[{position}]", width), kind, weight, bias)
        for position, (width, kind) in enumerate(zip(sizes[1:], kinds, strict=True), start=1)
    ]
    return Network(_layer.size("sizes[0]", sizes[0]), layers)
