"""What every layer is: arguments that are checked, shapes in and out, laws of its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar

from numpy.typing import ArrayLike

from varprop import _spec, activations, initializers
from varprop.activations import ActivationFunction
from varprop.initializers import Law

Shape = tuple[int, ...]  # (features,), or (height, width, channels)
LawLike = str | Law | ArrayLike
Check = Callable[[str, Any], Any]  # of an argument's name and value: the value to keep
Self = TypeVar("Self", bound="Layer")

DEEPEST = 20  # layers within layers


class Layer(ABC):
    """A layer of a network: one of the classes Dense, Conv2d, Residual ...

    A network gives each a name, by default its kind and number. Shapes are those of one example,
    (features,) or (height, width, channels).
    """

    __slots__ = ()

    kind: ClassVar[str]
    """What a layer is called by default, and in files: "dense", "conv" ..."""

    checks: ClassVar[Mapping[str, Check]]
    """For each argument of the constructor, what its value has to pass."""

    name: str | None

    def __post_init__(self) -> None:
        self._keep(**{argument: getattr(self, argument) for argument in self.checks})

    def _keep(self, **arguments: object) -> None:
        for argument, value in arguments.items():
            object.__setattr__(self, argument, self.checks[argument](argument, value))

    @abstractmethod
    def output_shape(self, shape: Shape, /) -> Shape:
        """Return the shape of what leaves the layer where `shape` enters it.

        Raises
        ------
        ValueError
            The layer does not take this shape.
        """

    def parameters(self, _shape: Shape, /) -> dict[str, tuple[Law, Shape]]:
        """Return laws and shapes of "weight" and "bias", of those that the layer has."""
        return {}

    def renamed(self: Self, name: str) -> Self:
        """Return the same layer under another name."""
        return replace(self, name=name)  # type: ignore[type-var]

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as plain values; given arrays stay arrays."""
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        name = arguments.pop("name")
        return {"kind": self.kind, "name": name} | {k: _plain(v) for k, v in arguments.items()}


class Unchanged(Layer):
    """A layer that leaves the shape as it is."""

    __slots__ = ()

    def output_shape(self, shape: Shape, /) -> Shape:
        """Return the same shape: any fits."""
        return shape


def _plain(value: object) -> Any:
    match value:
        case Law():
            return initializers.to_value(value)
        case ActivationFunction():
            return str(value)
        case Layer():
            return value.to_dict()
        case tuple():
            return [_plain(item) for item in value]
    return value


def default_names(layers: Iterable[Layer]) -> list[str]:
    """Return the name that each layer has unless it is given one: kind and number in a container.

    Examples
    --------
    >>> from varprop.layers import Dense, Scale
    >>> default_names([Dense(5), Scale(2.0), Dense(3, name="last")])
    ['dense1', 'scale1', 'dense2']
    """
    counts: dict[str, int] = {}
    names = []
    for layer in layers:
        counts[layer.kind] = counts.get(layer.kind, 0) + 1
        names.append(f"{layer.kind}{counts[layer.kind]}")
    return names


def named(argument: str, layers: object) -> tuple[Layer, ...]:
    """Return the layers of a container, each with a name, or the error that says what they lack."""
    if not isinstance(layers, Iterable) or isinstance(layers, str):
        raise TypeError(f"{argument} must be a list of layers, got {layers!r}")
    layers = tuple(layers)
    for position, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"{argument}[{position}] must be a layer, got {layer!r}")
    if not layers:
        raise ValueError(f"{argument} must not be empty")
    chosen = tuple(
        layer if layer.name else layer.renamed(name)
        for layer, name in zip(layers, default_names(layers), strict=True)
    )
    seen: set[str | None] = set()
    for layer in chosen:
        if layer.name in seen:
            raise ValueError(f"layer names must be unique, got {layer.name!r} more than once")
        seen.add(layer.name)
    return chosen


def written(shape: Shape) -> str:
    """Write a shape for people: ``'64 x 96 x 3'``."""
    return " x ".join(map(str, shape))


def image(shape: Shape) -> tuple[int, int, int]:
    """Return height, width and channels, or the error of features where an image must be."""
    if len(shape) != 3:
        raise ValueError(f"needs an image (height, width, channels), got {shape[0]} features")
    return shape[0], shape[1], shape[2]


# --- checks of arguments ------------------------------------------------------------------------


def size(argument: str, value: object) -> int:
    """Return a number of units or of positions: at least 1 and under 2**31."""
    number = _spec.integer(argument, value, least=1)
    if number >= 2**31:
        raise ValueError(f"{argument} must be under 2**31, got {number}")
    return number


def pair(argument: str, value: object) -> tuple[int, int]:
    """Return two sizes, of height and width; an integer stands for both."""
    if not isinstance(value, (tuple, list)):
        both = size(argument, value)
        return both, both
    if len(value) != 2:
        raise ValueError(f"{argument} must be an integer or a pair of them, got {value!r}")
    return size(f"{argument}[0]", value[0]), size(f"{argument}[1]", value[1])


def name(argument: str, value: Any) -> str | None:
    """Return a name, which dots would join to another."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or "." in value:
        raise ValueError(f"{argument} must be a non-empty string without dots, got {value!r}")
    return value


def activation(argument: str, value: str | ActivationFunction) -> ActivationFunction:
    """Return an activation function."""
    return activations.resolve(value, argument)


def law(argument: str, value: LawLike) -> Law:
    """Return the law of a tensor."""
    return initializers.resolve(value, argument)


def optional_law(argument: str, value: LawLike | None) -> Law | None:
    """Return the law of a tensor, None where there is no tensor: files say "none"."""
    absent = value is None or (isinstance(value, str) and value.strip() == "none")
    return None if absent else initializers.resolve(value, argument)  # type: ignore[arg-type]


def boolean(argument: str, value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, got {value!r}")
    return value


def real(argument: str, value: object) -> float:
    """Return a finite number."""
    return _spec.real(argument, value)


def positive(argument: str, value: object) -> float:
    """Return a finite number that is at least 0."""
    return _spec.real(argument, value, least=0.0)
