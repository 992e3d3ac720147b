"""Layers of images, which have the shape (height, width, channels)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from varprop import _layer, _spec
from varprop._layer import Check, LawLike, Layer, Shape
from varprop.activations import ActivationFunction
from varprop.initializers import Law

Pair = tuple[int, int]


class Window(NamedTuple):
    """What slides over an image: its size, its stride, and the zeros before the image."""

    height: int = 1
    width: int = 1
    stride_height: int = 1
    stride_width: int = 1
    top: int = 0
    left: int = 0


Padding = str | int | Pair


def _padding(argument: str, value: object) -> Padding:
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise _spec.unknown(argument, value, ("same", "valid", "or an integer"))
        return value
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{argument} must have two integers, got {value!r}")
        top, left = (_zeros(f"{argument}[{axis}]", zeros) for axis, zeros in enumerate(value))
        return top if top == left else (top, left)
    return _zeros(argument, value)


def _zeros(argument: str, value: object) -> int:
    zeros = _spec.integer(argument, value)
    if zeros >= 2**31:
        raise ValueError(f"{argument} must be under 2**31, got {zeros}")
    return zeros


def _places(size: int, kernel: int, stride: int, padding: str | int) -> Pair:
    """Return along one axis how many places the window has, and the zeros before the image.

    "same" is TensorFlow's rule: of an odd number of zeros the smaller half is before.
    """
    if padding == "same":
        places = -(-size // stride)
        return places, max((places - 1) * stride + kernel - size, 0) // 2
    before = padding if isinstance(padding, int) else 0
    return (size + 2 * before - kernel) // stride + 1, before


@dataclass(frozen=True, init=False, slots=True)
class Conv2d(Layer):
    """A convolution: phi of the cross-correlation with a kernel, plus b.

    Weights have the shape (kernel height, kernel width, channels in / groups, channels out), as in
    Keras and JAX; as a matrix their rows are those of all axes but the last.

    Parameters
    ----------
    channels : int
        Number of channels out.
    kernel : int or (int, int)
        Height and width of the kernel.
    stride : int or (int, int)
        Steps between its places.
    padding : "same", "valid", int or (int, int)
        Zeros around the image: "same" as TensorFlow, ceil(size / stride) places of the kernel, of
        an odd number of zeros the smaller half above and left; "valid" none; or so many on each
        side, or above and below, left and right.
    activation : str or ActivationFunction
    weight : str, Law or array
        Fans are channels times the kernel's size.
    bias : str, Law, array or None
        Law of the biases, shape (channels,); None or "none" for a layer without.
    groups : int
        Of so many groups of channels each sees its own only; it divides channels in and out.
    name : str, optional
        Unique in its network; by default conv1, conv2, ... in order of execution.

    Examples
    --------
    >>> Conv2d(200, 3, stride=2).output_shape((64, 96, 3))
    (32, 48, 200)
    >>> Conv2d(200, 3).parameters((64, 96, 3))["weight"][1]
    (3, 3, 3, 200)
    """

    kind: ClassVar[str] = "conv"
    checks: ClassVar[Mapping[str, Check]] = {
        "channels": _layer.size,
        "kernel": _layer.pair,
        "stride": _layer.pair,
        "padding": _padding,
        "activation": _layer.activation,
        "weight": _layer.law,
        "bias": _layer.optional_law,
        "groups": _layer.size,
        "name": _layer.name,
    }

    channels: int
    kernel: Pair
    stride: Pair
    padding: Padding
    activation: ActivationFunction
    weight: Law
    bias: Law | None
    groups: int
    name: str | None

    def __init__(
        self,
        channels: int,
        kernel: int | Pair,
        stride: int | Pair = 1,
        padding: Padding = "same",
        activation: str | ActivationFunction = "linear",
        weight: LawLike = "lecun_normal",
        bias: LawLike | None = "zeros",
        groups: int = 1,
        name: str | None = None,
    ) -> None:
        self._keep(channels=channels, kernel=kernel, stride=stride, padding=padding)
        self._keep(activation=activation, weight=weight, bias=bias, groups=groups, name=name)
        if self.channels % self.groups:
            raise ValueError(f"groups must divide {self.channels} channels out, got {self.groups}")

    def _axes(self, shape: Shape) -> list[Pair]:
        """Return places and zeros before the image, for height and width."""
        sides = _layer.image(shape)[:2]
        rules = self.padding if isinstance(self.padding, tuple) else (self.padding, self.padding)
        return [
            _places(*numbers)
            for numbers in zip(sides, self.kernel, self.stride, rules, strict=True)
        ]

    def window(self, shape: Shape, /) -> Window:
        """Return what slides over an image of this shape."""
        (_, top), (_, left) = self._axes(shape)
        return Window(*self.kernel, *self.stride, top, left)

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return (places along height, places along width, channels)."""
        (down, top), (across, left) = self._axes(shape)
        if down < 1 or across < 1:  # which "same" never leaves
            padded = (shape[0] + 2 * top, shape[1] + 2 * left)
            raise ValueError(
                f"kernel {_layer.written(self.kernel)} is larger than the padded image, "
                f"{_layer.written(padded)}"
            )
        if shape[2] % self.groups:
            raise ValueError(f"groups must divide {shape[2]} channels in, got {self.groups}")
        return down, across, self.channels

    def parameters(self, shape: Shape, /) -> dict[str, tuple[Law, Shape]]:
        """Return laws and shapes of "weight", and of "bias" where there is one."""
        kernel = (*self.kernel, shape[2] // self.groups, self.channels)
        weight: dict[str, tuple[Law, Shape]] = {"weight": (self.weight, kernel)}
        return weight if self.bias is None else weight | {"bias": (self.bias, (self.channels,))}


@dataclass(frozen=True, init=False, slots=True)
class AvgPool2d(Layer):
    """Means over windows of an image, each channel its own; no padding.

    Rows and columns that are left where the last window does not fit are dropped.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Steps between its places, by default its size.
    name : str, optional

    Examples
    --------
    >>> AvgPool2d(2).output_shape((64, 97, 3))
    (32, 48, 3)
    """

    kind: ClassVar[str] = "avgpool"
    checks: ClassVar[Mapping[str, Check]] = {
        "size": _layer.pair,
        "stride": _layer.pair,
        "name": _layer.name,
    }

    size: Pair
    stride: Pair
    name: str | None

    def __init__(
        self, size: int | Pair, stride: int | Pair | None = None, name: str | None = None
    ) -> None:
        self._keep(size=size, stride=size if stride is None else stride, name=name)

    def window(self, _shape: Shape, /) -> Window:
        """Return what slides over the image."""
        return Window(*self.size, *self.stride)

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return (places along height, places along width, channels)."""
        height, width, channels = _layer.image(shape)
        if self.size[0] > height or self.size[1] > width:
            raise ValueError(
                f"size {_layer.written(self.size)} is larger than the image, {height} x {width}"
            )
        down, _ = _places(height, self.size[0], self.stride[0], "valid")
        across, _ = _places(width, self.size[1], self.stride[1], "valid")
        return down, across, channels


@dataclass(frozen=True, slots=True)
class GlobalAvgPool(Layer):
    """Mean of every channel over the whole image.

    Examples
    --------
    >>> GlobalAvgPool().output_shape((64, 96, 3))
    (3,)
    """

    kind: ClassVar[str] = "globalavgpool"
    checks: ClassVar[Mapping[str, Check]] = {"name": _layer.name}

    name: str | None = None

    def window(self, shape: Shape, /) -> Window:
        """Return what covers the image."""
        height, width, _ = _layer.image(shape)
        return Window(height, width, height, width)

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return (channels,)."""
        return _layer.image(shape)[2:]


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """An image's numbers in a row, in the order height, width, channels.

    Parameters
    ----------
    channels_first : bool
        In the order channels, height, width, as PyTorch.
    name : str, optional

    Examples
    --------
    >>> Flatten().output_shape((64, 96, 3))
    (18432,)
    """

    kind: ClassVar[str] = "flatten"
    checks: ClassVar[Mapping[str, Check]] = {
        "channels_first": _layer.boolean,
        "name": _layer.name,
    }

    channels_first: bool = False
    name: str | None = None

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return (height * width * channels,)."""
        return (math.prod(shape),)
