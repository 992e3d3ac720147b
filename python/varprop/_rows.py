"""Inputs from a file: rows, or images, from .npy and .npz; rows from .csv."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

READ = (".npy", ".npz", ".csv")


def read(path: Path, argument: str = "--input") -> NDArray[Any]:
    """Read a (batch, features) or (batch, height, width, channels) array."""
    suffix = path.suffix.lower()
    if suffix not in READ:
        raise ValueError(f"{argument} must end in {', '.join(READ)}, got {str(path)!r}")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    array = _read_csv(path) if suffix == ".csv" else _load(path)
    if array.ndim not in (2, 4) or not array.size:
        shapes = "(batch, features)"
        shapes += " or (batch, height, width, channels)" if suffix != ".csv" else ""
        raise ValueError(f"{path} must hold a {shapes} array, got shape {array.shape}")
    return array


def _load(path: Path) -> NDArray[Any]:
    """Read an array from a file of NumPy's; of its own messages some advise to unpickle."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            names = loaded.files
            if len(names) == 1:
                return np.asarray(loaded[names[0]])
    except (ValueError, EOFError, BadZipFile, zlib.error) as error:
        objects = str(error).startswith("Object arrays")
        lack = "holds objects, not numbers" if objects else "is no NumPy array file, or is damaged"
        raise ValueError(f"{path} {lack}") from None
    raise ValueError(f"{path} holds {len(names)} arrays ({', '.join(names)}), one is needed")


def _read_csv(path: Path) -> NDArray[Any]:
    """Read comma-separated numbers; a first line without any number is a header."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = int(not any(map(_is_number, file.readline().split(","))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file: its shape will say so
            return np.loadtxt(path, delimiter=",", skiprows=header, ndmin=2, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers separated by commas: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
