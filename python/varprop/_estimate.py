"""How long a run will take and how much memory, told before it: from moments of measuring."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np

from varprop import _job
from varprop._compile import Step
from varprop._job import Job
from varprop._layer import Layer
from varprop._weights import weights
from varprop.initializers import DeltaOrthogonal, Law, Normal, Orthogonal, Scaled
from varprop.layers import Activation, Conv2d, Dense, Dropout, Elementwise
from varprop.network import Network

_LANES = 16  # columns that a product computes together
_NARROW = 8  # channels out of a convolution up to which it does not
_LAYER = 3e-7  # seconds of a layer beside its numbers
_LARGE = 1 << 25  # bytes of a signal from which its memory is the system's, fresh in each run ...
_FRESH = 8e-11  # ... and seconds that a byte of it takes
_HOST = 3e-8  # seconds for each number of a function of Python's, and of its derivative
_REPEATS = 5  # of a measurement, of which the shortest counts
_NOMINAL = 2e-11, 5e-10, 5e-10  # seconds of a multiply-add, a number that passes, a draw


class Estimate(NamedTuple):
    """What a run takes: seconds, and bytes beside the interpreter."""

    seconds: float
    bytes: int


class Work(NamedTuple):
    """What there is to do in a trial: multiply-adds, numbers that pass, numbers to draw."""

    products: float = 0.0
    passes: float = 0.0
    draws: float = 0.0
    others: float = 0.0
    """Seconds of what does not hang on the machine's arithmetic."""

    def __add__(self, more: Work) -> Work:  # type: ignore[override]
        return Work(*(a + b for a, b in zip(self, more, strict=True)))

    def seconds(self, product: float, passing: float, draw: float) -> float:
        """Return the time, from that of one of each."""
        return self.products * product + self.passes * passing + self.draws * draw + self.others


def estimate(job: Job, trials: int, bound: int | None = None) -> Estimate:
    """Return what a run will take, within about a factor of two.

    Raises
    ------
    ValueError, MemoryError
        It will not fit, as simulate would say.
    """
    core = job.core(0, trials)
    plan = job.plan(core, trials, bound)
    size = np.dtype(job.dtype).itemsize
    work = sum((_work(step, job, size) for step in job.net.steps), start=Work())
    seconds = trials * work.seconds(*_rates(job))
    if job.loss is not None and plan.kept < len(job.net.steps):
        seconds *= 4 / 3  # one of three products once more
    return Estimate(seconds, job.memory(core, trials, plan))


def nominal(job: Job) -> float:
    """Return about how many seconds a trial takes on one core, of no machine in particular."""
    size = np.dtype(job.dtype).itemsize
    work = sum((_work(step, job, size) for step in job.net.steps), start=Work())
    return work.seconds(*_NOMINAL) * (1 if job.loss is None else 3)


def _work(step: Step, job: Job, size: int) -> Work:
    layer, batch = step.layer, job.batch
    numbers = batch * prod(step.output_shape)
    law, shape = layer.parameters(step.input_shape).get("weight", (None, ()))
    others = _LAYER + (_HOST * numbers if isinstance(layer, Elementwise) else 0.0)
    if numbers * size > _LARGE:
        others += _FRESH * numbers * size
    if law is None:
        return Work(0.0, numbers, numbers if isinstance(layer, Dropout) else 0.0, others)
    *rows, width = shape
    if job.method == "implicit":
        return _implied(batch * prod(step.output_shape[:-1]), rows[0], width) + Work(others=others)
    computed = -(-width // _LANES) * _LANES
    if isinstance(layer, Conv2d) and (width <= _NARROW or layer.groups == width):
        computed = width  # lanes go elsewhere
    products = batch * prod(step.output_shape[:-1]) * prod(rows) * computed
    return Work(products + _forming(law, shape), numbers, prod(shape), others)


def _implied(rows: int, fan_in: int, width: int) -> Work:
    """Return the work of a layer of implicit weights, where they are normals: no more than rows."""
    normals = min(rows, fan_in)
    return Work(rows * normals * (fan_in + width), rows * width, normals * width)


def _forming(law: Law, shape: tuple[int, ...]) -> float:
    """Return the multiply-adds that forming a matrix is worth, with LAPACK's QR at its pace."""
    law = law.of if isinstance(law, Scaled) else law
    if isinstance(law, Orthogonal):
        rows, columns = prod(shape[:-1]), shape[-1]
    elif isinstance(law, DeltaOrthogonal):
        rows, columns = shape[-2:]
    else:
        return 0.0
    return 50.0 * rows * columns * min(rows, columns)


def _rates(job: Job) -> tuple[float, float, float]:
    """Measure the seconds of a multiply-add, of a number that passes a layer, and of a draw.

    With the dtype, statistics and threads of the job, and both ways if it goes both.
    """
    implicit = job.method == "implicit"
    rows, width, count = (24, 1 << 13, 1 << 18) if implicit else (240, 512, 1 << 18)
    draw = _shortest(
        lambda: weights((count, 4), "normal", dtype=job.dtype, threads=job.threads)
    ) / (4 * count)
    passing = _trial(job, [Activation("tanh")] * 4, width, rows) / (4 * rows * width)
    layer = Dense(width, "tanh", Normal(width**-0.5), bias=None)
    whole = _trial(job, [layer], width, rows)
    work = Work(rows * width * width, rows * width, width * width)
    if implicit:
        work = _implied(rows, width, width)
    product = whole - passing * work.passes - draw * work.draws
    least = whole / 3  # were the others measured while the machine was busy
    return max(product, least) / work.products, passing, draw


def _trial(job: Job, layers: list[Layer], width: int, rows: int) -> float:
    """Return the seconds of one trial of a small network, of as many as there are threads."""
    small = _job.make(
        Network(width, layers),
        np.cos(np.arange(rows * width, dtype=np.float64)).reshape(rows, width),
        seed=0,
        dtype=job.dtype,
        statistics=job.statistics,
        backward=job.loss is not None,
        threads=job.threads,
        method=job.method,
    )
    core = small.core(0, job.threads)
    plan = small.plan(core, job.threads)
    return _shortest(lambda: small.run(core, plan)) / job.threads


def _shortest(action: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)
