"""Who does the work of a sweep; here, this process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

from varprop._sweep.work import Block, Done, Report, Work


class Workers(Protocol):
    """Those who do blocks, in any order."""

    @property
    def slots(self) -> int:
        """How many blocks are done at a time."""

    def do(self, blocks: Iterator[Block], report: Report) -> Done:
        """Yield each block with its values, or with the error that it raised.

        Meanwhile tell how much is done of a block that is not yet.
        """


class ThisProcess:
    """One block after the other, each on all threads."""

    slots = 1

    def __init__(self, work: Work, threads: int | None) -> None:
        self._work, self._threads = work, threads

    def do(self, blocks: Iterator[Block], report: Report) -> Done:
        """Yield each block; see :class:`Workers`."""
        for block in blocks:
            faults: list[Exception] = []
            progress = partial(_told, report, block, faults)
            done = self._work.do(block, threads=self._threads, progress=progress)
            if faults:  # of the user's progress, not of the point
                raise faults[0]
            yield block, done


def _told(report: Report, block: Block, faults: list[Exception], part: float) -> None:
    try:
        report(block, part)
    except Exception as error:  # whatever the user's function raises
        faults.append(error)
        raise
