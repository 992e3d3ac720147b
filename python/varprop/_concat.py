"""Runs of one network, joined into the run of all their trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop._statistics import Observed
from varprop.run import Run


def concat(runs: Iterable[Run]) -> Run:
    """Join runs of one network into the run of all their trials, the same to the bit.

    Parameters
    ----------
    runs : iterable of Run
        Each goes on with the trial after the last of the one before; all else is the same.

    Raises
    ------
    ValueError
        The runs differ in something else than their trials (the message says in what), or their
        trials do not follow each other.
    TypeError
        Something else than a run is among them.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([100] * 11)
    >>> whole = vp.simulate(net, inputs=50, trials=5)
    >>> parts = [vp.simulate(net, inputs=50, trials=n, first_trial=t) for t, n in ((0, 2), (2, 3))]
    >>> bool((vp.concat(parts).activations.var == whole.activations.var).all())
    True
    """
    if not isinstance(runs, Iterable):
        raise TypeError(f"runs must be an iterable of runs, got {type(runs).__name__}")
    runs = list(runs)
    if not runs:
        raise ValueError("runs must hold at least one run")
    for position, run in enumerate(runs):
        if not isinstance(run, Run):
            raise TypeError(f"runs[{position}] must be a Run, got {type(run).__name__}")
    first, trial = runs[0], runs[0].first_trial
    for position, run in enumerate(runs):
        if run.network != first.network:
            raise ValueError(f"runs must have one network, that of runs[{position}] is another")
        for what in ("seed", "dtype", "statistics", "batch", "loss", "method"):
            ours, theirs = getattr(first, what), getattr(run, what)
            if ours != theirs:
                raise ValueError(
                    f"runs must have one {what}, got {ours!r} in runs[0] "
                    f"and {theirs!r} in runs[{position}]"
                )
        for what in ("inputs", "targets"):
            given = f"given_{what}"
            if not _same_array(getattr(first, given), getattr(run, given)):
                raise ValueError(
                    f"runs must have the same {what}, those of runs[{position}] differ"
                )
        if run.first_trial != trial:
            raise ValueError(
                f"runs must follow each other: runs[{position}] must start with trial {trial}, "
                f"got {run.first_trial}"
            )
        trial += run.trials
    return Run(
        first.network,
        inputs=first.batch if first.given_inputs is None else first.given_inputs,
        seed=first.seed,
        trials=trial - first.first_trial,
        first_trial=first.first_trial,
        dtype=first.dtype,
        statistics=first.statistics,
        observed={
            signal: _joined([run.observed[signal] for run in runs]) for signal in first.observed
        },
        loss=first.loss,
        targets=first.given_targets,
        precision=first.precision if len({run.precision for run in runs}) == 1 else None,
        method=first.method,
        out_of_range=[event for run in runs for event in run.out_of_range],
    )


def _same_array(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def _joined(parts: list[Observed]) -> Observed:
    return {
        key: values if key == "count" else np.concatenate([part[key] for part in parts])
        for key, values in parts[0].items()
    }
