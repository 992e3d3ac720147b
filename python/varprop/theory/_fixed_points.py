"""Where lengths and correlations end in a deep random network, and how fast they get there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import optimize

from varprop import _spec
from varprop.theory._kernels import LEAST, Activation, Kernel, kernel
from varprop.theory._length_map import LengthMap

_ONE = 1e-12  # how near to 1 a factor counts as 1


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points of a random network's maps, and the scales on which depth comes to them.

    Attributes
    ----------
    activation : str
    sigma_w, sigma_b : float
    q : float
        Second moment of the pre-activations: the stable positive fixed point, 0 where there is
        none, as signals die out or grow without bound.
    chi_1 : float
        sigma_w^2 E[phi'(sqrt(q) z)^2], the factor on small differences between two inputs, and on
        the second moment of gradients, in each layer. Of signals without bound NaN, unless phi is
        homogeneous.
    c : float
        Correlation that two inputs come to: 1 where chi_1 <= 1. NaN of signals without bound.
    xi_q, xi_c : float
        Layers in which the distance of q and of the correlation from the fixed point falls by the
        factor e: inf at the edge, where it falls as a power of the depth; NaN of signals without
        bound.
    unbounded : bool
        Whether signals grow without bound.
    """

    activation: str
    sigma_w: float
    sigma_b: float
    q: float
    chi_1: float
    c: float
    xi_q: float
    xi_c: float
    unbounded: bool = False

    def __str__(self) -> str:
        layers = f"{self.activation}, sigma_w = {self.sigma_w:.6g}, sigma_b = {self.sigma_b:.6g}"
        if self.unbounded:
            return f"{layers}: unbounded, signals grow"
        return (
            f"{layers}: {self.phase}\n"
            f"q = {self.q:.6g}, c = {self.c:.6g}, chi_1 = {self.chi_1:.6g}, "
            f"xi_q = {self.xi_q:.4g}, xi_c = {self.xi_c:.4g} layers"
        )

    @property
    def phase(self) -> str:
        """Say "ordered" where chi_1 < 1, "chaotic" where it is more, else "critical".

        To the accuracy of quadrature; "unbounded" where signals grow without bound.
        """
        if self.unbounded:
            return "unbounded"
        if abs(self.chi_1 - 1.0) <= 1e-9:
            return "critical"
        return "ordered" if self.chi_1 < 1.0 else "chaotic"


def fixed_points(
    activation: Activation, sigma_w: float, sigma_b: float = 0.0, *, start: float = 1.0
) -> FixedPoints:
    """Return the fixed points of lengths and correlations at infinite width.

    Parameters
    ----------
    activation : str, ActivationFunction, Elementwise or callable
        A callable takes an array and returns that of its values; ``vp.Elementwise(f, derivative)``
        brings its derivative, which else is by differences, right to 1e-6 or so past a kink.
    sigma_w, sigma_b : float
        Weights have variance sigma_w^2 / fan_in, biases sigma_b^2.
    start : float
        Second moment of the first pre-activations, which decides between several fixed points.
        Where all q are fixed points, as for relu with sigma_w^2 = 2, q is this one.

    Returns
    -------
    FixedPoints

    Notes
    -----
    q' = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2, and for the correlation c of two inputs
    c' = (sigma_w^2 E[phi(u1) phi(u2)] + sigma_b^2) / q (Poole et al. 2016, equations 3 and 5).
    1/xi_q = -log(chi_1 + sigma_w^2 E[phi phi'']), 1/xi_c = -log(sigma_w^2 E[phi'(u1) phi'(u2)]) at
    the fixed point (Schoenholz et al. 2017, section 3). c' is a convex function of c on
    [0, 1] which takes 1 to 1 with slope chi_1: another fixed point is there if chi_1 > 1, and
    only one. Within 1e-7 of the edge it is not told from 1.

    Examples
    --------
    >>> found = fixed_points("tanh", sigma_w=2.5, sigma_b=0.3)
    >>> found.phase, round(found.q, 6), round(found.c, 6), round(found.xi_c, 6)
    ('chaotic', 4.079124, 0.122104, 5.108919)
    """
    phi = kernel(activation)
    sigma_w = _spec.real("sigma_w", sigma_w, least=0.0)
    sigma_b = _spec.real("sigma_b", sigma_b, least=0.0)
    start = _spec.real("start", start, least=0.0)
    if start == 0.0:
        raise ValueError("start must be greater than 0, got 0.0")
    return found(phi, sigma_w, sigma_b, start)


def found(
    phi: Kernel,
    sigma_w: float,
    sigma_b: float,
    start: float,
    solve: Callable[[Kernel, float, float, float], tuple[float, float]] | None = None,
) -> FixedPoints:
    """Return the fixed points; `solve` finds correlation and slope below 1, by default quadrature.

    It gets phi, sigma_w^2, sigma_b^2 and q.
    """
    q = LengthMap(phi, sigma_w, sigma_b).limit(start)
    named = (phi.name, sigma_w, sigma_b)
    if math.isinf(q):
        chi_1 = sigma_w**2 * float(phi.slope_square(1.0)) if phi.homogeneous else math.nan
        return FixedPoints(*named, 0.0, chi_1, math.nan, math.nan, math.nan, unbounded=True)
    beside = max(q, LEAST)
    chi_1 = sigma_w**2 * float(phi.slope_square(beside))
    xi_q = scale(sigma_w**2 * float(phi.growth(beside)))
    c, slope = 1.0, chi_1
    if q > 0.0 and chi_1 > 1.0 + _ONE:
        c, slope = (solve or correlation)(phi, sigma_w**2, sigma_b**2, q)
    # Past the edge by less than the fixed point can be told from 1, its slope is 2 - chi_1.
    xi_c = scale(min(slope, 2.0 - slope) if c == 1.0 else slope)
    return FixedPoints(*named, q, chi_1, c, xi_q, xi_c)


def scale(factor: float) -> float:
    """Return the layers in which a distance falls by e, from its factor in one layer."""
    if factor == 0.0:
        return 0.0
    rate = -math.log(abs(factor))
    return 1.0 / rate if rate > _ONE else math.inf


def correlation(phi: Kernel, w: float, b: float, q: float) -> tuple[float, float]:
    """Return the fixed point of the correlation and its slope there, chi_1 being more than 1.

    The variances sigma_w^2 and sigma_b^2 are w and b.
    """

    def excess(c: float) -> float:
        return (w * phi.product((q, q), c, (0.0, 0.0)) + b) / q - c

    c = below_one(excess)
    return c, w * phi.slope_product((q, q), c, (0.0, 0.0))


def below_one(excess: Callable[[float], float]) -> float:
    """Return the zero in [0, 1) of a convex function that is 0 at 1, or 1 if it is too near."""
    if excess(0.0) <= 1e-14:
        return 0.0
    gap = 0.1
    while excess(1.0 - gap) >= 0.0:
        gap *= 0.1
        if gap < 1e-8:
            return 1.0
    return float(optimize.brentq(excess, 0.0, 1.0 - gap, xtol=1e-15, rtol=1e-15))
