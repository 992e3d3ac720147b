"""Files that only grow, a line at a time: whole up to the last line, whenever a process dies.

A line is JSON that says the length and the checksum of its last entry's text. One that a process
began and did not end is not read, and is cut off before the next.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Any

from varprop._files import target

_LINE = re.compile(
    rb'\{"length": *(\d{1,12}), "crc32": "([0-9a-f]{8})", "line": (.*)\}\Z', re.DOTALL
)
_BEGINNING = b'{"length": '


def line(body: dict[str, Any]) -> bytes:
    """Return the line of a body."""
    text = json.dumps(body, allow_nan=False).encode()
    head = f'"length": {len(text):>10}, "crc32": "{zlib.crc32(text):08x}", "line": '
    return b"{" + head.encode() + text + b"}\n"


def read(path: str | PathLike[str]) -> tuple[list[dict[str, Any]], int]:
    """Return the bodies of a file's lines, and how many bytes of it are whole lines.

    Raises
    ------
    ValueError
        It is another kind of file, or a line that others follow is damaged.
    """
    data = Path(path).read_bytes()
    bodies: list[dict[str, Any]] = []
    whole = start = 0
    while (end := data.find(b"\n", start)) >= 0:
        body, follows = _body(data[start:end]), start == whole
        start = end + 1
        if body is not None and not follows:
            raise ValueError(f"{path} is damaged: line {len(bodies) + 1} is not what was written")
        if body is not None:
            bodies.append(body)
            whole = start
    if data and not bodies and not data.startswith(_BEGINNING) and not _BEGINNING.startswith(data):
        raise ValueError(f"{path} is no file of a Monitor")
    return bodies, whole


def _body(text: bytes) -> dict[str, Any] | None:
    """Return what a line holds, None of one that is not whole."""
    match = _LINE.match(text)
    if match is None or len(match[3]) != int(match[1]) or zlib.crc32(match[3]) != int(match[2], 16):
        return None
    try:
        body = json.loads(match[3])
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


class Appender:
    """Appends lines to a file, each on the disk before the next.

    Parameters
    ----------
    path : str or path
    whole : int
        Bytes of the file that are whole lines; what follows is cut off with the first line.
    """

    def __init__(self, path: str | PathLike[str], whole: int) -> None:
        self._path = target(path)
        self._whole = whole
        self._file: FileIO | None = None

    def append(self, *bodies: dict[str, Any]) -> None:
        """Write lines; of an error that ends it nothing stays but whole ones."""
        file = self._opened()
        for body in bodies:
            rest = text = line(body)
            file.truncate(self._whole)
            file.seek(self._whole)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
            self._whole += len(text)

    def _opened(self) -> FileIO:
        if self._file is None:
            new = not self._path.exists()
            self._file = FileIO(self._path, "xb" if new else "r+b")
            if new and hasattr(os, "O_DIRECTORY"):
                directory = os.open(self._path.parent, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
        return self._file

    def close(self) -> None:
        """Close the file; another line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
