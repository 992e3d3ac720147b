"""How far a sweep is, from its store alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from varprop import _memory
from varprop._sweep import store as _store
from varprop._sweep.grid import Grid
from varprop._sweep.store import Record

_WIDTH = 80
_SHOWN = 5  # failed points, and texts of the grid


@dataclass(frozen=True)
class Status:
    """What is done of a sweep, and what it is of; printed, a report.

    Attributes
    ----------
    where : str
    record : dict
        What the sweep was asked for.
    points, done : int
        Of the whole grid, and of those the points whose numbers are kept.
    failed : list of (str, str)
        The points that have an error in place of numbers, and why.
    size : int or None
        Bytes on disk, None where the store is not on this machine's.
    written : float or None
        When the last point was kept, in seconds since the epoch.
    """

    where: str
    record: Record
    points: int
    done: int
    failed: list[tuple[str, str]]
    size: int | None
    written: float | None

    def __str__(self) -> str:
        record = self.record
        ways = "forward and backward" if record["backward"] else "forward"
        loss = f" (loss {record['loss']})" if record["loss"] else ""
        rows = record["inputs"]
        inputs = f"{rows} rows" if isinstance(rows, int) else f"inputs {rows}"
        trials = record["trials"]
        each = (
            f"{trials} trial{'s' * (trials > 1)} of {inputs}, {ways}{loss}, "
            f"seed {record['seed']}, {record['dtype']}, {record['method']}"
        )
        lines = [
            f"{self.where}: {self.done} of {self.points} points"
            + (f", {len(self.failed)} failed" if self.failed else ""),
            *_entries("grid", [_axis(name, labels) for name, labels in record["grid"].items()]),
            *_entries("each point", [each]),
            *_entries("quantities", [", ".join(record["quantities"])]),
        ]
        if self.size is not None:
            lines += _entries("on disk", [_memory.readable(self.size)])
        if self.written is not None:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.written))
            lines += _entries("last point", [f"{when}, {_ago(time.time() - self.written)} ago"])
        return "\n".join((*lines, *self.failures()))

    def failures(self) -> Iterator[str]:
        """Yield lines that say which points failed, and why: the first few."""
        if self.failed:
            yield f"{_points(len(self.failed))} failed:"
        for point, reason in self.failed[:_SHOWN]:
            yield fill(
                f"{point}: {' '.join(reason.split())}",
                _WIDTH,
                initial_indent="  ",
                subsequent_indent="    ",
            )
        if len(self.failed) > _SHOWN:
            yield f"  and {_points(len(self.failed) - _SHOWN)} more"


def status(where: Any) -> Status:
    """Return how far the sweep of a store is; nothing is written.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no sweep.
    """
    where = _store.place(where)
    kept = _store.open_store(where)
    _, depths, errors = kept.read()
    grid = Grid(kept.record["grid"])
    places = np.flatnonzero(errors.astype(bool)).tolist()
    size, written = _on_disk(where) if isinstance(where, Path) else (None, None)
    return Status(
        _store.named(where),
        kept.record,
        len(grid),
        int((depths > 0).sum()),
        [(grid.describe(place), str(errors.flat[place])) for place in places],
        size,
        written,
    )


def _on_disk(path: Path) -> tuple[int, float | None]:
    """Return the bytes of all files, and when the newest one of a point was written."""
    size, newest = 0, 0.0
    for folder, _, names in os.walk(path):
        points = Path(folder).name in ("values", "error")
        for name in names:
            try:
                found = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 (fast)
            except FileNotFoundError:  # a part of one that is whole by now
                continue
            size += found.st_size
            newest = max(newest, found.st_mtime) if points and name.startswith("c.") else newest
    return size, newest or None


def _axis(name: str, labels: list[Any]) -> str:
    count = f"{len(labels)} value{'s' * (len(labels) > 1)}"
    if isinstance(labels[0], str) or len(labels) <= 3:
        more = ", ..." if len(labels) > _SHOWN else ""
        return f"{name}: {count}, {', '.join(map(str, labels[:_SHOWN]))}{more}"
    return f"{name}: {count}, {min(labels):.6g} to {max(labels):.6g}"


def _entries(title: str, texts: list[str]) -> Iterator[str]:
    """Yield lines of a report: a title, and beside it texts, wrapped."""
    for i, text in enumerate(texts):
        start = f"  {f'{title}:' if not i else '':<13}"
        yield fill(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _points(count: int) -> str:
    return f"{count} point{'s' * (count > 1)}"


def _ago(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
