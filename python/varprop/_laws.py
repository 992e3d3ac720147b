"""Laws of tensors of weights or biases, and those whose numbers are independent."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from varprop import _spec
from varprop._draw import Draw, normal_probability
from varprop._fans import fans

Array = NDArray[np.float64]
Shape = tuple[int, ...]
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["truncated_normal", "untruncated_normal", "uniform"]

STD_CUT_AT_2 = 0.87962566103423978  # of a standard normal given that |z| <= 2
LARGEST_NORMAL = 9.5  # more than any of the contract: sqrt(2 log 2^65) from 64-bit words
LEAST_PROBABILITY = 1e-300  # of a truncated normal's interval, for its quantiles to have digits


class Source(Protocol):
    """Numbers of the contract, in float64, for a law that is formed whole.

    `part` "" is the tensor's own stream; another part is that of "<name>/<part>".
    """

    def __call__(self, shape: Shape, law: Law, part: str = "", /) -> Array: ...


@dataclass(frozen=True)
class Law(ABC):
    """The law of a tensor of weights or biases.

    Two laws are equal when their arguments are, and ``resolve(str(law)) == law``.
    """

    iid: ClassVar[bool] = True
    """Whether numbers are independent and any part of the tensor can be drawn alone."""

    @abstractmethod
    def compile(self, shape: Shape, /) -> Draw | None:
        """Return what to draw for a tensor of this shape, or None: it is formed whole.

        Raises
        ------
        ValueError
            The law does not take this shape.
        """

    def form(self, _shape: Shape, _draw: Source, /) -> Array:
        """Return the whole tensor, where :meth:`compile` returned None."""
        raise TypeError(f"{self} is drawn number by number")

    def __str__(self) -> str:
        from varprop import initializers  # the names are made of the laws

        return initializers.spell(self)

    def _real(
        self, *names: str, least: float = -math.inf, most: float = math.inf, finite: bool = True
    ) -> None:
        """Replace arguments by floats within limits."""
        for name in names:
            value = _spec.real(name, getattr(self, name), least=least, most=most, finite=finite)
            object.__setattr__(self, name, value)

    def _require(self, fits: bool, need: str, shape: Shape) -> None:
        if not fits:
            raise ValueError(f"{self} needs {need}, got shape {shape}")


@dataclass(frozen=True)
class Constant(Law):
    """Every number is `value`."""

    value: float

    def __post_init__(self) -> None:
        self._real("value")

    def compile(self, _shape: Shape, /) -> Draw:
        return Draw("constant", self.value)


@dataclass(frozen=True)
class Normal(Law):
    """Normal of standard deviation `std` around `mean`."""

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        self._real("std", least=0.0)
        self._real("mean")

    def compile(self, _shape: Shape, /) -> Draw:
        return Draw("normal", self.mean, self.std)


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform between `low` and `high`."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        self._real("low", "high")
        if self.low >= self.high:
            raise ValueError(f"low must be less than high, got {self.low!r} and {self.high!r}")

    def compile(self, _shape: Shape, /) -> Draw:
        return Draw("uniform", low=self.low, high=self.high)


@dataclass(frozen=True)
class TruncatedNormal(Law):
    """Normal of `std` around `mean`, given that it falls between `low` and `high`.

    The bounds are absolute, and may be infinite or far in a tail; `std` is that before the cut.
    """

    std: float = 1.0
    mean: float = 0.0
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        self._real("std", least=0.0)
        self._real("mean")
        self._real("low", "high", finite=False)
        if self.std == 0.0:
            raise ValueError("std of a truncated normal must be > 0, got 0.0")
        if self.low >= self.high:
            raise ValueError(f"low must be less than high, got {self.low!r} and {self.high!r}")
        if normal_probability(*self._standard_bounds) < LEAST_PROBABILITY:
            raise ValueError(
                f"low={self.low!r} and high={self.high!r} leave too little of a normal of "
                f"mean={self.mean!r} and std={self.std!r} to draw from"
            )

    @property
    def _standard_bounds(self) -> tuple[float, float]:
        return (self.low - self.mean) / self.std, (self.high - self.mean) / self.std

    def compile(self, _shape: Shape, /) -> Draw:
        low, high = self._standard_bounds
        if low <= -LARGEST_NORMAL and high >= LARGEST_NORMAL:  # as in trunc_normal(std=0.02)
            return Draw("normal", self.mean, self.std)
        return Draw("truncated_normal", self.mean, self.std, low, high)


@dataclass(frozen=True)
class VarianceScaling(Law):
    """Mean 0 and variance `scale` / n, with n a fan of the tensor (Keras and JAX).

    Parameters
    ----------
    scale : float
        At least 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        n: a fan, or the arithmetic or geometric mean of both.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        The truncated normal is cut at 2 standard deviations of the normal before the cut, which
        is widened so that the variance after the cut is exactly `scale` / n.

    Examples
    --------
    >>> VarianceScaling(2.0, "fan_in", "untruncated_normal").compile((50, 10)).std
    0.2
    """

    scale: float = 1.0
    mode: Mode = "fan_in"
    distribution: Distribution = "truncated_normal"

    def __post_init__(self) -> None:
        self._real("scale", least=0.0)
        if self.mode not in get_args(Mode):
            raise _spec.unknown("mode", self.mode, get_args(Mode))
        if self.distribution not in get_args(Distribution):
            raise _spec.unknown("distribution", self.distribution, get_args(Distribution))

    def compile(self, shape: Shape, /) -> Draw:
        self._require(len(shape) >= 2, "at least 2 dimensions", shape)
        fan_in, fan_out = fans(shape)
        n = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }[self.mode]
        std = math.sqrt(self.scale / n)
        if self.distribution == "untruncated_normal":
            return Draw("normal", 0.0, std)
        if self.distribution == "truncated_normal":
            return Draw("truncated_normal", 0.0, std / STD_CUT_AT_2, -2.0, 2.0)
        bound = math.sqrt(3.0 * self.scale / n)
        return Draw("uniform", low=-bound, high=bound)


@dataclass(frozen=True)
class Scaled(Law):
    """The numbers of another law, from the same draws, times `factor`.

    Parameters
    ----------
    law : str or Law
    factor : float
        Greater than 0.

    Examples
    --------
    >>> Scaled("normal(std=0.5)", 3.0).compile((50, 10)).std
    1.5
    """

    law: Law | str
    factor: float

    def __post_init__(self) -> None:
        from varprop import initializers

        self._real("factor")
        if self.factor <= 0.0:
            raise ValueError(f"factor must be greater than 0, got {self.factor!r}")
        law = initializers.resolve(self.law, "law")
        if isinstance(law, Scaled):
            object.__setattr__(self, "factor", self.factor * law.factor)
            law = law.of
        object.__setattr__(self, "law", law)
        object.__setattr__(self, "iid", law.iid)

    @property
    def of(self) -> Law:
        """The law that is scaled."""
        assert isinstance(self.law, Law)
        return self.law

    def compile(self, shape: Shape, /) -> Draw | None:
        draw = self.of.compile(shape)
        return None if draw is None else draw.times(self.factor)

    def form(self, shape: Shape, draw: Source, /) -> Array:
        return self.factor * self.of.form(shape, draw)
