"""What a run is asked for, checked: network, inputs, statistics, and the cost that goes back."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from varprop import _catalogue, _core, _implicit, _loss, _memory, _spec
from varprop._keys import digests, key
from varprop._threads import thread_count
from varprop._weights import dtype_name, in_range, weights
from varprop.layers import Elementwise
from varprop.network import Network, root_mean_square

Method = Literal["explicit", "implicit"]

_IMPLICIT = 3 * 2**29  # bytes to stay under, where that can be, without a bound
_FEW_KEPT = 16  # layers kept below which trials had better not run side by side


class Plan(NamedTuple):
    """How a run uses memory; it changes no bit."""

    by_trial: bool
    """Whether trials run side by side."""
    kept: int
    """How many layers are kept for the way back."""


class Job(NamedTuple):
    """All of a run but its trials.

    Attributes
    ----------
    net : Network
    given : array or None
        The inputs, where they are not drawn.
    batch : int
    seed : int
    dtype : str
    statistics : tuple of str
    loss : str or None
        None: forward only.
    targets : array or None
        As the core reads them, where they are not drawn.
    threads : int
    method : {"explicit", "implicit"}
    """

    net: Network
    given: NDArray[Any] | None
    batch: int
    seed: int
    dtype: str
    statistics: tuple[str, ...]
    loss: str | None
    targets: NDArray[Any] | None
    threads: int
    method: Method = "explicit"

    @property
    def inputs(self) -> int | NDArray[Any]:
        """The inputs, or how many are drawn."""
        return self.batch if self.given is None else self.given

    def core(self, first_trial: int, trials: int) -> _core.Simulation:
        """Return the run of some trials, as the core knows it."""
        net, given, implicit = self.net, self.given, self.method == "implicit"
        cost = None
        if self.loss is not None:
            cost = self.loss, key(self.seed, _loss.TENSORS[self.loss]), self.targets
        return _core.Simulation(
            layers=_layers(net),
            keys=digests(self.seed, _implicit.names(net) if implicit else net.parameter_names),
            given={
                position: np.ascontiguousarray(array, dtype=self.dtype)
                for position, array in net.given.items()
            },
            batch=self.batch,
            inputs=given,
            input_key=key(self.seed, "input"),
            input_rms=1.0 if given is None else root_mean_square(given),
            first_trial=first_trial,
            trials=trials,
            cost=cost,
            wanted=_wanted(self.statistics),
            threads=self.threads,
            dtype=self.dtype,
            implicit=implicit,
        )

    def plan(self, core: _core.Simulation, trials: int, bound: int | None = None) -> Plan:
        """Return how to use memory, at most `bound` bytes of it where that is given.

        Raises
        ------
        ValueError, MemoryError
            The bound, or the machine, is too small.
        """
        layers, backward = len(self.net.steps), self.loss is not None
        results = _results_size(self, trials)
        most = layers if backward else 0
        fewest = core.fewest_kept if backward else 0
        if bound is None and core.memory(True, most) + results < _memory.SMALL:
            return Plan(True, most)
        limit = _memory.available() if bound is None else bound
        if limit is None:
            return Plan(True, most)
        # A tenth is Python's own; without a bound half of the machine is left to others.
        room = (9 * limit // 10 if bound is not None or not backward else limit // 2) - results
        few = min(most, fewest + math.isqrt(2 * layers))  # no layer is computed more than 3 times
        if self.method == "implicit" and bound is None:  # layers are soon computed again
            room = min(room, max(_IMPLICIT, core.memory(False, few)))
        for by_trial in (True, False):
            if core.memory(by_trial, most) <= room:
                return Plan(by_trial, most)
            least = core.memory(by_trial, fewest)
            if backward and least <= room:
                one = max(1, core.memory(by_trial, fewest + 1) - least)
                kept = min(most, fewest + (room - least) // one)
                if kept >= min(most, fewest + _FEW_KEPT) or not by_trial:
                    return Plan(by_trial, kept)
        what = f"a run of {self.batch} rows and {trials} trial{'s' * (trials > 1)}"
        needed = 10 * (core.memory(False, fewest) + results) // 9 + 1
        if bound is not None:
            better = _memory.readable(10 * (core.memory(False, few) + results) // 9)
            raise ValueError(
                f"memory must be at least {needed} bytes for {what}, got {_memory.readable(bound)}"
                + f"; from {better} on it costs little time" * backward
            )
        _memory.require(needed, what)
        return Plan(False, fewest)

    def memory(self, core: _core.Simulation, trials: int, plan: Plan) -> int:
        """Return the bytes that a run takes beside the interpreter."""
        results = _results_size(self, trials)
        return core.memory(*plan) + results

    def run(
        self,
        core: _core.Simulation,
        plan: Plan,
        report: Callable[[float], object] | None = None,
        *,
        activations: Sequence[int] = (),
        gradients: bool = False,
        parameters: bool = False,
    ) -> dict[str, Any]:
        """Do the work, and return what the core observed.

        Under "whole", for a run of one trial, the activations of some layers by position, rows of
        channels; the gradients by all pre-activations and by the inputs; and those by all
        parameters, which implicit weights have not.
        """
        net = self.net
        form, apply = _former(net, self.seed, self.dtype), _applier(net)
        try:
            return core.run(*plan, report, form, apply, activations, gradients, parameters)
        except MemoryError:
            needed = _memory.readable(core.memory(*plan))
            raise MemoryError(f"the system does not give the {needed} that the run needs") from None


def make(
    net: Network,
    inputs: int | ArrayLike,
    *,
    seed: int,
    dtype: DTypeLike,
    statistics: tuple[str, ...] = ("moments",),
    backward: bool = False,
    loss: str = "gaussian",
    targets: ArrayLike | None = None,
    threads: int | None = None,
    method: str = "explicit",
) -> Job:
    """Return a job, its parts checked against each other.

    Raises
    ------
    ValueError, TypeError
        What does not fit.
    """
    if not isinstance(backward, bool):
        raise TypeError(f"backward must be True or False, got {backward!r}")
    if method == "implicit":
        _implicit.check(net)
    elif method != "explicit":
        raise _spec.unknown("method", method, get_args(Method))
    if not backward and (loss != "gaussian" or targets is not None):
        raise ValueError("loss and targets need backward=True")
    kind = dtype_name(dtype, ("float32", "float64"))
    given = None if isinstance(inputs, (int, np.integer)) else checked_inputs(net, inputs, kind)
    batch = _spec.integer("inputs", inputs, least=1) if given is None else len(given)
    _check_statistics(statistics, batch, backward)
    compared = _loss.check_targets(net, _loss.check(net, loss), targets, batch, kind)
    check_ranges(net, kind)
    cost, workers = loss if backward else None, thread_count(threads)
    kept = cast(Method, method)
    return Job(net, given, batch, seed, kind, statistics, cost, compared, workers, kept)


def _former(net: Network, seed: int, kind: str) -> Callable[[int, int], tuple[NDArray[Any], float]]:
    """Return what forms the weights of a layer whose law is formed whole."""

    def form(layer: int, trial: int) -> tuple[NDArray[Any], float]:
        step = net.steps[layer]
        law, shape = step.layer.parameters(step.input_shape)["weight"]
        matrix = weights(
            shape,
            law,
            seed=seed,
            name=f"{step.name}.weight",
            trial=trial,
            dtype=kind,
            threads=1,
        )
        return matrix, root_mean_square(matrix)

    return form


def _applier(net: Network) -> Callable[[int, bool, NDArray[np.float64]], None]:
    """Return what computes a layer's own function, or its derivative, in place."""

    def apply(position: int, derivative: bool, numbers: NDArray[np.float64]) -> None:
        step = net.steps[position]
        layer = step.layer
        assert isinstance(layer, Elementwise)
        try:
            numbers[...] = layer.slope(numbers) if derivative else layer.value(numbers)
        except ValueError as error:
            raise ValueError(f"layer {step.name!r}: {error}") from None
        except Exception as error:
            if hasattr(error, "add_note"):  # Python 3.11
                error.add_note(f"in the function of layer {step.name!r}")
            raise

    return apply


_last: tuple[weakref.ref[Network], _core.Layers] | None = None


def _layers(net: Network) -> _core.Layers:
    """Return a network as the core reads it, which of many layers takes a while: not twice."""
    global _last
    last = _last
    if last is None or last[0]() is not net:
        last = _last = weakref.ref(net), _core.Layers(net.operations)
    return last[1]


def check_ranges(net: Network, kind: str) -> None:
    """Raise the error of a law whose numbers are zeros or infinities in the dtype."""
    if all(in_range(size, kind) for size in net.parameter_range):
        return
    for operation, step in zip(net.operations, net.steps, strict=True):
        for part, (law, _) in step.layer.parameters(step.input_shape).items():
            if not in_range(getattr(operation, part).rms, kind):
                raise ValueError(f"layer {step.name!r}: {part} {law} is out of the range of {kind}")


def _check_statistics(collected: tuple[str, ...], batch: int, backward: bool) -> None:
    if "gradient_correlation" in collected and not backward:
        raise ValueError("statistics 'gradient_correlation' needs backward=True")
    for name in ("correlation", "gradient_correlation"):
        if name in collected and batch < 2:
            raise ValueError(f"statistics {name!r} needs inputs of at least 2 rows, got {batch}")


def _wanted(collected: tuple[str, ...]) -> tuple[bool, bool, bool, bool, float | None]:
    """Return what the core calls Wanted."""
    names = {name.partition("(")[0] for name in collected}
    return (
        not names.isdisjoint(("extremes", "kurtosis")),
        "histogram" in names,
        "correlation" in names,
        "gradient_correlation" in names,
        _catalogue.threshold(collected) if "saturation" in names else None,
    )


def checked_inputs(net: Network, inputs: ArrayLike, kind: str) -> NDArray[Any]:
    """Return given inputs in the dtype, or raise the error that says what is wrong with them."""
    data = np.asarray(inputs)
    if data.dtype.kind not in "biuf":
        raise TypeError(f"inputs must hold real numbers, got dtype {data.dtype}")
    if data.shape[1:] != net.input_shape or not data.size:
        shape = ", ".join(map(str, net.input_shape))
        raise ValueError(f"inputs must have shape (batch, {shape}), got {data.shape}")
    with np.errstate(over="ignore"):
        cast = np.array(data, dtype=kind, order="C")  # the run keeps it, whatever becomes of data
    finite = np.isfinite(cast)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        where = f"row {place[0]}, column {', '.join(map(str, place[1:]))}"
        raise ValueError(f"inputs must be finite in {kind}, got {data[place]} at {where}")
    cast.flags.writeable = False
    return cast


def _results_size(job: Job, trials: int) -> int:
    """Return the bytes of the arrays that a run returns."""
    signals = _catalogue.SIGNALS if job.loss is not None else _catalogue.SIGNALS[:2]
    numbers = sum(
        515 if key == "histogram" else 1
        for signal in signals
        for key in _catalogue.keys(job.statistics, signal, job.method)
    )
    return 8 * trials * len(job.net.steps) * numbers
