"""What is to do at every point of a sweep, in this process or a worker's."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from numpy.typing import NDArray

from varprop._job import Method
from varprop._simulate import simulate
from varprop._sweep import quantities
from varprop._sweep.digest import digest
from varprop._sweep.quantities import Columns, Quantity
from varprop.network import Network

Point = Mapping[str, Any]

_TOGETHER = 100  # trials that are simulated at once, if groups are not larger


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
    trials : int
        Of each point.
    """

    build: Callable[..., Network]
    inputs: int | NDArray[Any]
    seed: int
    dtype: str
    backward: bool
    loss: str
    method: str
    quantities: tuple[Quantity, ...]
    trials: int

    def network(self, point: Point) -> Network:
        """Return the network of a point."""
        net = self.build(**point)
        if not isinstance(net, Network):
            raise TypeError(f"build must return a Network, got {type(net).__name__}")
        return net

    @property
    def group(self) -> int:
        """How many trials are kept as one sample."""
        return quantities.group(self.trials)

    def run(
        self,
        point: Point,
        first_trial: int,
        trials: int,
        *,
        network: bytes,
        threads: int | None,
        memory: int | None = None,
        progress: Callable[[float], object] = lambda _: None,
    ) -> Columns:
        """Simulate some trials of a point, whole groups of them; a few at a time for memory.

        Raises ValueError where the network is not that of this digest.
        """
        net, some = self.network(point), self.group * max(1, _TOGETHER // self.group)
        if digest(net) != network:
            raise ValueError("build must return the same network each time, and on workers too")
        parts = []
        for done in range(0, trials, some):
            count = min(some, trials - done)
            within = partial(_within, progress, done / trials, count / trials)
            run = simulate(
                net,
                self.inputs,
                trials=count,
                first_trial=first_trial + done,
                seed=self.seed,
                dtype=self.dtype,
                statistics=quantities.collected(self.quantities),
                backward=self.backward,
                loss=self.loss,
                memory=memory,
                method=cast(Method, self.method),
                threads=threads,
                progress=within,
            )
            parts.append(quantities.columns(run, self.quantities, self.group))
        return quantities.joined(parts)

    @property
    def source(self) -> str:
        """The text of the user's function, as far as it can be had."""
        return _source(self.build)


def _source(function: Callable[..., object]) -> str:
    if isinstance(function, partial):
        given = [*map(repr, function.args), *(f"{k}={v!r}" for k, v in function.keywords.items())]
        inner = function.func
        name = f"{inner.__module__}.{getattr(inner, '__qualname__', repr(inner))}"
        return f"functools.partial({', '.join((name, *given))})"
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return repr(function)


def _within(progress: Callable[[float], object], start: float, share: float, part: float) -> None:
    progress(start + share * part)
