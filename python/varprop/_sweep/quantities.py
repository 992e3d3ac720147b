"""What a sweep keeps of a run: statistics of a signal, by name, over its trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from varprop import _catalogue
from varprop._catalogue import STATISTICS
from varprop._spec import unknown
from varprop._statistics import ON_LOGARITHM, FloatArray, interval
from varprop.run import Run

LEVEL = 0.95
SIGNALS = _catalogue.SIGNALS[:5]  # those that layers have
KEPT = ("mean", "std", "low", "high", "trials")  # the last says that a point is done

Columns = dict[str, FloatArray]  # by name, the values of all trials and layers


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


def columns(run: Run, quantities: Iterable[Quantity]) -> Columns:
    """Return the trials' own values, shape (trials, layers); NaN where a layer has no such signal.

    They are the run's to the bit, however its trials were split.
    """
    found = {}
    for quantity in quantities:
        for column in quantity.columns:
            names = run.network.names(column.signal)
            values = np.full((run.trials, len(run.layer_names)), np.nan)
            places = [run.network.index(name) for name in names]
            values[:, places] = getattr(getattr(run, column.signal).per_trial, column.field)
            found[f"{column.signal}.{column.field}"] = values
    return found


def joined(parts: Iterable[Columns]) -> Columns:
    """Return the columns of all trials from those of parts of them, in order."""
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def kept(values: Columns, quantities: Iterable[Quantity], layers: int) -> FloatArray:
    """Return what is kept of a point, shape (quantities, KEPT, layers): NaN beyond its last layer.

    Mean and sample standard deviation over trials, the ends of :meth:`Statistics.interval`, and
    in each layer that there is the number of trials.
    """
    return np.stack([_kept(values, quantity, layers) for quantity in quantities])


def _kept(values: Columns, quantity: Quantity, layers: int) -> FloatArray:
    def of(field: str) -> FloatArray:
        return values[f"{quantity.signal}.{field}"]

    numbers = of(quantity.field)
    trials, depth = numbers.shape
    found = np.full((len(KEPT), layers), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        found[0, :depth] = numbers.mean(axis=0)
        if trials > 1:
            found[1, :depth] = numbers.std(axis=0, ddof=1)
    found[2, :depth], found[3, :depth] = interval(quantity.field, of, LEVEL)
    found[4, :depth] = trials
    return found
