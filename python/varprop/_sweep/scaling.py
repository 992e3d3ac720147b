"""The exponent of a power law through means with errors: its slope, and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop import _student
from varprop._extras import require
from varprop._statistics import FloatArray
from varprop._sweep import view

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

_LEAST = 1e-12  # decades: an error below is rounding


class Slopes(NamedTuple):
    """Slopes of straight lines, arrays of shape (points,)."""

    slope: FloatArray
    low: FloatArray
    high: FloatArray
    misfit: FloatArray
    """Chi square over its degrees of freedom; NaN without any."""


def slopes(
    sizes: FloatArray, values: FloatArray, errors: FloatArray, trials: int, level: float
) -> Slopes:
    """Fit lines through logarithms: values over log10(sizes).

    The line is that of weighted least squares. The variance of its slope is a product:

    - The errors, propagated. Trials of one seed share their draws between sizes, for a wider
      matrix has the narrower one as its corner. Errors that are correlated make the slope between
      two widths surer, that through many neighbours less sure. So the larger of two variances is
      taken: of independent errors, and of errors correlated by the root of narrow / wide, as are
      means over the first so many units. In deep layers the truth is in between.
    - What estimates of errors from trials, and so the weights, add: Meier's (1953) first order,
      1 + 4 / (trials - 1) sum of a (1 - h), a the shares in the variance, h the leverages.
    - Chi square over its degrees of freedom, where that is above 1 (Birge 1932): there no
      straight line goes through the means.

    Student's t is that of Satterthwaite's degrees of freedom. Without errors, of one trial, they
    are taken to be equal, and estimated from the distances to the line.

    Parameters
    ----------
    sizes : ndarray, shape (sizes,)
        Positive, distinct.
    values, errors : ndarray, shape (sizes, points)
        Decimal logarithms and their standard errors; what is not finite is left out.
    trials : int
        Of which each value is the mean.
    level : float

    Returns
    -------
    Slopes
        NaN where under two values are known, and ends of intervals where nothing tells an error.

    Examples
    --------
    >>> line = np.array([[1.0], [1.5], [2.0]])
    >>> found = slopes(np.array([10.0, 100.0, 1000.0]), line, np.full((3, 1), 0.01), 50, 0.95)
    >>> print(found.slope, found.high - found.slope)
    [0.5] [0.01412744]
    """
    known = np.isfinite(values) & (np.isfinite(errors) | (trials == 1))
    error = np.where(known, np.maximum(errors, _LEAST), 1.0) if trials > 1 else np.ones_like(values)
    weight, value = known / error**2, np.where(known, values, 0.0)
    x = np.log10(sizes)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        total = weight.sum(axis=0)
        off = x - (weight * x).sum(axis=0) / total
        spread = (weight * off**2).sum(axis=0)
        pull = weight * off / spread  # of each value on the slope
        slope = (pull * value).sum(axis=0)
        residual = value - (weight * value).sum(axis=0) / total - slope * off
        freedom = known.sum(axis=0) - 2
        misfit = np.where(freedom > 0, (weight * residual**2).sum(axis=0) / freedom, np.nan)
        if trials == 1:
            variance = misfit / spread
        else:
            share = (pull * error) ** 2 * spread
            leverage = weight * (1 / total + off**2 / spread)
            learned = 1 + 4 / (trials - 1) * (share * (1 - leverage)).sum(axis=0)
            variance = _variance(sizes, pull * error) * learned * np.fmax(misfit, 1.0)
            freedom = (trials - 1) / (share**2).sum(axis=0)
        half = _critical(level, freedom) * np.sqrt(variance)
    slope = np.where(known.sum(axis=0) > 1, slope, np.nan)
    return Slopes(slope, slope - half, slope + half, misfit)


def exponents(array: DataArray, dim: str, trials: int, level: float) -> Dataset:
    """Return the slopes of a sweep's quantity along a dimension, over all others."""
    xarray = require("xarray", "sweep")
    dim = view.dimension("dim", dim, view.grid(array))
    array = view.ascending(array, dim, "scaling_exponent")
    sizes = array.coords[dim].values.astype(np.float64)
    if sizes.size < 2 or sizes[0] <= 0:
        given = f"{dim} = {view.values(array, dim)}"
        raise ValueError(f"dim must have two or more positive values, got {given}")
    means, deviations = (
        view.statistic(array, name).transpose(dim, ...) for name in ("mean", "std")
    )
    values, errors = means.values, deviations.values / trials**0.5
    if not view.is_logarithm(array):
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = np.where(values > 0, errors / (values * np.log(10)), np.nan)
            values = np.where(values > 0, np.log10(values), np.nan)
    flat = (len(sizes), -1)
    found = slopes(sizes, values.reshape(flat), errors.reshape(flat), trials, level)
    shape = means.isel({dim: 0}, drop=True)
    told = {
        "slope": f"exponent of {dim}",
        "low": f"lower end of its {level:.4g} interval",
        "high": f"upper end of its {level:.4g} interval",
        "misfit": "chi square over its degrees of freedom",
    }
    arrays = {
        name: xarray.DataArray(
            getattr(found, name).reshape(shape.shape),
            shape.coords,
            shape.dims,
            attrs={"long_name": words, "units": "1"},
        )
        for name, words in told.items()
    }
    within = (arrays["low"] <= 0) & (arrays["high"] >= 0)
    arrays["flat"] = within.assign_attrs(long_name="whether 0 is within the interval", units="1")
    result: Dataset = xarray.Dataset(arrays, attrs={"dim": dim, "level": level})
    return result


def _variance(sizes: FloatArray, parts: FloatArray) -> FloatArray:
    """Return the larger variance of a sum: of independent parts, and of nested draws."""
    shared = np.sqrt(np.minimum.outer(sizes, sizes) / np.maximum.outer(sizes, sizes))
    return np.asarray(np.fmax((parts**2).sum(axis=0), (parts * (shared @ parts)).sum(axis=0)))


def _critical(level: float, freedom: NDArray[np.floating | np.integer]) -> FloatArray:
    """Return Student's t for degrees of freedom, rounded down; NaN for none."""
    whole = np.floor(np.where(freedom >= 1, np.minimum(freedom, 1e6), 0)).astype(np.int64)
    different, which = np.unique(whole, return_inverse=True)
    found = [_student.critical(level, int(one)) if one else np.nan for one in different]
    return np.array(found, np.float64)[which]
