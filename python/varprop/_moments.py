"""An accumulator of moments for anybody's arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _core, _spec

__all__ = ["Moments"]

_DTYPES = ("float16", "bfloat16", "float32", "float64")


class Moments:
    """Count, mean, variance, kurtosis and extremes of numbers that come array by array.

    Parameters
    ----------
    axis : int, tuple of int or None
        Axes to take the moments over; None takes them over all. The axes that remain must have
        the same sizes in every update.

    Notes
    -----
    In float64, chunk by chunk around a pivot; chunks merge as in Chan, Golub, LeVeque (1979) and
    Pebay (2008), and :meth:`merge` does the same with whole accumulators.

    Examples
    --------
    >>> import numpy as np
    >>> m = Moments(axis=0)
    >>> m.update(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> m.mean, m.var
    (array([ 2., 20.]), array([  1., 100.]))
    """

    def __init__(self, axis: int | tuple[int, ...] | None = None) -> None:
        axes = (axis,) if isinstance(axis, int) else axis
        if axes is not None:
            axes = tuple(_spec.integer("axis", a, least=-64) for a in axes)
        self.axis = axes
        self._shape: tuple[int, ...] | None = () if axes is None else None
        self._sets = _core.Accumulators(1 if axes is None else 0)

    def update(self, array: ArrayLike) -> None:
        """Add the numbers of an array of any shape and strides, read where they are.

        Raises
        ------
        TypeError
            Numbers that are not real.
        ValueError
            Sizes of the remaining axes that differ from the first update's.
        """
        values = _real(array)
        name = values.dtype.name
        self._add(values.view(np.uint16) if name == "bfloat16" else values, name)

    def _add(self, values: NDArray[Any], dtype: str) -> None:
        """Add numbers of a dtype, those of bfloat16 as their 16 bits."""
        reduced = self._reduced(values.ndim)
        remaining = [axis for axis in range(values.ndim) if axis not in reduced]
        shape = tuple(values.shape[axis] for axis in remaining)
        if self._shape is None:
            self._shape, self._sets = shape, _core.Accumulators(math.prod(shape))
        elif self._shape != shape:
            raise ValueError(f"array must keep axes of shape {self._shape}, got {shape}")
        # Long strides first, so that neighbours in memory are read one after the other.
        order = sorted(reduced, key=lambda axis: -abs(values.strides[axis]))
        self._sets.update(values.transpose(*remaining, *order), len(remaining), dtype)

    def merge(self, other: Moments) -> None:
        """Add the numbers that another accumulator has seen.

        Raises
        ------
        ValueError
            Accumulators over different axes, or of different shapes.
        """
        if not isinstance(other, Moments):
            raise TypeError(f"other must be Moments, got {type(other).__name__}")
        if other._shape is None:
            return
        if self._shape is None:
            self._shape, self._sets = other._shape, _core.Accumulators(len(other._sets))
        if self._shape != other._shape:
            raise ValueError(f"other must have shape {self._shape}, got {other._shape}")
        self._sets.merge(other._sets)

    @property
    def count(self) -> Any:
        """How many numbers there were."""
        return self._shaped(self._sets.count.astype(np.int64))

    @property
    def mean(self) -> Any:
        """Mean; NaN without numbers."""
        return self._shaped(np.where(self._sets.count > 0, self._sets.mean, np.nan))

    @property
    def var(self) -> Any:
        """Population variance (ddof 0)."""
        with np.errstate(invalid="ignore"):
            return self._shaped(self._sets.m2 / self._sets.count)

    @property
    def std(self) -> Any:
        """Standard deviation, the root of the population variance."""
        return np.sqrt(self.var)

    @property
    def kurtosis(self) -> Any:
        """Fourth central moment over the squared variance: 3 for a normal."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._shaped(self._sets.count * self._sets.m4 / np.square(self._sets.m2))

    @property
    def min(self) -> Any:
        """Smallest number; infinity without numbers."""
        return self._shaped(self._sets.minimum)

    @property
    def max(self) -> Any:
        """Largest number; minus infinity without numbers."""
        return self._shaped(self._sets.maximum)

    def __repr__(self) -> str:
        if self._shape == ():
            return f"<Moments: {self.count} numbers, mean {self.mean:.6g}, std {self.std:.6g}>"
        return f"<Moments over axis {self.axis}: shape {self._shape}>"

    def _reduced(self, ndim: int) -> tuple[int, ...]:
        if self.axis is None:
            return tuple(range(ndim))
        for axis in self.axis:
            if not -ndim <= axis < ndim:
                raise ValueError(f"axis must fit an array of {ndim} dimensions, got {axis}")
        return tuple({axis % ndim for axis in self.axis})

    def _shaped(self, values: NDArray[Any]) -> Any:
        shaped = values.reshape(self._shape or ())
        return shaped[()] if self._shape == () else shaped


def _real(array: ArrayLike) -> NDArray[Any]:
    values = np.asarray(array)
    if values.dtype.name in _DTYPES and values.dtype.isnative:
        return values
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    raise TypeError(f"array must hold real numbers, got dtype {values.dtype}")
