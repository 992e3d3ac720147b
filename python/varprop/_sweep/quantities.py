"""What a sweep keeps of a run: statistics of a signal, by name, over its trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop import _catalogue
from varprop._catalogue import STATISTICS
from varprop._spec import unknown
from varprop._statistics import ON_LOGARITHM, FloatArray, around, off_logarithm
from varprop.run import Run

LEVEL = 0.95
SIGNALS = _catalogue.SIGNALS[:5]  # those that layers have
KEPT = ("mean", "std", "low", "high", "trials")  # the last says that a point is done

_GROUPS = 100  # of a point's trials at most, which are sent and joined


class Sample(NamedTuple):
    """Groups of trials: how many each has, their means, and the squares of what is off these."""

    trials: NDArray[np.int64]  # (groups,)
    mean: FloatArray  # (groups, layers)
    square: FloatArray  # (groups, layers)

    @classmethod
    def of(cls, values: FloatArray, size: int) -> Sample:
        """Return the sample of the trials' own values, shape (trials, layers)."""
        groups = [values[first : first + size] for first in range(0, len(values), size)]
        with np.errstate(over="ignore", invalid="ignore"):
            means = [each.mean(axis=0) for each in groups]
            squares = [
                np.square(each - mean).sum(axis=0) for each, mean in zip(groups, means, strict=True)
            ]
        return cls(np.array([len(each) for each in groups]), np.array(means), np.array(squares))

    def whole(self) -> tuple[int, FloatArray, FloatArray]:
        """Return the number of all trials, their mean, and their sample standard deviation."""
        total, count = int(self.trials.sum()), self.trials[:, None]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mean = (count * self.mean).sum(axis=0) / total
            square = (count * np.square(self.mean - mean)).sum(axis=0) + self.square.sum(axis=0)
            return total, mean, np.sqrt(square / np.float64(total - 1))


Columns = dict[str, Sample]  # by the name of a statistic of a signal


class Quantity(NamedTuple):
    """A statistic of a signal, as the user named it: "gradients.log10_var"."""

    name: str
    signal: str
    field: str

    @property
    def statistics(self) -> str:
        """What a simulation has to collect for it."""
        return next(
            name
            for name, entry in STATISTICS.items()
            if self.field in entry.fields and self.signal in entry.signals
        )

    @property
    def attributes(self) -> dict[str, str]:
        """What is to say of the variable of a Dataset."""
        units = "decades" if self.field.startswith("log10_") else "1"
        words = self.field.replace("log10_", "log10 of ").replace("_", " ")
        of = self.signal.replace("_", " ")
        return {
            "long_name": f"{words} of {of}",
            "units": units,
            "signal": self.signal,
            "field": self.field,
        }

    @property
    def columns(self) -> tuple[Quantity, ...]:
        """Itself, and the logarithm on which it has its interval, if it has it on one."""
        if self.field not in ON_LOGARITHM:
            return (self,)
        logarithm = ON_LOGARITHM[self.field][0]
        return self, Quantity(f"{self.signal}.{logarithm}", self.signal, logarithm)


def parse(quantities: str | Iterable[str], *, backward: bool, method: str) -> tuple[Quantity, ...]:
    """Return the quantities of a sweep, or the error of the one that is none."""
    if not isinstance(quantities, Iterable):
        raise TypeError(f"quantities must be a tuple of names, got {quantities!r}")
    names = (quantities,) if isinstance(quantities, str) else tuple(quantities)
    if not names:
        raise ValueError("quantities must have at least one name")
    found = tuple(_parsed(name, backward, method) for name in names)
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"quantities must have each name once, got {name!r} again")
    return found


def _parsed(name: object, backward: bool, method: str) -> Quantity:
    if not isinstance(name, str):
        raise TypeError(f"quantities must be names, got {name!r}")
    signal, dot, field = name.rpartition(".")
    signal = signal if dot else "activations"
    if signal not in SIGNALS:
        raise unknown("signal", signal, SIGNALS)
    if signal not in SIGNALS[:2] and not backward:
        raise ValueError(f"quantities: {name!r} needs backward=True")
    known = _fields(signal, method)
    if field not in known:
        raise unknown(f"quantity of {signal.replace('_', ' ')}", field, known)
    return Quantity(name, signal, field)


def _fields(signal: str, method: str) -> tuple[str, ...]:
    known = _catalogue.fields(_catalogue.resolve(STATISTICS), signal, method)
    return tuple(field for field in known if field != "count")


def collected(quantities: Iterable[Quantity]) -> tuple[str, ...]:
    """Return the statistics that a simulation has to collect."""
    return _catalogue.resolve([quantity.statistics for quantity in quantities])


def group(trials: int) -> int:
    """Return how many trials are kept as one sample: a point of very many is :data:`_GROUPS`.

    Groups are joined in order, so that no bit hangs on who did which of them.
    """
    return -(-trials // _GROUPS)


def columns(run: Run, quantities: Iterable[Quantity], size: int) -> Columns:
    """Return samples of a run's trials, `size` a group; NaN where a layer has no such signal."""
    found = {}
    for quantity in quantities:
        for column in quantity.columns:
            names = run.network.names(column.signal)
            values = np.full((run.trials, len(run.layer_names)), np.nan)
            places = [run.network.index(name) for name in names]
            values[:, places] = getattr(getattr(run, column.signal).per_trial, column.field)
            found[f"{column.signal}.{column.field}"] = Sample.of(values, size)
    return found


def joined(parts: Iterable[Columns]) -> Columns:
    """Return the samples of all trials from those of parts of them, in order."""
    parts = list(parts)
    return {
        name: Sample(*map(np.concatenate, zip(*(part[name] for part in parts), strict=True)))
        for name in parts[0]
    }


def kept(values: Columns, quantities: Iterable[Quantity], layers: int) -> FloatArray:
    """Return what is kept of a point, shape (quantities, KEPT, layers): NaN beyond its last layer.

    Mean and sample standard deviation over trials, the ends of :meth:`Statistics.interval`, and
    in each layer that there is the number of trials.
    """
    return np.stack([_kept(values, quantity, layers) for quantity in quantities])


def _kept(values: Columns, quantity: Quantity, layers: int) -> FloatArray:
    trials, mean, std = values[f"{quantity.signal}.{quantity.field}"].whole()
    logarithm, _ = ON_LOGARITHM.get(quantity.field, (quantity.field, None))
    _, centre, spread = values[f"{quantity.signal}.{logarithm}"].whole()
    ends = around(centre, spread, trials, LEVEL) if trials > 1 else (std, std)
    found = np.full((len(KEPT), layers), np.nan)
    for i, each in enumerate((mean, std, *off_logarithm(quantity.field, ends), trials)):
        found[i, : len(mean)] = each
    return found
