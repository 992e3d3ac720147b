"""An activation's moments under Gaussians: closed forms where there are, quadrature elsewhere."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from varprop import activations
from varprop._pointwise import Elementwise
from varprop.activations import ActivationFunction
from varprop.theory import gaussian
from varprop.theory.gaussian import Array

Activation = str | ActivationFunction | Elementwise | Callable[..., Any]

_KINKS = {
    **dict.fromkeys(("relu", "leaky_relu", "elu", "celu", "selu"), (0.0,)),
    **dict.fromkeys(("softsign", "squared_relu"), (0.0,)),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (-3.0, 3.0),
    "relu6": (0.0, 6.0),
}
_DIFFERENCES = 1e-8  # tolerance where the derivative is by differences, which are right to 1e-10

LEAST = 1e-30  # a variance so small that phi is a line on either side of 0


class Kernel:
    """Moments of phi(u) and phi'(u) of an activation phi, by quadrature.

    v and m are variance and mean of a Gaussian u: arrays, the results too. Of two Gaussians they
    are floats, and c is their correlation.
    """

    closed = False  # whether there are closed forms
    homogeneous = False
    identity = False

    def __init__(
        self, function: ActivationFunction | Elementwise, slope: Callable[..., Any]
    ) -> None:
        self.name = _name(function)
        self.value: Callable[..., Any] = function.value
        self.slope = slope
        named = isinstance(function, ActivationFunction)
        self.kinks = _KINKS.get(self.name.partition("(")[0], ()) if named else ()
        exact = named or getattr(function, "derivative", None) is not None
        self._slope_tolerance = gaussian.TOLERANCE if exact else _DIFFERENCES

    @property
    def accuracy(self) -> float:
        """How far slopes may be off, relative."""
        return 0.1 * self._slope_tolerance if self._slope_tolerance == _DIFFERENCES else 1e-12

    def _one(
        self,
        f: Callable[..., Any],
        v: ArrayLike,
        m: ArrayLike = 0.0,
        tolerance: float = gaussian.TOLERANCE,
    ) -> Array:
        found = gaussian.expectation(f, v, m, kinks=self.kinks, tolerance=tolerance)
        return np.asarray(found.value, np.float64)

    def mean(self, v: ArrayLike, m: ArrayLike = 0.0) -> Array:
        """Return E phi(u)."""
        return self._one(self.value, v, m)

    def square(self, v: ArrayLike, m: ArrayLike = 0.0) -> Array:
        """Return E phi(u)^2."""
        return self._one(lambda u: self.value(u) ** 2, v, m)

    def slope_square(self, v: ArrayLike, m: ArrayLike = 0.0) -> Array:
        """Return E phi'(u)^2."""
        return self._one(lambda u: self.slope(u) ** 2, v, m, self._slope_tolerance)

    def growth(self, v: ArrayLike) -> Array:
        """Return the derivative of E phi(u)^2 by v, for v > 0 and m = 0.

        It is E[phi'^2 + phi phi''] = E[u phi(u) phi'(u)] / v, which needs no second derivative.
        """
        tolerance = self._slope_tolerance
        stretched = self._one(lambda u: u * self.value(u) * self.slope(u), v, tolerance=tolerance)
        return stretched / np.asarray(v, np.float64)

    def product(self, v: tuple[float, float], c: float, m: tuple[float, float]) -> float:
        """Return E phi(u1) phi(u2)."""
        return self._two(self.value, v, c, m, gaussian.TOLERANCE)

    def slope_product(self, v: tuple[float, float], c: float, m: tuple[float, float]) -> float:
        """Return E phi'(u1) phi'(u2)."""
        return self._two(self.slope, v, c, m, self._slope_tolerance)

    def _two(
        self,
        f: Callable[..., Any],
        v: tuple[float, float],
        c: float,
        m: tuple[float, float],
        tolerance: float,
    ) -> float:
        found = gaussian.expectation2(f, f, v, c, m, kinks=self.kinks, tolerance=10 * tolerance)
        return float(found.value)


class _Closed(Kernel, ABC):
    """Closed forms for Gaussians of mean 0; others are left to quadrature."""

    closed = True

    def mean(self, v: ArrayLike, m: ArrayLike = 0.0) -> Array:
        return super().mean(v, m) if np.any(m) else self._mean(np.asarray(v, np.float64))

    def square(self, v: ArrayLike, m: ArrayLike = 0.0) -> Array:
        return super().square(v, m) if np.any(m) else self._square(np.asarray(v, np.float64))

    def slope_square(self, v: ArrayLike, m: ArrayLike = 0.0) -> Array:
        if np.any(m):
            return super().slope_square(v, m)
        return self._slope_square(np.asarray(v, np.float64))

    def growth(self, v: ArrayLike) -> Array:
        return self._growth(np.asarray(v, np.float64))

    def product(self, v: tuple[float, float], c: float, m: tuple[float, float]) -> float:
        return super().product(v, c, m) if any(m) else self._product(*v, c)

    def slope_product(self, v: tuple[float, float], c: float, m: tuple[float, float]) -> float:
        return super().slope_product(v, c, m) if any(m) else self._slope_product(*v, c)

    @abstractmethod
    def _mean(self, v: Array) -> Array: ...
    @abstractmethod
    def _square(self, v: Array) -> Array: ...
    @abstractmethod
    def _slope_square(self, v: Array) -> Array: ...
    @abstractmethod
    def _growth(self, v: Array) -> Array: ...
    @abstractmethod
    def _product(self, v1: float, v2: float, c: float) -> float: ...
    @abstractmethod
    def _slope_product(self, v1: float, v2: float, c: float) -> float: ...


class _TwoSlopes(_Closed):
    """Slope 1 right of 0 and a left of it: linear, relu, leaky_relu.

    The arc-cosine kernels of orders 0 and 1 (Cho and Saul 2009), with a x + (1 - a) relu(x).
    """

    homogeneous = True

    def __init__(self, function: ActivationFunction) -> None:
        super().__init__(function, function.derivative)
        self.a = {"linear": 1.0, "relu": 0.0}.get(function.name, function.parameter)
        self.identity = self.a == 1.0

    def _mean(self, v: Array) -> Array:
        return (1.0 - self.a) * np.sqrt(v / (2.0 * math.pi))

    def _square(self, v: Array) -> Array:
        return 0.5 * (1.0 + self.a**2) * v

    def _slope_square(self, v: Array) -> Array:
        return np.full(v.shape, 0.5 * (1.0 + self.a**2))

    def _growth(self, v: Array) -> Array:
        return self._slope_square(v)

    def _product(self, v1: float, v2: float, c: float) -> float:
        arc = math.sqrt((1.0 - c) * (1.0 + c)) + c * math.acos(-c)
        shape = self.a * c + (1.0 - self.a) ** 2 * arc / (2.0 * math.pi)
        return math.sqrt(v1 * v2) * shape

    def _slope_product(self, _v1: float, _v2: float, c: float) -> float:
        return self.a + (1.0 - self.a) ** 2 * math.acos(-c) / (2.0 * math.pi)


class _Erf(_Closed):
    """The arc-sine kernel (Williams 1997) and its derivatives."""

    def _mean(self, v: Array) -> Array:
        return np.zeros(v.shape)

    def _square(self, v: Array) -> Array:
        return np.asarray(2.0 / math.pi * np.arctan2(2.0 * v, np.sqrt(1.0 + 4.0 * v)))

    def _slope_square(self, v: Array) -> Array:
        return np.asarray(4.0 / math.pi / np.sqrt(1.0 + 4.0 * v))

    def _growth(self, v: Array) -> Array:
        return np.asarray(4.0 / math.pi / ((1.0 + 2.0 * v) * np.sqrt(1.0 + 4.0 * v)))

    def _product(self, v1: float, v2: float, c: float) -> float:
        return 2.0 / math.pi * math.atan2(2.0 * c * math.sqrt(v1 * v2), self._root(v1, v2, c))

    def _slope_product(self, v1: float, v2: float, c: float) -> float:
        return 4.0 / math.pi / self._root(v1, v2, c)

    @staticmethod
    def _root(v1: float, v2: float, c: float) -> float:
        return math.sqrt(1.0 + 2.0 * (v1 + v2) + 4.0 * v1 * v2 * (1.0 - c) * (1.0 + c))


class _Gelu(Kernel):
    """Quadrature with SciPy's normal distribution, some twenty times as fast as math.erfc."""

    def __init__(self, function: ActivationFunction) -> None:
        super().__init__(function, self._derivative)
        self.value = lambda u: u * special.ndtr(u)

    @staticmethod
    def _derivative(u: Array) -> Array:
        density = np.exp(-0.5 * u * u) / math.sqrt(2.0 * math.pi)
        return np.asarray(special.ndtr(u) + u * density)


def kernel(activation: Activation, argument: str = "activation") -> Kernel:
    """Return the moments of an activation: a name, an ActivationFunction, or a callable.

    An :class:`varprop.Elementwise` is a callable with its derivative.

    Raises
    ------
    TypeError, ValueError
        What :func:`varprop.activations.resolve` raises, or none of these.

    Examples
    --------
    >>> float(kernel("relu").square(3.0))
    1.5
    """
    if isinstance(activation, str | ActivationFunction):
        return _named(activations.resolve(activation, argument))
    if isinstance(activation, Elementwise):
        return _own(activation)
    if callable(activation):
        return _own(Elementwise(activation))
    raise TypeError(
        f"{argument} must be a string, an ActivationFunction or a function, got {activation!r}"
    )


@lru_cache
def _named(function: ActivationFunction) -> Kernel:
    if function.homogeneous:
        return _TwoSlopes(function)
    if function.name == "gelu":
        return _Gelu(function)
    return (_Erf if function.name == "erf" else Kernel)(function, function.derivative)


@lru_cache
def _own(layer: Elementwise) -> Kernel:
    return Kernel(layer, layer.slope if layer.derivative is not None else _difference(layer))


def _difference(layer: Elementwise) -> Callable[[Array], Array]:
    """Return the derivative by central differences, which do not reach across 0 if phi(0) is 0.

    So a bend at 0 costs nothing; a bend elsewhere is seen as wide as a step, some 1e-5.
    """
    step = float(np.cbrt(np.finfo(np.float64).eps))
    least = 1.0 if float(layer.value(0.0)) != 0.0 else 1e-150

    def slope(x: Array) -> Array:
        steps = step * np.maximum(np.abs(x), least)
        right, left = x + steps, x - steps
        return np.asarray((layer.value(right) - layer.value(left)) / (right - left))

    return slope


def _name(function: ActivationFunction | Elementwise) -> str:
    if isinstance(function, ActivationFunction):
        return str(function)
    return str(getattr(function.function, "__name__", function.function))
