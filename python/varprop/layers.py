"""Layers: what a network is made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from varprop import _layer, _spec
from varprop._images import AvgPool2d, Conv2d, Flatten, GlobalAvgPool
from varprop._layer import DEEPEST, Check, LawLike, Layer, Shape, Unchanged
from varprop._module import Module
from varprop._pointwise import Activation, Bias, Dropout, Elementwise, Scale
from varprop.activations import ActivationFunction
from varprop.initializers import Law

__all__ = [
    "Activation",
    "AvgPool2d",
    "BatchNorm",
    "Bias",
    "Conv2d",
    "Dense",
    "Dropout",
    "Elementwise",
    "Flatten",
    "GlobalAvgPool",
    "Layer",
    "LayerNorm",
    "RMSNorm",
    "Residual",
    "Scale",
    "Sequential",
]


@dataclass(frozen=True, init=False, slots=True)
class Dense(Layer):
    """A fully connected layer: ``phi(X W + b)`` with W of shape (fan_in, width).

    Parameters
    ----------
    width : int
        Number of units. On an image, the channels that leave every position.
    activation : str or ActivationFunction
        A name such as ``"tanh"`` or ``"leaky_relu(slope=0.2)"``.
    weight : str, Law or array
        Law of the weights, or the weights themselves, shape (fan_in, width).
    bias : str, Law, array or None
        Law of the biases, shape (width,); None or "none" for a layer without.
    name : str, optional
        Unique in its network; by default dense1, dense2, ... in order of execution.

    Examples
    --------
    >>> Dense(10, "tanh", weight="glorot_uniform").activation.name
    'tanh'
    """

    kind: ClassVar[str] = "dense"
    checks: ClassVar[Mapping[str, Check]] = {
        "width": _layer.size,
        "activation": _layer.activation,
        "weight": _layer.law,
        "bias": _layer.optional_law,
        "name": _layer.name,
    }

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
        self._keep(width=width, activation=activation, weight=weight, bias=bias, name=name)

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return the shape with `width` in the place of its last axis."""
        return *shape[:-1], self.width

    def parameters(self, shape: Shape, /) -> dict[str, tuple[Law, Shape]]:
        """Return laws and shapes of "weight", and of "bias" where there is one."""
        weight: dict[str, tuple[Law, Shape]] = {"weight": (self.weight, (shape[-1], self.width))}
        return weight if self.bias is None else weight | {"bias": (self.bias, (self.width,))}


class Container(Layer):
    """A layer that others lie within: in a network its name comes before theirs."""

    __slots__ = ()

    layers: tuple[Layer, ...]

    @property
    def depth(self) -> int:
        """How many containers lie within each other, this one included."""
        return 1 + max(layer.depth if isinstance(layer, Container) else 0 for layer in self.layers)

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return the shape that leaves the last of its layers."""
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def _keep(self, **arguments: object) -> None:
        super()._keep(**arguments)
        if self.depth > DEEPEST:
            raise ValueError(f"layers must be nested at most {DEEPEST} deep, got {self.depth}")


@dataclass(frozen=True, init=False, slots=True)
class Sequential(Container):
    """Layers one after the other under a common name; it does nothing of its own.

    Parameters
    ----------
    layers : iterable of Layer
        They are named anew, from 1: in a network they are sequential1.dense1 ...
    name : str, optional

    Examples
    --------
    >>> import varprop as vp
    >>> vp.Network(64, [Sequential([Dense(10, "relu"), Dense(5)], name="head")]).layer_names
    ('head.dense1', 'head.dense2')
    """

    kind: ClassVar[str] = "sequential"
    checks: ClassVar[Mapping[str, Check]] = {"layers": _layer.named, "name": _layer.name}

    layers: tuple[Layer, ...]
    name: str | None

    def __init__(self, layers: Iterable[Layer], name: str | None = None) -> None:
        self._keep(layers=layers, name=name)


@dataclass(frozen=True, init=False, slots=True)
class Residual(Container):
    """A branch beside a skip: ``skip_scale * X + branch_scale * f(X)``.

    Parameters
    ----------
    layers : iterable of Layer
        The branch f, which must end with the shape it starts with. Its layers are named anew,
        from 1: in a network they are residual1.dense1 ...
    branch_scale : float
        1/sqrt(depth), say, for a variance that does not hang on the depth.
    skip_scale : float
    name : str, optional

    Examples
    --------
    >>> block = Residual([LayerNorm(), Dense(64, "relu"), Dense(64)], branch_scale=0.1)
    >>> block.output_shape((64,))
    (64,)
    """

    kind: ClassVar[str] = "residual"
    checks: ClassVar[Mapping[str, Check]] = {
        "layers": _layer.named,
        "branch_scale": _layer.real,
        "skip_scale": _layer.real,
        "name": _layer.name,
    }

    layers: tuple[Layer, ...]
    branch_scale: float
    skip_scale: float
    name: str | None

    def __init__(
        self,
        layers: Iterable[Layer],
        branch_scale: float = 1.0,
        skip_scale: float = 1.0,
        name: str | None = None,
    ) -> None:
        self._keep(layers=layers, branch_scale=branch_scale, skip_scale=skip_scale, name=name)

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return the shape, or the error that says into what other one the branch turns it."""
        branch = Container.output_shape(self, shape)
        if branch != shape:
            raise ValueError(
                f"the branch must end with the shape it starts with, {_layer.written(shape)}, "
                f"got {_layer.written(branch)}"
            )
        return shape


@dataclass(frozen=True, slots=True)
class Normalization(Unchanged):
    """A layer that brings rows or columns to one size; `eps` is added to what is divided by."""

    checks: ClassVar[Mapping[str, Check]] = {"eps": _layer.positive, "name": _layer.name}

    eps: float = 1e-5
    name: str | None = None


class LayerNorm(Normalization):
    """Mean 0 and variance 1 over the last axis: ``(x - mean) / sqrt(var + eps)``.

    As at initialization: gain 1, shift 0. The variance is the population's (Ba et al. 2016).
    """

    __slots__ = ()
    kind: ClassVar[str] = "layernorm"


class RMSNorm(Normalization):
    """Mean square 1 over the last axis: ``x / sqrt(mean(x^2) + eps)``.

    As at initialization: gain 1 (Zhang and Sennrich 2019).
    """

    __slots__ = ()
    kind: ClassVar[str] = "rmsnorm"


class BatchNorm(Normalization):
    """Mean 0 and variance 1 of every unit or channel over the batch, and over an image's positions.

    As at initialization and in training: gain 1, shift 0, the statistics of the batch itself, the
    variance the population's (Ioffe and Szegedy 2015). It couples the rows of a batch: what leaves
    for one depends on all others, forward and in the gradients. So results for some rows are not
    those for more of them, and every column is read twice more before any row can go on, each way.
    """

    __slots__ = ()
    kind: ClassVar[str] = "batchnorm"


def replaced(
    layers: Iterable[Layer], change: Callable[[str, Layer], Iterable[Layer]], within: str = ""
) -> list[Layer]:
    """Return layers with what ``change(name, layer)`` puts in the place of each.

    Names are those in a network: ``residual1.dense1``. What lies within a layer comes before it.
    """
    found: list[Layer] = []
    for layer in layers:
        name = f"{within}{layer.name}"
        if isinstance(layer, Container):
            inside = tuple(replaced(layer.layers, change, f"{name}."))
            layer = replace(layer, layers=inside)  # type: ignore[type-var]
        found.extend(change(name, layer))
    return found


# --- layers from plain values -------------------------------------------------------------------

KINDS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        *(Dense, Conv2d, Scale, Activation, Bias, LayerNorm, RMSNorm, BatchNorm),
        *(AvgPool2d, GlobalAvgPool, Flatten, Dropout, Residual, Sequential, Module),
    )
}


def from_dict(entry: object, where: str, depth: int = 0) -> Layer:
    """Return the layer that :meth:`Layer.to_dict` described.

    Parameters
    ----------
    entry : mapping or Layer
        "kind", and arguments of its constructor; a layer is what it is.
    where : str
        What errors call `entry`: ``layers[2]``, say.
    depth : int
        How many others it lies within.

    Raises
    ------
    ValueError, TypeError
        Anything that is wrong, by its key: ``layers[2].width must be an integer ...``.
    """
    if isinstance(entry, Layer):
        return entry
    if not isinstance(entry, Mapping):
        raise TypeError(f"{where} must be a table of kind and arguments, got {entry!r:.80}")
    if depth > DEEPEST:
        raise ValueError(f"{where} must be nested at most {DEEPEST} deep")
    kind = entry.get("kind", "dense")
    if kind == "elementwise":
        raise ValueError(f"{where}.kind must not be 'elementwise': a file cannot hold a function")
    if not isinstance(kind, str) or kind not in KINDS:
        raise _spec.unknown(f"{where}.kind", kind, KINDS)
    layer = KINDS[kind]
    arguments = {str(key): value for key, value in entry.items() if key != "kind"}
    for key, value in arguments.items():
        if key not in layer.checks:
            raise _spec.unknown(f"key of {where}", key, ("kind", *layer.checks))
        if key == "layers":
            arguments[key] = all_from_dict(value, f"{where}.{key}", depth + 1)
        else:
            arguments[key] = layer.checks[key](f"{where}.{key}", value)
    for key, parameter in inspect.signature(layer).parameters.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ValueError(f"{where}.{key} is missing: a {kind} layer needs it")
    try:
        return layer(**arguments)
    except ValueError as error:  # of arguments that do not fit each other
        raise ValueError(f"{where}: {error}") from None


def all_from_dict(entries: object, where: str, depth: int = 0) -> list[Layer]:
    """Return the layers of a container."""
    if not isinstance(entries, (list, tuple)):
        raise TypeError(f"{where} must be a list of layers, got {entries!r:.80}")
    return [from_dict(entry, f"{where}[{i}]", depth) for i, entry in enumerate(entries)]
