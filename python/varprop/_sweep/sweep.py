"""Simulations over a grid of networks: what is to do, in which order, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from varprop import _loss, _spec
from varprop._core import __version__
from varprop._extras import require
from varprop._job import Method
from varprop._keys import STREAM_VERSION
from varprop._progress import Report, progress_bar
from varprop._sweep import quantities as _quantities
from varprop._sweep import store as _store
from varprop._sweep.agenda import Agenda
from varprop._sweep.cluster import Cluster, local
from varprop._sweep.grid import Grid
from varprop._sweep.outlines import Outlines
from varprop._sweep.quantities import LEVEL
from varprop._sweep.resume import begun, resumed
from varprop._sweep.store import Store
from varprop._sweep.task import Task
from varprop._sweep.work import Block, Work
from varprop._sweep.workers import ThisProcess, Workers
from varprop._threads import thread_count
from varprop._weights import dtype_name
from varprop.network import Network

if TYPE_CHECKING:
    import distributed
    import xarray

Errors = Literal["raise", "record"]


class PointError(RuntimeError):
    """A point of a sweep failed; the cause is the error that it raised."""

    __module__ = "varprop"


def sweep(
    build: Callable[..., Network],
    grid: Mapping[str, Iterable[Any]],
    *,
    inputs: int | ArrayLike = 100,
    trials: int = 10,
    seed: int = 0,
    quantities: str | Iterable[str] = ("log10_second_moment",),
    backward: bool = False,
    method: Method = "explicit",
    client: distributed.Client | None = None,
    store: str | PathLike[str] | Any | None = "phase.zarr",
    resume: bool = True,
    errors: Errors = "raise",
    progress: bool | Report = True,
    dtype: DTypeLike = "float32",
    loss: str = "gaussian",
    workers: int | None = None,
    threads: int | None = None,
) -> xarray.Dataset:
    """Simulate the networks of all points of a grid, and keep each as it is done.

    The numbers have the same bits whatever the number of workers, their threads and the order in
    which they end; a sweep that was stopped, by whatever, goes on where it was.

    Needs xarray and Zarr, and for a cluster Dask: ``pip install "varprop[sweep]"``.

    Parameters
    ----------
    build : callable
        Of a point's values, by name, the network: ``build(**point)``. It is called here, before
        anything is simulated, and on the workers.
    grid : mapping of str to iterable
        The values of each name; the points are all their combinations.
    inputs, trials, seed, backward, method, dtype, loss
        As in :func:`simulate`, the same at all points: networks of one seed share their draws, a
        wider layer's weights contain a narrower one's.
    quantities : str or iterable of str
        What to keep: the name of a statistic of the activations, "log10_second_moment",
        "correlation", "p98" ..., or of another signal, "gradients.log10_second_moment",
        "preactivations.mean", "weight_gradients.var" ... What they need is collected.
    client : distributed.Client, optional
        Of a Dask cluster; each of its workers' threads does a block of trials at a time. By default
        this process does one point after the other on all its threads.
    store : str, path, zarr store or None
        Where the points are kept: a folder, an address (``"s3://..."``), or what Zarr takes for a
        store. None: only in memory.
    resume : bool
        Whether to go on with a store that holds some points already.
    errors : {"raise", "record"}
        Whether a point that fails ends the sweep, or its error is kept, as the variable "error",
        and the others go on. With `resume` it is tried again.
    progress : bool or callable
        A bar on the terminal with the time left, or a function of the fraction done.
    workers : int, optional
        In place of a client: so many processes of one thread each, on this machine, for the time of
        the call. A script needs its ``if __name__ == "__main__":`` then.
    threads : int, optional
        Of each simulation: by default all cores here, one on workers.

    Returns
    -------
    xarray.Dataset
        A variable for each quantity, of the grid's names, "layer" (1, 2, ...: NaN beyond a
        network's last) and "statistic": "mean" and "std" over trials, "low" and "high", the ends of
        the 95% interval (:meth:`varprop.run.Statistics.interval`). Its attributes tell what it is
        of. ``dataset.varprop`` has pictures and fits: phase_diagram, depth_profile, boundary,
        scaling_exponent.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit; or the store belongs to another sweep, and the message says
        what differs. Nothing is written then.
    FileExistsError
        There is a sweep in the store, and `resume` is False.
    PointError
        A point failed, with the error as its cause.
    ConnectionError
        The cluster is lost.

    Examples
    --------
    >>> import varprop as vp
    >>> def build(sigma_w, depth):
    ...     return vp.mean_field_mlp(50, depth, "tanh", sigma_w)
    >>> found = vp.sweep(build, {"sigma_w": [0.5, 1.5], "depth": [10, 20]}, store=None)
    >>> dict(found.sizes)
    {'sigma_w': 2, 'depth': 2, 'layer': 20, 'statistic': 4}
    """
    points = Grid(grid)
    task = _task(build, inputs, seed, dtype, backward, loss, method, quantities, trials)
    for quantity in task.quantities:
        if quantity.name in points.values:
            raise ValueError(f"grid must not have the name of a quantity, got {quantity.name!r}")
    if errors not in get_args(Errors):
        raise _spec.unknown("errors", errors, get_args(Errors))
    if not isinstance(resume, bool):
        raise TypeError(f"resume must be True or False, got {resume!r}")
    if not (isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress must be True, False or a function, got {progress!r}")
    _check_employer(client, workers)
    threads = None if threads is None else thread_count(threads)
    where = _store.place(store)
    with progress_bar(progress) as report:
        outlines = Outlines(task, points, raises=errors == "raise")
        if errors == "raise":
            for position, error in outlines.errors.items():
                raise _failed(points, position, error) from error
        record = _record(task, points, outlines)
        kept = resumed(where, record, points, outlines, resume)
        work = Work(task, points, outlines.digests)
        with _employed(client, workers, threads, work) as staff:
            done = np.zeros(len(points), bool) if kept is None else kept.finished().ravel()
            if kept is None:
                kept = begun(where, record, points, outlines)
            _do(task, points, outlines, done, kept, staff, errors, report or (lambda _: None))
    found = _read(kept, with_errors=errors == "record")
    missing = found["last_layer"] == 0
    if lost := int((missing & (found["error"] == "") if "error" in found else missing).sum()):
        raise RuntimeError(
            f"{_store.named(where)} lacks {lost} points that were written: was it changed?"
        )
    return found


def open_sweep(store: str | PathLike[str] | Any) -> xarray.Dataset:
    """Return what a sweep has found so far, as :func:`sweep` returns it when all is done.

    Needs xarray and Zarr: ``pip install "varprop[sweep]"``.

    Parameters
    ----------
    store : str, path or zarr store
        As in :func:`sweep`.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no sweep.
    """
    return _read(_store.open_store(_store.place(store)))


def _read(store: Store, **how: bool) -> xarray.Dataset:
    from varprop._sweep.dataset import dataset

    return dataset(store, **how)


def _task(
    build: Callable[..., Network],
    inputs: int | ArrayLike,
    seed: int,
    dtype: DTypeLike,
    backward: bool,
    loss: str,
    method: str,
    quantities: str | Iterable[str],
    trials: int,
) -> Task:
    if not callable(build):
        raise TypeError(f"build must be a function that returns a Network, got {build!r:.80}")
    if not isinstance(backward, bool):
        raise TypeError(f"backward must be True or False, got {backward!r}")
    if method not in get_args(Method):
        raise _spec.unknown("method", method, get_args(Method))
    if loss not in _loss.TENSORS:
        raise _spec.unknown("loss", loss, _loss.TENSORS)
    return Task(
        build,
        _inputs(inputs),
        _spec.integer("seed", seed),
        dtype_name(dtype, ("float32", "float64")),
        backward,
        loss,
        method,
        _quantities.parse(quantities, backward=backward, method=method),
        _spec.integer("trials", trials, least=1),
    )


def _inputs(inputs: int | ArrayLike) -> int | NDArray[Any]:
    """Return the number of rows, or the rows, of the shape of which each network is asked."""
    if isinstance(inputs, (int, np.integer)):
        return _spec.integer("inputs", inputs, least=1)
    rows = np.asarray(inputs)
    if rows.dtype.kind not in "biuf":
        raise TypeError(f"inputs must hold real numbers, got {inputs!r:.80}")
    if rows.ndim < 2 or not rows.size:
        raise ValueError(f"inputs must have rows, got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("inputs must be finite")
    return rows


@contextmanager
def _employed(
    client: Any, workers: int | None, threads: int | None, work: Work
) -> Iterator[Workers]:
    """Yield those who do the work: this process, a client's cluster, or one for the time being."""
    if client is None and workers is None:
        yield ThisProcess(work, threads)
    elif workers is None:
        yield Cluster(client, work, threads or 1)
    else:
        with local(workers) as employed:
            yield Cluster(employed, work, threads or 1)


def _check_employer(client: Any, workers: int | None) -> None:
    if client is not None:
        if workers is not None:
            raise ValueError("give client or workers, not both")
        known = require("distributed", "sweep").Client
        if not isinstance(client, known) or client.asynchronous:
            raise TypeError(f"client must be a synchronous distributed.Client, got {client!r:.80}")
    elif workers is not None:
        _spec.integer("workers", workers, least=1)
        require("distributed", "sweep")


def _failed(grid: Grid, position: int, error: Exception) -> PointError:
    return PointError(f"at {grid.describe(position)}: {_said(error)}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _record(task: Task, grid: Grid, outlines: Outlines) -> _store.Record:
    """Return what a sweep was asked for, as JSON."""
    inputs: Any = task.inputs
    if not isinstance(inputs, int):
        hashed = blake2b(np.ascontiguousarray(inputs).tobytes(), digest_size=16)
        shape = " x ".join(map(str, inputs.shape))
        inputs = f"given, {shape}, {inputs.dtype}, BLAKE2b {hashed.hexdigest()}"
    return {
        "varprop_version": __version__,
        "stream_version": STREAM_VERSION,
        "grid": grid.labels,
        "quantities": [quantity.name for quantity in task.quantities],
        "inputs": inputs,
        "trials": task.trials,
        "seed": task.seed,
        "dtype": task.dtype,
        "backward": task.backward,
        "loss": task.loss if task.backward else None,
        "method": task.method,
        "level": LEVEL,
        "network": outlines.network,
        "layer_names": list(outlines.layer_names),
        "activations": list(outlines.activations),
        "build": task.source,
    }


def _do(
    task: Task,
    grid: Grid,
    outlines: Outlines,
    done: NDArray[np.bool_],
    kept: Store,
    workers: Workers,
    errors: Errors,
    report: Report,
) -> None:
    """Do all points that are not done yet, and keep each when it is whole."""
    seconds: dict[int, float] = {}
    for position in np.flatnonzero(~done).tolist():
        if position in outlines.errors:
            kept.fail(grid.index(position), _said(outlines.errors[position]))
        else:
            seconds[position] = float(outlines.seconds[position])
    agenda = Agenda(seconds, task.trials, lambda: workers.slots)

    def within(block: Block, part: float) -> None:
        report(agenda.fraction(block, part))

    for block, outcome in workers.do(agenda.blocks(), within):
        index = grid.index(block.position)
        if isinstance(outcome, Exception):
            if errors == "raise":
                raise _failed(grid, block.position, outcome) from outcome
            if agenda.drop(block):
                kept.fail(index, _said(outcome))
        elif (values := agenda.take(block, outcome)) is not None:
            kept.write(index, _quantities.kept(values, task.quantities, kept.layers))
        report(agenda.fraction())
    report(1.0)
