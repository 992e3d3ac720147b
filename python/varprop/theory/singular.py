"""Singular values of products of wide Gaussian matrices: a deep linear network's Jacobian."""

from __future__ import annotations

import math

from varprop import _spec

__all__ = ["largest", "moment"]


def largest(depth: int, gain: float = 1.0) -> float:
    """Return the largest singular value of a product of square matrices of variance gain^2 / n.

    Its square is (L+1)^(L+1) / L^L at gain 1: of infinite width; of finite ones it is less, mostly
    (Penson and Zyczkowski 2011; Pennington, Schoenholz and Ganguli 2017).

    Examples
    --------
    >>> [round(largest(depth) ** 2, 5) for depth in (1, 2, 3)]
    [4.0, 6.75, 9.48148]
    """
    depth, gain = _checked(depth, gain)
    log_square = (depth + 1) * math.log1p(depth) - depth * math.log(depth)
    return math.pow(gain, depth) * math.exp(0.5 * log_square)


def moment(depth: int, power: float = 1.0, gain: float = 1.0) -> float:
    """Return the mean of s^power, s the singular values of a product of square matrices.

    The squares have the Fuss-Catalan law: E s^2m = binomial((L+1) m, m) / (L m + 1) at gain 1,
    for every real m > -1 / (L+1) (Penson and Zyczkowski 2011).

    Parameters
    ----------
    depth : int
        L, the number of matrices, n x n with variance gain^2 / n, n large.
    power : float
        More than -2 / (L+1).
    gain : float

    Examples
    --------
    >>> round(moment(1), 6), round(moment(1, gain=3**-0.5), 6)  # 8 / (3 pi)
    (0.848826, 0.49007)
    """
    depth, gain = _checked(depth, gain)
    m = 0.5 * _spec.real("power", power)
    if m * (depth + 1) <= -1.0:
        raise ValueError(f"power must be more than {-2 / (depth + 1):g}, got {power!r}")
    logarithm = (
        math.lgamma((depth + 1) * m + 1.0) - math.lgamma(m + 1.0) - math.lgamma(depth * m + 2.0)
    )
    return math.pow(gain, 2.0 * m * depth) * math.exp(logarithm)


def _checked(depth: int, gain: float) -> tuple[int, float]:
    return _spec.integer("depth", depth, least=1), _spec.real("gain", gain, least=0.0)
