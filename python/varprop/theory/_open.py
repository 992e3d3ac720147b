"""What a width may do where it is not derived: about 1/fan_in for each layer of weights."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from varprop.layers import Activation, Conv2d, Dense, Elementwise, LayerNorm, Residual, RMSNorm
from varprop.network import Network
from varprop.theory import _law_moments
from varprop.theory._propagate import Propagation
from varprop.theory.gaussian import Array

_NORM = 3.0  # of gradients by norms, over width - 4: E 1/|x|^2 has poles at the least widths
_TAIL = 0.15  # of pre-activations that are not normal, times their excess kurtosis


class Open(NamedTuple):
    """How far ln of second moments may be from infinite width: arrays of shape (layers,)."""

    preactivations: Array
    activations: Array
    gradients: Array


def left_open(net: Network, found: Propagation, kurtosis: float) -> Open:
    """Return what theory leaves open.

    Weights keep means of squares as they are, whatever the width; the function behind them does
    not, unless it is linear or, in a chain, of the ReLU family. A norm makes good what was before.

    Parameters
    ----------
    net : Network
    found : Propagation
    kurtosis : float
        E x^4 / (E x^2)^2 of the inputs.
    """
    count = len(net.steps)
    before, after, back = np.zeros((3, count))
    chain = not any(step.skip is not None for step in net.steps)
    made, first = 0.0, True  # by the weights last met
    for i, step in enumerate(net.steps):
        layer, x = step.layer, after[i - 1] if i else 0.0
        before[i] = after[i] = x
        if isinstance(layer, Dense | Conv2d) and step.weight_shape is not None:
            made = back[i] = 1.0 / math.prod(step.weight_shape[:-1])
            if first:
                made += (
                    _TAIL
                    * abs(_law_moments.excess_kurtosis(layer.weight) or 0.0)
                    * min(1.0, kurtosis / step.weight_shape[-2])
                )
            first = False
        if isinstance(layer, Dense | Conv2d):
            kept = layer.activation.homogeneous and (chain or layer.activation.name == "linear")
            after[i] += 0.0 if kept else made
        elif isinstance(layer, Activation):
            after[i] += 0.0 if layer.function.homogeneous and chain else made
        elif isinstance(layer, Elementwise):
            after[i] += made
        elif isinstance(layer, LayerNorm | RMSNorm):
            size = float(found.preactivations.second_moment[i])
            back[i] = _NORM / max(step.input_shape[-1] - 4.0, 0.3)
            # Where eps counts it is by the smallest examples, more than by the mean.
            after[i] = (x + min(back[i], 1.0)) * math.sqrt(layer.eps / (layer.eps + size))
        elif isinstance(layer, Residual) and step.skip is not None:
            after[i] = before[i] = max(x, after[step.skip] if step.skip >= 0 else 0.0)
    return Open(before, after, np.cumsum(back[::-1])[::-1] + after.max(initial=0.0))
