"""What is to do at the points of a sweep, and the doing of it, in this process or a worker's."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, NamedTuple, cast

from numpy.typing import NDArray

from varprop import _estimate, _job
from varprop._compile import Step
from varprop._job import Method
from varprop._layer import Layer
from varprop._simulate import simulate
from varprop._sweep import quantities
from varprop._sweep.quantities import Columns, Quantity
from varprop.activations import ActivationFunction
from varprop.initializers import Law
from varprop.network import Network

Point = Mapping[str, Any]

DIGEST = 16  # bytes


class Outline(NamedTuple):
    """What is known of a point before it is simulated."""

    seconds: float
    """About how long a trial takes on one core."""
    layers: int
    digest: bytes
    """Of the network: what tells whether a store belongs to this sweep."""


@dataclass(frozen=True, eq=False)
class Task:
    """All of a sweep but its points and the numbers of their trials.

    Attributes
    ----------
    build : callable
        The user's function, from a point's values to a network.
    inputs : int or array
    seed : int
    dtype, loss, method : str
    backward : bool
    quantities : tuple of Quantity
    """

    build: Callable[..., Network]
    inputs: int | NDArray[Any]
    seed: int
    dtype: str
    backward: bool
    loss: str
    method: str
    quantities: tuple[Quantity, ...]

    @property
    def batch(self) -> int:
        """Number of rows of the inputs."""
        return self.inputs if isinstance(self.inputs, int) else len(self.inputs)

    def network(self, point: Point) -> Network:
        """Return the network of a point."""
        net = self.build(**point)
        if not isinstance(net, Network):
            raise TypeError(f"build must return a Network, got {type(net).__name__}")
        return net

    def outline(self, point: Point) -> Outline:
        """Return what is known of a point, or raise what simulate would."""
        net = self.network(point)
        job = _job.make(
            net,
            self.inputs if isinstance(self.inputs, int) else self.inputs[:2],
            seed=self.seed,
            dtype=self.dtype,
            statistics=quantities.collected(self.quantities),
            backward=self.backward,
            loss=self.loss,
            threads=1,
            method=self.method,
        )
        seconds = _estimate.nominal(job._replace(batch=self.batch))
        return Outline(seconds, len(net.layer_names), digest(net))

    def run(
        self,
        point: Point,
        first_trial: int,
        trials: int,
        *,
        threads: int | None,
        memory: int | None = None,
        progress: bool | Callable[[float], object] = False,
    ) -> Columns:
        """Simulate some trials of a point."""
        run = simulate(
            self.network(point),
            self.inputs,
            trials=trials,
            first_trial=first_trial,
            seed=self.seed,
            dtype=self.dtype,
            statistics=quantities.collected(self.quantities),
            backward=self.backward,
            loss=self.loss,
            memory=memory,
            method=cast(Method, self.method),
            threads=threads,
            progress=progress,
        )
        return quantities.columns(run, self.quantities)

    @property
    def source(self) -> str:
        """The text of the user's function, as far as it can be had."""
        try:
            return textwrap.dedent(inspect.getsource(self.build))
        except (OSError, TypeError):
            return repr(self.build)


def digest(net: Network) -> bytes:
    """Return what tells two networks apart."""
    hashed = blake2b(repr((net.inputs, *map(_description, net.steps))).encode(), digest_size=DIGEST)
    for position, array in net.given.items():
        hashed.update(f"{position} {array.dtype} {array.shape}".encode())
        hashed.update(array.tobytes())
    return hashed.digest()


def _description(step: Step) -> tuple[object, ...]:
    own = (getattr(step.layer, field.name) for field in fields(cast(Any, step.layer)))
    return (step.name, step.kind, *(_written(value) for value in own))


def _written(value: object) -> object:
    """Return a text that is the same in each process: a function's code in place of its address."""
    if isinstance(value, (Law, ActivationFunction)):
        return str(value)
    if isinstance(value, tuple):  # layers are steps of their own
        return tuple(_written(item) for item in value if not isinstance(item, Layer))
    code = getattr(value, "__code__", None)
    if code is not None:
        return getattr(value, "__qualname__", ""), code.co_code, repr(code.co_consts[1:])
    return value if isinstance(value, (int, float, str, type(None))) else type(value).__name__
