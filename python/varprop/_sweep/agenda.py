"""In which order the points of a sweep are done, in which blocks of trials, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import ceil

from varprop._sweep import quantities
from varprop._sweep.quantities import Columns
from varprop._sweep.work import Block

_LEAST = 0.5  # seconds on one core below which trials stay together
_PASSED = 5e-3  # seconds that client and scheduler take for a block, measured
_ROUNDS = 4  # blocks that are left for each worker when a point is split


class Agenda:
    """Heavy points first, so that none is left alone at the end, and split if they are too heavy.

    Parameters
    ----------
    seconds : mapping of int to float
        About how long a trial of each point takes.
    trials : int
        Of each point.
    slots : callable
        How many blocks are done at a time.
    """

    def __init__(self, seconds: Mapping[int, float], trials: int, slots: Callable[[], int]) -> None:
        self._work = {position: each * trials for position, each in seconds.items()}
        self._trials, self._slots = trials, slots
        self._total = self._left = sum(self._work.values())
        self._ended = 0.0
        self._parts: dict[int, list[tuple[Block, Columns]]] = {}
        self._failed: set[int] = set()

    def blocks(self) -> Iterator[Block]:
        """Yield what is to do, each block when it is asked for."""
        for position in sorted(self._work, key=lambda position: (-self._work[position], position)):
            for first, end in pairwise(self._ends(position)):
                if position in self._failed:
                    break
                yield Block(position, first, end - first)
            self._left -= self._work[position]

    def _ends(self, position: int) -> list[int]:
        """Return where a point's blocks begin and end, at groups of trials: they change no bit."""
        slots, group = self._slots(), quantities.group(self._trials)
        if slots == 1:
            return [0, self._trials]
        share = max(_LEAST, _PASSED * slots, self._left / (_ROUNDS * slots))
        groups = ceil(self._trials / group)
        count = min(groups, ceil(self._work[position] / share))
        return [min(self._trials, group * (groups * i // count)) for i in range(count + 1)]

    def fraction(self, block: Block | None = None, part: float = 0.0) -> float:
        """Return how much is done, and a part of a block too."""
        more = part * self._cost(block) if block is not None else 0.0
        return min(1.0, (self._ended + more) / self._total) if self._total else 1.0

    def take(self, block: Block, values: Columns) -> Columns | None:
        """Take a block that is done; return the whole point with its last one."""
        self._ended += self._cost(block)
        if block.position in self._failed:
            return None
        parts = self._parts.setdefault(block.position, [])
        parts.append((block, values))
        if sum(one.trials for one, _ in parts) < self._trials:
            return None
        del self._parts[block.position]
        in_order = sorted(parts, key=lambda part: part[0].first_trial)
        return quantities.joined(columns for _, columns in in_order)

    def drop(self, block: Block) -> bool:
        """Give up a point whose block failed; return whether it is the first of its blocks."""
        self._ended += self._cost(block)
        known = block.position in self._failed
        self._failed.add(block.position)
        self._parts.pop(block.position, None)
        return not known

    def _cost(self, block: Block) -> float:
        return self._work[block.position] * block.trials / self._trials
