"""Fans of shapes in both layouts, and PyTorch's table of gains."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from varprop.initializers import fans, gain


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((64, 10), "in_out", (64, 10)),
        ((10, 64), "out_in", (64, 10)),
        ((3, 3, 16, 32), "in_out", (144, 288)),
        ((32, 16, 3, 3), "out_in", (144, 288)),
        ((5, 2, 7), "in_out", (10, 35)),
        ([7, 2, 5], "out_in", (10, 35)),
        ((1, 2, 3, 4, 5), "in_out", (24, 30)),
    ],
)
def test_fans(shape, layout, expected):
    assert fans(shape, layout=layout) == expected
    assert fans(np.array(shape), layout=layout) == expected


@pytest.mark.parametrize(
    ("shape", "layout", "error", "message"),
    [
        ((5,), "in_out", ValueError, "at least 2 dimensions, got .5,."),
        ((), "out_in", ValueError, "at least 2 dimensions, got .."),
        ((5, 0), "in_out", ValueError, "shape.1. must be an integer >= 1, got 0"),
        ((5, 2.0), "in_out", TypeError, "shape.1. must be an integer, got 2.0"),
        (5, "in_out", TypeError, "shape must be a tuple of integers, got 5"),
        ((5, 5), "out_inn", ValueError, "unknown layout 'out_inn': did you mean 'out_in'?"),
    ],
)
def test_fans_errors(shape, layout, error, message):
    with pytest.raises(error, match=message):
        fans(shape, layout=layout)


@pytest.mark.parametrize(
    ("name", "param", "expected"),
    [
        ("linear", None, 1.0),
        *((f"conv{n}d", None, 1.0) for n in (1, 2, 3)),
        *((f"conv_transpose{n}d", None, 1.0) for n in (1, 2, 3)),
        ("sigmoid", None, 1.0),
        ("tanh", None, 5 / 3),
        ("relu", None, 1.4142135623730951),
        ("relu", 3.0, 1.4142135623730951),
        ("leaky_relu", None, sqrt(2 / 1.0001)),
        ("leaky_relu", 0, 1.4142135623730951),
        ("leaky_relu", 0.2, sqrt(2 / 1.04)),
        ("leaky_relu", sqrt(5.0), sqrt(1 / 3)),
        ("selu", None, 0.75),
    ],
)
def test_gain(name, param, expected):
    assert gain(name, param) == pytest.approx(expected, rel=1e-15)


def test_gain_errors():
    with pytest.raises(
        ValueError, match=r"unknown nonlinearity 'gelu': did you mean .* One of: li"
    ):
        gain("gelu")
    with pytest.raises(TypeError, match="param must be a number, got 'a'"):
        gain("leaky_relu", "a")
