"""What is known of a sweep's points before they are simulated: their networks, weighed."""

from __future__ import annotations

import json
from dataclasses import fields
from hashlib import blake2b
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from varprop import _estimate, _job
from varprop._compile import Step
from varprop._layer import Layer
from varprop._statistics import FloatArray
from varprop._sweep import quantities
from varprop._sweep.grid import Grid
from varprop._sweep.task import Task
from varprop.activations import ActivationFunction
from varprop.initializers import Law
from varprop.network import Network

DIGEST = 16  # bytes


class Outlines:
    """The networks of all points, each built once and looked at.

    Parameters
    ----------
    task : Task
    grid : Grid

    Attributes
    ----------
    seconds : ndarray, shape (points,)
        About how long a trial takes on one core.
    digests : ndarray of uint8, shape (points, DIGEST)
        What tells networks apart, whoever builds them; zeros where there is none.
    errors : dict of int to Exception
        Of the points that have no network, or none that can be simulated.
    layer_names : tuple of str
        Of the deepest network; empty unless those of the others are its first.
    layers : int
        Of the deepest network.
    network : str
        The first network as JSON; empty where it has a function of Python's or given weights.
    """

    def __init__(self, task: Task, grid: Grid, raises: bool) -> None:
        self.seconds: FloatArray = np.zeros(len(grid))
        self.digests: NDArray[np.uint8] = np.zeros((len(grid), DIGEST), np.uint8)
        self.errors: dict[int, Exception] = {}
        self.layer_names: tuple[str, ...] = ()
        self.layers, self.network, alike = 1, "", True
        for position in range(len(grid)):
            try:
                net = task.network(grid.point(position))
                self.seconds[position] = _seconds(task, net)
            except Exception as error:  # whatever the user's function raises
                self.errors[position] = error
                if raises:
                    return
                continue
            self.digests[position] = np.frombuffer(digest(net), np.uint8)
            self.network = self.network or _text(net)
            shorter, longer = sorted((self.layer_names, net.layer_names), key=len)
            alike = alike and longer[: len(shorter)] == shorter
            self.layer_names, self.layers = longer, max(self.layers, len(longer))
        if not alike:
            self.layer_names = ()


def _seconds(task: Task, net: Network) -> float:
    """Return about how long a trial takes, or raise what simulate would."""
    job = _job.make(
        net,
        task.inputs if isinstance(task.inputs, int) else task.inputs[:2],
        seed=task.seed,
        dtype=task.dtype,
        statistics=quantities.collected(task.quantities),
        backward=task.backward,
        loss=task.loss,
        threads=1,
        method=task.method,
    )
    rows = task.inputs if isinstance(task.inputs, int) else len(task.inputs)
    return _estimate.nominal(job._replace(batch=rows))


def _text(net: Network) -> str:
    try:
        return "" if net.given else json.dumps(net.to_dict())
    except ValueError:  # a function of Python's
        return ""


def digest(net: Network) -> bytes:
    """Return what tells two networks apart."""
    texts: dict[int, str] = {}  # of laws and activations, which many layers share
    steps = [_description(step, texts) for step in net.steps]
    hashed = blake2b(repr((net.inputs, *steps)).encode(), digest_size=DIGEST)
    for position, array in net.given.items():
        hashed.update(f"{position} {array.dtype} {array.shape}".encode())
        hashed.update(array.tobytes())
    return hashed.digest()


def _description(step: Step, texts: dict[int, str]) -> tuple[object, ...]:
    own = (getattr(step.layer, field.name) for field in fields(cast(Any, step.layer)))
    return (step.name, step.kind, *(_written(value, texts) for value in own))


def _written(value: object, texts: dict[int, str]) -> object:
    """Return what is the same in each process: a function's code in place of its address."""
    if isinstance(value, (Law, ActivationFunction)):
        if id(value) not in texts:
            texts[id(value)] = str(value)
        return texts[id(value)]
    if isinstance(value, tuple):  # layers are steps of their own
        return tuple(_written(item, texts) for item in value if not isinstance(item, Layer))
    code = getattr(value, "__code__", None)
    if code is not None:
        return getattr(value, "__qualname__", ""), code.co_code, repr(code.co_consts[1:])
    return value if isinstance(value, (int, float, str, type(None))) else type(value).__name__
