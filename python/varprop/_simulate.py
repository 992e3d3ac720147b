"""Forward propagation through a network of random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from varprop import _core, _memory, _spec
from varprop._keys import key, keys
from varprop._progress import progress_bar
from varprop._statistics import COLLECTED, Observed
from varprop._weights import dtype_name, in_range, thread_count, weights
from varprop.initializers import Given
from varprop.network import Network, root_mean_square
from varprop.run import Run

__all__ = ["simulate"]


def simulate(
    net: Network,
    inputs: int | ArrayLike = 100,
    *,
    trials: int = 10,
    first_trial: int = 0,
    seed: int = 0,
    dtype: DTypeLike = "float32",
    statistics: str | tuple[str, ...] = ("moments",),
    threads: int | None = None,
    progress: bool | Callable[[float], object] = False,
) -> Run:
    """Push a batch through a network, over many draws of its weights.

    Parameters
    ----------
    net : Network
        What to simulate.
    inputs : int or array
        Number of rows of standard normals, drawn anew in each trial; or the data, shape (batch,
        features), the same in each trial.
    trials : int
        Number of draws of all weights.
    first_trial : int
        Number of the first of them: any split of the trials gives the same bits.
    seed : int
        Any integer >= 0.
    dtype : {"float32", "float64"}
        Type of weights, inputs and signals; moments are float64 always.
    statistics : tuple of str
        "moments" always; "extremes" and "kurtosis" cost extra.
    threads : int, optional
        By default as many as there are cores; changes no bit.
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
    by powers of two, so that it never leaves the range of the dtype.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([100] * 11, activation="relu", weight="he_normal")
    >>> run = vp.simulate(net, inputs=50, trials=20)
    >>> run.preactivations.var.shape
    (10,)
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    trials = _spec.integer("trials", trials, least=1)
    first_trial = _spec.integer("first_trial", first_trial)
    if first_trial + trials > 2**63:
        raise ValueError("first_trial + trials must be at most 2**63")
    kind = dtype_name(dtype, ("float32", "float64"))
    collected = _statistics(statistics)
    count = thread_count(threads)
    given = None if isinstance(inputs, (int, np.integer)) else _checked(net, inputs, kind)
    batch = _spec.integer("inputs", inputs, least=1) if given is None else len(given)

    _check_ranges(net, kind)

    def compiled(threads: int, by_trial: bool) -> _core.Simulation:
        return _core.Simulation(
            operations=net.operations,
            keys=keys(seed, net.parameter_names),
            given=_given(net, kind),
            batch=batch,
            inputs=given,
            input_key=key(seed, "input"),
            input_rms=1.0 if given is None else root_mean_square(given),
            first_trial=first_trial,
            trials=trials,
            threads=threads,
            by_trial=by_trial,
            powers=len(collected) > 1,
            dtype=kind,
        )

    simulation = compiled(count, by_trial=True)
    if simulation.memory() > _memory.SMALL:
        limit = _memory.available()
        if limit is not None and simulation.memory() > limit:
            simulation = compiled(count, by_trial=False)
    results = 2 * 8 * trials * len(net.layers) * (3 if len(collected) == 1 else 7)
    what = f"a run of {batch} rows and {trials} trials"
    _memory.require(simulation.memory() + results, what)

    def form(layer: int, trial: int) -> tuple[NDArray[Any], float]:
        matrix = weights(
            net.shapes[layer],
            net.layers[layer].weight,
            seed=seed,
            name=f"{net.layer_names[layer]}.weight",
            trial=trial,
            dtype=kind,
            threads=1,
        )
        return matrix, root_mean_square(matrix)

    with progress_bar(progress) as report:
        observed = simulation.run(report, form)
        if report is not None:
            report(1.0)
    return Run(
        net,
        inputs=batch if given is None else given,
        seed=seed,
        trials=trials,
        first_trial=first_trial,
        dtype=kind,
        statistics=collected,
        preactivations=_observed(net, batch, observed["preactivations"], collected),
        activations=_observed(net, batch, observed["activations"], collected),
        out_of_range=[
            (net.layer_names[layer], first_trial + int(trial))
            for trial, layer in enumerate(observed["out_of_range"])
            if layer >= 0
        ],
    )


def _check_ranges(net: Network, kind: str) -> None:
    for operation, layer in zip(net.operations, net.layers, strict=True):
        for part in ("weight", "bias"):
            if not in_range(getattr(operation, part).rms, kind):
                law = getattr(layer, part)
                raise ValueError(
                    f"layer {layer.name!r}: {part} {law} is out of the range of {kind}"
                )


def _statistics(statistics: str | tuple[str, ...]) -> tuple[str, ...]:
    asked = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    for name in asked:
        if name not in COLLECTED:
            raise _spec.unknown("statistics", name, COLLECTED)
    return tuple(name for name in COLLECTED if name == "moments" or name in asked)


def _checked(net: Network, inputs: ArrayLike, kind: str) -> NDArray[Any]:
    data = np.asarray(inputs)
    if data.dtype.kind not in "biuf":
        raise TypeError(f"inputs must hold real numbers, got dtype {data.dtype}")
    if data.ndim != 2 or data.shape[1] != net.inputs or not len(data):
        raise ValueError(f"inputs must have shape (batch, {net.inputs}), got {data.shape}")
    with np.errstate(over="ignore"):
        cast = np.array(data, dtype=kind, order="C")  # the run keeps it, whatever becomes of data
    finite = np.isfinite(cast)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        where = f"row {row}, column {column}"
        raise ValueError(f"inputs must be finite in {kind}, got {data[row, column]} at {where}")
    cast.flags.writeable = False
    return cast


def _given(net: Network, kind: str) -> dict[int, NDArray[Any]]:
    """Return the given weights and biases by their positions in parameter_names."""
    laws = (law for layer in net.layers for law in (layer.weight, layer.bias))
    return {
        position: np.ascontiguousarray(law.array, dtype=kind)
        for position, law in enumerate(laws)
        if isinstance(law, Given)
    }


def _observed(
    net: Network, batch: int, arrays: dict[str, NDArray[Any]], collected: tuple[str, ...]
) -> Observed:
    arrays["count"] = np.array([batch * width for _, width in net.shapes], dtype=np.int64)
    return {name: arrays[name] for statistic in collected for name in COLLECTED[statistic]}
