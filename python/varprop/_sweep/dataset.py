"""What a sweep found, as an xarray Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from varprop._sweep import accessor, quantities
from varprop._sweep.quantities import KEPT
from varprop._sweep.store import Store

if TYPE_CHECKING:
    from xarray import Dataset

xarray = accessor.xarray  # with dataset.varprop

_STATISTICS = KEPT[:-1]  # without the number of trials
_COORDINATES = ("grid", "quantities", "layer_names")  # of a record


def dataset(store: Store, *, with_errors: bool = False) -> Dataset:
    """Return the Dataset of a store, NaN at points that are not done; with errors if wanted."""
    record = store.record
    values, depths, errors = store.read()
    dims = tuple(record["grid"])
    backward, method = record["backward"], record["method"]
    found = quantities.parse(record["quantities"], backward=backward, method=method)
    variables = {
        quantity.name: (
            (*dims, "layer", "statistic"),
            values[..., i, :, :].swapaxes(-1, -2).copy(),
            quantity.attributes,
        )
        for i, quantity in enumerate(found)
    }
    depth = {"long_name": "number of layers, 0 where none is known"}
    coordinates: dict[str, Any] = {
        **{name: (name, np.array(labels)) for name, labels in record["grid"].items()},
        "layer": np.arange(1, store.layers + 1),
        "last_layer": (dims, depths, depth),
        "statistic": list(_STATISTICS),
    }
    if names := record["layer_names"]:
        coordinates["layer_name"] = "layer", np.array(names)
    result: Dataset = xarray.Dataset(variables, coordinates, _attributes(record))
    if with_errors or errors.astype(bool).any():
        result["error"] = dims, errors.astype(str), {"long_name": "why the point has no numbers"}
    return result


def _attributes(record: dict[str, Any]) -> dict[str, str | int | float]:
    """Return what a sweep was asked for as texts and numbers, which files of any kind can keep."""
    kept = {name: value for name, value in record.items() if name not in _COORDINATES}
    kept["backward"] = int(kept["backward"])
    kept["activations"] = ", ".join(kept["activations"])
    if kept["seed"] >= 2**63:
        kept["seed"] = str(kept["seed"])
    return {name: "" if value is None else value for name, value in kept.items()}
