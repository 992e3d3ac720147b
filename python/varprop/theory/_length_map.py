"""How the second moment q of pre-activations goes from layer to layer, and where it ends."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import optimize

from varprop.theory._kernels import Kernel
from varprop.theory.gaussian import Array

GRID = np.logspace(-12, 6, 289)  # of q, where signs are looked for
FARTHEST = 1e14  # beyond the grid, by powers of ten
_ZERO = 1e-13  # of q'/q - 1: rounding and quadrature


@lru_cache(maxsize=32)
def _squares(kernel: Kernel) -> Array:
    return kernel.square(GRID)


class LengthMap:
    """q' = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2 (Poole et al. 2016, equation 3)."""

    def __init__(self, kernel: Kernel, sigma_w: float, sigma_b: float) -> None:
        self.kernel = kernel
        self.w, self.b = sigma_w**2, sigma_b**2

    def excess(self, q: float) -> float:
        """Return q'/q - 1, whose sign says where q goes."""
        return (self.w * float(self.kernel.square(q)) + self.b) / q - 1.0

    def limit(self, start: float) -> float:
        """Return the fixed point that q goes to: 0 where it dies out, inf where it grows forever.

        The nearest sign change of the excess, or its nearest zero, in the direction it points to;
        a start that stays where it is, as all do on a line of fixed points, is its own limit.
        """
        if self.kernel.homogeneous:
            return self._of_a_line(start)
        here = self.excess(start)
        if abs(here) <= _ZERO:
            return self._beside(start)
        up = here > 0.0
        grid = GRID[start < GRID] if up else GRID[start > GRID][::-1]
        table = _squares(self.kernel)[start < GRID if up else (start > GRID)]
        values = (self.w * (table if up else table[::-1]) + self.b) / grid - 1.0
        sign = 1.0 if up else -1.0
        return self._first(np.append(start, grid), sign * np.append(here, values), sign)

    def _of_a_line(self, start: float) -> float:
        slope = self.w * float(self.kernel.growth(1.0))
        if abs(slope - 1.0) <= _ZERO and self.b == 0.0:
            return start
        if slope < 1.0 - _ZERO:
            return self.b / (1.0 - slope)
        return math.inf

    def _beside(self, start: float) -> float:
        """Return the stable fixed point about a start, or the start if there is none."""
        low, high = start * (1.0 - 1e-3), start * (1.0 + 1e-3)
        if self.excess(low) > _ZERO and self.excess(high) < -_ZERO:
            return self._root(low, high)
        return start

    def _first(self, q: Array, values: Array, sign: float) -> float:
        """Return the first zero of values that begin positive, each at a q ever farther."""
        last = q[0]  # where they are known to be positive: between, there may be only rounding
        for i in range(1, len(q)):
            if values[i] < -_ZERO:
                return self._root(last, q[i])
            if values[i] > _ZERO:
                last = q[i]
            # Where it is zero to rounding over a while, q only passes more slowly.
            beside = min(values[i - 1], values[min(i + 1, len(q) - 1)])
            if beside > 100.0 * _ZERO and beside > values[i]:
                touched = self._dip(q[i - 1], q[i + 1], sign)
                if touched is not None:
                    return touched
        if sign < 0.0:
            # With a bias, or where phi(0) is not 0, q cannot fall below what these make.
            least = self.w * float(self.kernel.square(0.0)) + self.b
            return self._root(0.1 * least, last) if least > 0.0 else 0.0
        farther = q[-1]
        while farther < FARTHEST:
            farther *= 10.0
            if self.excess(farther) < -_ZERO:
                return self._root(last, farther)
        return math.inf

    def _dip(self, one: float, other: float, sign: float) -> float | None:
        """Return where the excess, of one sign at both ends, comes to zero between; or None."""
        low, high = sorted((math.log(one), math.log(other)))
        found = optimize.minimize_scalar(
            lambda x: sign * self.excess(math.exp(x)),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-10},
        )
        at = math.exp(found.x)
        if found.fun < -_ZERO:
            return self._root(one, at)
        return at if found.fun <= 10.0 * _ZERO else None

    def _root(self, one: float, other: float) -> float:
        low, high = min(one, other), max(one, other)
        return float(optimize.brentq(self.excess, low, high, xtol=1e-300, rtol=1e-15))
