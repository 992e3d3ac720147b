"""Propagation through a network of random weights: forward, and back for its gradients."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from varprop import _catalogue, _core, _loss, _memory, _spec
from varprop._concat import concat
from varprop._keys import digests, key
from varprop._progress import progress_bar
from varprop._statistics import Observed
from varprop._threads import thread_count
from varprop._weights import dtype_name, in_range, weights
from varprop.layers import Elementwise
from varprop.network import Network, root_mean_square
from varprop.run import Run

__all__ = ["simulate"]

_FIRST_TRIALS = 10  # of a run that adds trials until its intervals are narrow
_FEW_KEPT = 16  # layers kept below which trials had better not run side by side


def simulate(
    net: Network,
    inputs: int | ArrayLike = 100,
    *,
    trials: int | Literal["auto"] = 10,
    first_trial: int = 0,
    seed: int = 0,
    dtype: DTypeLike = "float32",
    statistics: str | Iterable[str] = ("moments",),
    backward: bool = False,
    loss: str = "gaussian",
    targets: ArrayLike | None = None,
    memory: int | str | None = None,
    precision: float = 0.02,
    max_trials: int = 10_000,
    threads: int | None = None,
    progress: bool | Callable[[float], object] = False,
) -> Run:
    """Push a batch through a network, over many draws of its weights, and its gradients back.

    Parameters
    ----------
    net : Network
        What to simulate.
    inputs : int or array
        Number of rows of standard normals, drawn anew in each trial; or the data, shape (batch,
        features), the same in each trial.
    trials : int or "auto"
        Number of draws of all weights; "auto" adds some until `precision` is reached.
    first_trial : int
        Number of the first of them: any split of the trials gives the same bits.
    seed : int
        Any integer >= 0.
    dtype : {"float32", "float64"}
        Type of weights, inputs and signals; moments are float64 always.
    statistics : str or iterable of str
        "moments" always. More costs extra: "extremes", "kurtosis", "histogram" (for percentiles),
        "correlation" (of different inputs), "saturation" (share of slopes under 0.1, or
        "saturation(threshold=0.05)"), "gradient_correlation". They are attributes of the run's
        signals, of which :class:`varprop.run.Statistics` tells: ``run.activations.saturation``,
        ``run.gradients.p98``, ``run.gradients.correlation``.
    backward : bool
        Whether to go back, for the gradients of a cost by every pre-activation, weight and bias and
        by the inputs.
    loss : {"gaussian", "mse", "softmax_cross_entropy", "bce"}
        The cost, of the last activations: "gaussian" sends standard normals back; the others are
        means over the batch as PyTorch defines them; "bce" needs a last sigmoid.
    targets : array, optional
        What the loss compares with, shape (batch, width), or labels, shape (batch,); else drawn:
        standard normals for "mse", labels or zeros and ones of equal chance.
    memory : int or str, optional
        A bound in bytes, or as "500MB", on what the run allocates: of a deep network some layers
        are kept for the way back and the others computed again. It changes no bit; close to the
        least possible it costs time, as layers are computed many times.
    precision : float
        With trials="auto": wanted width of the 95% interval of each layer's mean
        log10_second_moment, of activations and gradients.
    max_trials : int
        With trials="auto": when to stop short of it, with a warning.
    threads : int, optional
        By default as many as there are cores for this process; changes no bit.
    progress : bool or callable
        A bar on the terminal, or a function of the fraction done.

    Returns
    -------
    Run
        Moments of every layer, in each trial and pooled.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit, before any work.
    MemoryError
        The run would not fit, with the estimate, before any allocation.

    Notes
    -----
    Where an activation is positively homogeneous (linear, relu, leaky_relu) the signal is rescaled
    by powers of two, so that it never leaves the range of the dtype; so are gradients, always.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([100] * 11, activation="relu", weight="he_normal")
    >>> run = vp.simulate(net, inputs=50, trials=20, backward=True)
    >>> run.preactivations.var.shape, run.gradients.var.shape
    ((10,), (10,))
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    adaptive = isinstance(trials, str)
    if adaptive and trials != "auto":
        raise ValueError(f"trials must be an integer or 'auto', got {trials!r}")
    count = _FIRST_TRIALS if adaptive else _spec.integer("trials", trials, least=1)
    most = _spec.integer("max_trials", max_trials, least=2)
    width = _spec.real("precision", precision)
    if width <= 0:
        raise ValueError(f"precision must be greater than 0, got {precision!r}")
    first_trial = _spec.integer("first_trial", first_trial)
    if first_trial + (most if adaptive else count) > 2**63:
        raise ValueError("first_trial + trials must be at most 2**63")
    kind = dtype_name(dtype, ("float32", "float64"))
    collected = _catalogue.resolve(statistics)
    given = None if isinstance(inputs, (int, np.integer)) else checked_inputs(net, inputs, kind)
    batch = _spec.integer("inputs", inputs, least=1) if given is None else len(given)
    _check_statistics(collected, batch, backward)
    if not isinstance(backward, bool):
        raise TypeError(f"backward must be True or False, got {backward!r}")
    if not backward and (loss != "gaussian" or targets is not None):
        raise ValueError("loss and targets need backward=True")
    compared = _loss.check_targets(net, _loss.check(net, loss), targets, batch, kind)
    bound = None if memory is None else _memory.size("memory", memory)
    workers = thread_count(threads)
    check_ranges(net, kind)

    def simulation(first: int, number: int, report: Callable[[float], object] | None) -> Run:
        core = _core.Simulation(
            layers=_layers(net),
            keys=digests(seed, net.parameter_names),
            given={
                position: np.ascontiguousarray(array, dtype=kind)
                for position, array in net.given.items()
            },
            batch=batch,
            inputs=given,
            input_key=key(seed, "input"),
            input_rms=1.0 if given is None else root_mean_square(given),
            first_trial=first,
            trials=number,
            cost=(loss, key(seed, _loss.TENSORS[loss]), compared) if backward else None,
            wanted=_wanted(collected),
            threads=workers,
            dtype=kind,
        )
        results = _results_size(net, collected, number, backward)
        what = f"a run of {batch} rows and {number} trial{'s' * (number > 1)}"
        by_trial, kept = _plan(core, len(net.steps), backward, results, bound, what)
        observed = core.run(by_trial, kept, report, _former(net, seed, kind), _applier(net))
        return Run(
            net,
            inputs=batch if given is None else given,
            seed=seed,
            trials=number,
            first_trial=first,
            dtype=kind,
            statistics=collected,
            observed=_counted(net, batch, observed),
            loss=loss if backward else None,
            targets=compared,
            precision=width if adaptive else None,
            out_of_range=[
                (net.layer_names[layer], first + int(trial))
                for trial, layer in enumerate(observed["out_of_range"])
                if layer >= 0
            ],
        )

    with progress_bar(progress) as report:
        run = simulation(first_trial, min(count, most) if adaptive else count, report)
        if adaptive:
            run = _narrowed(run, width, most, simulation, report)
        if report is not None:
            report(1.0)
    return run


def _narrowed(
    run: Run,
    precision: float,
    most: int,
    simulation: Callable[[int, int, Callable[[float], object] | None], Run],
    report: Callable[[float], object] | None,
) -> Run:
    """Add trials until the widest interval is as narrow as asked."""
    while (widest := _widest(run)) > precision and run.trials < most:
        # The interval's width goes with the root of the trials; not too far on a first guess.
        ratio = (widest / precision) ** 2 if math.isfinite(widest) else math.inf
        total = min(most, math.ceil(run.trials * min(max(1.1 * ratio, 1.2), 4.0)))
        more = simulation(run.first_trial + run.trials, total - run.trials, report)
        run = concat([run, more])
    if widest > precision:
        warnings.warn(
            f"stopped after max_trials={most}: the widest interval is {widest:.3g}, "
            f"precision={precision:g} was asked for",
            stacklevel=3,
        )
    return run


def _widest(run: Run) -> float:
    """Return the width of the widest interval of a layer's mean log10 second moment."""
    widths = []
    for signal in ("activations", "gradients"):
        if signal in run.observed:
            low, high = getattr(run, signal).interval("log10_second_moment")
            widths.append(float(np.max(high - low)))
    return math.inf if any(map(math.isnan, widths)) else max(widths)


def _plan(
    core: _core.Simulation,
    layers: int,
    backward: bool,
    results: int,
    bound: int | None,
    what: str,
) -> tuple[bool, int]:
    """Return whether trials run side by side, and how many layers are kept for the way back."""
    most = layers if backward else 0
    fewest = core.fewest_kept if backward else 0
    if bound is None and core.memory(True, most) + results < _memory.SMALL:
        return True, most
    limit = _memory.available() if bound is None else bound
    if limit is None:
        return True, most
    # A tenth is Python's own; without a bound half of the machine is left to others.
    room = (9 * limit // 10 if bound is not None or not backward else limit // 2) - results
    for by_trial in (True, False):
        if core.memory(by_trial, most) <= room:
            return by_trial, most
        least = core.memory(by_trial, fewest)
        if backward and least <= room:
            one = max(1, core.memory(by_trial, fewest + 1) - least)
            kept = min(most, fewest + (room - least) // one)
            if kept >= min(most, fewest + _FEW_KEPT) or not by_trial:
                return by_trial, kept
    needed = 10 * (core.memory(False, fewest) + results) // 9 + 1
    if bound is not None:
        # From the root of 2 L places, no layer is computed more than three times.
        few = min(most, fewest + math.isqrt(2 * layers))
        better = _memory.readable(10 * (core.memory(False, few) + results) // 9)
        raise ValueError(
            f"memory must be at least {needed} bytes for {what}, got {_memory.readable(bound)}"
            + f"; from {better} on it costs little time" * backward
        )
    _memory.require(needed, what)
    return False, fewest


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


def _results_size(net: Network, collected: tuple[str, ...], trials: int, backward: bool) -> int:
    """Return the bytes of the arrays that a run returns."""
    signals = _catalogue.SIGNALS if backward else _catalogue.SIGNALS[:2]
    numbers = sum(
        515 if key == "histogram" else 1
        for signal in signals
        for key in _catalogue.keys(collected, signal)
    )
    return 8 * trials * len(net.steps) * numbers


def _counted(net: Network, batch: int, observed: dict[str, Any]) -> dict[str, Observed]:
    """Add to each signal how many numbers a trial has of it."""
    parameters = ("weight_gradients", "bias_gradients")
    return {
        signal: {
            "count": net.sizes[signal] * (1 if signal in parameters else batch),
            **observed[signal],
        }
        for signal in _catalogue.SIGNALS
        if signal in observed
    }
