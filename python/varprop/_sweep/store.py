"""The points that a sweep has done, in a Zarr store: a chunk each, written once and whole."""

from __future__ import annotations

import math
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop._extras import require
from varprop._statistics import FloatArray
from varprop._sweep.quantities import KEPT

Where = Any  # a path, an address such as s3://bucket/name, a store of Zarr's; None: memory
Record = dict[str, Any]
Index = tuple[int, ...]

RECORD = "varprop"  # the group's attribute that says whose store it is
_MEMBERS = ("error", "networks", "values")
_TOLD = ("varprop_version", "network", "layer_names", "build")  # a sweep is the same without
_LONGEST_ERROR = 1000  # bytes


class Store:
    """What is kept of a sweep.

    A Zarr group of three arrays. ``values``, of shape (grid..., quantities, :data:`KEPT`, layers),
    has one chunk for each point, ``error`` one for each that failed; ``networks`` tells what the
    points' networks are. A file system puts a chunk under its name when it is whole.

    Attributes
    ----------
    record : dict
        What the sweep was asked for, as JSON.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self._values, self._errors = group["values"], group["error"]
        self.record: Record = group.attrs[RECORD]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the grid's axes."""
        return tuple(self._values.shape[:-3])

    @property
    def layers(self) -> int:
        """Layers of the deepest network."""
        return int(self._values.shape[-1])

    def finished(self) -> NDArray[np.bool_]:
        """Return which points are done, of the shape of the grid."""
        return np.isfinite(self._read()[..., 0, len(KEPT) - 1, 0])

    @property
    def networks(self) -> NDArray[np.uint8]:
        """Digests of the points' networks, shape (grid..., bytes)."""
        return np.asarray(self._group["networks"][:])

    def write(self, index: Index, kept: FloatArray) -> None:
        """Keep the numbers of a point."""
        self._values[index] = kept

    def fail(self, index: Index, text: str) -> None:
        """Keep the error of a point."""
        data = text.encode()[:_LONGEST_ERROR]
        self._errors[index] = np.frombuffer(data.ljust(_LONGEST_ERROR, b"\0"), np.uint8)

    def read(self) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.object_]]:
        """Return all numbers, NaN where there are none yet; points' numbers of layers; errors."""
        values = self._read()
        depths = np.isfinite(values[..., 0, len(KEPT) - 1, :]).sum(axis=-1)
        finished = depths > 0
        errors = np.full(self.shape, "", dtype=object)
        failed = self._errors[:]
        for index in zip(*np.nonzero(failed.any(axis=-1) & ~finished), strict=True):
            errors[index] = failed[index].tobytes().rstrip(b"\0").decode(errors="ignore")
        return values[..., : len(KEPT) - 1, :], depths, errors

    def _read(self) -> FloatArray:
        try:
            return np.asarray(self._values[:])
        except (RuntimeError, ValueError, OSError):  # a chunk that a power cut left without its end
            return self._readable()

    def _readable(self) -> FloatArray:
        """Read chunk by chunk; what cannot be read is not done."""
        values = np.full(self._values.shape, np.nan)
        for index in np.ndindex(self.shape):
            try:
                values[index] = self._values[index]
            except (RuntimeError, ValueError):
                continue
        return values


def create(
    where: Where, record: Record, networks: NDArray[np.uint8], shape: tuple[int, ...]
) -> Store:
    """Return a new store.

    Parameters
    ----------
    where
    record : dict
        What the sweep was asked for.
    networks : ndarray of uint8, shape (grid..., bytes)
        Digests of the points' networks.
    shape : tuple of int
        Of the values: (grid..., quantities, KEPT, layers).
    """
    zarr = require("zarr", "sweep")
    group = zarr.open_group(where, mode="a", zarr_format=3)
    grid = shape[:-3]
    names = tuple(record["grid"])
    points = (1,) * len(grid)
    how = {
        "compressors": zarr.codecs.ZstdCodec(level=3, checksum=True),
        "chunk_key_encoding": {"name": "default", "separator": "."},  # no folders for each point
        "overwrite": True,
    }
    group.create_array(
        "values",
        shape=shape,
        chunks=(*points, *shape[-3:]),
        dtype="float64",
        fill_value=math.nan,
        dimension_names=(*names, "quantity", "statistic", "layer"),
        **how,
    )
    group.create_array(
        "error",
        shape=(*grid, _LONGEST_ERROR),
        chunks=(*points, _LONGEST_ERROR),
        dtype="uint8",
        fill_value=0,
        dimension_names=(*names, "text"),
        **how,
    )
    group.create_array(
        "networks",
        data=networks,
        chunks=networks.shape,
        dimension_names=(*names, "digest"),
        **how,
    )
    group.attrs.update({RECORD: record})  # last: a store without it was never begun
    return Store(group)


def open_store(where: Where) -> Store:
    """Return the store of a sweep.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        There is something else.
    """
    found = find(where)
    if found is None:
        raise FileNotFoundError(f"no sweep in {where}")
    return found


def find(where: Where) -> Store | None:
    """Return the store of a sweep, None where nothing is or none was begun."""
    zarr = require("zarr", "sweep")
    if isinstance(where, Path):
        if not where.exists() or (where.is_dir() and not any(where.iterdir())):
            return None
        if not (where / "zarr.json").is_file():
            raise ValueError(f"store must be a Zarr store or a new path, {where} is neither")
    try:
        group = zarr.open_group(where, mode="r+")
    except FileNotFoundError:
        return None
    if RECORD in group.attrs:
        return Store(group)
    if group.attrs or not set(group).issubset(_MEMBERS):
        raise ValueError(f"store must be that of a sweep, {where} holds something else")
    return None


def place(where: str | PathLike[str] | Any) -> Where:
    """Return where a store is as Zarr is told it: a local one's Path."""
    if where is None:
        return require("zarr.storage", "sweep").MemoryStore()
    if isinstance(where, PathLike) or (isinstance(where, str) and "://" not in where):
        return Path(fspath(where))
    return where


def difference(old: Record, new: Record) -> str:
    """Return in what two sweeps differ, as text, empty where they are the same."""
    for key, value in new.items():
        was: Any = old.get(key)
        if key in _TOLD or was == value:
            continue
        if key == "grid":
            return _grids(was, value)
        return f"{key} was {_short(was)}, is {_short(value)}"
    return ""


def _grids(old: Record, new: Record) -> str:
    if list(old) != list(new):
        return f"grid was of {', '.join(old)}, is of {', '.join(new)}"
    name = next(name for name in new if old[name] != new[name])
    was, now = old[name], new[name]
    if len(was) != len(now):
        return f"grid[{name!r}] had {len(was)} values, has {len(now)}"
    i = next(i for i, pair in enumerate(zip(was, now, strict=True)) if pair[0] != pair[1])
    return f"grid[{name!r}][{i}] was {was[i]!r}, is {now[i]!r}"


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) < 80 else f"{text[:80]}..."
