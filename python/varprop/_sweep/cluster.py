"""The workers of a Dask cluster, which do a sweep."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import secrets
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from varprop._extras import require
from varprop._sweep.work import Block, Done, Outcome, Report, Work

_AHEAD = 3  # blocks that wait for each of a worker's threads, so that none is idle ...
_MOST_AHEAD = 1000  # ... and how many at most, which a scheduler passes in some seconds
_PATIENCE = 10.0  # seconds until a cluster without workers is told of
_COUNTED = 2.0  # seconds until workers are counted again: a cluster may grow
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # Ctrl-C is for the client


class Cluster:
    """A block at a time for each thread of each worker.

    Parameters
    ----------
    client : distributed.Client
    work : Work
    threads : int
        Of each block, as far as the workers' own leave cores for.
    """

    def __init__(self, client: Any, work: Work, threads: int) -> None:
        from varprop._sweep import on_worker

        self._client, self._threads = client, threads
        self._room, self._shared = on_worker, on_worker.Shared(work)
        self._name = f"varprop-{secrets.token_hex(8)}"
        self._beside: dict[str, int] = {}
        self._counted = -_COUNTED

    @property
    def slots(self) -> int:
        """How many threads the workers have together."""
        return max(1, sum(self._hosts.values()))

    @property
    def _hosts(self) -> dict[str, int]:
        """Threads of the workers on each host, counted anew from time to time."""
        if time.monotonic() - self._counted > _COUNTED:
            found: Counter[str] = Counter()
            for address, threads in self._client.nthreads().items():
                found[address.rpartition(":")[0]] += threads
            self._beside, self._counted = dict(found), time.monotonic()
        return self._beside

    def do(self, blocks: Iterator[Block], report: Report) -> Done:  # noqa: ARG002
        """Yield each block; see :class:`Workers`.

        Dask blames all blocks that waited at a worker that died, more often than three times: these
        are done again, one at a time, and the one that is alone then is to blame.
        """
        distributed = require("distributed", "sweep")
        done = distributed.as_completed(
            loop=self._client.loop, with_results=True, raise_errors=False
        )  # by default the loop is that of the latest client
        pending: dict[Any, Block] = {}
        suspects: list[Block] = []
        try:
            self._client.register_plugin(self._shared, self._name)
            self._wait()
            while True:
                self._check()
                while len(pending) < self._wanted and (block := next(blocks, None)):
                    self._submit(block, done, pending)
                alone = not pending
                if alone and not suspects:
                    return
                if alone:
                    self._submit(suspects.pop(), done, pending)
                future, result = next(done)
                block, outcome = pending.pop(future), _received(result)
                if isinstance(outcome, distributed.KilledWorker) and not alone:
                    suspects.append(block)
                else:
                    yield block, outcome
        finally:
            if self._client.status == "running":
                self._client.cancel(list(pending))
                self._client.unregister_worker_plugin(self._name)

    def _submit(self, block: Block, done: Any, pending: dict[Any, Block]) -> None:
        beside = max(self._hosts.values(), default=1)
        name, threads = self._name, self._threads
        key = f"{name}-{block.position}-{block.first_trial}-{secrets.token_hex(4)}"
        future = self._client.submit(
            self._room.do, name, block, threads, beside, key=key, pure=False
        )
        pending[future] = block
        done.add(future)

    @property
    def _wanted(self) -> int:
        return self.slots + min(_AHEAD * self.slots, _MOST_AHEAD)

    def _wait(self) -> None:
        """Warn of a cluster that has no workers; it may have some later."""
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            warnings.warn("the cluster has no workers: the sweep waits for some", stacklevel=6)

    def _check(self) -> None:
        if self._client.status in ("closing", "closed"):
            raise ConnectionError("the cluster was closed before the sweep was done")


@contextmanager
def local(count: int) -> Iterator[Any]:
    """Yield the client of a cluster of so many processes of one thread each, on this machine.

    Raises
    ------
    RuntimeError
        The processes do not start: as those of a script without its guard.
    """
    distributed = require("distributed", "sweep")
    guard = 'a script must keep this call under if __name__ == "__main__":, since workers import it'
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # such an import
        sys.exit(guard)
    try:
        cluster = distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its port, whatever is free
            preload=[_DEAF],
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError:
        raise RuntimeError(f"workers did not start: {guard}") from None
    with cluster, distributed.Client(cluster) as client:
        yield client


def _received(result: Any) -> Outcome:
    """Return what a block gave; its future may be lost by then, with the worker that did it."""
    if isinstance(result, (asyncio.CancelledError, CancelledError)):
        raise ConnectionError("the cluster gave up the sweep: its tasks were cancelled")
    if isinstance(result, tuple):  # Dask's own error, of a task that no worker survived
        _, error, _ = result
        return error if isinstance(error, Exception) else RuntimeError(str(error))
    received: Outcome = result
    return received
