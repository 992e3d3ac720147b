"""Numbers as cells of a table: fixed or with a power of ten, however large."""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from varprop._statistics import Statistics

# Decimal numbers far beyond the range of a float, as very deep networks have them.
WIDE = Context(prec=20, Emax=MAX_EMAX, Emin=MIN_EMIN)


def means(statistics: Statistics, digits: int) -> list[str]:
    """Write means with digits that matter beside their signal's size."""
    observed = statistics.observed
    size = np.hypot(observed["mean"], np.sqrt(observed["variance"]))
    return _numbers(observed["mean"], observed["exponent"], size, digits)


def spreads(statistics: Statistics, power: int, digits: int) -> list[str]:
    """Write standard deviations (power 1) or variances (power 2)."""
    observed = statistics.observed
    spread = observed["variance"] ** (power / 2)
    return _numbers(spread, power * observed["exponent"], spread, digits)


def _numbers(
    mantissa: NDArray[Any], exponent: NDArray[Any], size: NDArray[Any], digits: int
) -> list[str]:
    """Write mantissa * 2**exponent: with four decimals where all sizes are ordinary."""
    with np.errstate(over="ignore", under="ignore"):
        values, sizes = np.ldexp(mantissa, exponent), np.ldexp(size, exponent)
    sizes = sizes[np.isfinite(size) & (size != 0)]
    if not sizes.size or (sizes.min() >= 1e-2 and sizes.max() < 1e4):
        return fixed(values)
    return [
        f"{WIDE.multiply(Decimal(m), WIDE.power(2, e)):.{digits}e}"
        if m and math.isfinite(m)
        else f"{m:g}"
        for m, e in zip(mantissa.tolist(), exponent.tolist(), strict=True)
    ]


def fixed(values: NDArray[Any], most: int = 8) -> list[str]:
    """Write four decimals, or fewer where the largest number would have more digits than most."""
    largest = np.max(np.abs(values), where=np.isfinite(values), initial=1)
    digits = min(4, max(0, most - 1 - math.floor(math.log10(largest))))
    return [f"{round(value, digits) + 0.0:.{digits}f}" for value in values.tolist()]  # no -0.0000


def known(values: NDArray[Any], most: int = 5) -> list[str]:
    """Write numbers as :func:`fixed` does, and a dash for those that are not known."""
    return ["-" if cell == "nan" else cell for cell in fixed(values, most)]


def plain(values: NDArray[Any], size: NDArray[Any] | None = None) -> list[str]:
    """Write numbers with four decimals where all are ordinary, else with three digits.

    `size` is what small ones are small beside.
    """
    return _numbers(values, np.zeros(values.shape, np.int64), values if size is None else size, 2)


def deviations(z: NDArray[Any]) -> list[str]:
    """Write numbers of standard errors."""
    return ["-" if np.isnan(one) else f"{round(one, 1) + 0.0:.1f}" for one in z.tolist()]
