"""Mean, variance and shape of every layer's numbers: per trial, pooled, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop import _histogram, _student
from varprop._catalogue import SIGNALS, STATISTICS
from varprop._spec import real, unknown

FloatArray = NDArray[np.float64]
Ends = tuple[FloatArray, FloatArray]  # of an interval

#: What was observed of a signal: its L layers (of input_gradients one, "input") in T trials.
#: "count" (L,): numbers in one trial; "mean", "variance" and "exponent" (T, L): the mean is
#: mean * 2**exponent, the variance variance * 4**exponent. Where asked for: "minimum" and
#: "maximum" (T, L), which scale as the mean, and the central moments "m3" and "m4" (T, L), which
#: scale as its third and fourth power; "histogram" (T, L, 515), counts of the numbers over
#: 2**exponent between the edges of _histogram; "correlation", "saturation", "zero_slope" and
#: "dead" (T, L), which have no scale.
Observed = dict[str, NDArray[Any]]

_SHARES = ("correlation", "saturation", "zero_slope", "dead")  # no scale: pooled, they are averaged

# Statistics that have an interval, and those of them that have it on a logarithm: the logarithm's
# name and the power of ten that leads back.
_INTERVALS = list(dict.fromkeys(f for s in STATISTICS.values() for f in s.fields if f != "count"))
ON_LOGARITHM = {
    "var": ("log10_var", 1.0),
    "std": ("log10_var", 0.5),
    "second_moment": ("log10_second_moment", 1.0),
}


class Fields:
    """The statistics of an :data:`Observed`: arrays whose last axis is that of the layers.

    A number beyond the range of float64 is infinite here, one below it zero; the two logarithms
    are right beyond. What the simulation was not asked for raises ValueError.

    Attributes
    ----------
    observed : dict of ndarray
        The numbers behind the statistics, their powers of two kept apart.
    """

    def __init__(self, observed: Observed, method: str = "explicit") -> None:
        self.observed = observed
        self._method = method

    def __repr__(self) -> str:
        trials, layers = self.observed["mean"].shape
        return f"Fields({layers} layers, {trials} trials)"

    @property
    def count(self) -> NDArray[np.int64]:
        """How many numbers were seen."""
        return np.array(np.broadcast_to(self.observed["count"], self.observed["mean"].shape))

    @property
    def mean(self) -> FloatArray:
        """Mean."""
        return self._scaled(self.observed["mean"])

    @property
    def var(self) -> FloatArray:
        """Variance, population form (ddof 0)."""
        return self._scaled(self.observed["variance"], 2)

    @property
    def std(self) -> FloatArray:
        """Standard deviation, population form."""
        return self._scaled(np.sqrt(self.observed["variance"]))

    @property
    def second_moment(self) -> FloatArray:
        """Mean of the squares."""
        with np.errstate(over="ignore"):
            return self._scaled(self.observed["variance"] + self.observed["mean"] ** 2, 2)

    @property
    def log10_second_moment(self) -> FloatArray:
        """Decimal logarithm of the mean of the squares; -inf only where all numbers are zero."""
        root = np.hypot(self.observed["mean"], np.sqrt(self.observed["variance"]))
        return self._log10_square(root)

    @property
    def log10_var(self) -> FloatArray:
        """Decimal logarithm of the variance; -inf only where all numbers are equal."""
        return self._log10_square(np.sqrt(self.observed["variance"]))

    @property
    def min(self) -> FloatArray:
        """Smallest number."""
        return self._scaled(self._collected("minimum"))

    @property
    def max(self) -> FloatArray:
        """Largest number."""
        return self._scaled(self._collected("maximum"))

    @property
    def kurtosis(self) -> FloatArray:
        """Fourth central moment over the squared variance: 3 for a normal, NaN for constants."""
        fourth, variance = self._collected("m4"), self.observed["variance"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(fourth / variance / variance)

    @property
    def p02(self) -> FloatArray:
        """Second percentile, from the histogram."""
        return self.percentile(2)

    @property
    def p50(self) -> FloatArray:
        """Median, from the histogram."""
        return self.percentile(50)

    @property
    def p98(self) -> FloatArray:
        """98th percentile, from the histogram."""
        return self.percentile(98)

    def percentile(self, q: float) -> FloatArray:
        """Return the number below which q percent of the numbers lie, from the histogram.

        It is right to a bin, which is at most a sixteenth of the number wide: 16 equal bins make up
        each octave of magnitude. Numbers under 2**-10 of the layer's power of two count as zero,
        those beyond 2**6 of it as that end.

        Parameters
        ----------
        q : float
            From 0 to 100.
        """
        q = real("q", q, least=0, most=100)
        return self._scaled(_histogram.percentile(self._collected("histogram"), q))

    def histogram(self) -> tuple[NDArray[np.int64], FloatArray]:
        """Return the counts of the numbers in 515 bins, and where the bins end.

        Returns
        -------
        counts : ndarray of int, shape (..., 515)
        edges : ndarray, shape (..., 516)
            From -inf to inf; bin i goes from edge i to edge i + 1.
        """
        counts = self._collected("histogram")
        with np.errstate(over="ignore", under="ignore"):
            return counts, np.ldexp(_histogram.EDGES, self.observed["exponent"][..., None])

    @property
    def correlation(self) -> FloatArray:
        """Mean cosine x_i.x_j / (|x_i| |x_j|) between different rows of the batch.

        Rows of zeros are left out; NaN where under two are left.
        """
        return self._collected("correlation")

    @property
    def saturation(self) -> FloatArray:
        """Share of the numbers whose |phi'| is under the threshold, 0.1 by default."""
        return self._collected("saturation")

    @property
    def zero_slope(self) -> FloatArray:
        """Share of the numbers whose phi' is zero."""
        return self._collected("zero_slope")

    @property
    def dead(self) -> FloatArray:
        """Share of the units whose phi' is zero in the whole batch."""
        return self._collected("dead")

    def _collected(self, key: str) -> NDArray[Any]:
        if key in self.observed:
            return self.observed[key]
        if self._method == "implicit" and not any(
            key in keys and signals != SIGNALS for keys, _, signals in STATISTICS.values()
        ):
            raise ValueError(
                "not known of gradients by implicit weights, which are never formed: "
                "simulate with method='explicit'"
            )
        ways = [
            f'statistics=("moments", "{name}")'
            + (f" for {' and '.join(signals)}" if signals != SIGNALS else "")
            for name, (keys, _, signals) in STATISTICS.items()
            if key in keys
        ]
        raise ValueError(f"not collected of this signal: simulate with {', or '.join(ways)}")

    def _scaled(self, numbers: NDArray[Any], power: int = 1) -> FloatArray:
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(numbers, power * self.observed["exponent"]))

    def _log10_square(self, root: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(2 * (np.log10(root) + self.observed["exponent"] * math.log10(2)))


class Statistics(Fields):
    """The statistics of every layer over the numbers of all trials: arrays of shape (layers,).

    They are computed from the per-trial ones in the order of the trials, so that a run put
    together from parts has the bits of the run made at once.

    Parameters
    ----------
    observed : dict of ndarray
        The :data:`Observed` of every trial.

    layer_names : iterable of str
        Names of the layers.
    method : {"explicit", "implicit"}
        "implicit" of the gradients by weights that were never formed: moments are all there is.

    Attributes
    ----------
    layer_names : tuple of str
        Names of the layers that have this signal, one for each number of an array: those of
        gradients by weights are fewer than those of activations where some have no weights.
    per_trial : Fields
        The same statistics of each trial alone: arrays of shape (trials, layers).
    """

    def __init__(
        self, observed: Observed, layer_names: Iterable[str] = (), method: str = "explicit"
    ) -> None:
        super().__init__(_pool(observed), method)
        self.layer_names = tuple(layer_names)
        self.per_trial = Fields(observed, method)

    def __repr__(self) -> str:
        trials, layers = self.per_trial.observed["mean"].shape
        return f"Statistics({layers} layers, {trials} trials)"

    def interval(self, name: str, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Return a confidence interval for what a statistic is in the typical trial, by layer.

        Student's t over the per-trial values; for "var", "std" and "second_moment" over their
        logarithms, so around the geometric mean. In a deep narrow network these vary by orders of
        magnitude between trials, and the pooled value, which hangs on the few largest, may lie
        above the interval.

        Parameters
        ----------
        name : str
            Name of the statistic, such as "mean" or "var".
        level : float
            Probability that the interval covers, in (0, 1).

        Returns
        -------
        low, high : ndarray
            Shape (layers,). NaN for one trial, and where a trial's value or its logarithm is not
            finite.
        """
        if name not in _INTERVALS:
            raise unknown("statistic", name, _INTERVALS)
        level = probability(level)
        logarithm, _ = ON_LOGARITHM.get(name, (name, None))
        return off_logarithm(name, mean_interval(getattr(self.per_trial, logarithm), level))


def mean_interval(values: FloatArray, level: float) -> Ends:
    """Return Student's interval for the mean along the first axis; NaN for a single value."""
    count = len(values)
    if count == 1:
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        return around(values.mean(axis=0), values.std(axis=0, ddof=1), count, level)


def around(mean: FloatArray, std: FloatArray, count: int, level: float) -> Ends:
    """Return Student's interval for a mean, from those of a sample of two or more."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = std * (_student.critical(level, count - 1) / count**0.5)
        return mean - half, mean + half


def off_logarithm(name: str, ends: Ends) -> Ends:
    """Return the interval of a statistic from that of its logarithm, if it has it on one."""
    if name not in ON_LOGARITHM:
        return ends
    _, power = ON_LOGARITHM[name]
    with np.errstate(over="ignore", under="ignore"):
        return 10 ** (power * ends[0]), 10 ** (power * ends[1])


def probability(level: float) -> float:
    """Return the level of an interval, or the error that says what it may be."""
    if not 0 < real("level", level) < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    return level


def common_exponent(observed: Observed) -> NDArray[np.int64]:
    """Return the largest exponent along the first axis: what underflows on it is nothing beside it.

    Signals that are exactly zero have no scale, and no say.
    """
    exponent = observed["exponent"]
    alive = (observed["mean"] != 0) | (observed["variance"] != 0)
    return np.asarray(np.where(alive, exponent, exponent.min(axis=0)).max(axis=0))


def average(values: FloatArray) -> FloatArray:
    """Return the mean along the first axis, summed in order whatever the memory's layout."""
    return np.asarray(np.add.accumulate(values, axis=0)[-1] / len(values))


def _pool(observed: Observed) -> Observed:
    """Return what all trials' numbers together give, from each trial's own."""
    exponent = common_exponent(observed)
    shift = observed["exponent"] - exponent

    def shifted(key: str, power: int) -> FloatArray:
        return np.asarray(np.ldexp(observed[key], power * shift))

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        means, variances = shifted("mean", 1), shifted("variance", 2)
        mean = average(means)
        off = means - mean
        pooled = {
            "count": observed["count"] * len(means),
            "mean": mean,
            "variance": average(variances + off**2),
            "exponent": exponent,
        }
        if "minimum" in observed:
            pooled["minimum"] = shifted("minimum", 1).min(axis=0)
            pooled["maximum"] = shifted("maximum", 1).max(axis=0)
        if "m4" in observed:
            third, fourth = shifted("m3", 3), shifted("m4", 4)
            pooled["m3"] = average(third + 3 * off * variances + off**3)
            pooled["m4"] = average(fourth + 4 * off * third + 6 * off**2 * variances + off**4)
        if "histogram" in observed:
            pooled["histogram"] = _histogram.pooled(observed["histogram"], shift)
        for key in _SHARES:
            if key in observed:
                pooled[key] = average(observed[key])
    return pooled
