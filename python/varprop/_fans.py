"""Fans of a shape and gain of a nonlinearity: the numbers that scaled laws are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from varprop import _spec


def fans(shape: Sequence[int], layout: Literal["in_out", "out_in"] = "in_out") -> tuple[int, int]:
    """Return fan_in and fan_out of a weight's shape.

    Parameters
    ----------
    shape : sequence of int
        At least 2 dimensions.
    layout : {"in_out", "out_in"}
        Shape is (*kernel, in, out) as in Keras and JAX, or (out, in, *kernel) as in PyTorch.

    Returns
    -------
    fan_in, fan_out : int
        Channels times the kernel's size.

    Raises
    ------
    ValueError
        Fewer than 2 dimensions, a size below 1, or another layout.

    Examples
    --------
    >>> fans((3, 3, 16, 32)), fans((32, 16, 3, 3), layout="out_in")
    ((144, 288), (144, 288))
    """
    sizes = _spec.sizes("shape", shape)
    if layout not in ("in_out", "out_in"):
        raise _spec.unknown("layout", layout, ("in_out", "out_in"))
    if len(sizes) < 2:
        raise ValueError(f"fans need a shape of at least 2 dimensions, got {sizes}")
    if layout == "in_out":
        *kernel, inputs, outputs = sizes
    else:
        outputs, inputs, *kernel = sizes
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


# Squares, so that the variances made of them are exact.
_SQUARED_GAINS = {
    **dict.fromkeys(
        (
            *("linear", "sigmoid", "conv1d", "conv2d", "conv3d"),
            *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        ),
        1.0,
    ),
    "tanh": 25.0 / 9.0,
    "relu": 2.0,
    "leaky_relu": 2.0 / (1.0 + 0.01**2),
    "selu": 0.5625,
}


def squared_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the square of :func:`gain`."""
    if nonlinearity not in _SQUARED_GAINS:
        raise _spec.unknown("nonlinearity", nonlinearity, _SQUARED_GAINS)
    if nonlinearity == "leaky_relu" and param is not None:
        slope = _spec.real("param", param)
        return 2.0 / (1.0 + slope * slope)
    return _SQUARED_GAINS[nonlinearity]


def gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor on a weight's std that PyTorch recommends before a nonlinearity.

    The values of ``torch.nn.init.calculate_gain``, which derives none for tanh (5/3) and selu
    (3/4).

    Parameters
    ----------
    nonlinearity : str
        linear, conv1d ... conv_transpose3d, sigmoid, tanh, relu, leaky_relu or selu.
    param : float, optional
        Negative slope of leaky_relu, 0.01 if not given; the others ignore it.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Any other name.

    Examples
    --------
    >>> gain("relu"), gain("leaky_relu", 1.0)
    (1.4142135623730951, 1.0)
    """
    return math.sqrt(squared_gain(nonlinearity, param))
