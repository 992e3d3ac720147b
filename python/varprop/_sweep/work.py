"""The blocks of trials that a sweep comes down to, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop._sweep.grid import Grid
from varprop._sweep.quantities import Columns
from varprop._sweep.task import Task


class Block(NamedTuple):
    """Some trials of a point."""

    position: int
    first_trial: int
    trials: int


Outcome = Columns | Exception
Done = Iterator[tuple[Block, Outcome]]
Report = Callable[[Block, float], object]


class Work(NamedTuple):
    """What all blocks of a sweep have in common."""

    task: Task
    grid: Grid
    networks: NDArray[np.uint8]
    """Digests, shape (points, bytes)."""

    def do(self, block: Block, **how: Any) -> Outcome:
        """Return a block's values, or the error that it raised."""
        position, *trials = block
        try:
            network = self.networks[position].tobytes()
            return self.task.run(self.grid.point(position), *trials, network=network, **how)
        except Exception as error:  # whatever the user's function raises
            return error
