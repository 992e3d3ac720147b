"""Layers that treat every number alone: scales, biases, activations, dropout, own functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _layer, _spec
from varprop._layer import Check, LawLike, Shape, Unchanged
from varprop.activations import ActivationFunction
from varprop.initializers import Law


@dataclass(frozen=True, slots=True)
class Scale(Unchanged):
    """Multiplication by a number: ``factor * X``.

    Examples
    --------
    >>> Scale(0.5).factor
    0.5
    """

    kind: ClassVar[str] = "scale"
    checks: ClassVar[Mapping[str, Check]] = {"factor": _layer.real, "name": _layer.name}

    factor: float
    name: str | None = None


@dataclass(frozen=True, init=False, slots=True)
class Activation(Unchanged):
    """An activation function of its own: ``phi(X)``.

    Parameters
    ----------
    function : str or ActivationFunction
        A name such as ``"tanh"`` or ``"leaky_relu(slope=0.2)"``.
    name : str, optional

    Examples
    --------
    >>> Activation("relu").function.value([-1.0, 2.0])
    array([0., 2.])
    """

    kind: ClassVar[str] = "activation"
    checks: ClassVar[Mapping[str, Check]] = {"function": _layer.activation, "name": _layer.name}

    function: ActivationFunction
    name: str | None

    def __init__(self, function: str | ActivationFunction, name: str | None = None) -> None:
        self._keep(function=function, name=name)


@dataclass(frozen=True, init=False, slots=True)
class Bias(Unchanged):
    """Addition of a vector to the last axis: ``X + b``.

    Parameters
    ----------
    law : str, Law or array
        Law of the biases, shape (features,); of an image (channels,).
    name : str, optional

    Examples
    --------
    >>> Bias("normal(std=0.1)").parameters((8, 8, 3))
    {'bias': (Normal(std=0.1, mean=0.0), (3,))}
    """

    kind: ClassVar[str] = "bias"
    checks: ClassVar[Mapping[str, Check]] = {"law": _layer.law, "name": _layer.name}

    law: Law
    name: str | None

    def __init__(self, law: LawLike, name: str | None = None) -> None:
        self._keep(law=law, name=name)

    def parameters(self, shape: Shape, /) -> dict[str, tuple[Law, Shape]]:
        """Return law and shape of "bias"."""
        return {"bias": (self.law, shape[-1:])}


def _rate(argument: str, value: object) -> float:
    rate = _spec.real(argument, value, least=0.0)
    if rate >= 1.0:
        raise ValueError(f"{argument} must be at least 0 and under 1, got {value!r}")
    return rate


@dataclass(frozen=True, slots=True)
class Dropout(Unchanged):
    """A share of the numbers set to zero, the others divided by 1 - rate, as in training.

    A number is kept where ``weights((rows, channels), "uniform(-1, 1)", name="<layer>.mask")`` is
    greater than 2 rate - 1; the rows are those of the batch, of an image batch x height x width.

    Parameters
    ----------
    rate : float
        Probability of zero, at least 0 and under 1.
    name : str, optional
    """

    kind: ClassVar[str] = "dropout"
    checks: ClassVar[Mapping[str, Check]] = {"rate": _rate, "name": _layer.name}

    rate: float
    name: str | None = None


def _function(argument: str, value: object) -> object:
    if not callable(value):
        raise TypeError(f"{argument} must be a function, got {value!r}")
    return value


def _optional_function(argument: str, value: object) -> object:
    return None if value is None else _function(argument, value)


Function = Callable[[NDArray[np.float64]], ArrayLike]


@dataclass(frozen=True, slots=True)
class Elementwise(Unchanged):
    """A function of your own, number by number.

    Parameters
    ----------
    function : callable
        Of an array, the array of its values; any ufunc, any expression of NumPy's. It is called
        with pieces of the numbers, in one dimension, on the calling thread.
    derivative : callable, optional
        The same of its derivative; without it, central differences in float64 take its place.
    name : str, optional

    Notes
    -----
    A network that holds one cannot be written to a file.

    Examples
    --------
    >>> Elementwise(lambda x: x**3).slope(np.array([2.0])).round(6)
    array([12.])
    """

    kind: ClassVar[str] = "elementwise"
    checks: ClassVar[Mapping[str, Check]] = {
        "function": _function,
        "derivative": _optional_function,
        "name": _layer.name,
    }

    function: Function
    derivative: Function | None = None
    name: str | None = None

    def value(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the function's values in float64.

        Raises
        ------
        ValueError
            They have another shape, or are NaN where x is finite.
        """
        return _called("function", self.function, np.asarray(x, np.float64))

    def slope(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the derivative's values in float64; raises what :meth:`value` does."""
        x = np.asarray(x, np.float64)
        if self.derivative is not None:
            return _called("derivative", self.derivative, x)
        # A step of eps^(1/3) balances the rounding of the values and the step's own square.
        step = np.cbrt(np.finfo(np.float64).eps) * np.maximum(1.0, np.abs(x))
        right, left = x + step, x - step
        rise = _called("function", self.function, right) - _called("function", self.function, left)
        return np.asarray(rise / (right - left))

    def to_dict(self) -> dict[str, Any]:
        """Raise ValueError: a function is no plain value."""
        raise ValueError(f"layer {self.name!r} holds a function, which a file cannot")


def _called(argument: str, function: Function, x: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.asarray(function(x.copy()))  # which is its own to write to
    if result.dtype.kind not in "biuf":
        raise ValueError(f"{argument} must return real numbers, got dtype {result.dtype}")
    if result.shape != x.shape:
        raise ValueError(f"{argument} must return shape {x.shape}, got {result.shape}")
    wrong = np.isnan(result) & np.isfinite(x)
    if wrong.any():
        raise ValueError(f"{argument} must return numbers, got nan of {float(x[wrong][0])!r}")
    return result.astype(np.float64)
