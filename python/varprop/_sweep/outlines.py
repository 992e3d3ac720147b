"""What is known of a sweep's points before they are simulated: their networks, weighed."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from varprop import _estimate, _job
from varprop._statistics import FloatArray
from varprop._sweep import digest, quantities
from varprop._sweep.grid import Grid
from varprop._sweep.task import Task
from varprop.network import Network

_FEW = 1 << 20  # numbers of given inputs that are looked at with every network


class Outlines:
    """The networks of all points, each built once and looked at.

    Parameters
    ----------
    task : Task
    grid : Grid
    raises : bool
        Whether to stop at the first error.

    Attributes
    ----------
    seconds : ndarray, shape (points,)
        About how long a trial takes on one core.
    digests : ndarray of uint8, shape (points, digest.SIZE)
        What tells networks apart, whoever builds them; zeros where there is none.
    errors : dict of int to Exception
        Of the points that have no network, or none that can be simulated.
    layer_names : tuple of str
        Of the deepest network; empty unless those of the others are its first.
    layers : int
        Of the deepest network.
    network : str
        The first one as JSON; empty where it has a function of Python's or given weights.
    activations : tuple of str
        Of networks that are all dense layers, of one activation each but for the last layer; empty
        where some network is not.
    """

    def __init__(self, task: Task, grid: Grid, raises: bool) -> None:
        self.seconds: FloatArray = np.zeros(len(grid))
        self.digests: NDArray[np.uint8] = np.zeros((len(grid), digest.SIZE), np.uint8)
        self.errors: dict[int, Exception] = {}
        self.layer_names: tuple[str, ...] = ()
        self.layers, self.network = 1, ""
        alike, dense = True, True
        activations: dict[str, None] = {}
        for position in range(len(grid)):
            try:
                net = task.network(grid.point(position))
                self.seconds[position] = _seconds(task, net)
            except Exception as error:  # whatever the user's function raises
                self.errors[position] = error
                if raises:
                    return
                continue
            self.digests[position] = np.frombuffer(digest.digest(net), np.uint8)
            if position == 0:
                self.network = _text(net)
            found = _activation(net)
            dense = dense and found is not None
            activations[found or ""] = None
            shorter, longer = sorted((self.layer_names, net.layer_names), key=len)
            alike = alike and longer[: len(shorter)] == shorter
            self.layer_names, self.layers = longer, max(self.layers, len(longer))
        if not alike:
            self.layer_names = ()
        self.activations = tuple(activations) if dense else ()


def _seconds(task: Task, net: Network) -> float:
    """Return about how long a trial takes, or raise what simulate would."""
    rows = task.inputs
    few = rows if isinstance(rows, int) or rows.size <= _FEW else rows[:2]
    job = _job.make(
        net,
        few,
        seed=task.seed,
        dtype=task.dtype,
        statistics=quantities.collected(task.quantities),
        backward=task.backward,
        loss=task.loss,
        threads=1,
        method=task.method,
    )
    return _estimate.nominal(job._replace(batch=rows if isinstance(rows, int) else len(rows)))


def _activation(net: Network) -> str | None:
    """Return the activation of a chain of dense layers, the last one left out."""
    found = {str(step.activation) for step in net.steps[:-1] or net.steps}
    chain = all(step.kind == "dense" for step in net.steps)
    return found.pop() if chain and len(found) == 1 else None


def _text(net: Network) -> str:
    try:
        return "" if net.given else json.dumps(net.to_dict())
    except ValueError:  # a function of Python's
        return ""
