"""A sweep in a file of TOML: its grid, its networks, and how they are simulated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from varprop import _layer, _mean_field, _memory, _rows, _spec, _toml, layers
from varprop._layer import Layer
from varprop._sweep.grid import Grid
from varprop.network import Network, mlp

SETTINGS = (
    *("inputs", "trials", "seed", "quantities", "backward", "method", "dtype", "loss", "errors"),
)
CHAIN = ("inputs", "width", "depth", "activation", "sigma_w", "weight", "sigma_b", "bias")
_RANGE = ("start", "stop", "count", "log")
_MOST = 1_000_000  # values of a range
_LAYER = 2000  # bytes, about
_HOLE = re.compile(r"\{([^{}]*)\}")

Tables = dict[str, Any]


class Template:
    """What a ``sweep.toml`` says: the `build`, the `grid` and other arguments of a sweep.

    Parameters
    ----------
    text : str
        TOML: arguments of :func:`varprop.sweep`, a table ``grid``, and a table ``network``: of a
        chain of dense layers, or, where it has ``layers``, of :meth:`Network.from_toml`.

    Attributes
    ----------
    grid : dict of str to list
    settings : dict
        The other arguments.

    Raises
    ------
    ValueError, TypeError
        What is wrong, by its key.

    Examples
    --------
    >>> template = Template('''
    ... trials = 20
    ... [grid]
    ... sigma_w = {start = 1.0, stop = 2.0, count = 3}
    ... [network]
    ... width = 50
    ... depth = 10
    ... ''')
    >>> template.grid, template.settings
    ({'sigma_w': [1.0, 1.5, 2.0]}, {'trials': 20})
    >>> template(sigma_w=1.5)
    <Network: 10 dense layers, 50 -> 50 x 10>
    """

    def __init__(self, text: str) -> None:
        self._text = text
        tables = _toml.parse(text)
        for key in tables:
            if key not in (*SETTINGS, "grid", "network"):
                raise _spec.unknown("key", key, (*SETTINGS, "grid", "network"))
        axes = _table(tables, "grid")
        self.grid = {name: _axis(f"grid.{name}", some) for name, some in axes.items()}
        Grid(self.grid)
        self.settings = {key: tables[key] for key in SETTINGS if key in tables}
        self._network = _table(tables, "network")
        self._check()

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Template:
        """Read a file, up to 10 MB, and the file beside it that its inputs may name."""
        with _toml.errors_of(path):
            template = cls(_toml.read(path))
        rows = template.settings.get("inputs")
        if isinstance(rows, str):
            template.settings["inputs"] = _rows.read(Path(path).parent / rows, "inputs")
        return template

    def __reduce__(self) -> tuple[type[Template], tuple[str]]:
        return Template, (self._text,)

    def __repr__(self) -> str:
        return self._text  # which a store keeps as the source of its networks

    def __call__(self, **point: Any) -> Network:
        """Return the network of a point of the grid."""
        filled = _filled(self._network, point)
        if not self._is_chain:
            return _of_layers(filled)
        return _chain(filled | {name: point[name] for name in CHAIN if name in point})

    @property
    def _is_chain(self) -> bool:
        return "layers" not in self._network

    def _check(self) -> None:
        """Raise what can be told before a point is chosen."""
        keys = CHAIN if self._is_chain else ("inputs", "layers")
        for key in self._network:
            if key not in keys:
                raise _spec.unknown("key of network", key, keys)
        used = {name for name in CHAIN if name in self.grid} if self._is_chain else set()
        for where, name in _holes("network", self._network):
            if name not in self.grid:
                raise _spec.unknown(f"name of the grid in {where}", name, self.grid)
            used.add(name)
        given = used | set(self._network)
        for name in self.grid:
            if name not in used:
                if self._is_chain:
                    raise _spec.unknown("argument of network in grid", name, CHAIN)
                raise ValueError(
                    f'grid.{name} is not used: network must have a "{{{name}}}" somewhere'
                )
        if self._is_chain:
            for one, other in (("sigma_w", "weight"), ("sigma_b", "bias")):
                if one in given and other in given:
                    raise ValueError(f"network must have {one} or {other}, not both")
        for key in ("width", "depth") if self._is_chain else ("inputs",):
            if key not in given:
                raise ValueError(f"network.{key} is missing")


def _table(tables: Tables, key: str) -> Tables:
    if key not in tables:
        raise ValueError(f"{key} is missing")
    if not isinstance(tables[key], dict):
        raise TypeError(f"{key} must be a table, got {tables[key]!r:.80}")
    return dict(tables[key])


# --- the grid -----------------------------------------------------------------------------------


def _axis(where: str, some: object) -> list[Any]:
    """Return the values of a name of the grid."""
    if isinstance(some, dict):
        return _range(where, some)
    if not isinstance(some, list):
        raise TypeError(
            f"{where} must be a list of values, or a range such as "
            f"{{start = 0.5, stop = 3.0, count = 6}}, got {some!r:.80}"
        )
    for i, value in enumerate(some):
        if not isinstance(value, (bool, int, float, str)):
            raise TypeError(f"{where}[{i}] must be a number or a text, got {value!r:.80}")
    return some


def _range(where: str, some: Tables) -> list[Any]:
    """Return evenly spaced values, both ends included; or their logarithms are."""
    for key in some:
        if key not in _RANGE:
            raise _spec.unknown(f"key of {where}", key, _RANGE)
    for key in _RANGE[:3]:
        if key not in some:
            raise ValueError(f"{where}.{key} is missing")
    count = _spec.integer(f"{where}.count", some["count"], least=2)
    if count > _MOST:
        raise ValueError(f"{where}.count must be at most {_MOST}, got {count}")
    log = _layer.boolean(f"{where}.log", some.get("log", False))
    start, stop = (_spec.real(f"{where}.{key}", some[key]) for key in ("start", "stop"))
    if log and min(start, stop) <= 0:
        raise ValueError(
            f"{where} must start and stop above 0 where log = true, got {min(start, stop):g}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # the grid's values must be finite
        values = np.geomspace(start, stop, count) if log else np.linspace(start, stop, count)
    integers = all(isinstance(some[key], int) for key in ("start", "stop"))
    if integers and np.allclose(values, np.rint(values), rtol=1e-9, atol=1e-9):
        return [int(value) for value in np.rint(values)]
    found: list[float] = values.tolist()
    return found


# --- the values of a point in the network's tables ----------------------------------------------


def _holes(where: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the key and the name of each "{name}" in a value."""
    if isinstance(value, str):
        for name in _HOLE.findall(value):
            yield where, name
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _holes(f"{where}.{key}", item)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _holes(f"{where}[{i}]", item)


def _filled(value: Any, point: Mapping[str, Any]) -> Any:
    """Return a value with those of a point in the place of their names."""
    if isinstance(value, str):
        whole = _HOLE.fullmatch(value)
        if whole:
            return point[whole[1]]
        return _HOLE.sub(lambda hole: str(point[hole[1]]), value)
    if isinstance(value, dict):
        return {key: _filled(item, point) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, point) for item in value]
    return value


# --- networks -----------------------------------------------------------------------------------


def _chain(table: Tables) -> Network:
    """Return the chain of dense layers of a table."""
    width, depth = (_layer.size(f"network.{key}", table[key]) for key in ("width", "depth"))
    inputs = _layer.size("network.inputs", table.get("inputs", width))
    _memory.require(_LAYER * depth, f"a network of {depth} layers")
    activation = _layer.activation("network.activation", table.get("activation", "tanh"))
    if "weight" in table:
        weight = _layer.law("network.weight", table["weight"])
    else:
        weight = _mean_field.weights("network.sigma_w", table.get("sigma_w", 1.0))
    if "bias" in table:
        bias = _layer.optional_law("network.bias", table["bias"])
    else:
        bias = _mean_field.biases("network.sigma_b", table.get("sigma_b", 0.0))
    return mlp([inputs, *[width] * depth], activation, weight, bias)


def _of_layers(table: Tables) -> Network:
    """Return the network of tables as :meth:`Network.from_toml` reads them."""
    made, _ = _repeated(table["layers"], "network.layers")
    try:
        return Network(table["inputs"], made)
    except (ValueError, TypeError) as error:
        raise ValueError(f"network: {error}") from None


def _repeated(entries: object, where: str, nested: int = 0) -> tuple[list[Layer], int]:
    """Return the layers of a list of tables, those with ``repeat`` so many times, and their number.

    A layer that has a name has it with a number, from 1 on.
    """
    if not isinstance(entries, list):
        raise TypeError(f"{where} must be a list of layers, got {entries!r:.80}")
    if nested > _layer.DEEPEST:
        raise ValueError(f"{where} must be nested at most {_layer.DEEPEST} deep")
    made: list[Layer] = []
    total = 0
    for i, entry in enumerate(entries):
        key, inside, repeat = f"{where}[{i}]", 0, None
        if isinstance(entry, dict):
            entry = dict(entry)
            if "repeat" in entry:
                repeat = _spec.integer(f"{key}.repeat", entry.pop("repeat"))
            if isinstance(entry.get("layers"), list):
                entry["layers"], inside = _repeated(entry["layers"], f"{key}.layers", nested + 1)
        layer = layers.from_dict(entry, key, nested)
        total += (1 if repeat is None else repeat) * (1 + inside)
        _memory.require(_LAYER * total, f"{where}: a network of {total} layers")
        if repeat is None or not layer.name:
            made += [layer] * (1 if repeat is None else repeat)
        else:
            made += [layer.renamed(f"{layer.name}{j}") for j in range(1, repeat + 1)]
    return made, total
