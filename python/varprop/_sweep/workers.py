"""Who does the work of a sweep: this process, or the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from varprop._extras import require
from varprop._sweep.grid import Grid
from varprop._sweep.quantities import Columns
from varprop._sweep.task import Task

_AHEAD = 3  # blocks that wait for each of a worker's threads, so that none is idle ...
_MOST_AHEAD = 1000  # ... and how many at most, which a scheduler passes in a second
_COUNTED = 2.0  # seconds until workers are counted again: a cluster may grow


class Block(NamedTuple):
    """Some trials of a point."""

    position: int
    first_trial: int
    trials: int


_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # Ctrl-C is for the client

Outcome = Columns | Exception
Done = Iterator[tuple[Block, Outcome]]
Report = Callable[[Block, float], object]


class Workers(Protocol):
    """Those who do blocks, in any order."""

    @property
    def slots(self) -> int:
        """How many blocks are done at a time."""

    def do(self, task: Task, grid: Grid, blocks: Iterator[Block], report: Report) -> Done:
        """Yield each block with its values, or with the error that it raised.

        Meanwhile tell how much is done of a block that is not yet.
        """


class ThisProcess:
    """One block after the other, each on all threads."""

    slots = 1

    def __init__(self, threads: int | None) -> None:
        self._threads = threads

    def do(self, task: Task, grid: Grid, blocks: Iterator[Block], report: Report) -> Done:
        """Yield each block; see :class:`Workers`."""
        for block in blocks:
            progress = partial(report, block)
            yield block, outcome(task, grid, block, threads=self._threads, progress=progress)


class Cluster:
    """A block at a time for each thread of each worker.

    Parameters
    ----------
    client : distributed.Client
    threads : int
        Of each block; on a worker whose own threads fill its cores one, whatever is asked for.
    """

    def __init__(self, client: Any, threads: int) -> None:
        self._client, self._threads = client, threads
        self._slots, self._counted = 1, -_COUNTED

    @property
    def slots(self) -> int:
        """How many threads the workers have together."""
        if time.monotonic() - self._counted > _COUNTED:
            self._slots = max(1, sum(self._client.nthreads().values()))
            self._counted = time.monotonic()
        return self._slots

    @property
    def _wanted(self) -> int:
        return self.slots + min(_AHEAD * self.slots, _MOST_AHEAD)

    def do(self, task: Task, grid: Grid, blocks: Iterator[Block], report: Report) -> Done:  # noqa: ARG002
        """Yield each block; see :class:`Workers`."""
        done = require("distributed", "sweep").as_completed(with_results=True, raise_errors=False)
        from varprop._sweep import on_worker

        name = f"varprop-{secrets.token_hex(8)}"
        pending: dict[Any, Block] = {}
        self._client.register_plugin(on_worker.Shared(task, grid), name)
        try:
            while True:
                self._check()
                while len(pending) < self._wanted and (block := next(blocks, None)):
                    key = f"{name}-{block.position}-{block.first_trial}"
                    future = self._client.submit(
                        on_worker.do, name, block, self._threads, key=key, pure=False
                    )
                    pending[future] = block
                    done.add(future)
                if not pending:
                    return
                future, result = next(done)
                yield pending.pop(future), _received(result)
        finally:
            if self._client.status == "running":
                self._client.cancel(list(pending))
                self._client.unregister_worker_plugin(name)

    def _check(self) -> None:
        if self._client.status in ("closing", "closed"):
            raise ConnectionError("the cluster was closed before the sweep was done")


@contextmanager
def local(count: int) -> Iterator[Any]:
    """Yield the client of a cluster of so many processes of one thread each, on this machine."""
    distributed = require("distributed", "sweep")
    with (
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its port, whatever is free
            preload=[_DEAF],
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def outcome(task: Task, grid: Grid, block: Block, **how: Any) -> Outcome:
    """Return a block's values, or the error that it raised."""
    try:
        return task.run(grid.point(block.position), block.first_trial, block.trials, **how)
    except Exception as error:  # whatever the user's function raises
        return error


def _received(result: Any) -> Outcome:
    """Return what a block gave; its future may be lost by then, with the worker that did it."""
    if isinstance(result, (asyncio.CancelledError, CancelledError)):
        raise ConnectionError("the cluster gave up the sweep: its tasks were cancelled")
    if isinstance(result, tuple):  # Dask's own error, of a task that no worker survived
        _, error, _ = result
        return error if isinstance(error, Exception) else RuntimeError(str(error))
    received: Outcome = result
    return received
