"""The points that a sweep has done, in a Zarr store: a chunk each, written once and whole."""

from __future__ import annotations

import errno
import math
import secrets
import shutil
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray

from varprop._extras import require
from varprop._statistics import FloatArray
from varprop._sweep.quantities import KEPT

Where = Any  # a path, an address such as s3://bucket/name, a store of Zarr's
Record = dict[str, Any]
Index = tuple[int, ...]

RECORD = "varprop"  # the group's attribute that says whose store it is
_TOLD = ("varprop_version", "network", "layer_names", "activations", "build")  # may differ
_LONGEST_ERROR = 1000  # bytes
_DAMAGED = (RuntimeError, ValueError, OSError)  # what reading half a chunk raises


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
        self._values, self._errors = group["values"], group["error"]
        self._networks = group["networks"]
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
        rows = (self._read(self._values, i) for i in range(self.shape[0]))  # not all at once
        return np.stack([np.isfinite(row[..., 0, len(KEPT) - 1, 0]) for row in rows])

    def networks(self) -> NDArray[np.uint8]:
        """Return the digests of the points' networks, shape (grid..., bytes)."""
        return np.asarray(self._networks[:])

    def put_networks(self, digests: NDArray[np.uint8]) -> None:
        """Keep these digests."""
        self._networks[:] = digests

    def write(self, index: Index, kept: FloatArray) -> None:
        """Keep the numbers of a point."""
        self._values[index] = kept

    def fail(self, index: Index, text: str) -> None:
        """Keep the error of a point."""
        data = text.encode()[:_LONGEST_ERROR]
        self._errors[index] = np.frombuffer(data.ljust(_LONGEST_ERROR, b"\0"), np.uint8)

    def read(self) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.object_]]:
        """Return all numbers, NaN where there are none yet; points' numbers of layers; errors."""
        values = self._read(self._values)
        depths = np.isfinite(values[..., 0, len(KEPT) - 1, :]).sum(axis=-1)
        errors = np.full(self.shape, "", dtype=object)
        failed = self._read(self._errors)
        for index in zip(*np.nonzero(failed.any(axis=-1) & (depths == 0)), strict=True):
            errors[index] = failed[index].tobytes().rstrip(b"\0").decode(errors="ignore")
        return values[..., : len(KEPT) - 1, :], depths, errors

    def _read(self, array: Any, row: int | None = None) -> NDArray[Any]:
        """Return an array, or what a row of it has; a point that cannot be read is not there."""
        where = () if row is None else (row,)
        try:
            return np.asarray(array[where or slice(None)])
        except _DAMAGED:  # a chunk that a power cut left without its end
            found = np.full(array.shape[len(where) :], array.fill_value, array.dtype)
            for index in np.ndindex(self.shape[len(where) :]):
                try:
                    found[index] = array[where + index]
                except _DAMAGED:
                    continue
            return found


def create(
    where: Where, record: Record, networks: NDArray[np.uint8], shape: tuple[int, ...]
) -> Store:
    """Return a new store, which appears under its name when it is whole.

    Parameters
    ----------
    where
    record : dict
        What the sweep was asked for.
    networks : ndarray of uint8, shape (grid..., bytes)
        Digests of the points' networks.
    shape : tuple of int
        Of the values: (grid..., quantities, KEPT, layers).

    Raises
    ------
    FileExistsError
        Somebody else was faster.
    """
    zarr = require("zarr", "sweep")
    if not isinstance(where, Path):
        try:
            group = zarr.open_group(where, mode="w-", zarr_format=3)
        except ValueError as error:  # of Zarr's own: there is one
            raise FileExistsError(str(error)) from None
        _fill(group, record, networks, shape)
        return Store(group)
    where.parent.mkdir(parents=True, exist_ok=True)
    part = where.with_name(f".{where.name}.{secrets.token_hex(8)}.part")
    try:
        _fill(zarr.open_group(part, mode="w-", zarr_format=3), record, networks, shape)
        part.rename(where)  # fails where something is
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(f"store: there is something at {named(where)}") from None
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Store(zarr.open_group(where, mode="r+"))


def _fill(group: Any, record: Record, networks: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    zarr = require("zarr", "sweep")
    grid, names = shape[:-3], tuple(record["grid"])
    points = (1,) * len(grid)
    how = {
        "compressors": zarr.codecs.ZstdCodec(level=3, checksum=True),
        "chunk_key_encoding": {"name": "default", "separator": "."},  # no folders for each point
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
        raise FileNotFoundError(f"no sweep in {named(where)}")
    return found


def find(where: Where) -> Store | None:
    """Return the store of a sweep, None where nothing is."""
    zarr = require("zarr", "sweep")
    if isinstance(where, Path):
        if not where.exists() or (where.is_dir() and not any(where.iterdir())):
            return None
        if not (where / "zarr.json").is_file():
            raise ValueError(f"store must be a Zarr store or a new path, {named(where)} is neither")
    try:
        group = zarr.open_group(where, mode="r+")
        if RECORD in group.attrs:
            return Store(group)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"store {named(where)} cannot be read as that of a sweep: {error}"
        ) from None
    raise ValueError(f"store must be that of a sweep, {named(where)} holds something else")


def place(where: str | PathLike[str] | Any) -> Where:
    """Return where a store is as Zarr is told it: a local one's path, in full."""
    if where is None:
        return require("zarr.storage", "sweep").MemoryStore()
    if isinstance(where, str) and where.startswith("file://"):
        where = Path(url2pathname(urlsplit(where).path))
    if isinstance(where, PathLike) or (isinstance(where, str) and "://" not in where):
        return Path(fspath(where)).expanduser().resolve()
    if isinstance(where, (bool, int, float)):
        raise TypeError(f"store must be a path, an address or a store of Zarr's, got {where!r}")
    return where


def named(where: Where) -> str:
    """Return what errors and reports call a place: a path from here, where it is below."""
    if not isinstance(where, Path):
        return str(where)
    here = Path.cwd()
    return str(where.relative_to(here) if where.is_relative_to(here) else where)


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
