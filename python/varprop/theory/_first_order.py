"""What the first order in 1/width adds to the moments of a chain of dense layers.

Let Q be the variance of a layer's pre-activations given the layers before. In the limit it is a
number; at a finite width it varies from draw to draw, and its spread bends means: to first order
E f(Q) = f(q) + f'(q) (E Q - q) + f''(q) Var(Q) / 2 (going forward: Yaida 2020; Hanin 2022). Going
back, the slopes of all layers depend on one chain of Q, and weights on the pre-activations that
they made, W = y x' / |x|^2 + what is independent of these. Pre-activations that few entries of a
given input make are no more normal than the weights: Edgeworth's series has what that changes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from varprop.activations import ActivationFunction
from varprop.layers import Dense
from varprop.network import Network
from varprop.theory import _law_moments
from varprop.theory._kernels import kernel
from varprop.theory.gaussian import Array

_Z = np.linspace(-9.0, 9.0, 1801)  # terms of 1/width need few digits
_DENSITY = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()
_HE2 = _Z**2 - 1.0
_HE4 = _Z**4 - 6.0 * _Z**2 + 3.0
_HE6 = _Z**6 - 15.0 * _Z**4 + 45.0 * _Z**2 - 15.0
_HE8 = _Z**8 - 28.0 * _Z**6 + 210.0 * _Z**4 - 420.0 * _Z**2 + 105.0


class Tails(NamedTuple):
    """How much large entries are in inputs x: means over examples of K = E x^4 / (E x^2)^2 ...

    ... of K^2, and of E x^6 / (E x^2)^3. The defaults are those of normal inputs.
    """

    fourth: float = 3.0
    fourth_square: float = 9.0
    sixth: float = 15.0


class Correction(NamedTuple):
    """ln of the expected second moments over those of infinite width: arrays of shape (layers,).

    The doubts, of the three in turn, are roughly what the next order adds; 0 where moments are the
    same at every width.
    """

    preactivations: Array
    activations: Array
    gradients: Array
    doubt_before: Array
    doubt: Array
    doubt_back: Array


class _Averages(NamedTuple):
    """Gaussian averages in each layer of y, the pre-activations, of variance Q; z is y / sqrt(Q).

    growth = d ln E phi^2 / d ln Q; bend = E[phi^2 He4] / (24 E phi^2); kurtosis = E phi^4 /
    (E phi^2)^2; slope_growth and slope_bend are those of phi'^2; shared = Cov(phi^2, phi'^2) /
    (E phi^2 E phi'^2); passed = (E z phi phi')^2 / (E phi^2 E phi'^2).
    """

    growth: Array
    bend: Array
    kurtosis: Array
    slope_growth: Array
    slope_bend: Array
    shared: Array
    passed: Array


@np.errstate(all="ignore")  # where a moment leaves the range, the correction is NaN
def correction(
    net: Network, q: Array, after: Array, *, start: float, spread: float, tails: Tails
) -> Correction | None:
    """Return the correction for one input, over draws of the weights; None for other networks.

    Parameters
    ----------
    net : Network
        A chain of dense layers, of independent, symmetric weights and biases of mean 0.
    q, after : ndarray
        Second moments of pre-activations and activations at infinite width.
    start, spread : float
        Of the inputs the mean square, and its variance over its square.
    tails : Tails
    """
    layers = [step.layer for step in net.steps if isinstance(step.layer, Dense)]
    if len(layers) < len(net.steps):
        return None
    laws = [_law_moments.cumulants(layer.weight) for layer in layers]
    bias_tails = [
        0.0 if layer.bias is None else _law_moments.excess_kurtosis(layer.bias) for layer in layers
    ]
    if None in laws or None in bias_tails:
        return None
    weight_tails, (sixth, *_) = np.array(laws, np.float64).T
    if not ((q > 0.0) & (after > 0.0) & np.isfinite(q) & np.isfinite(after)).all():
        return Correction(*np.zeros((6, len(layers))))
    fan_in, width = np.array(net.shapes, np.float64).T
    drawn = zip(layers, net.shapes, strict=True)
    sigma_w = fan_in * [_law_moments.moments(layer.weight, shape)[1] for layer, shape in drawn]
    share = np.minimum(sigma_w * np.append(start, after[:-1]) / q, 1.0)  # weights' in Q
    if all(layer.activation.homogeneous for layer in layers) and (share > 1.0 - 1e-12).all():
        return Correction(*np.zeros((6, len(layers))))  # to all orders
    square, slope_square, of = _averages([layer.activation for layer in layers], q)

    mean, out, variance, fourth = np.zeros((4, len(layers)))  # all relative
    bias_part = np.array(bias_tails, np.float64) * (1.0 - share) ** 2
    weight_part = weight_tails * share / fan_in
    high = (
        (weight_part[0] * share[0]) ** 2 * tails.fourth_square,
        sixth * share[0] ** 3 / fan_in[0] ** 2 * tails.sixth,
    )
    more, unsure = _higher(square[0], *high)
    slope_more, slope_unsure = _higher(slope_square[0], *high)
    off, kurtosis = 0.0, tails.fourth
    for i in range(len(layers)):
        mean[i], variance[i] = share[i] * off, share[i] ** 2 * spread
        fourth[i] = 3.0 * variance[i] + weight_part[i] * share[i] * kurtosis + bias_part[i]
        off = out[i] = of.growth[i] * mean[i] + of.bend[i] * fourth[i] + (0.0 if i else more)
        spread = (of.kurtosis[i] - 1.0) / width[i] + of.growth[i] ** 2 * variance[i]
        kurtosis = of.kurtosis[i]
    passing = np.append(1.0, np.cumprod(np.abs(of.growth[1:] * share[1:])))
    open_ = unsure * passing  # of what leaves a layer

    back = np.zeros(len(layers))
    total = moved = behind = aligned = 0.0
    for i in range(len(layers) - 1, -1, -1):
        slope, through = of.slope_growth[i], of.growth[i] * moved
        total += slope * (mean[i] + through * variance[i]) + of.slope_bend[i] * fourth[i]
        total += of.shared[i] / width[i] * moved + behind * (1.0 + of.shared[i])
        back[i] = total
        # (y' g)^2 over what it were if y and g were strangers, but for 1.
        aligned = share[i] * (2.0 * slope + of.passed[i] * aligned)
        behind = aligned / fan_in[i] + weight_part[i] * slope
        moved = share[i] * (slope + through)  # d ln of all slopes from here by ln of E x^2 before
    back[0] += slope_more
    into = np.append(0.0, open_[:-1]) * share
    open_back = np.cumsum((np.abs(of.slope_growth) * into)[::-1])[::-1]
    open_back[0] += slope_unsure
    forth = np.maximum.accumulate(variance + np.abs(out) + np.abs(bias_part))
    home = np.maximum.accumulate(np.abs(back)[::-1])[::-1] + forth[-1]
    doubt = 0.5 * forth**2 + open_
    # Given what enters a layer, second moments of its pre-activations are what weights make them.
    before = np.append(0.0, doubt[:-1]) * share
    return Correction(mean, out, back, before, doubt, 0.5 * home**2 + open_back)


def _higher(f: Array, fourth_square: float, sixth: float) -> tuple[float, float]:
    """Return what Edgeworth's terms past the fourth cumulant add to ln E f, and half their size."""
    size = f @ _DENSITY
    terms = (
        float(f @ (_HE6 * _DENSITY) / size) * sixth / 720.0,
        float(f @ (_HE8 * _DENSITY) / size) * fourth_square / 1152.0,
    )
    return sum(terms), 0.5 * (abs(terms[0]) + abs(terms[1]))


def _averages(functions: list[ActivationFunction], q: Array) -> tuple[Array, Array, _Averages]:
    """Return phi^2 and phi'^2 at each z, and their averages."""
    y = np.sqrt(q)[:, None] * _Z
    value, slope = np.empty(y.shape), np.empty(y.shape)
    for function in set(functions):
        which = np.array([one == function for one in functions])
        phi = kernel(function)
        value[which], slope[which] = phi.value(y[which]), phi.slope(y[which])
    square, slope_square = value**2, slope**2
    size, slope_size = square @ _DENSITY, slope_square @ _DENSITY
    both = size * slope_size
    averages = _Averages(
        growth=square @ (_HE2 * _DENSITY) / (2.0 * size),
        bend=square @ (_HE4 * _DENSITY) / (24.0 * size),
        kurtosis=square**2 @ _DENSITY / size**2,
        slope_growth=slope_square @ (_HE2 * _DENSITY) / (2.0 * slope_size),
        slope_bend=slope_square @ (_HE4 * _DENSITY) / (24.0 * slope_size),
        shared=(square * slope_square) @ _DENSITY / both - 1.0,
        passed=((value * slope) @ (_Z * _DENSITY)) ** 2 / both,
    )
    return square, slope_square, averages
