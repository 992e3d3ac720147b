"""What a sweep's Dataset holds: quantities over a grid, at layers; and how a part is chosen."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from varprop._spec import integer, unknown

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

STATISTICS = ("mean", "std", "low", "high")
_OWN = ("layer", "statistic")  # dimensions that are not of the grid
_SHOWN = 6  # values that an error lists


def quantities(dataset: Dataset) -> list[str]:
    """Return the names of the variables that have layers and statistics.

    Raises
    ------
    ValueError
        There is none: it is not the Dataset of a sweep.
    """
    names = [str(name) for name, array in dataset.items() if set(_OWN) <= set(array.dims)]
    if not names:
        raise ValueError(
            "dataset must be of varprop.sweep, with variables over a grid, layer and statistic (of "
            "one layer: sel(layer=[3])); "
            f"got variables {_listed(dataset.data_vars)} over {_listed(dataset.sizes)}"
        )
    return names


def quantity(dataset: Dataset, value: object) -> DataArray:
    """Return the variable of this name, by default the first."""
    names = quantities(dataset)
    if value is None:
        return dataset[names[0]]
    if not isinstance(value, str):
        raise TypeError(f"value must be the name of a quantity, got {value!r:.80}")
    if value not in names:
        raise unknown("value", value, names)
    return dataset[value]


def is_logarithm(array: DataArray) -> bool:
    """Return whether the numbers are decimal logarithms."""
    field = array.attrs.get("field", str(array.name).rpartition(".")[2])
    return str(field).startswith("log10_")


def grid(array: DataArray) -> list[str]:
    """Return the names of the grid's dimensions, in order."""
    return [str(name) for name in array.dims if name not in _OWN]


def dimension(argument: str, name: object, names: Iterable[str]) -> str:
    """Return the name of a dimension, or the error that lists them."""
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be the name of a dimension, got {name!r:.80}")
    if name not in names:
        raise unknown(f"dimension {argument} =", name, names)
    return name


def axes(array: DataArray, x: object, y: object) -> tuple[str, str]:
    """Return the dimensions of a map: sigma_w and sigma_b, or the first two, if none are given."""
    names = [*grid(array), "layer"]
    asked = [
        None if name is None else dimension(argument, name, names)
        for argument, name in (("x", x), ("y", y))
    ]
    if x is not None and x == y:
        raise ValueError(f"x and y must be different dimensions, got {x!r} for both")
    both = {"sigma_w", "sigma_b"} <= set(names)
    order = dict.fromkeys([*(("sigma_w", "sigma_b") if both else ()), *names])
    free = iter(name for name in order if name not in asked)
    first, second = (next(free, None) if name is None else name for name in asked)
    if first is None or second is None:
        raise ValueError("a map needs two dimensions, got 'layer' alone")
    return first, second


def statistic(array: DataArray, name: object) -> DataArray:
    """Return one statistic over the trials: "mean", "std", "low" or "high"."""
    if name not in STATISTICS:
        raise unknown("statistic", name, STATISTICS)
    return array.sel(statistic=name, drop=True)


def ascending(array: DataArray, name: str, use: str) -> DataArray:
    """Return the array in ascending order along a dimension, which has to be of numbers."""
    if not is_numeric(array, name):
        raise ValueError(f"{use} needs numbers along {name!r}, got {values(array, name)}")
    return array.sortby(name)


def is_numeric(array: DataArray, name: str) -> bool:
    """Return whether a dimension has numbers as coordinates."""
    return name in array.coords and array.coords[name].dtype.kind in "iuf"


def single(array: DataArray, used: Iterable[str], method: str) -> DataArray:
    """Return the array without its other dimensions, which must have one value each."""
    used = set(used)
    others = [name for name in grid(array) if name not in used]
    many = [name for name in others if array.sizes[name] > 1]
    if many:
        chosen = ", ".join(f"{name}={example(array, name)!r}" for name in many)
        raise ValueError(
            f"{method} leaves {_listed(many)} with more than one value: "
            + "; ".join(f"{name} = {values(array, name)}" for name in many)
            + f". Select one, as in dataset.sel({chosen}).varprop.{method}(...), or by position "
            f"with dataset.isel({', '.join(f'{name}=-1' for name in many)})"
        )
    return array.squeeze(others)


def pick(array: DataArray, name: str, value: object) -> DataArray:
    """Return the array at a value of a dimension, rounding errors allowed for."""
    known = array.coords[name].values
    if is_numeric(array, name) and isinstance(value, int | float | np.number):
        (found,) = np.nonzero(np.isclose(known, float(value), rtol=1e-9, atol=0.0))
    else:
        (found,) = np.nonzero(known.astype(str) == str(value))
    if not found.size:
        raise ValueError(f"{name} must be one of {values(array, name)}, got {value!r}")
    return array.isel({name: int(found[0])})


def layer(dataset: Dataset, array: DataArray, which: object) -> DataArray:
    """Return the array at a layer, by number or name; by default at each network's last."""
    if which is None:
        return last(dataset, array)
    if isinstance(which, str):
        if "layer_name" not in array.coords:
            raise ValueError(f"layer must be a number where layers differ in name, got {which!r}")
        names = [str(name) for name in array.coords["layer_name"].values]
        if which not in names:
            raise unknown("layer", which, names)
        return array.isel(layer=names.index(which))
    number, labels = integer("layer", which, least=1), array.coords["layer"].values
    if number not in labels:
        raise ValueError(f"layer must be one of {values(array, 'layer')}, got {number}")
    return array.sel(layer=number)


def first(array: DataArray) -> int | None:
    """Return the first layer of a gradient, which is the end of its way; None of other signals."""
    if not str(array.attrs.get("signal", "")).endswith("gradients"):
        return None
    known = _known(array).any(grid(array)).values
    return int(array.coords["layer"].values[known.argmax()])


def last(dataset: Dataset, array: DataArray) -> DataArray:
    """Return the array at the last layer of each network.

    A coordinate "last_layer" over the grid says which that is. Without one it is the last at
    which a quantity of the same signal is known.
    """
    signal = array.attrs.get("signal")
    known = _known(array)
    for name in quantities(dataset):
        other = dataset[name]
        if signal and other.attrs.get("signal") == signal and other.dims == array.dims:
            known = known | _known(other)
    count = array.sizes["layer"]
    places = known.cumsum("layer").argmax("layer").where(known.any("layer"), -1)
    if "last_layer" in dataset.coords and "last_layer" not in dataset.dims:
        somewhere = known.any(grid(array)).values
        before = np.maximum.accumulate(np.where(somewhere, np.arange(count), -1))
        ends = np.searchsorted(array.coords["layer"].values, dataset["last_layer"], "right") - 1
        places = dataset["last_layer"].copy(data=np.where(ends >= 0, before[ends], -1))
    found = array.isel(layer=places.clip(0).astype(np.int64).compute())
    return found.where(places >= 0).assign_attrs(array.attrs)


def _known(array: DataArray) -> DataArray:
    return (
        array.sel(statistic="mean", drop=True) if "statistic" in array.dims else array
    ).notnull()


def values(array: DataArray, name: str) -> str:
    """Write the values of a dimension, of many the first and the last."""
    if name not in array.coords:
        return f"{array.sizes[name]} without a coordinate"
    every = [_plain(one) for one in array.coords[name].values.tolist()]
    return ", ".join(every if len(every) <= _SHOWN else [*every[: _SHOWN - 2], "...", every[-1]])


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def example(array: DataArray, name: str) -> object:
    """Return a value of a dimension that an error can propose."""
    return array.coords[name].values[-1].item() if name in array.coords else -1


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(str, names)) or "none"
