"""Runs in files, JSON or NPZ: written whole or not at all, and checked when read."""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, get_args
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from varprop import _loss
from varprop._catalogue import SIGNALS, keys, resolve
from varprop._core import __version__
from varprop._extras import require
from varprop._histogram import BINS
from varprop._job import Method
from varprop._keys import STREAM_VERSION
from varprop._spec import integer, real, unknown
from varprop._statistics import Observed
from varprop.network import Network
from varprop.run import Run

# How the numbers of an array lie in a file: little-endian; a bfloat16 as its 16 bits.
_CODES = {"bfloat16": "<u2", "float16": "<f2", "float32": "<f4", "float64": "<f8", "int64": "<i8"}

# Within which saved numbers must lie: multiples of counts and exponents stay far inside 64 bits.
_RANGES = {
    "count": (1, 2**53),
    "variance": (0.0, math.inf),
    "exponent": (-(2**40), 2**40),
    "histogram": (0, 2**53),
    **dict.fromkeys(("saturation", "zero_slope", "dead"), (0.0, 1.0)),
}


def target(path: str | PathLike[str]) -> Path:
    """Return a path where a file can be put, or raise OSError: worth asking before a long run."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such directory: {path.parent}")
    if path.exists() and not path.is_file():  # a directory, or a device that must stay one
        raise OSError(f"not a regular file: {path}")
    if not os.access(path.resolve().parent, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write in directory: {path.parent}")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"no permission to write: {path}")
    return path


@contextmanager
def atomic(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when the block has ended well."""
    whole = target(path).resolve()
    part = whole.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(whole)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def format_of(path: str | PathLike[str]) -> str:
    """Return the suffix that says how a run is saved, ``.json`` or ``.npz``."""
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(f"path must end in {' or '.join(_WRITERS)}, got {str(path)!r}")
    return suffix


def save(run: Run, path: str | PathLike[str]) -> None:
    """Write a run to ``*.json`` or ``*.npz``; see :meth:`Run.save`."""
    write = _WRITERS[format_of(path)]
    origin = {"varprop": __version__, "stream_version": STREAM_VERSION}
    with atomic(path) as file:
        write(file, {**origin, **run.settings(), **run.observed})


def load(path: str | PathLike[str]) -> Run:
    """Read a run that :meth:`Run.save` wrote, the same to the bit.

    Nothing in the file is ever executed, and all is checked.

    Parameters
    ----------
    path : str or path
        ``*.json`` or ``*.npz``.

    Raises
    ------
    ValueError
        The file does not hold a whole run, or one of another stream version, whose weights this
        version cannot draw.
    """
    read = _READERS[format_of(path)]
    data = Path(path).read_bytes()
    try:
        return _run(read(data))
    except ImportError:
        raise
    except Exception as error:  # whatever a damaged file makes its readers raise
        lack = "no entry " if isinstance(error, KeyError) else ""
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} does not hold a run: {lack}{reason}") from error


# A record is a dictionary whose arrays the two formats put in their own places.


def _write_json(file: BinaryIO, record: dict[str, Any]) -> None:
    def inline(name: str, array: NDArray[Any]) -> Any:
        if name.split(".")[0] in SIGNALS:  # for people and other languages: numbers
            return array.tolist() if array.dtype.kind == "i" else _spelled(array.tolist())
        data = base64.b64encode(_encoded(array).tobytes()).decode()
        return {"dtype": array.dtype.name, "shape": array.shape, "base64": data}

    file.write(json.dumps(_mapped(record, inline), allow_nan=False).encode())


def _read_json(data: bytes) -> Any:
    def restore(entry: dict[str, Any]) -> Any:
        if entry.keys() != {"dtype", "shape", "base64"}:
            return entry
        bits = base64.b64decode(entry["base64"], validate=True)
        array = np.frombuffer(bits, _CODES[_dtype(entry["dtype"])])
        return _decoded(array.reshape(entry["shape"]), entry["dtype"])

    return json.loads(data, object_hook=restore)


def _write_npz(file: BinaryIO, record: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {}

    def apart(name: str, array: NDArray[Any]) -> dict[str, str]:
        arrays[name] = _encoded(array)
        return {"dtype": array.dtype.name, "array": name}

    description = json.dumps(_mapped(record, apart), allow_nan=False)
    np.savez(file, run=np.array(description), **arrays)


def _read_npz(data: bytes) -> Any:
    with ZipFile(BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > len(data):
            raise ValueError("its arrays claim more than the file's size")

        def array(name: str) -> NDArray[Any]:
            file = BytesIO(archive.read(f"{name}.npy"))
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

        def restore(entry: dict[str, Any]) -> Any:
            if entry.keys() != {"dtype", "array"}:
                return entry
            return _decoded(array(entry["array"]), entry["dtype"])

        return json.loads(str(array("run")), object_hook=restore)


_WRITERS = {".json": _write_json, ".npz": _write_npz}
_READERS = {".json": _read_json, ".npz": _read_npz}


def _mapped(value: Any, put: Callable[[str, NDArray[Any]], Any], name: str = "") -> Any:
    """Replace the arrays in nested lists and dictionaries; a name is the path, with dots."""
    match value:
        case np.ndarray():
            return put(name.lstrip("."), value)
        case dict():
            return {key: _mapped(item, put, f"{name}.{key}") for key, item in value.items()}
        case list() | tuple():
            return [_mapped(item, put, f"{name}.{i}") for i, item in enumerate(value)]
    return value


def _dtype(name: Any) -> str:
    if name not in _CODES:
        raise unknown("dtype", name, _CODES)
    return str(name)


def _encoded(array: NDArray[Any]) -> NDArray[Any]:
    bits = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
    return bits.astype(_CODES[_dtype(array.dtype.name)])


def _decoded(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    if bits.dtype != np.dtype(_CODES[_dtype(dtype)]):
        raise ValueError(f"an array of {dtype} is stored as {bits.dtype}")
    if dtype == "bfloat16":
        return bits.view(require("ml_dtypes", "bf16").bfloat16)
    return bits.astype(dtype)


def _spelled(number: Any) -> Any:
    """Write what JSON has no number for as "nan", "inf" or "-inf"."""
    if isinstance(number, list):
        return [_spelled(item) for item in number]
    return number if math.isfinite(number) else str(number)


def _number(value: Any, kind: type) -> Any:
    """Read a number of this kind, or lists of them."""
    if isinstance(value, list):
        return [_number(item, kind) for item in value]
    if kind is float and (type(value) is int or value in ("nan", "inf", "-inf")):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{value!r:.40} stands where a number must")
    return value


def _run(record: Any) -> Run:
    """Make a run of a record, after looking at everything in it."""
    if not isinstance(record, dict):
        raise ValueError(f"it holds a {type(record).__name__} where a record of a run must stand")
    version = record["stream_version"]
    if version != STREAM_VERSION:
        raise ValueError(f"stream version must be {STREAM_VERSION}, got {version!r}")
    network = Network.from_dict(record["network"])
    first = integer("first_trial", record["first_trial"])
    trials = integer("trials", record["trials"], least=1)
    for layer, trial in record["out_of_range"]:
        network.index(layer)
        if integer("trial", trial) not in range(first, first + trials):
            raise ValueError(f"out_of_range must name trials of the run, got {trial}")
    statistics = resolve(record["statistics"])
    dtype, loss = _dtype(record["dtype"]), record.get("loss")
    if loss is not None and not (network.is_profiled and isinstance(loss, str)):
        _loss.check(network, loss)
    precision = record.get("precision")
    method = record.get("method", "explicit")
    if method not in get_args(Method):
        raise unknown("method", method, get_args(Method))
    inputs = _inputs(record["inputs"], network.input_shape)
    batch = inputs if isinstance(inputs, int) else len(inputs)
    return Run(
        network,
        inputs=inputs,
        seed=integer("seed", record["seed"]),
        trials=trials,
        first_trial=first,
        dtype=dtype,
        statistics=statistics,
        observed={
            signal: _observed(
                record[signal],
                keys(statistics, signal, method),
                (trials, len(network.names(signal))),
            )
            for signal in _signals(record, network, loss)
        },
        loss=loss,
        targets=_targets(record.get("targets"), network, loss, batch, dtype),
        precision=precision if precision is None else real("precision", precision, least=0),
        method=method,
        out_of_range=[(layer, trial) for layer, trial in record["out_of_range"]],
    )


def _signals(record: dict[str, Any], network: Network, loss: str | None) -> tuple[str, ...]:
    """Return the signals that a record has to have; a profile has some where there are any."""
    if network.is_profiled:
        always = SIGNALS[:5]
        return tuple(signal for signal in SIGNALS if signal in always or signal in record)
    return SIGNALS[:6] if loss else SIGNALS[:2]


def _inputs(value: Any, shape: tuple[int, ...]) -> int | NDArray[Any]:
    if not isinstance(value, np.ndarray):
        return integer("inputs", value, least=1)
    if value.shape[1:] != shape or not len(value):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"inputs must have shape (batch, {wanted}), got {value.shape}")
    return value


def _targets(
    value: Any, network: Network, loss: str | None, batch: int, dtype: str
) -> NDArray[Any] | None:
    if value is None:
        return None
    if loss is None or not isinstance(value, np.ndarray):
        raise ValueError(f"targets must be an array, and none without a loss, got {value!r:.40}")
    if network.is_profiled:
        return value
    return _loss.check_targets(network, loss, value, batch, dtype)


def _observed(record: dict[str, Any], keys: Iterable[str], shape: tuple[int, int]) -> Observed:
    observed = {}
    for key in keys:
        whole = key in ("count", "exponent", "histogram")
        value, dtype = record[key], np.dtype(np.int64 if whole else np.float64)
        if isinstance(value, list):
            value = np.array(_number(value, int if whole else float), dtype)
        wanted = {"count": shape[1:], "histogram": (*shape, BINS)}.get(key, shape)
        if value.shape == shape and 0 in shape:  # of no layer JSON does not say how many bins
            value = value.reshape(wanted)
        if value.dtype != dtype or value.shape != wanted:
            raise ValueError(f"{key} must be {dtype} {wanted}, got {value.dtype} {value.shape}")
        least, most = _RANGES.get(key, (-np.inf, np.inf))
        if np.any((value < least) | (value > most)):  # NaN may be
            raise ValueError(f"{key} must be at least {least} and at most {most}")
        observed[key] = value
    if "histogram" in observed and np.any(observed["histogram"] > observed["count"][:, None]):
        raise ValueError("histogram must not hold more than count")
    return observed
