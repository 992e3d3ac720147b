"""A sweep's store, new or that of the same sweep: nothing else is touched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from varprop._sweep import store
from varprop._sweep.grid import Grid
from varprop._sweep.outlines import Outlines
from varprop._sweep.quantities import KEPT
from varprop._sweep.store import Store


def resumed(
    where: store.Where, record: store.Record, grid: Grid, outlines: Outlines, resume: bool
) -> Store | None:
    """Return the store of the same sweep, or None where nothing is."""
    found = store.find(where)
    if found is None:
        return None
    if not resume:
        raise FileExistsError(
            f"{store.named(where)} holds a sweep already, and is not to be resumed: "
            "name another store"
        )
    networks = outlines.digests.reshape(*grid.shape, -1)
    other = store.difference(found.record, record) or _networks(found, networks, grid)
    if found.layers < outlines.layers:
        other = other or f"no network had more than {found.layers} layers, now one has"
    if other:
        raise ValueError(
            f"{store.named(where)} belongs to another sweep: {other}; "
            "name another store, or remove it"
        )
    known = found.networks()
    if (networks.any(axis=-1) > known.any(axis=-1)).any():  # what could not be built then
        found.put_networks(np.where(known.any(axis=-1, keepdims=True), known, networks))
    return found


def begun(where: store.Where, record: store.Record, grid: Grid, outlines: Outlines) -> Store:
    """Return a new store; or that of the same sweep which somebody else has begun meanwhile."""
    shape = (*grid.shape, len(record["quantities"]), len(KEPT), outlines.layers)
    try:
        return store.create(where, record, outlines.digests.reshape(*grid.shape, -1), shape)
    except FileExistsError:
        found = resumed(where, record, grid, outlines, resume=True)
        if found is None:
            raise
        return found


def _networks(found: Store, networks: NDArray[np.uint8], grid: Grid) -> str:
    """Return which point's network is another, as text; what could not be built then may be now."""
    old = found.networks()
    both = old.any(axis=-1) & networks.any(axis=-1)
    others = np.flatnonzero(both & (old != networks).any(axis=-1))
    return f"the network at {grid.describe(int(others[0]))} is another" if others.size else ""
