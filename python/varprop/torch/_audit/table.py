"""An audit for people: its table, the failures first, and a line that sums it up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

from varprop import _table
from varprop._extras import require
from varprop._laws import Law
from varprop._table import DOTS, WIDTH, Column, shown

if TYPE_CHECKING:
    from pandas import DataFrame

    from varprop.torch._audit.audit import Audit, Entry

_LAW = 16  # characters of a law
_SAID = 20  # failures that are said in words


def text(audit: Audit) -> str:
    """Return the table, what is wrong in words, and the summary."""
    if not audit.entries:
        return summary(audit)
    for spared in ((), ("shape",), ("shape", "law")):  # for the names
        names, *columns = (c for c in _columns(audit) if c.title not in spared)
        if _table.room(columns) >= max(map(len, names.cells)):
            break
    words = [line for sentence in _words(audit) for line in _wrapped(sentence)]
    table = _table.lines(names, columns)
    return "\n".join([*table, "", *words, *([""] if words else []), *_wrapped(summary(audit))])


def html(audit: Audit) -> str:
    """Return the same for a notebook."""
    columns = _columns(audit)
    rows = [_row("th", (f"{c.group} {c.title}".strip() for c in columns))]
    rows += [_row("td", cells) for cells in zip(*(c.cells for c in columns), strict=True)]
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in _words(audit))
    return f"<p>{escape(summary(audit))}</p><table>{''.join(rows)}</table>{words}"


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def summary(audit: Audit) -> str:
    """Return how many parameters there are, fail and are unknown."""
    count, failed, unknown = len(audit.entries), len(audit.failures), len(audit.unknown)
    parameters = f"{count} parameter{'s' * (count != 1)}"
    verdict = f"{parameters}: ok"
    if failed:
        verdict = f"{failed} of {parameters} {'fails' if failed == 1 else 'fail'}"
    known = f", {unknown} of unknown law" if unknown else ""
    numbers = _amount(sum(entry.count for entry in audit.entries))
    return f"{verdict}{known} ({numbers} numbers, level {audit.level:g} of the whole audit)"


def dataframe(audit: Audit) -> DataFrame:
    """Return one row for each parameter."""
    pandas = require("pandas", "dataframe")
    rows = [
        asdict(entry)
        | {
            "law": None if entry.law is None else str(entry.law),
            "problems": "; ".join(entry.problems),
            "notes": "; ".join(entry.notes),
            "ok": entry.ok,
        }
        for entry in audit.entries
    ]
    frame: DataFrame = pandas.DataFrame(rows)
    return frame


def _columns(audit: Audit) -> list[Column]:
    """Return the columns; of many failures, and of many others, the first and the last."""
    healthy = [entry for entry in audit.entries if entry.ok]
    rows: list[Entry | None] = []
    for part in (audit.failures, healthy):
        rows += [None if i is None else part[i] for i in shown(len(part), None)] if part else []
    return [
        Column("", "parameter", [DOTS if e is None else e.name for e in rows]),
        Column("", "ok", [DOTS if e is None else "" if e.ok else "no" for e in rows]),
        Column("", "shape", [DOTS if e is None else _shape(e.shape) for e in rows]),
        Column("", "law", [DOTS if e is None else _law(e.law) for e in rows]),
        Column("std", "found", [DOTS if e is None else f"{e.std:.3g}" for e in rows]),
        Column("std", "due", [DOTS if e is None else _number(e.due_std) for e in rows]),
        Column("", "p", [DOTS if e is None else _pvalue(e) for e in rows]),
    ]


def _words(audit: Audit) -> list[str]:
    said = [str(entry) for entry in audit.failures[:_SAID]]
    more = len(audit.failures) - len(said)
    noted = [f"note: {entry}" for entry in audit.entries if entry.ok and entry.notes]
    rest = len(noted) - 3
    return [
        *said,
        *([f"and {more} more: audit.failures"] if more else []),
        *noted[:3],
        *([f"and {rest} more: audit.entries"] if rest > 0 else []),
    ]


def _wrapped(sentence: str) -> list[str]:
    return wrap(
        sentence, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _law(law: Law | None) -> str:
    """Return a law in short: without the names of arguments, three digits a number."""
    if law is None:
        return "unknown"
    short = str(law)
    if len(short) > _LAW:
        short = re.sub(r"uniform\(low=-(.+), high=\1\)", r"uniform(+-\1)", short)
        short = re.sub(r"\w+=", "", short)
        short = re.sub(r"\d+\.\d+(e-?\d+)?", lambda found: f"{float(found[0]):.3g}", short)
    return short if len(short) <= _LAW else f"{short[: _LAW - 2]}.."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _pvalue(entry: Entry) -> str:
    """Return the smaller p-value, one digit of those that say much."""
    given = [p for p in (entry.std_pvalue, entry.ks_pvalue) if p is not None]
    if not given:
        return ""
    least = min(given)
    return f"{least:.2f}" if least >= 0.005 else "0" if least < 1e-99 else f"{least:.0e}"


def _amount(count: int) -> str:
    for size, word in ((10**9, " billion"), (10**6, " million")):
        if count >= size:
            return f"{count / size:.3g}{word}"
    return str(count)
