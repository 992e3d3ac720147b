"""Mean and variance of what a law draws for a tensor."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from varprop._draw import Draw, truncated_moments
from varprop.initializers import DeltaOrthogonal, Given, Law, Orthogonal, Scaled, Sparse


def moments(law: Law, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return mean and variance of the numbers of a tensor.

    Those of orthogonal matrices are dependent; wide ones act on a signal as normals of the same
    variance do (Saxe et al. 2014; Pennington et al. 2017).

    Parameters
    ----------
    law : Law
    shape : tuple of int

    Raises
    ------
    NotImplementedError
        The numbers are neither drawn nor known.

    Examples
    --------
    >>> moments(Orthogonal(2.0), (100, 400))
    (0.0, 0.01)
    """
    draw = law.compile(shape)
    if draw is not None:
        return _drawn(draw)
    match law:
        case Scaled():
            mean, variance = moments(law.of, shape)
            return law.factor * mean, law.factor**2 * variance
        case Orthogonal():  # rows or columns of length gain, whichever are fewer
            return 0.0, law.gain**2 / max(math.prod(shape[:-1]), shape[-1])
        case Sparse():
            zeros = math.ceil(law.sparsity * shape[1]) / shape[1]
            return 0.0, law.std**2 * (1.0 - zeros)
        case Given():
            array = law.array.astype(np.float64)
            return float(array.mean()), float(array.var())
    raise NotImplementedError(f"no theory of {law}: its numbers are no random draws")


def _drawn(draw: Draw) -> tuple[float, float]:
    if draw.distribution == "uniform":
        return 0.5 * (draw.low + draw.high), (draw.high - draw.low) ** 2 / 12.0
    if draw.distribution == "truncated_normal":
        mean, variance = truncated_moments(draw.low, draw.high)
        return draw.mean + draw.std * mean, draw.std**2 * variance
    return draw.mean, draw.std**2


def variances(law: Law, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the variance of weights, shape (1, 1), of a convolution one for each of its taps.

    Raises
    ------
    NotImplementedError
        The weights are given or not random, or their mean is not 0: with the width of the layer a
        mean grows beyond all bounds.
    """
    factor, plain = (law.factor, law.of) if isinstance(law, Scaled) else (1.0, law)
    taps = np.ones(shape[:2] if len(shape) == 4 else (1, 1))
    if isinstance(plain, DeltaOrthogonal):
        centre = tuple((size - 1) // 2 for size in taps.shape)
        taps = np.zeros(taps.shape)
        taps[centre] = (factor * plain.gain) ** 2 / max(shape[-2:])
        return taps
    if isinstance(plain, Given):
        raise NotImplementedError("no theory of given weights: a law must draw them")
    mean, variance = moments(law, shape)
    if abs(mean) > 1e-12 * math.sqrt(variance):
        raise NotImplementedError(f"no theory of weights whose mean is not 0, got {law}")
    return variance * taps


def excess_kurtosis(law: Law) -> float | None:
    """Return the excess kurtosis of the independent, symmetric numbers of a law of mean 0.

    None where they are dependent or not symmetric.

    Examples
    --------
    >>> from varprop.initializers import resolve
    >>> round(excess_kurtosis(resolve("uniform(-2, 2)")), 9), excess_kurtosis(Orthogonal())
    (-1.2, None)
    """
    found = cumulants(law)
    return None if found is None else found[0]


def cumulants(law: Law) -> tuple[float, float] | None:
    """Return fourth and sixth cumulant, variance 1, where there is an :func:`excess_kurtosis`."""
    if isinstance(law, Scaled):
        return cumulants(law.of)
    draw = law.compile((1, 1)) if law.iid else None
    if draw is None or abs(_drawn(draw)[0]) > 1e-12 * draw.rms:
        return None
    if draw.distribution == "truncated_normal":
        return _cut(draw.low, draw.high)
    return (-1.2, 48.0 / 7.0) if draw.distribution == "uniform" else (0.0, 0.0)


@lru_cache
def _cut(low: float, high: float) -> tuple[float, float]:
    """Return the cumulants of a normal that is cut."""
    z = np.linspace(low, high, 4001)
    density = np.exp(-0.5 * z * z)
    second, fourth, sixth = (density @ z**power / density.sum() for power in (2, 4, 6))
    fourth, sixth = fourth / second**2, sixth / second**3
    return float(fourth - 3.0), float(sixth - 15.0 * fourth + 30.0)
