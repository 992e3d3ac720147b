"""A module of another framework, as a profile saw it: to be told of, not simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from varprop import _layer, _spec
from varprop._layer import Check, Layer, Shape
from varprop.initializers import Law, resolve, to_value


def _type(argument: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{argument} must be a non-empty string, got {value!r}")
    return value


def _optional_type(argument: str, value: object) -> str | None:
    return value if value is None or value == "" else _type(argument, value)


@dataclass(frozen=True)
class Drawn:
    """A parameter of a module: its qualified name, its law, its shape as ours.

    The law is None where the parameter kept its values.
    """

    name: str
    law: Law | None
    shape: Shape

    @property
    def is_weight(self) -> bool:
        """Whether it has two or more dimensions."""
        return len(self.shape) > 1


def _drawn(argument: str, value: object) -> tuple[Drawn, ...]:
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{argument} must be a list of parameters, got {value!r:.80}")
    return tuple(
        item if isinstance(item, Drawn) else _read(f"{argument}[{i}]", item)
        for i, item in enumerate(value)
    )


def _read(argument: str, value: object) -> Drawn:
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise ValueError(f"{argument} must be [name, law, shape], got {value!r:.80}")
    name, law, shape = value
    chosen = None if law is None else resolve(law, f"law of {argument}")
    return Drawn(_type(f"name of {argument}", name), chosen, _spec.sizes(argument, shape))


@dataclass(frozen=True, slots=True)
class Module(Layer):
    """A module that a profile called, once.

    Parameters
    ----------
    name : str
        Its qualified name; of a second call with ":2" at the end.
    type : str
        Name of its class.
    shape : tuple of int
        Of one example's output.
    pointwise : bool
        Whether it treats what enters it in place, as activations, norms and dropout do: its
        pre-activations are what enters it.
    stretch : str or None
        The stretch of the trunk, from one end of the model to the other, that it is a step of;
        None within blocks.
    parameters_drawn : tuple of Drawn
    """

    kind: ClassVar[str] = "module"
    checks: ClassVar[Mapping[str, Check]] = {
        "name": _type,
        "type": _type,
        "shape": _spec.sizes,
        "pointwise": _layer.boolean,
        "stretch": _optional_type,
        "drawn": _drawn,
    }

    name: str
    type: str
    shape: Shape
    pointwise: bool = False
    stretch: str | None = None
    drawn: tuple[Drawn, ...] = ()

    @property
    def role(self) -> str:
        """What it does: "activation" and "dropout", whatever their classes; else its class."""
        name = self.type.lower()
        if not self.pointwise or "norm" in name:
            return self.type
        return "dropout" if "drop" in name else "activation"

    def output_shape(self, _shape: Shape, /) -> Shape:
        """Return the shape that left it."""
        return self.shape

    def parameters(self, _shape: Shape, /) -> dict[str, tuple[Law, Shape]]:
        """Return laws and shapes of the parameters that were drawn, by their names within."""
        return {self._within(p): (p.law, p.shape) for p in self.drawn if p.law is not None}

    def qualified(self, part: str) -> str:
        """Return the name under which a parameter of it was drawn: a model itself has no prefix."""
        return next(p.name for p in self.drawn if self._within(p) == part)

    def _within(self, parameter: Drawn) -> str:
        return parameter.name.removeprefix(f"{self.name}.")

    def count(self, weights: bool) -> int:
        """Return how many numbers its weights have, or its biases."""
        return sum(math.prod(p.shape) for p in self.drawn if p.is_weight == weights)

    def law(self, weights: bool) -> Law | None:
        """Return the law of the first of its weights, or of its biases."""
        return next((p.law for p in self.drawn if p.is_weight == weights), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the module as plain values; given arrays stay arrays."""
        drawn = [
            [p.name, None if p.law is None else to_value(p.law), list(p.shape)] for p in self.drawn
        ]
        plain = {key: getattr(self, key) for key in ("name", "type", "pointwise", "stretch")}
        return {"kind": self.kind, **plain, "shape": list(self.shape), "drawn": drawn}
