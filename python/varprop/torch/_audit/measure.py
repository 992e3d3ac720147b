"""What a parameter's numbers are: moments of all, and a sorted sample, read where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from varprop._moments import Moments
from varprop.torch import _door

Array = NDArray[np.float64]

SAMPLE = 2**17
"""Numbers of a tensor that Kolmogorov-Smirnov looks at, at most, evenly taken."""

# Of a dtype the relative distance of neighbours, and that next to 0.
_STEPS = {
    "float64": (2.0**-52, 2.0**-1074),
    "float32": (2.0**-23, 2.0**-149),
    "float16": (2.0**-10, 2.0**-24),
    "bfloat16": (2.0**-7, 2.0**-133),
}


@dataclass(frozen=True)
class Measured:
    """Moments and extremes of all numbers, and some of them in order.

    Attributes
    ----------
    nan, infinite : int
        How many are; moments, extremes and sample are of no use then.
    sample : ndarray
        Float64, sorted.
    step, least : float
        Distance of neighbours in the dtype: relative, and next to 0.
    """

    count: int
    mean: float
    std: float
    low: float
    high: float
    nan: int
    infinite: int
    sample: Array
    step: float
    least: float


def flat(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor's numbers in the order of memory; copied from another device."""
    array = _door.numbers(tensor.detach().cpu())
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return np.reshape(array.transpose(order), -1)


def measure(parts: list[NDArray[Any]], dtype: str) -> Measured:
    """Measure the numbers of flat arrays together."""
    moments = Moments()
    for part in parts:
        moments._add(part, dtype)
    count = int(moments.count)
    mean = std = low = high = math.nan
    if count:
        mean, std = float(moments.mean), float(moments.std)  # NaN where a number is
        low, high = float(moments.min), float(moments.max)
    nan = infinite = 0
    if count and not math.isfinite(mean):
        nan = sum(int(np.isnan(real(part, dtype)).sum()) for part in parts)
        infinite = sum(int(np.isinf(real(part, dtype)).sum()) for part in parts)
    every = -(-count // SAMPLE) or 1
    while math.gcd(every, count) > 1:  # so as not to keep to some columns of a matrix
        every += 1
    taken = [real(part[::every], dtype).astype(np.float64) for part in parts]
    sample = np.sort(np.concatenate(taken)) if taken else np.empty(0)
    steps = _STEPS[_held(sample, dtype)]
    return Measured(count, mean, std, low, high, nan, infinite, sample, *steps)


def _held(sample: Array, dtype: str) -> str:
    """Return the dtype that numbers have been rounded to: models of 16 bits are cast, too."""
    if dtype not in ("float32", "float64") or not sample.any():
        return dtype
    with np.errstate(over="ignore"):
        single = sample.astype(np.float32)
        if not np.array_equal(single, sample):
            return dtype
        if not (single.view(np.uint32) & np.uint32(0xFFFF)).any():
            return "bfloat16"
        return "float16" if np.array_equal(sample.astype(np.float16), sample) else "float32"


def real(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return numbers as NumPy knows them: 16 bits of a bfloat16 as float32."""
    if dtype != "bfloat16":
        return array
    wide: NDArray[np.uint32] = array.astype(np.uint32) << np.uint32(16)
    return wide.view(np.float32)


def step(dtype: str) -> float:
    """Return the relative distance of neighbours in a dtype."""
    return _STEPS[dtype][0]
