"""Tables for people: 80 columns wide, a name each row, columns in groups."""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from varprop._spec import integer

WIDTH = 80
ENDS = 10  # rows shown at each end of a long table
DOTS = "..."
READABLE = 9  # characters that a name has to keep: dense9999


class Column(NamedTuple):
    """A column of the table; neighbours of one group have a common heading."""

    group: str
    title: str
    cells: list[str]


def lines(names: Column, columns: list[Column]) -> list[str]:
    """Return the lines of a table, of which the first two are headings."""
    cells = ["", names.title, *shortened(names.cells, max(room(columns), len(names.title)))]
    widest = max(map(len, cells))
    rows = zip((cell.ljust(widest) for cell in cells), *_blocks(columns), strict=True)
    return ["   ".join(row).rstrip() for row in rows]


def room(columns: list[Column]) -> int:
    """Return the characters that columns leave for the names."""
    return WIDTH - sum(3 + len(block[0]) for block in _blocks(columns))


def _blocks(columns: list[Column]) -> list[list[str]]:
    return [_block(group, list(same)) for group, same in groupby(columns, lambda c: c.group)]


def _block(group: str, columns: list[Column]) -> list[str]:
    """Return the lines of neighbouring columns under the heading of their group."""
    widths = [max(map(len, (column.title, *column.cells))) for column in columns]
    rows = zip(*((column.title, *column.cells) for column in columns), strict=True)
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    widest = max(len(group), len(lines[0]))
    return [group.center(widest), *(line.rjust(widest) for line in lines)]


def shortened(names: list[str], room: int) -> list[str]:
    """Cut long names, so that they stay different.

    Of nested ones the words within, ``resid1.conv1``, but not their numbers; of others the start,
    where no numbers are, or else the middle.
    """
    if any("." in name for name in names):
        for letters in range(room, 0, -1):
            short = [name if len(name) <= room else _abridged(name, letters) for name in names]
            if max(map(len, short)) <= room and len(set(short)) == len(set(names)):
                return short
    kept = room - 2
    for start in (0, kept // 2):
        short = [
            name if len(name) <= room else f"{name[:start]}..{name[start - kept :]}"
            for name in names
        ]
        if len(set(short)) == len(set(names)):
            break
    return short


def _abridged(name: str, letters: int) -> str:
    """Keep so many letters of each word."""
    return re.sub(rf"([^\W\d]{{{letters}}})[^\W\d]+", r"\1", name)


def shown(layers: int, every: int | None) -> list[int | None]:
    """Return the positions to show, None where layers are left out."""
    if every is not None:
        step = integer("every", every, least=1)
        return [*range(step - 1, layers - 1, step), layers - 1]
    if layers <= 2 * ENDS + 1:
        return list(range(layers))
    return [*range(ENDS), None, *range(layers - ENDS, layers)]
