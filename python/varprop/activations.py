"""Activation functions in plain NumPy: values, derivatives, names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec

__all__ = ["NAMES", "ActivationFunction", "resolve"]

Array = NDArray[np.float64]
Function = Callable[..., Any]  # of x, and of the parameter where there is one

# Klambauer et al. 2017, equation 14: mean 0 and variance 1 are a fixed point.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

_erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[float])
_erfc: Callable[[Array], Array] = np.vectorize(math.erfc, otypes=[float])


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows, and small values keep their digits
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def _bell(x: Array) -> Array:
    """Return the sigmoid's derivative: even, so its tails keep their digits on both sides."""
    small = np.exp(-np.abs(x))
    return small / (1.0 + small) ** 2


def _gaussian(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * _erfc(-x / math.sqrt(2.0))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _elu_slope(x: Array, alpha: float) -> Array:
    return np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


def _gelu_tanh_argument(x: Array) -> Array:
    """Return 2u, as (1 + tanh u) / 2 = sigmoid(2u); past 50 the sigmoid is 0 or 1 exactly."""
    x = np.clip(x, -50.0, 50.0)
    return math.sqrt(8.0 / math.pi) * (x + 0.044715 * x**3)


def _gelu_tanh_slope(x: Array) -> Array:
    u2 = _gelu_tanh_argument(x)
    x = np.clip(x, -50.0, 50.0)
    slope = math.sqrt(8.0 / math.pi) * (1.0 + 3 * 0.044715 * x * x)
    return _sigmoid(u2) + x * _bell(u2) * slope


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _mish_slope(x: Array) -> Array:
    gate = np.tanh(_softplus(x))
    return gate + x * (1.0 - gate * gate) * _sigmoid(x)


class _Entry(NamedTuple):
    value: Function
    derivative: Function
    parameter: str = ""
    default: float = 0.0
    homogeneous: bool = False


# The order is the core's numbering. At kinks the derivative is PyTorch's.
_TABLE: dict[str, _Entry] = {
    "linear": _Entry(np.positive, np.ones_like, homogeneous=True),
    "relu": _Entry(lambda x: np.maximum(x, 0.0), lambda x: x > 0, homogeneous=True),
    "leaky_relu": _Entry(
        lambda x, slope: np.where(x > 0, x, slope * x),
        lambda x, slope: np.where(x > 0, 1.0, slope),
        "slope",
        0.01,
        homogeneous=True,
    ),
    "elu": _Entry(_elu, _elu_slope, "alpha", 1.0),
    "selu": _Entry(
        lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
        lambda x: SELU_SCALE * _elu_slope(x, SELU_ALPHA),
    ),
    "celu": _Entry(
        lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha)),
        lambda x, alpha: np.exp(np.minimum(x, 0.0) / alpha),
        "alpha",
        1.0,
    ),
    "gelu": _Entry(lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _gaussian(x)),
    "gelu_tanh": _Entry(lambda x: x * _sigmoid(_gelu_tanh_argument(x)), _gelu_tanh_slope),
    "silu": _Entry(lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1.0 + x * _sigmoid(-x))),
    "mish": _Entry(lambda x: x * np.tanh(_softplus(x)), _mish_slope),
    "softplus": _Entry(_softplus, _sigmoid),
    "softsign": _Entry(lambda x: x / (1.0 + np.abs(x)), lambda x: (1.0 + np.abs(x)) ** -2.0),
    "tanh": _Entry(np.tanh, lambda x: 4.0 * _bell(2.0 * x)),
    "hard_tanh": _Entry(lambda x: np.clip(x, -1.0, 1.0), lambda x: np.abs(x) < 1),
    "sigmoid": _Entry(_sigmoid, _bell),
    "hard_sigmoid": _Entry(
        lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0, lambda x: (np.abs(x) < 3) / 6.0
    ),
    "erf": _Entry(_erf, lambda x: np.exp(-x * x) * (2.0 / math.sqrt(math.pi))),
    "sin": _Entry(np.sin, np.cos),
    "relu6": _Entry(lambda x: np.clip(x, 0.0, 6.0), lambda x: (x > 0) & (x < 6)),
    "squared_relu": _Entry(lambda x: np.maximum(x, 0.0) ** 2, lambda x: 2 * np.maximum(x, 0.0)),
}

NAMES = tuple(_TABLE)


@dataclass(frozen=True, slots=True)
class ActivationFunction:
    """An activation function phi with its parameter, applied to arrays elementwise.

    :func:`resolve` makes one from a text and fills in the default of the parameter.

    Parameters
    ----------
    name : str
        One of ``activations.NAMES``.
    parameter : float
        Slope of leaky_relu, alpha of elu and celu; 0 for the others.

    Examples
    --------
    >>> phi = resolve("leaky_relu(slope=0.25)")
    >>> phi.value([-2.0, 2.0]), phi.derivative([-2.0, 2.0])
    (array([-0.5,  2. ]), array([0.25, 1.  ]))
    """

    name: str
    parameter: float = 0.0

    def __post_init__(self) -> None:
        entry = _TABLE.get(self.name)
        if entry is None:
            raise _spec.unknown("activation", self.name, NAMES)
        parameter = _spec.real(entry.parameter or "parameter", self.parameter)
        if parameter != 0.0 and not entry.parameter:
            raise ValueError(f"{self.name} has no parameter, got {parameter!r}")
        if parameter == 0.0 and self.name == "celu":
            raise ValueError("alpha of celu must not be 0")
        object.__setattr__(self, "parameter", parameter)

    @property
    def homogeneous(self) -> bool:
        """Whether phi(a x) = a phi(x) for every a > 0."""
        return _TABLE[self.name].homogeneous

    def value(self, x: ArrayLike) -> Array:
        """Return phi(x) in float64; no intermediate overflows into NaN."""
        return self._apply("value", x)

    def derivative(self, x: ArrayLike) -> Array:
        """Return phi'(x) in float64; at a kink, the value that PyTorch takes."""
        return self._apply("derivative", x)

    def _apply(self, which: Literal["value", "derivative"], x: ArrayLike) -> Array:
        entry = _TABLE[self.name]
        parameter = (self.parameter,) if entry.parameter else ()
        with np.errstate(all="ignore"):
            result = getattr(entry, which)(np.asarray(x, np.float64), *parameter)
        return np.array(result, np.float64)

    def __str__(self) -> str:
        entry = _TABLE[self.name]
        changed = self.parameter != entry.default
        return _spec.spell(self.name, {entry.parameter: self.parameter} if changed else {})


def resolve(spec: str | ActivationFunction, argument: str = "activation") -> ActivationFunction:
    """Return the activation function of a text.

    Parameters
    ----------
    spec : str or ActivationFunction
        ``"relu"``, ``"leaky_relu(0.2)"``, ``"elu(alpha=0.5)"``; a function is returned as it is.
    argument : str
        What errors call `spec`.

    Returns
    -------
    ActivationFunction

    Raises
    ------
    TypeError, ValueError
        Not a text, an unknown name (the nearest match is named), or a parameter that does not fit.

    Examples
    --------
    >>> resolve("leaky_relu").parameter
    0.01
    >>> str(resolve("elu(0.5)"))
    'elu(alpha=0.5)'
    """
    if isinstance(spec, ActivationFunction):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"{argument} must be a string or an ActivationFunction, got {spec!r}")
    return _named(spec, argument)


@lru_cache
def _named(spec: str, argument: str) -> ActivationFunction:
    name, args, kwargs = _spec.parse(spec, argument)
    if name not in _TABLE:
        raise _spec.unknown(argument, name, NAMES)
    entry = _TABLE[name]
    given = [*args, *kwargs.values()]
    if len(given) > bool(entry.parameter) or not kwargs.keys() <= {entry.parameter}:
        usage = _spec.spell(name, {entry.parameter: entry.default} if entry.parameter else {})
        raise ValueError(f"{argument} must be called as {usage!r}, got {spec!r}")
    try:
        parameter = _spec.real(entry.parameter, given[0]) if given else entry.default
        return ActivationFunction(name, parameter)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} {spec!r}: {error}") from None
