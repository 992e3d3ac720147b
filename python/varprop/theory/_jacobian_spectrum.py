"""Singular values of a deep network's Jacobian as its width goes to infinity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from varprop import _spec
from varprop.theory.gaussian import Array

_Activation = Literal["linear", "relu"]
_Weight = Literal["gaussian", "orthogonal"]
_ANGLES = 4000  # of the curve that the density lies on
_HALVINGS = 60


@dataclass(frozen=True)
class JacobianSpectrum:
    """The law of the squared singular values of a Jacobian; see :func:`jacobian_spectrum`.

    Attributes
    ----------
    depth : int
    activation : {"linear", "relu"}
    weight : {"gaussian", "orthogonal"}
    gain : float
    zeros : float
        Share of the singular values that are exactly 0: half of them behind ReLUs.
    edges : tuple of float
        The smallest and the largest squared singular value but those; they are inf beyond the
        range of floats. Of Gaussian weights, and of ReLUs from two layers on, there is a density
        all the way down to 0.
    """

    depth: int
    activation: _Activation
    weight: _Weight
    gain: float
    zeros: float = field(init=False)
    edges: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "zeros", 0.5 if self.activation == "relu" else 0.0)
        scale = 2.0 * self.depth * _log(self.gain)
        low, high = (_exp(scale + _log(edge)) for edge in self._unit_edges())
        object.__setattr__(self, "edges", (low, high))

    @property
    def _powers(self) -> tuple[int, int]:
        """Return a, b of the curve L = (1 + z)^a (z + 1/2)^b / z, see the notes."""
        masks = self.depth if self.activation == "relu" else 0
        mixing = self.depth if self.weight == "gaussian" else 0
        return 1 + mixing - masks, masks

    @property
    def _one_atom(self) -> bool:
        """Whether all that are not 0 are the same."""
        return self.weight == "orthogonal" and (self.activation == "linear" or self.depth == 1)

    @property
    def _two_projections(self) -> bool:
        """Whether it is the law of two free projections, an arcsine, which the curve ends with."""
        return self.weight == "orthogonal" and self.activation == "relu" and self.depth == 2

    def _unit_edges(self) -> tuple[float, float]:
        """Return the edges at gain 1: where the curve has a level tangent."""
        a, b = self._powers
        if self._one_atom or self._two_projections:
            return float(self._one_atom), 1.0
        if not b:
            return 0.0, math.exp(_curve(1.0 / (a - 1), a, b))
        square, line = a + b - 1, 0.5 * a + b - 1.5
        if not square:
            return 0.0, math.exp(_curve(0.5 / line, a, b))
        root = math.sqrt(line**2 + 2.0 * square)
        high = math.exp(_curve((root - line) / (2.0 * square), a, b))
        if b > 1:
            return 0.0, high
        return math.exp(_curve(-(root + line) / (2.0 * square), a, b)), high

    @property
    def mean_singular_value(self) -> float:
        """Mean of all singular values, zeros too."""
        return self.moment(0.5)

    def moment(self, power: float) -> float:
        """Return the mean of the squared singular values' power, the zeros counted.

        Parameters
        ----------
        power : float
            At least 0; of linear networks more than -1 / (depth + 1). Behind ReLUs whole ones are
            exact, others are right to 1e-6.

        Examples
        --------
        >>> [round(jacobian_spectrum(2).moment(k), 9) for k in (1, 2, 3)]  # of Fuss and Catalan
        [1.0, 3.0, 12.0]
        """
        m, depth = _spec.real("power", power), self.depth
        scale = 2.0 * m * depth * _log(self.gain) if m else 0.0
        least = -1.0 / (depth + 1) if self.activation == "linear" else 0.0
        if self._one_atom and self.activation == "linear":
            return _exp(scale)
        if m < least or (m == least and m < 0.0):
            more = "more than" if least else "at least"
            raise ValueError(f"power must be {more} {least:g}, got {power!r}")
        if m == 0.0:
            return 1.0
        if self._one_atom:
            return 0.5 * _exp(scale)
        if m == int(m) <= 200:
            return _exp(scale + self._whole(int(m)))
        if self.activation == "linear":  # Penson and Zyczkowski 2011
            top = math.lgamma((depth + 1) * m + 1.0)
            return _exp(scale + top - math.lgamma(m + 1.0) - math.lgamma(depth * m + 2.0))
        if self._two_projections:
            return (
                0.5 * _exp(scale + math.lgamma(m + 0.5) - math.lgamma(m + 1.0)) / math.sqrt(math.pi)
            )
        logarithm, height = self._sampled
        powers = np.exp(m * (logarithm - logarithm[0]))  # by parts: the height is 0 at the ends
        total = np.sum(0.5 * (powers[1:] + powers[:-1]) * np.diff(height))
        return _exp(scale + m * logarithm[0] + math.log(abs(total) / (m * math.pi)))

    def _whole(self, k: int) -> float:
        """Return the logarithm of the k-th moment at gain 1: 1/k [z^(k-1)] (curve times z)^k."""
        a, b = self._powers
        total = Fraction(0)
        for j in range(k):
            ways = _binomial(a * k, k - 1 - j) * _binomial(b * k, j)
            total += Fraction(ways, 2 ** (b * k - j)) if ways else 0
        total /= k
        return math.log(total.numerator) - math.log(total.denominator)

    @cached_property
    def _sampled(self) -> tuple[Array, Array]:
        """Return ln L and Im z along the curve where L is real, from the largest L on.

        For each angle of z the distance at which the angles of the factors cancel.
        """
        a, b = self._powers
        turn = 0.5 * math.pi * (1.0 - np.cos(np.linspace(0.0, math.pi, _ANGLES + 2)[1:-1]))
        direction = np.exp(1j * turn)
        low, high = np.full(turn.shape, -80.0), np.full(turn.shape, 80.0)  # ln |z|
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            z = np.exp(middle) * direction
            before = a * np.angle(1.0 + z) + b * np.angle(0.5 + z) < turn
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        z = np.exp(0.5 * (low + high)) * direction
        return a * np.log(np.abs(1.0 + z)) + b * np.log(np.abs(0.5 + z)) - np.log(np.abs(z)), z.imag

    def density(self, x: ArrayLike) -> Array:
        """Return the density of the squared singular values at x, zeros apart.

        Its integral is 1 - zeros.

        Raises
        ------
        ValueError
            All that are not 0 are the same: there is no density.
        """
        if self._one_atom:
            raise ValueError(f"no density: all that are not 0 are {self.edges[1]:g}")
        at = np.asarray(x, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.log(at) - 2.0 * self.depth * _log(self.gain)
            if self._two_projections:
                height = 0.5 / np.sqrt(np.expm1(-place))
            else:
                logarithm, heights = self._sampled
                height = np.interp(place, logarithm[::-1], heights[::-1])
            found = height / (math.pi * at)
        outside = (at <= self.edges[0]) | (at >= self.edges[1])
        return np.where(outside, 0.0, found)


def jacobian_spectrum(
    depth: int,
    activation: Literal["linear", "relu"] = "linear",
    weight: Literal["gaussian", "orthogonal"] = "gaussian",
    *,
    gain: float = 1.0,
) -> JacobianSpectrum:
    """Return the law of the squared singular values of the Jacobian of a deep, wide network.

    Of its outputs by its inputs, phi(W_L ... phi(W_1 x)), all layers of one width that goes to
    infinity; without biases, or behind ReLUs with such that leave half of the units at work.

    Parameters
    ----------
    depth : int
        L, the number of layers.
    activation : {"linear", "relu"}
        Follows every layer.
    weight : {"gaussian", "orthogonal"}
        Independent weights of standard deviation gain / sqrt(width), normal or of another law of
        mean 0, or an orthogonal matrix times the gain.
    gain : float
        sqrt(2) keeps the mean square through ReLUs.

    Returns
    -------
    JacobianSpectrum
        ``edges``, ``zeros``, ``moment(power)``, ``mean_singular_value``, ``density(x)``.

    Notes
    -----
    Weights and slopes are free of each other, so that S-transforms multiply: 1 / (1 + z) of a
    Gaussian matrix, 1 of an orthogonal one, (1 + z) / (z + 1/2) of ReLU's slopes (Pennington,
    Schoenholz and Ganguli 2017 and 2018). A squared singular value x and the moment generating
    function z at 1/x are then on a curve x = gain^(2L) (1 + z)^a (z + 1/2)^b / z; its level points
    are the edges, and by Lagrange's inversion its series has the moments. Of one Gaussian matrix
    it is the law of Marchenko and Pastur, of several those of Fuss and Catalan, whose largest
    is (L+1)^(L+1) / L^L. Finite widths come to the largest mostly from below.

    Examples
    --------
    >>> [round(jacobian_spectrum(depth).edges[1], 5) for depth in (1, 2, 3)]
    [4.0, 6.75, 9.48148]
    >>> round(jacobian_spectrum(1).mean_singular_value, 6)  # 8 / (3 pi)
    0.848826
    >>> relu = jacobian_spectrum(10, "relu", "orthogonal", gain=2**0.5)
    >>> relu.zeros, round(relu.moment(1), 9), round(relu.edges[1], 4)
    (0.5, 1.0, 25.8117)
    """
    depth = _spec.integer("depth", depth, least=1)
    if activation not in get_args(_Activation):
        raise _spec.unknown("activation", activation, get_args(_Activation))
    if weight not in get_args(_Weight):
        raise _spec.unknown("weight", weight, get_args(_Weight))
    return JacobianSpectrum(depth, activation, weight, _spec.real("gain", gain, least=0.0))


def _curve(z: float, a: int, b: int) -> float:
    """Return ln |(1 + z)^a (z + 1/2)^b / z|."""
    return a * math.log(abs(1.0 + z)) + b * math.log(abs(0.5 + z)) - math.log(abs(z))


def _binomial(n: int, k: int) -> int:
    """Return the coefficient of z^k in (1 + z)^n, of negative n too."""
    return math.comb(n, k) if n >= 0 else (-1) ** k * math.comb(k - n - 1, k)


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf
