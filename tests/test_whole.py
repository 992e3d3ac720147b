"""Signals that the core returns whole, of one trial: against the reference, and to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from networks import NETWORKS, network

from varprop import _job, reference

BATCH = 30


def whole(name: str, *, dtype: str = "float64", threads: int = 1, trial: int = 2) -> dict:
    job = _job.make(
        network(name), BATCH, seed=7, dtype=dtype, backward=True, loss="mse", threads=threads
    )
    core = job.core(trial, 1)
    everything = range(len(job.net.steps))
    return job.run(core, job.plan(core, 1), activations=everything, parameters=True)["whole"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_the_reference(name: str, dtype: str) -> None:
    net = network(name)
    found = whole(name, dtype=dtype)
    options = {"seed": 7, "trial": 2, "dtype": dtype}
    forward = list(reference.chain(net, BATCH, **options))
    back = list(reference.backward(net, BATCH, "mse", **options))[::-1]
    # Deepest sums have some hundred terms; differences stand in for a slope that is not given.
    tolerance = 2e-4 if dtype == "float32" else 1e-9

    def check(one: np.ndarray, other: np.ndarray) -> None:
        size = np.sqrt(np.mean(other**2))
        assert np.max(np.abs(one.reshape(other.shape) - other)) <= tolerance * 10 * size

    for one, other in zip(found["activations"], forward, strict=True):
        check(one, other.activations)
    weights = [layer.weights for layer in back if layer.weights is not None]
    biases = [layer.bias for layer in back if layer.bias is not None]
    for one, other in zip(found["weight_gradients"], weights, strict=True):
        check(one, other)
    for one, other in zip(found["bias_gradients"], biases, strict=True):
        check(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_change_no_bit(name: str) -> None:
    one, two = (whole(name, dtype="float32", threads=threads) for threads in (1, 3))
    for signal, arrays in one.items():
        for some, others in zip(arrays, two[signal], strict=True):
            assert some.tobytes() == others.tobytes()


def test_what_is_not_asked_for_is_not_there() -> None:
    job = _job.make(network("residual"), 5, seed=0, dtype="float32")
    core = job.core(0, 1)
    found = job.run(core, job.plan(core, 1), activations=[1])
    assert [array is None for array in found["whole"]["activations"]] == [True, False, True, True]
    assert "weight_gradients" not in found["whole"]
    assert "whole" not in job.run(core, job.plan(core, 1))
