"""Networks in files of TOML, for people to read and write."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from varprop import _layer, _spec, layers
from varprop._layer import Layer
from varprop.initializers import Given
from varprop.layers import Container
from varprop.network import Network

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 10_000_000  # bytes


def load(path: str | PathLike[str]) -> Network:
    """Read a network; see :meth:`Network.from_toml`."""
    with errors_of(path):
        return _network(parse(read(path)))


def read(path: str | PathLike[str]) -> str:
    """Return the text of a file of a sensible size."""
    with Path(path).open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"a file must have at most {LARGEST} bytes, it has more")
    return data.decode("utf-8-sig")


def parse(text: str) -> dict[str, Any]:
    """Return the tables of a text of TOML."""
    tables: dict[str, Any] = tomllib.loads(text)
    return tables


@contextmanager
def errors_of(path: str | PathLike[str]) -> Iterator[None]:
    """Name the file in the errors of what is read from it."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{path}: brackets are nested too deep") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _network(table: dict[str, Any]) -> Network:
    for key in table:
        if key not in ("inputs", "layers"):
            raise _spec.unknown("key", key, ("inputs", "layers"))
    for key in ("inputs", "layers"):
        if key not in table:
            raise ValueError(f"{key} is missing")
    made = layers.all_from_dict(table["layers"], "layers")
    try:
        return Network(table["inputs"], made)
    except ValueError as error:  # of layers that do not fit each other: say where they stand
        text = str(error)
        for name, key in _keys(made, "", "layers"):
            start = f"layer {name!r}: "
            if text.startswith(start):
                raise ValueError(f"{key} ({name}): {text.removeprefix(start)}") from None
        raise


def _keys(made: Iterable[Layer], within: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield the name of every layer in its network, and its key in the file."""
    for i, layer in enumerate(_layer.named("layers", made)):
        yield f"{within}{layer.name}", f"{key}[{i}]"
        if isinstance(layer, Container):
            yield from _keys(layer.layers, f"{within}{layer.name}.", f"{key}[{i}].layers")


def save(net: Network, path: str | PathLike[str] | None) -> str:
    """Write a network; see :meth:`Network.to_toml`."""
    if net.is_profiled:
        raise ValueError("a model that was profiled cannot be written as TOML: save the run")
    for step in net.steps:
        for part in ("weight", "bias"):
            law = step.law(part)
            if isinstance(law, Given):
                raise ValueError(
                    f"layer {step.name!r}: {part} is a {law}, which a file of TOML cannot hold: "
                    "it may be a law, or save the run"
                )
    lines = [f"inputs = {_value(net.to_dict()['inputs'])}", *_tables(net.layers, "layers")]
    text = "".join(f"{line}\n" for line in lines)
    if path is not None:
        from varprop._files import atomic  # which knows runs, and the core

        with atomic(path) as file:
            file.write(text.encode())
    return text


def _tables(some: Iterable[Layer], key: str) -> Iterator[str]:
    """Yield the lines of the tables of a container's layers."""
    some = list(some)
    for layer, usual in zip(some, _layer.default_names(some), strict=True):
        yield from ("", f"[[{key}]]")
        for argument, value in layer.to_dict().items():
            if argument != "layers" and not (argument == "name" and value == usual):
                yield f"{argument} = {_value(value)}"
        if isinstance(layer, Container):
            yield from _tables(layer.layers, f"{key}.layers")


def _value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    # JSON's words for text and numbers are TOML's, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
