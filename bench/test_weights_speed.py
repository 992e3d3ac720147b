"""How fast weights are drawn: ``pytest bench``; it does not run with the tests."""

import numpy as np
import pytest

import varprop as vp

SHAPE = (1000, 1000)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("law", ["uniform", "normal", "he_normal", "truncated_normal(low=-3)"])
def test_law(benchmark, law, dtype):
    out = vp.weights(SHAPE, law, dtype=dtype)
    benchmark(vp.weights, SHAPE, law, dtype=dtype, out=out, threads=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads(benchmark, threads):
    out = np.empty((4000, 4000), np.float32)
    benchmark(vp.weights, out.shape, "normal", out=out, threads=threads)


def test_transposed(benchmark):
    out = np.empty(SHAPE, np.float32).T
    benchmark(vp.weights, SHAPE, "normal", out=out, threads=1)


def test_narrow(benchmark):
    benchmark(vp.weights, (100_000, 10), "normal", threads=1)


def test_every_other_column(benchmark):
    region = (slice(None), slice(None, None, 2))
    benchmark(vp.weights, SHAPE, "normal", region=region, threads=1)


def test_orthogonal(benchmark):
    benchmark(vp.weights, (500, 500), "orthogonal", threads=1)


def test_call(benchmark):
    benchmark(vp.weights, (2, 2), "normal", threads=1)
