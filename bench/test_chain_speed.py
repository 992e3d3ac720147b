"""How fast signals go through a network, and back: ``pytest bench``; not among the tests."""

import pytest

import varprop as vp
from varprop.activations import NAMES


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [10, 100, 128, 512, 1000, 2048])
def test_width(benchmark, width, dtype):
    net = vp.mlp([width] * 4, "relu", weight="kaiming_normal")
    benchmark(vp.simulate, net, 512, trials=1, dtype=dtype, threads=1)


@pytest.mark.parametrize("activation", NAMES)
def test_activation(benchmark, activation):
    net = vp.mlp([512] * 4, activation)
    benchmark(vp.simulate, net, 512, trials=1, threads=1)


@pytest.mark.parametrize("law", ["uniform", "normal", "he_normal", "truncated_normal(low=-3)"])
def test_law(benchmark, law):
    net = vp.mlp([512] * 4, "relu", weight=law)
    benchmark(vp.simulate, net, 512, trials=1, threads=1)


@pytest.mark.parametrize("statistics", ["extremes", "histogram", "correlation", "saturation"])
def test_statistics(benchmark, statistics):
    net = vp.mlp([512] * 4, "tanh")
    benchmark(vp.simulate, net, 128, trials=1, statistics=statistics, threads=1)


@pytest.mark.parametrize("loss", ["gaussian", "mse", "softmax_cross_entropy"])
def test_both_ways(benchmark, loss):
    net = vp.mlp([1000] * 5 + [10], "tanh", weight="torch_linear")
    benchmark(vp.simulate, net, 300, trials=1, backward=True, loss=loss, threads=1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("trials", [1, 8])
def test_threads(benchmark, trials, threads):
    net = vp.mlp([512] * 9, "relu", weight="kaiming_normal")
    benchmark(vp.simulate, net, 512, trials=trials, threads=threads)


def test_deep(benchmark):
    net = vp.mlp([100] * 101, "linear")
    benchmark(vp.simulate, net, 500, trials=1, threads=1)


def test_call(benchmark):
    net = vp.mlp([16, 16, 16], "relu")
    benchmark(vp.simulate, net, 16, trials=1, threads=1)
