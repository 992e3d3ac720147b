"""What is known of a signal at infinite width, and what layers without weights make of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from varprop._layer import Shape
from varprop.layers import LayerNorm, RMSNorm
from varprop.theory._kernels import Kernel
from varprop.theory.gaussian import Array


@dataclass(frozen=True, eq=False)
class Signal:
    """Moments over the units of one layer, for two inputs of one law.

    Attributes
    ----------
    mean, square, product : ndarray
        Means of x_i, x_i^2 and x_i y_i over units i, x and y being what two inputs make: one number
        for each position of an image, shape (height, width); of features for equally large groups
        of them, shape (groups,).
    gaussian : bool
        Whether (x_i, y_i) are jointly normal over the units.
    roots : frozenset of int
        The layers of weights (-1 for the inputs) that x_i comes from with nothing mixed since:
        signals without a common root are independent.
    """

    mean: Array
    square: Array
    product: Array
    gaussian: bool
    roots: frozenset[int]

    @property
    def variance(self) -> Array:
        """Variance over the units."""
        return np.maximum(self.square - self.mean**2, 0.0)

    def total(self) -> tuple[float, float, float]:
        """Return mean, mean square, and correlation (cosine), over all units and places."""
        square = float(self.square.mean())
        cosine = float(self.product.mean()) / square if square > 0.0 else math.nan
        return float(self.mean.mean()), square, cosine

    def scaled(self, factor: float) -> Signal:
        """Return the moments of a multiple."""
        square, product = factor**2 * self.square, factor**2 * self.product
        return replace(self, mean=factor * self.mean, square=square, product=product)

    def plus(self, mean: float, variance: float) -> Signal:
        """Return the moments with a bias added, the same for both inputs, counted as normal."""
        more = 2.0 * mean * self.mean + mean**2 + variance
        return replace(
            self, mean=self.mean + mean, square=self.square + more, product=self.product + more
        )

    def beside(self, other: Signal) -> Signal:
        """Return the moments of the sum with another signal, an independent one."""
        if self.roots & other.roots:
            raise NotImplementedError(
                "no theory of a branch that has no weights, or a skip beside them, to make what "
                "leaves it independent of what enters"
            )
        both = 2.0 * self.mean * other.mean
        return Signal(
            self.mean + other.mean,
            self.square + other.square + both,
            self.product + other.product + both,
            self.gaussian and other.gaussian,
            self.roots | other.roots,
        )

    def dropped(self, rate: float) -> Signal:
        """Return the moments after dropout, whose masks differ between inputs (Srivastava 2014)."""
        if rate == 0.0:
            return self
        return replace(self, square=self.square / (1.0 - rate), gaussian=False)

    def flat(self) -> Signal:
        """Return the moments with the positions of an image as groups of features."""
        mean, square, product = (a.ravel() for a in (self.mean, self.square, self.product))
        return replace(self, mean=mean, square=square, product=product)


def normalized(x: Signal, layer: LayerNorm | RMSNorm, shape: Shape) -> tuple[Signal, Array]:
    """Return what a normalization over the last axis makes of a signal, and what it divides by.

    The latter is the variance, or of RMSNorm the mean square, that it divides squares by.
    """
    centre, size = x.mean, x.square
    if len(shape) == 1:
        centre, size = (np.full(x.mean.shape, a.mean()) for a in (centre, size))
    if isinstance(layer, RMSNorm):
        centre = np.zeros(centre.shape)
    size = size - centre**2 + layer.eps
    if not (size > 0.0).all():
        raise ValueError("a signal without variance has no norm where eps is 0")
    off = centre * (centre - 2.0 * x.mean)
    return (
        replace(
            x,
            mean=(x.mean - centre) / np.sqrt(size),
            square=(x.square + off) / size,
            product=(x.product + off) / size,
        ),
        size,
    )


def activated(x: Signal, phi: Kernel) -> tuple[Signal, Array]:
    """Return what an activation makes of a normal signal, and the mean square of its slope.

    Raises
    ------
    NotImplementedError
        The signal is not normal over the units: two activations have no weights between them.
    """
    if phi.identity:
        return x, np.ones(x.mean.shape)
    if not x.gaussian:
        raise NotImplementedError(
            "no theory of an activation of what is not normal over the units: weights, and sums of "
            "these, must come before it"
        )
    v, m = x.variance, x.mean
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(v > 0.0, np.clip((x.product - m**2) / v, -1.0, 1.0), 1.0)
    rho = np.where(np.abs(x.product - x.square) <= 1e-15 * x.square, 1.0, rho)
    first, place = _different(m, v, rho)
    m, v, rho = (a.ravel()[first] for a in (m, v, rho))
    square = phi.square(v, m)
    product = np.array(
        [
            s if r == 1.0 else r if math.isnan(r) else _product(phi, v_, r, m_)
            for m_, v_, r, s in zip(*(a.tolist() for a in (m, v, rho, square)), strict=True)
        ]
    )
    mean, square, slope, product = (
        np.asarray(a)[place].reshape(x.mean.shape)
        for a in (phi.mean(v, m), square, phi.slope_square(v, m), product)
    )
    return Signal(mean, square, product, False, x.roots), slope


@lru_cache(maxsize=4096)  # deep down, all layers are alike
def _product(phi: Kernel, v: float, c: float, m: float) -> float:
    return phi.product((v, v), c, (m, m))


def _different(*arrays: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return positions of those places that differ, beyond rounding, and for each which it is."""
    rows = np.stack([a.ravel() for a in arrays], axis=1)
    size = np.abs(rows).max(axis=0)
    rounded = np.round(rows / np.where(size > 0.0, size, 1.0), 13)
    _, first, place = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return first, place.ravel()
