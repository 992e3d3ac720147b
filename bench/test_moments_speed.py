"""How fast moments of arrays are taken: ``pytest bench``; it does not run with the tests."""

import pytest

import varprop as vp

SHAPE = (1000, 1000)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_axis(benchmark, axis, dtype):
    benchmark(vp.Moments(axis).update, vp.weights(SHAPE, "normal", dtype=dtype))


def test_transposed(benchmark):
    benchmark(vp.Moments().update, vp.weights(SHAPE, "normal").T)


def test_small(benchmark):
    benchmark(vp.Moments().update, vp.weights((10, 10), "normal"))


def test_merge(benchmark):
    first, second = vp.Moments(0), vp.Moments(0)
    for moments in (first, second):
        moments.update(vp.weights(SHAPE, "normal"))
    benchmark(first.merge, second)
