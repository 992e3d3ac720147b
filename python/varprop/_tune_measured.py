"""The factors on weights that bring measured pre-activations to variance 1, layer after layer."""

from __future__ import annotations

import math
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from varprop import activations
from varprop._compile import Step
from varprop._job import Job
from varprop._tune_report import Factors, blocks, untuned
from varprop._weights import weights
from varprop.initializers import Law
from varprop.layers import Conv2d, Dense, Dropout
from varprop.reference import layers

Array = NDArray[np.float64]
Parameters = tuple[Array | None, Array | None]  # weights and biases

LINEAR = activations.resolve("linear")

_HALVINGS = 100


def factors(job: Job, trials: int) -> Factors:
    """Return what to multiply weights by, from one pass of all trials side by side.

    Of a layer, the products X W are made once: biases apart, a factor on W is one on them.
    """
    net, found = job.net, Factors({}, untuned(job.net))
    tuned = dict(blocks(net))
    x = [_inputs(job, trial) for trial in range(trials)]
    branched = {step.skip for step in net.steps}
    kept = {-1: x}
    for position, step in enumerate(net.steps):
        drawn = [_parameters(job, step, trial) for trial in range(trials)]
        if position in tuned:
            x = _tuned(step, x, drawn, found)
        else:
            skips = x if step.skip is None else kept[step.skip]
            x = [
                layers.forward(step, a, skip, w, b, _mask(job, step, trial))[1]
                for trial, (a, skip, (w, b)) in enumerate(zip(x, skips, drawn, strict=True))
            ]
        if position in branched:
            kept[position] = x
    return found


def _tuned(step: Step, x: list[Array], drawn: list[Parameters], found: Factors) -> list[Array]:
    """Return the activations of a layer, its factor found."""
    assert isinstance(step.layer, Dense | Conv2d)
    phi = step.layer.activation
    plain = step._replace(layer=replace(step.layer, activation=LINEAR))
    products = [
        layers.forward(plain, a, a, w, None, None)[0] for a, (w, _) in zip(x, drawn, strict=True)
    ]
    nothing = np.zeros(step.output_shape[-1])
    biases = [nothing if b is None else b for _, b in drawn]
    factor = _factor(products, biases)
    if isinstance(factor, str):
        found.left[step.name] = factor
        factor = 1.0
    else:
        found.by_layer[step.name] = factor
    return [phi.value(factor * a + b) for a, b in zip(products, biases, strict=True)]


def _factor(products: list[Array], biases: list[Array]) -> float | str:
    """Return f with a mean over trials of log var(f products + biases) of 0, or why there is none.

    A trial whose products are all 0 has no say.
    """
    moments = []
    for a, b in zip(products, biases, strict=True):
        off, shift = a - a.mean(), b - b.mean()
        moments.append(((off * off).mean(), (off * shift).mean(), (shift * shift).mean()))
    square, both, bias = np.array(moments).T
    if not np.isfinite(square).all():
        return "its products leave the range of floats"
    alive = square > 0.0
    if not alive.any():
        return "its products are 0"
    square, both, bias = square[alive], both[alive], bias[alive]

    def logarithm(log_factor: float) -> float:
        f = math.exp(log_factor)
        return float(np.log(f * f * square + 2.0 * f * both + bias).mean())

    guess = -0.5 * float(np.log(square).mean())
    if not bias.any():
        return math.exp(guess)
    if bias.all() and np.log(bias).mean() >= 0.0:
        return f"its biases have variance {math.exp(np.log(bias).mean()):.4g}"
    low = high = guess
    while logarithm(low) > 0.0:
        low -= 1.0
    while logarithm(high) < 0.0:
        high += 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if logarithm(middle) > 0.0 else (middle, high)
    return math.exp(high)


def _draw(job: Job, name: str, law: str | Law, shape: tuple[int, ...], trial: int) -> Array:
    array = weights(
        shape, law, seed=job.seed, name=name, trial=trial, dtype=job.dtype, threads=job.threads
    )
    return np.asarray(array, np.float64)


def _inputs(job: Job, trial: int) -> Array:
    if job.given is not None:
        return np.asarray(job.given, np.float64)
    return _draw(job, "input", "normal", (job.batch, *job.net.input_shape), trial)


def _parameters(job: Job, step: Step, trial: int) -> Parameters:
    drawn = {
        part: _draw(job, f"{step.name}.{part}", law, shape, trial)
        for part, (law, shape) in step.layer.parameters(step.input_shape).items()
    }
    return drawn.get("weight"), drawn.get("bias")


def _mask(job: Job, step: Step, trial: int) -> NDArray[np.bool_] | None:
    """Return which numbers dropout keeps; None for other layers."""
    if not isinstance(step.layer, Dropout):
        return None
    rows = (job.batch * prod(step.input_shape[:-1]), step.input_shape[-1])
    drawn = _draw(job, f"{step.name}.mask", "uniform(-1, 1)", rows, trial)
    kept: NDArray[np.bool_] = drawn > 2.0 * step.layer.rate - 1.0
    return kept.reshape(job.batch, *step.input_shape)
