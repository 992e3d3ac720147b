"""Propagation through a network of random weights: forward, and back for its gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from varprop import _catalogue, _job, _memory, _spec
from varprop._concat import concat
from varprop._progress import progress_bar
from varprop._statistics import Observed
from varprop.network import Network
from varprop.run import Run

__all__ = ["simulate"]

_FIRST_TRIALS = 10  # of a run that adds trials until its intervals are narrow


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
    method: Literal["explicit", "implicit"] = "explicit",
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
        features) or (batch, height, width, channels), the same in each trial.
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
    method : {"explicit", "implicit"}
        "implicit" draws what random weights do instead of the weights, exact in law, for dense
        layers of independent normal weights: of n units and a batch of B, B^2 n operations in place
        of B n^2. There are no weights then, and of their gradients mean and variance alone; with
        no bound on `memory` it keeps to about 1.5 GiB.
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
    bound = None if memory is None else _memory.size("memory", memory)
    job = _job.make(
        net,
        inputs,
        seed=seed,
        dtype=dtype,
        statistics=_catalogue.resolve(statistics),
        backward=backward,
        loss=loss,
        targets=targets,
        threads=threads,
        method=method,
    )

    def simulation(first: int, number: int, report: Callable[[float], object] | None) -> Run:
        core = job.core(first, number)
        observed = job.run(core, job.plan(core, number, bound), report)
        return Run(
            net,
            inputs=job.inputs,
            seed=seed,
            trials=number,
            first_trial=first,
            dtype=job.dtype,
            statistics=job.statistics,
            observed=_counted(net, job.batch, observed),
            loss=job.loss,
            targets=job.targets,
            precision=width if adaptive else None,
            method=job.method,
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
