"""How much memory there is, asked before a large allocation."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from varprop import _spec

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
        with suppress(OSError, ValueError, AttributeError):
            limits.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    group = Path("/sys/fs/cgroup")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such group, or no limit ("max")
            limits.append(int((group / most).read_text()) - int((group / used).read_text()))
    return min(limits, default=None)


def require(size: int, what: str) -> None:
    """Raise MemoryError with the estimate where `size` bytes would not fit."""
    if size < SMALL:
        return
    limit = available()
    if limit is not None and size > limit:
        raise MemoryError(f"{what} needs about {readable(size)}, {readable(limit)} are available")


def size(argument: str, value: object) -> int:
    """Return a number of bytes, given as one or as a text such as ``"500MB"`` or ``"2 GiB"``."""
    if not isinstance(value, str):
        return _spec.integer(argument, value, least=1)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgtp]?)(i?)b?\s*", value, re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{argument} must be bytes, or a text such as '500MB', got {value!r}")
    power = " KMGTP".index(match[2].upper() or " ")
    found = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if found < 1:
        raise ValueError(f"{argument} must be at least 1 byte, got {value!r}")
    return found


def readable(size: int) -> str:
    """Write a number of bytes for people: ``'1.5 GB'``."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if value < 1000 or unit == "PB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
