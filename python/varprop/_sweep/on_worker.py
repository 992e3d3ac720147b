"""What a worker of a Dask cluster has of a sweep, and does."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
from dask.system import CPU_COUNT
from distributed import WorkerPlugin, get_worker

from varprop._sweep.work import Block, Outcome, Work

_SHARE = 0.7  # of a worker's memory that is for simulations


class Shared(WorkerPlugin):
    """What all blocks have in common: each worker gets it when it joins, and keeps it.

    It is opened by the first block, whose error it is where the worker lacks the user's module.
    """

    def __init__(self, work: Work) -> None:
        self._closed = cloudpickle.dumps(work)
        self._open: Work | None = None

    def open(self) -> Work:
        """Return what it is."""
        if self._open is None:
            self._open = pickle.loads(self._closed)
        return self._open


def do(name: str, block: Block, threads: int, beside: int) -> Outcome:
    """Return a block's values, or the error that it raised.

    On as many threads as the cores have room for `beside` other blocks on the host, and within the
    block's share of the worker's memory.
    """
    worker = get_worker()
    shared: Any = worker.plugins[name]
    try:
        work = shared.open()
    except Exception as error:  # whatever the import of the user's module raises
        return _portable(error)
    limit = worker.memory_manager.memory_limit
    found = work.do(
        block,
        threads=max(1, min(threads, CPU_COUNT // beside)),
        memory=int(_SHARE * limit / worker.state.nthreads) if limit else None,
    )
    return _portable(found) if isinstance(found, Exception) else found


def _portable(error: Exception) -> Exception:
    """Return an error as it can travel; of one that cannot, what it says."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its own reduction raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
