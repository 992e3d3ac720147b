"""The numbers of one signal of one layer: moments, counts in bins, shares of slopes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from varprop import _catalogue, _core, _histogram, activations
from varprop._moments import Moments
from varprop._statistics import Observed
from varprop.activations import ActivationFunction
from varprop.torch import _door
from varprop.torch._profile.watch import Seen

_AT_ONCE = 1 << 18  # numbers, whose bits stay in the caches
_PARTS = 4  # leading bits of a fraction: 16 bins in each octave
_FRACTION = {4: 23, 8: 52}  # bits, of floats of so many bytes
_BIAS = {4: 127, 8: 1023}
_LAST = _histogram.BINS // 2  # bins on either side of the middle one


class Shares(NamedTuple):
    """What is flat: of the numbers those of a small slope, of no slope; of the units, all of it."""

    saturation: float = math.nan
    zero_slope: float = math.nan
    dead: float = math.nan


class Signal(Seen):
    """The numbers of a signal, which come tensor by tensor.

    Numbers are counted by their leading bits, sign, exponent and 4 of the fraction: these are the
    bins of :mod:`varprop._histogram` of any power of two, so that it is chosen afterwards.
    """

    def __init__(self, histogram: bool = True) -> None:
        super().__init__()
        self.shares = Shares()
        self._histogram = histogram
        self._counts: dict[int, NDArray[np.int64]] = {}  # by the size of a float

    def add(self, tensor: torch.Tensor) -> None:
        """Add a tensor's numbers, read where they are."""
        tensor = tensor.detach().cpu()
        _door.observe(tensor, self.moments)
        if self._histogram:
            flat = tensor.reshape(-1)
            for start in range(0, len(flat), _AT_ONCE):
                some = flat[start : start + _AT_ONCE]
                self._count(some if some.element_size() > 2 else some.float())

    def _count(self, tensor: torch.Tensor) -> None:
        numbers = np.ascontiguousarray(tensor.numpy())
        size = numbers.itemsize
        bits = numbers.view(f"u{size}") >> (_FRACTION[size] - _PARTS)
        kinds = 1 << (8 * size - _FRACTION[size] + _PARTS)
        counts = np.bincount(bits.astype(np.intp), minlength=kinds)
        self._counts[size] = self._counts.get(size, 0) + counts

    def take(self, tensor: torch.Tensor) -> None:
        """Have a tensor's numbers, and none of before."""
        self.moments, self._counts = Moments(), {}
        self.add(tensor)

    def with_shares(self, known: Shares) -> Signal:
        """Return the same numbers, told of as an activation's."""
        signal = Signal(self._histogram)
        signal.moments, signal._counts, signal.shares = self.moments, self._counts, known
        return signal

    @property
    def finite(self) -> bool:
        """Whether all numbers are; also where there are none."""
        return not self.moments.count or math.isfinite(self.moments.mean)

    @property
    def root(self) -> float:
        """Root of the mean square."""
        return math.hypot(self.moments.mean, self.moments.std)

    def bins(self, exponent: int) -> NDArray[np.int64]:
        """Return the counts in varprop's bins of the numbers over 2**exponent."""
        bins = np.zeros(_histogram.BINS, np.int64)
        if not self.finite:
            return bins
        for size, counts in self._counts.items():
            kinds = np.flatnonzero(counts)
            magnitude = kinds & (len(counts) // 2 - 1)
            lowest = (_BIAS[size] + _histogram.OCTAVES.start + exponent) * _histogram.PARTS
            steps = (magnitude - lowest + 1).clip(0, _LAST)
            sign = np.where(kinds < len(counts) // 2, 1, -1)
            np.add.at(bins, _LAST + sign * steps, counts[kinds])
        return bins


def shares(function: ActivationFunction, entering: torch.Tensor, threshold: float) -> Shares:
    """Return the shares of an activation's slopes; units are channels, or else the last axis."""
    dtype = torch.float64 if entering.dtype == torch.float64 else torch.float32
    slopes = np.array(entering.detach().to("cpu", dtype).numpy(), order="C")
    _core.activate(slopes, activations.NAMES.index(function.name), function.parameter, True)
    units = 1 if slopes.ndim > 3 else slopes.ndim - 1
    if np.isnan(slopes).any():  # of what is not a number nothing is known
        return Shares()
    zero = slopes == 0
    dead = zero.all(axis=tuple(axis for axis in range(slopes.ndim) if axis != units))
    return Shares(
        float(np.mean(np.abs(slopes) < threshold)), float(zero.mean()), float(dead.mean())
    )


def observed(signals: list[Signal], statistics: tuple[str, ...], activations: bool) -> Observed:
    """Return the statistics of one signal of all layers, arrays whose first axis is the layers'."""
    wanted = _catalogue.keys(statistics, "activations" if activations else "gradients")
    all_moments = [signal.moments for signal in signals]
    roots = np.array([signal.root for signal in signals], np.float64)
    exponent = np.where(np.isfinite(roots) & (roots > 0), np.frexp(roots)[1] - 1, 0)

    def scaled(numbers: list[float], power: int = 1) -> NDArray[np.float64]:
        with np.errstate(under="ignore"):
            values = np.ldexp(np.array(numbers, np.float64), -power * exponent)
        counted = np.array([m.count > 0 for m in all_moments], bool)
        return np.where(counted, values, np.nan)

    found = {
        "count": np.array([m.count for m in all_moments], np.int64),
        "mean": scaled([m.mean for m in all_moments]),
        "variance": scaled([m.var for m in all_moments], 2),
        "exponent": exponent.astype(np.int64),
        "minimum": scaled([m.min for m in all_moments]),
        "maximum": scaled([m.max for m in all_moments]),
        "m3": scaled([m._sets.m3[0] / max(1, m.count) for m in all_moments], 3),
        "m4": scaled([m._sets.m4[0] / max(1, m.count) for m in all_moments], 4),
    }
    found |= {
        key: np.array([getattr(s.shares, key) for s in signals], np.float64)
        for key in Shares._fields
    }
    if "histogram" in wanted:
        bins = [s.bins(int(e)) for s, e in zip(signals, exponent, strict=True)]
        found["histogram"] = np.array(bins, np.int64).reshape(len(bins), _histogram.BINS)
    return {key: found[key] for key in wanted}
