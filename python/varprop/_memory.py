"""How much memory there is, asked before a large allocation."""

from __future__ import annotations

import os
from pathlib import Path

# Below this an allocation is not worth asking about.
SMALL = 1 << 26


def available() -> int | None:
    """Return the bytes this process may still take, None where the system does not tell."""
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
    except OSError:
        try:
            limits.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (OSError, ValueError, AttributeError):
            pass
    group = Path("/sys/fs/cgroup")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limits.append(int((group / most).read_text()) - int((group / used).read_text()))
        except (OSError, ValueError):  # no such group, or no limit ("max")
            pass
    return min(limits, default=None)


def require(size: int, what: str) -> None:
    """Raise MemoryError with the estimate where `size` bytes would not fit."""
    if size < SMALL:
        return
    limit = available()
    if limit is not None and size > limit:
        raise MemoryError(f"{what} needs about {readable(size)}, {readable(limit)} are available")


def readable(size: int) -> str:
    """Write a number of bytes for people: ``'1.5 GB'``."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if value < 1000 or unit == "PB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
