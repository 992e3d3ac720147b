"""Parameters whose numbers are those of another: a reused seed, or a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop.torch._audit.measure import real, step

Array = NDArray[np.float64]

HEAD = 16  # numbers of which torch's draws of other sizes have the same, from 32 on
FEWEST = 8  # numbers of a tensor that chance does not repeat
_CHUNK = 2**20
_STRAYS = 0.01  # share that differs all the same: torch's uniform 16 bits at the upper bound wrap


@dataclass(frozen=True)
class Candidate:
    """A parameter of random numbers.

    Attributes
    ----------
    count : int
    load : callable
        Returns the numbers, flat in the order of memory; those of a bfloat16 as its 16 bits.
    head : ndarray
        The first of them, in float64, around the centre.
    centre : float
        Mean of its law: the same seed gives laws of one kind proportional numbers around it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    load: Callable[[], NDArray[Any]]
    head: Array
    centre: float

    @classmethod
    def of(
        cls,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        load: Callable[[], NDArray[Any]],
        centre: float,
    ) -> Candidate:
        """Make one of its numbers, of which only the first are kept."""
        numbers = load()
        head = real(numbers[:HEAD], dtype).astype(np.float64) - centre
        return cls(name, shape, dtype, len(numbers), load, head, centre)

    def real(self, numbers: NDArray[Any]) -> Array:
        """Return some of its numbers in float64, around the centre."""
        return real(numbers, self.dtype).astype(np.float64) - self.centre


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
        if candidate.count < FEWEST:
            continue
        pattern = candidate.head > np.median(candidate.head)
        if not pattern.any():
            continue
        alike = seen.setdefault(np.packbits(pattern).tobytes(), [])
        related = ((other, _relation(candidate, other)) for other in alike)
        earlier = next(((other, words) for other, words in related if words), None)
        if earlier is None:
            alike.append(candidate)
        else:
            yield Duplicate(candidate.name, earlier[0].name, earlier[1])


def _relation(later: Candidate, earlier: Candidate) -> str:
    """Return in words what the later one is of the earlier; "" where they are strangers."""
    x, y = later.head, earlier.head
    if len(x) != len(y):
        return ""
    factor = _factor(x, y)
    if not factor > 0.0 or not _same(x, y, factor, later, earlier).all():
        return ""
    a, b = later.load(), earlier.load()
    both = min(later.count, earlier.count)
    shared = _shared(a, b, both, later, earlier)
    # torch draws the last 16 normal numbers anew where 16 does not divide their count.
    if shared < both - HEAD:
        return _corner(a, b, factor, later, earlier)
    equal = abs(factor - 1.0) <= 2.0 * max(step(later.dtype), step(earlier.dtype))
    times = "" if equal else f"{factor:.3g} times "
    if later.count == earlier.count:
        return f"equal to {earlier.name}" if equal else f"{times}{earlier.name}"
    if later.count < earlier.count:
        return f"{times}the first {shared} numbers of {earlier.name}"
    return f"its first {shared} numbers are {times}{earlier.name}"


def _factor(x: Array, y: Array) -> float:
    square = float(y @ y)
    return float(x @ y) / square if square > 0.0 else 0.0


def _shared(
    a: NDArray[Any], b: NDArray[Any], both: int, later: Candidate, earlier: Candidate
) -> int:
    """Return how many leading numbers are the same, up to a factor and rounding."""
    start, size, factor = HEAD, 64 * HEAD, 0.0
    while start < both:
        stop = min(start + size, both)
        x, y = later.real(a[start:stop]), earlier.real(b[start:stop])
        factor = factor or _factor(later.real(a[:stop]), earlier.real(b[:stop]))
        different = ~_same(x, y, factor, later, earlier)
        if different.mean() > _STRAYS:
            return start + int(different.argmax())
        start, size = stop, min(64 * size, _CHUNK)
    return both


def _same(
    x: Array, y: Array, factor: float, later: Candidate, earlier: Candidate
) -> NDArray[np.bool_]:
    # Rounding is relative to the whole range: low + u (high - low), in torch.
    size = np.abs(x).max() + abs(later.centre) + factor * (np.abs(y).max() + abs(earlier.centre))
    rounding = 2.0 * max(step(later.dtype), step(earlier.dtype))
    near: NDArray[np.bool_] = np.abs(x - factor * y) <= rounding * size
    return near


def _corner(
    a: NDArray[Any], b: NDArray[Any], factor: float, later: Candidate, earlier: Candidate
) -> str:
    """Compare leading corners of two matrices: what one name gives them in :func:`fill_`."""
    if not len(later.shape) == len(earlier.shape) == 2 or later.shape == earlier.shape:
        return ""
    rows, columns = (min(sizes) for sizes in zip(later.shape, earlier.shape, strict=True))
    x = later.real(a.reshape(later.shape)[:rows, :columns])
    y = earlier.real(b.reshape(earlier.shape)[:rows, :columns])
    if columns < HEAD or not _same(x, y, factor, later, earlier).all():
        return ""
    times = "" if abs(factor - 1.0) < 1e-6 else f"{factor:.3g} times "
    return f"its corner ({rows}, {columns}) is {times}that of {earlier.name}"
