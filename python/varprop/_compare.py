"""Two parametrizations side by side: whether they are one function, and train alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from varprop import _job, _memory, _spec
from varprop._comparison import OPTIMIZERS, Comparison, stretches
from varprop._job import Job
from varprop._progress import progress_bar
from varprop._stepper import DIRECTIONS, Array, Stepper, tensors
from varprop.network import Network, root_mean_square

__all__ = ["compare"]


def compare(
    net_a: Network,
    net_b: Network,
    inputs: int | ArrayLike = 100,
    *,
    targets: ArrayLike | None = None,
    loss: str = "mse",
    trials: int = 1,
    seed: int = 0,
    dtype: DTypeLike = "float64",
    learning_rates: Mapping[str, float] | None = None,
    eps: float = 1e-8,
    threads: int | None = None,
    progress: bool | Callable[[float], object] = False,
) -> Comparison:
    """Draw two networks from the same seed, and say whether and why they train differently.

    Gradients decide: where a weight of `net_b` is r times that of `net_a` in the same function, its
    gradient is r times smaller. The same learning rate then moves the outputs r^2 times less with
    SGD and momentum, and r times less with Adam, whose eps weighs r times more. Multiplied by r^2
    and r, with eps divided by r, the learning rates make both networks take the same step, and all
    that follow.

    Parameters
    ----------
    net_a, net_b : Network
        With weights and biases of the same names and shapes, such as :func:`rescale` returns.
    inputs : int or array
        Number of examples, drawn; or the data, shape (batch, features) or a batch of images.
    targets : array, optional
        What the loss compares with; drawn where not given.
    loss : {"mse", "softmax_cross_entropy", "bce", "gaussian"}
        As in :func:`simulate`.
    trials : int
        Number of draws of all weights.
    seed : int
        Any integer >= 0.
    dtype : {"float64", "float32"}
        Small steps need the digits of float64.
    learning_rates : mapping, optional
        Of "sgd", "momentum" and "adam": by default 0.01, 0.01 and 0.001.
    eps : float
        Adam's; 1e-8 is PyTorch's and 1e-7 Keras's.
    threads : int, optional
        By default as many as there are cores.
    progress : bool or callable
        A bar on the terminal, or a function of the fraction done.

    Returns
    -------
    Comparison
        Printed, it explains in words.

    Raises
    ------
    ValueError, TypeError
        Networks whose parameters, inputs or outputs differ in name or shape, or an argument that
        does not fit, before any work.

    Notes
    -----
    Gradients by the weights are held whole here, and a network is run once for each of its weights
    and biases and each optimizer. The first step of momentum is that of SGD.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([64, 100, 10], "tanh")
    >>> found = compare(net, vp.rescale(net, {"dense1": 3.0}), inputs=20)
    >>> found.same_function, round(float(found.multipliers["sgd"]["dense1.weight"]), 6)
    (True, 9.0)
    """
    _check_networks(net_a, net_b)
    trials = _spec.integer("trials", trials, least=1)
    rates = _rates(learning_rates)
    eps = _spec.real("eps", eps, least=0.0)
    jobs = [
        _job.make(
            net,
            inputs,
            seed=seed,
            dtype=dtype,
            backward=True,
            loss=loss,
            targets=targets,
            threads=threads,
        )
        for net in (net_a, net_b)
    ]
    names = [tensor.name for tensor in tensors(net_a.steps)]
    _memory.require(sum(map(_bytes, jobs)), f"a comparison of {jobs[0].batch} examples")
    runs = trials * (2 + len(DIRECTIONS) * 2 * len(names) + 3 * len(OPTIMIZERS))
    done = count(1)
    measured: dict[str, list[Array]] = {}
    with progress_bar(progress) as report:

        def run_done() -> None:
            if report is not None:
                report(next(done) / runs)

        for trial in range(trials):
            a, b = (Stepper(job, trial, eps, run_done) for job in jobs)
            for key, values in _measured(a, b, names, rates).items():
                measured.setdefault(key, []).append(np.asarray(values))
    return Comparison(
        net_a,
        net_b,
        batch=jobs[0].batch,
        trials=trials,
        seed=seed,
        dtype=jobs[0].dtype,
        loss=loss,
        learning_rates=rates,
        eps=eps,
        parameters=tuple(names),
        measured={key: np.stack(values) for key, values in measured.items()},
    )


def _measured(
    a: Stepper, b: Stepper, names: list[str], rates: Mapping[str, float]
) -> dict[str, Any]:
    """Return what a trial tells: arrays by network and parameter, or by optimizer."""
    sides = (a, b)
    found: dict[str, Any] = {
        "difference": np.max(np.abs(b.outputs - a.outputs)),
        "size": np.max(np.abs(a.outputs)),
        "layer_difference": [_nearest(*both) for both in zip(a.signals, b.signals, strict=True)],
        "weights": [[root_mean_square(side.parameters[n]) for n in names] for side in sides],
        "gradients": [[root_mean_square(side.gradients[n]) for n in names] for side in sides],
    }
    for kind in DIRECTIONS:
        found[f"direction {kind}"] = [
            [root_mean_square(side.direction(kind, name)) for name in names] for side in sides
        ]
        found[f"sensitivity {kind}"] = [
            [side.sensitivity(kind, name) for name in names] for side in sides
        ]
    found_stretches = np.nan_to_num(stretches(found["weights"], found["gradients"]), nan=1.0)
    stretch = dict(zip(names, found_stretches.tolist(), strict=True))
    for optimizer, (kind, _, power) in OPTIMIZERS.items():
        rate = rates[optimizer]
        wanted = a.movement({name: rate * a.direction(kind, name) for name in names})
        as_it_is = b.movement({name: rate * b.direction(kind, name) for name in names})
        multiplied = b.movement(
            {
                name: rate * r**power * b.direction(kind, name, b.eps / r)
                for name, r in stretch.items()
            }
        )
        size = root_mean_square(wanted) or 1.0
        found[f"mismatch {optimizer}"] = [
            root_mean_square(moved - wanted) / size for moved in (as_it_is, multiplied)
        ]
    return found


def _nearest(some: list[Array], others: list[Array]) -> float:
    """Return the difference, relative to their size, between the two signals that are nearest."""
    differences = [
        float(np.max(np.abs(x - y)) / (np.max(np.abs(x)) or 1.0))
        for x in some
        for y in others
        if x.shape == y.shape
    ]
    return min(differences, default=float("nan"))


def _bytes(job: Job) -> int:
    """Return the bytes of the signals and parameters that are held whole."""
    signals = job.batch * int(job.net.sizes["activations"].sum())
    parameters = sum(prod(tensor.shape) for tensor in tensors(job.net.steps))
    return 8 * (signals + 4 * parameters)


def _check_networks(net_a: Network, net_b: Network) -> None:
    """Raise the error of networks that cannot be compared."""
    for argument, net in (("net_a", net_a), ("net_b", net_b)):
        if not isinstance(net, Network):
            raise TypeError(f"{argument} must be a Network, got {type(net).__name__}")
    for what in ("input_shape", "output_shape"):
        shapes = getattr(net_a, what), getattr(net_b, what)
        if shapes[0] != shapes[1]:
            raise ValueError(f"{what} must be that of both networks, got {shapes[0]}, {shapes[1]}")
    a, b = ({t.name: t.shape for t in tensors(net.steps)} for net in (net_a, net_b))
    if not a:
        raise ValueError("net_a and net_b must have weights or biases, they have none")
    for name in a | b:
        if a.get(name) != b.get(name):
            have = " and ".join(str(net.get(name, "missing")) for net in (a, b))
            raise ValueError(
                "net_a and net_b must have weights and biases of the same names and shapes, "
                f"{name!r} is {have}"
            )
    if list(a) != list(b):
        raise ValueError("net_a and net_b must have their weights and biases in the same order")


def _rates(learning_rates: Mapping[str, float] | None) -> dict[str, float]:
    """Return the learning rate of every optimizer."""
    if learning_rates is not None and not isinstance(learning_rates, Mapping):
        raise TypeError(f"learning_rates must be a mapping, got {learning_rates!r:.80}")
    rates = {name: optimizer.rate for name, optimizer in OPTIMIZERS.items()}
    for name, rate in (learning_rates or {}).items():
        if name not in rates:
            raise _spec.unknown("optimizer in learning_rates", name, rates)
        rates[name] = _spec.real(f"learning_rates[{name!r}]", rate, least=0.0)
    return rates
