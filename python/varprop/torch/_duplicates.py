"""Parameters whose numbers are those of another: a reused seed, or a copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop.torch._measure import real, step

HEAD = 16  # numbers of which torch's draws of other sizes have the same, from 32 on
FEWEST = 8  # numbers of a tensor that chance does not repeat
_CHUNK = 2**20


@dataclass(frozen=True)
class Candidate:
    """A parameter of random numbers.

    Attributes
    ----------
    numbers : ndarray
        Flat, in the order of memory; a bfloat16 as its 16 bits.
    centre : float
        Mean of its law: the same seed gives laws of one kind proportional numbers around it.
    """

    name: str
    numbers: NDArray[Any]
    dtype: str
    centre: float
    shape: tuple[int, ...]

    def part(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return some numbers in float64, around the centre."""
        return real(self.numbers[start:stop], self.dtype).astype(np.float64) - self.centre


@dataclass(frozen=True)
class Duplicate:
    """Two parameters of the same numbers: the later, the earlier, and the relation in words."""

    later: str
    earlier: str
    words: str


def duplicates(candidates: list[Candidate]) -> Iterator[Duplicate]:
    """Yield each parameter whose numbers an earlier one has, equal or up to a positive factor.

    All numbers, or all of the smaller one, as the same seed gives for another std or size. Found
    by the first numbers, of which those above their median are the same; then compared in full.
    """
    seen: dict[bytes, list[Candidate]] = {}
    for candidate in candidates:
        if len(candidate.numbers) < FEWEST:
            continue
        head = candidate.part(0, HEAD)
        pattern = head > np.median(head)
        if not pattern.any():
            continue
        alike = seen.setdefault(np.packbits(pattern).tobytes() + bytes([len(head)]), [])
        related = ((other, _relation(candidate, other)) for other in alike)
        earlier = next(((other, words) for other, words in related if words), None)
        if earlier is None:
            alike.append(candidate)
        else:
            yield Duplicate(candidate.name, earlier[0].name, earlier[1])


def _relation(later: Candidate, earlier: Candidate) -> str:
    factor = _factor(later.part(0, HEAD), earlier.part(0, HEAD))
    if not factor > 0.0:
        return ""
    sizes = len(later.numbers), len(earlier.numbers)
    both = min(sizes)
    shared = _shared(later, earlier, factor, both)
    # torch draws the last 16 normal numbers anew where 16 does not divide their count.
    if shared < both and not (shared >= HEAD and both - shared <= 16):
        return _corner(later, earlier, factor)
    equal = abs(factor - 1.0) <= 2.0 * max(step(later.dtype), step(earlier.dtype))
    times = "" if equal else f"{factor:.3g} times "
    if sizes[0] == sizes[1]:
        return f"equal to {earlier.name}" if equal else f"{times}{earlier.name}"
    if sizes[0] < sizes[1]:
        return f"{times}the first {shared} numbers of {earlier.name}"
    return f"its first {shared} numbers are {times}{earlier.name}"


def _factor(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    square = float(y @ y)
    return float(x @ y) / square if len(x) == len(y) and square > 0.0 else 0.0


def _shared(later: Candidate, earlier: Candidate, factor: float, both: int) -> int:
    """Return how many leading numbers are the same, up to the factor and rounding."""
    start, size = 0, HEAD
    while start < both:
        stop = min(start + size, both)
        x, y = later.part(start, stop), earlier.part(start, stop)
        if start == HEAD:  # many numbers tell the factor better
            factor = _factor(x, y) or factor
        different = ~_same(x, y, factor, later, earlier)
        if different.any():
            return start + int(different.argmax())
        start, size = stop, min(64 * size, _CHUNK)
    return both


def _same(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    factor: float,
    later: Candidate,
    earlier: Candidate,
) -> NDArray[np.bool_]:
    # Rounding is relative to the whole range: low + u (high - low), in torch.
    size = np.abs(x).max() + abs(later.centre) + factor * (np.abs(y).max() + abs(earlier.centre))
    rounding = 2.0 * max(step(later.dtype), step(earlier.dtype))
    near: NDArray[np.bool_] = np.abs(x - factor * y) <= rounding * size
    return near


def _corner(later: Candidate, earlier: Candidate, factor: float) -> str:
    """Compare leading corners of two matrices: what one name gives them in :func:`fill_`."""
    if not len(later.shape) == len(earlier.shape) == 2 or later.shape == earlier.shape:
        return ""
    rows, columns = (min(sizes) for sizes in zip(later.shape, earlier.shape, strict=True))
    if columns < HEAD:
        return ""
    x, y = (
        (real(c.numbers.reshape(c.shape)[:rows, :columns], c.dtype).astype(np.float64) - c.centre)
        for c in (later, earlier)
    )
    if not _same(x, y, factor, later, earlier).all():
        return ""
    times = "" if abs(factor - 1.0) < 1e-6 else f"{factor:.3g} times "
    return f"its corner ({rows}, {columns}) is {times}that of {earlier.name}"
