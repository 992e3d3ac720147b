"""How many threads there are to use."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from varprop import _core, _spec

GROUP = Path("/sys/fs/cgroup")


def thread_count(threads: int | None) -> int:
    """Return the number of threads to use, by default one for each core that is ours."""
    if threads is None:
        return available()
    return min(_spec.integer("threads", threads, least=1), 1024)


@lru_cache(maxsize=1)
def available() -> int:
    """Return the number of cores that this process may use: those it may run on, at most its quota.

    OMP_NUM_THREADS and a container's limit on CPU time count, as they were when first asked for.
    """
    return min([_core.available_threads(), *(max(1, math.ceil(share)) for share in _quotas())])


def _quotas() -> list[float]:
    """Return the share of CPU time, in cores, that the control group allows, if it has a limit."""
    found = []
    with suppress(OSError, ValueError):  # no such file, or no limit ("max")
        quota, period = (GROUP / "cpu.max").read_text().split()
        found.append(int(quota) / int(period))
    with suppress(OSError, ValueError):
        quota, period = (
            (GROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
        )
        if int(quota) > 0:
            found.append(int(quota) / int(period))
    return found
