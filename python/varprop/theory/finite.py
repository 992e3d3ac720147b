"""Exact laws of finite chains of Gaussian layers: what a width does that its limit does not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from varprop import _spec
from varprop.theory.gaussian import Array

__all__ = ["ChainLaw", "linear", "relu"]


@dataclass(frozen=True, eq=False)
class ChainLaw:
    """The law of R, the activations' mean square in each layer over that of the inputs.

    For one input, whatever it is, over the draws of the weights. Arrays of shape (layers,); all
    but `alive` are those of the chain from its inputs up to that layer.

    Attributes
    ----------
    widths : tuple of int
        Of the layers.
    sigma_w : float
    activation : {"linear", "relu"}
    mean_log, var_log : ndarray
        Mean and variance of ln R, where the signal is alive. R's layers are independent factors:
        differences between layers are those of one layer, and deep down ln R is nearly normal.
    mean, mean_square : ndarray
        E R and E R^2, those that died counted as 0. Where R varies by orders of magnitude, a sample
        mean is far from them: test logarithms.
    alive : ndarray
        Probability that the signal is not exactly zero.
    """

    widths: tuple[int, ...]
    sigma_w: float
    activation: Literal["linear", "relu"]
    mean_log: Array
    var_log: Array
    mean: Array
    mean_square: Array
    alive: Array

    def quantile(self, p: float) -> Array:
        """Return what ln R is below with probability p, where the signal is alive, by layer.

        The product of the layers' characteristic functions, inverted numerically (Gil-Pelaez 1951).

        Parameters
        ----------
        p : float
            Between 0 and 1; what is closer to them than 1e-6 is not resolved.

        Examples
        --------
        >>> law = linear([5, 2])  # R is exponential
        >>> law.quantile(0.5).round(6), round(math.log(math.log(2.0)), 6)
        (array([-0.366513]), -0.366513)
        """
        if not 0.0 < _spec.real("p", p) < 1.0:
            raise ValueError(f"p must be between 0 and 1, got {p!r}")
        return np.array([self._quantile(p, layer) for layer in range(len(self.widths))])

    def _quantile(self, p: float, layer: int) -> float:
        mean, std = float(self.mean_log[layer]), math.sqrt(self.var_log[layer])
        t = np.arange(0.5, 600.0) * np.float64(2.0 * math.pi / (60.0 * std))
        size = np.ones(t.shape, np.complex128)
        for width, times in Counter(self.widths[: layer + 1]).items():
            size *= _characteristic(self.activation, width, t) ** times
        size *= np.exp(1j * t * ((layer + 1) * 2.0 * math.log(self.sigma_w) - mean))

        def excess(x: float) -> float:
            waves = np.imag(np.exp(-1j * t * x) * size) / np.arange(0.5, len(t))
            return 0.5 - float(waves.sum()) / math.pi - p

        return mean + float(optimize.brentq(excess, -25.0 * std, 25.0 * std, xtol=1e-10 * std))


def linear(sizes: Sequence[int], sigma_w: float = 1.0) -> ChainLaw:
    """Return the law of a chain of linear layers, W normal of variance sigma_w^2 / fan_in.

    Given x, the units of W x are independent and normal, so that R' / R is sigma_w^2 / n times a
    chi-squared number of n degrees of freedom, n being the layer's width: E ln = psi(n/2) +
    ln(2 sigma_w^2 / n), Var ln = psi'(n/2), E (R'/R)^2 = sigma_w^4 (1 + 2/n). Back from the last
    layer it is the same law of the widths in reverse order, if these are equal.

    Parameters
    ----------
    sizes : sequence of int
        The number of inputs, which does not matter, then one width per layer.
    sigma_w : float
        Greater than 0.

    Examples
    --------
    >>> law = linear([100, 100])
    >>> law.mean_log.round(9), law.var_log.round(9)
    (array([-0.01003333]), array([0.02020133]))
    """
    widths, w = _checked(sizes, sigma_w)
    n = np.array(widths, np.float64)
    return ChainLaw(
        widths,
        sigma_w,
        "linear",
        np.cumsum(special.digamma(n / 2.0) + np.log(2.0 * w / n)),
        np.cumsum(special.polygamma(1, n / 2.0)),
        _powers(np.full(n.shape, w)),
        _powers(w * w * (1.0 + 2.0 / n)),
        np.ones(n.shape),
    )


def relu(sizes: Sequence[int], sigma_w: float = math.sqrt(2.0)) -> ChainLaw:
    """Return the law of a chain of ReLU layers without biases, W normal of sigma_w^2 / fan_in.

    Given x, the signs of W x are fair coins, independent of its sizes: k of n units are positive,
    k binomial, and R' / R is sigma_w^2 / n times a chi-squared number of k degrees of freedom. So
    ln R' / R is a mixture, given that k > 0: a layer kills the signal with probability 2^-n.
    E R'/R = sigma_w^2 / 2 and E (R'/R)^2 = (sigma_w^2 / 2)^2 (1 + 5/n) (Hanin and Rolnick 2018
    have the latter's growth with the sum of 1/n).

    Parameters
    ----------
    sizes : sequence of int
        The number of inputs, which does not matter, then one width per layer.
    sigma_w : float
        Greater than 0; by default He's.

    Examples
    --------
    >>> law = relu([100] * 101)
    >>> round(float(np.exp(law.mean_log[-1])), 3), round(float(law.mean[-1]), 12)
    (0.079, 1.0)
    """
    widths, w = _checked(sizes, sigma_w)
    n = np.array(widths, np.float64)
    of_width = {width: _relu_logarithm(width) for width in set(widths)}
    mean, variance = np.array([of_width[width] for width in widths]).T
    return ChainLaw(
        widths,
        sigma_w,
        "relu",
        np.cumsum(mean + math.log(w)),
        np.cumsum(variance),
        _powers(np.full(n.shape, 0.5 * w)),
        _powers(0.25 * w * w * (1.0 + 5.0 / n)),
        np.exp(np.cumsum(np.log1p(-np.exp2(-n)))),
    )


def _relu_logarithm(n: int) -> tuple[float, float]:
    """Return mean and variance of ln(chi^2_k / n), k binomial, at least 1."""
    k, share = _positive(n)
    centre = special.digamma(k / 2.0) + math.log(2.0 / n)
    mean = float(share @ centre)
    return mean, float(share @ (special.polygamma(1, k / 2.0) + (centre - mean) ** 2))


def _positive(n: int) -> tuple[Array, Array]:
    """Return how many of n coins may show heads, at least 1, and the probabilities."""
    far = 20.0 * math.sqrt(n)  # 40 standard deviations
    k = np.arange(max(1, math.floor(n / 2 - far)), min(n, math.ceil(n / 2 + far)) + 1.0)
    logarithm = -special.betaln(k + 1.0, n - k + 1.0)  # of binomial(n, k), but for a factor
    share = np.exp(logarithm - logarithm.max())
    return k, share / share.sum()


def _characteristic(activation: str, n: int, t: Array) -> NDArray[np.complex128]:
    """Return E exp(i t ln(chi^2_k / n)), k being n, or of coins as :func:`_positive` has it."""
    k, share = (np.array([float(n)]), np.ones(1)) if activation == "linear" else _positive(n)
    k, share = k[share > 1e-18], share[share > 1e-18]
    turned = special.loggamma(k[:, None] / 2.0 + 1j * t) - special.gammaln(k / 2.0)[:, None]
    return np.asarray(share @ np.exp(turned + 1j * t * math.log(2.0 / n)))


def _powers(factors: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.cumprod(factors), np.float64)


def _checked(sizes: Sequence[int], sigma_w: float) -> tuple[tuple[int, ...], float]:
    sizes = _spec.sizes("sizes", sizes)
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold the inputs and at least one layer, got {sizes!r}")
    if _spec.real("sigma_w", sigma_w, least=0.0) == 0.0:
        raise ValueError("sigma_w must be greater than 0, got 0.0")
    return sizes[1:], sigma_w**2
