"""The exact laws of mean squares in chains of Gaussian layers, signal by signal, for one input."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from varprop.layers import Dense
from varprop.network import Network
from varprop.theory import _law_moments, finite
from varprop.theory.gaussian import Array


class Logarithm(NamedTuple):
    """ln of the mean square of a signal, where it is not zero: arrays of shape (layers,).

    `skew` is how far the mean is from that of a normal logarithm, mean - (ln E - variance / 2), E
    being that of those that are not zero; `alive` is ln of their share.
    """

    mean: Array
    variance: Array
    skew: Array
    alive: Array

    def plus(self, mean: float, variance: float = 0.0, skew: float = 0.0) -> Logarithm:
        """Return the law of the product with an independent factor."""
        return Logarithm(self.mean + mean, self.variance + variance, self.skew + skew, self.alive)


class Chain(NamedTuple):
    """The laws for an input of mean square 1, and a cotangent of standard normals.

    Where `gaussian` is false, the weights have another law, and these are those of normal ones.
    """

    preactivations: Logarithm
    activations: Logarithm
    gradients: Logarithm
    gaussian: bool


def chain(net: Network, features: int) -> Chain | None:
    """Return the laws of a chain of linear and ReLU layers without biases; None of other networks.

    A layer's ratio of mean squares is that of :func:`finite.linear` or :func:`finite.relu`,
    whatever enters it; going back it is the same, as behind ReLUs the Jacobian has the law that
    it has with coins for slopes, drawn apart from the weights (Hanin and Nica 2019).

    Parameters
    ----------
    net : Network
    features : int
        The inputs are so many standard normals; 0 where they are given.
    """
    kinds, std, gaussian = [], [], True
    for step in net.steps:
        layer, shape = step.layer, step.weight_shape
        if not isinstance(layer, Dense) or len(step.input_shape) != 1 or shape is None:
            return None
        if layer.activation.name not in ("linear", "relu"):
            return None
        if layer.bias is not None and _law_moments.moments(layer.bias, shape[-1:]) != (0.0, 0.0):
            return None
        tails = _law_moments.excess_kurtosis(layer.weight)
        variance = _law_moments.moments(layer.weight, shape)[1]
        if tails is None or variance == 0.0:
            return None
        gaussian = gaussian and tails == 0.0
        kinds.append(layer.activation.name)
        std.append(math.log(variance))
    fan_in, width = np.array(net.shapes).T
    after = np.array([_layer(kind, n) for kind, n in zip(kinds, width.tolist(), strict=True)]).T
    before = np.array([_layer("linear", n) for n in width.tolist()]).T
    inputs = np.array(_layer("linear", features) if features else (0.0,) * 4)[:, None]
    out = np.cumsum(after, axis=1) + inputs
    into = out - after + before
    back = np.cumsum(after[:, ::-1], axis=1)[:, ::-1]
    back[3] = back[3, 0]  # slopes are zero where the signal has died
    out[0] += np.cumsum(std + np.log(fan_in))
    into[0] += np.cumsum(std + np.log(fan_in))
    above = np.append((std + np.log(width))[1:], 0.0)
    back[0] += np.cumsum(above[::-1])[::-1]
    return Chain(Logarithm(*into), Logarithm(*out), Logarithm(*back), gaussian)


@lru_cache(maxsize=1024)
def _layer(kind: str, width: int) -> tuple[float, float, float, float]:
    """Return mean, variance, skew and alive of ln of a layer's factor, sigma_w being 1."""
    law = finite.linear([1, width]) if kind == "linear" else finite.relu([1, width], 1.0)
    mean, variance, alive = (float(x[0]) for x in (law.mean_log, law.var_log, law.alive))
    return mean, variance, mean + 0.5 * variance - math.log(law.mean[0] / alive), math.log(alive)
