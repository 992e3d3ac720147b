"""What was recorded at one step: the statistics of every layer, by signal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop import _catalogue, _histogram
from varprop._files import _number, _spelled
from varprop._spec import integer, unknown
from varprop._statistics import Fields, FloatArray, Observed

#: What a monitor records; "weights" are as they are before the step, "update_ratio" is theirs.
SIGNALS = ("activations", "gradients", "weight_gradients", "weights")
STATISTICS = ("moments", "extremes", "kurtosis", "histogram", "saturation")
_SHARES = ("saturation", "zero_slope", "dead")


class LayerStatistics(Fields):
    """The statistics of one signal: arrays whose last axis is that of the layers.

    Attributes
    ----------
    layer_names : tuple of str
        Qualified names of the layers that have the signal.
    """

    def __init__(self, observed: Observed, layer_names: Iterable[str]) -> None:
        super().__init__(observed)
        self.layer_names = tuple(layer_names)

    def __repr__(self) -> str:
        return f"LayerStatistics of shape {self.observed['mean'].shape}"

    @property
    def update_ratio(self) -> FloatArray:
        """|dw| / |w| of a layer's weights in the step that followed, of signal "weights" alone."""
        return self._collected("update_ratio")

    def percentile(self, q: float) -> FloatArray:
        """Return the number below which q percent of the numbers lie, right to a bin."""
        numbers = super().percentile(q)
        if "minimum" not in self.observed:
            return numbers
        return np.asarray(np.clip(numbers, self.min, self.max))

    def of(self, layer: str) -> int:
        """Return the position of a layer, or the error that names the nearest."""
        if layer not in self.layer_names:
            raise unknown("layer", layer, self.layer_names)
        return self.layer_names.index(layer)

    def _collected(self, key: str) -> NDArray[Any]:
        if key not in self.observed:
            raise ValueError(f"{key} is not recorded of this signal: see statistics of the Monitor")
        return self.observed[key]


class Record:
    """The statistics of a training at one step.

    Attributes
    ----------
    step : int
        Steps taken before: all is of the weights that these have led to.
    loss : float or None
        What was logged in that step.
    observed : dict
        The numbers, by signal.
    layer_names : dict
        The layers of each signal.
    types : tuple of str
        Classes of the layers of the activations.
    """

    def __init__(
        self,
        step: int,
        observed: dict[str, Observed],
        layer_names: dict[str, tuple[str, ...]],
        types: tuple[str, ...],
        loss: float | None = None,
    ) -> None:
        for numbers in observed.values():  # many records are kept, and few counts are large
            if "histogram" in numbers and numbers["histogram"].max(initial=0) < 2**31:
                numbers["histogram"] = numbers["histogram"].astype(np.int32)
        self.step, self.loss = step, loss
        self.observed, self.layer_names, self.types = observed, layer_names, types

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{len(names)} of {signal}" for signal, names in self.layer_names.items()
        )
        return f"Record(step {self.step}: layers {counts})"

    @property
    def activations(self) -> LayerStatistics:
        """Statistics of what leaves every layer, shape (layers,)."""
        return self.of("activations")

    @property
    def gradients(self) -> LayerStatistics:
        """Statistics of the loss's gradient by the pre-activations, of the last backward pass.

        That is by what enters activations, norms and dropout, and by what leaves all others. NaN
        where none came back.
        """
        return self.of("gradients")

    @property
    def weight_gradients(self) -> LayerStatistics:
        """Statistics of the gradients that the optimizer took, of parameters of 2 or more axes."""
        return self.of("weight_gradients")

    @property
    def weights(self) -> LayerStatistics:
        """Statistics of these parameters, and how far the step moved them, ``update_ratio``."""
        return self.of("weights")

    def of(self, signal: str) -> LayerStatistics:
        """Return the statistics of a signal."""
        if signal not in self.observed:
            raise unknown("signal", signal, self.observed)
        return LayerStatistics(self.observed[signal], self.layer_names[signal])

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values, as a file holds it."""
        signals = {
            signal: {"layers": list(self.layer_names[signal])}
            | {key: _plain(key, values) for key, values in found.items()}
            for signal, found in self.observed.items()
        }
        loss = None if self.loss is None else _spelled(self.loss)
        return {"step": self.step, "loss": loss, "types": list(self.types), "signals": signals}

    @classmethod
    def from_dict(cls, record: dict[str, Any], statistics: tuple[str, ...]) -> Record:
        """Return the record of what :meth:`to_dict` gave, after looking at everything in it."""
        observed, names = {}, {}
        for signal, found in record["signals"].items():
            if signal not in SIGNALS:
                raise unknown("signal", signal, SIGNALS)
            names[signal] = _texts(found["layers"])
            wanted = keys(statistics, signal)
            observed[signal] = {key: _read(key, found[key], len(names[signal])) for key in wanted}
        types = _texts(record["types"])
        if len(types) != len(names.get("activations", ())):
            raise ValueError("types must be as many as layers of the activations")
        loss = record["loss"]
        return cls(
            integer("step", record["step"]),
            observed,
            names,
            types,
            None if loss is None else float(_number(loss, float)),
        )


def keys(statistics: tuple[str, ...], signal: str) -> tuple[str, ...]:
    """Return the keys that a record's numbers of a signal have."""
    ours = _catalogue.keys(statistics, "activations" if signal == "activations" else "gradients")
    return (*ours, "update_ratio") if signal == "weights" else ours


def stacked(records: list[Record], signal: str) -> LayerStatistics:
    """Return a signal's statistics of all records, arrays of shape (records, layers).

    A layer that a record has not is NaN there.
    """
    having = [record for record in records if signal in record.observed]
    if not having:
        raise ValueError(f"signal {signal!r} is not recorded: see signals of the Monitor")
    names = list(dict.fromkeys(name for record in having for name in record.layer_names[signal]))
    shape = len(records), len(names)
    every = {}
    for key, like in having[0].observed[signal].items():
        empty = 0 if like.dtype.kind == "i" else np.nan
        kind = np.int64 if like.dtype.kind == "i" else like.dtype
        every[key] = np.full((*shape, *like.shape[1:]), empty, kind)
    for row, record in enumerate(records):
        if signal in record.observed:
            places = [names.index(name) for name in record.layer_names[signal]]
            for key, values in record.observed[signal].items():
                every[key][row, places] = values
    return LayerStatistics(every, names)


def _plain(key: str, values: NDArray[Any]) -> list[Any]:
    if key != "histogram":
        return values.tolist() if values.dtype.kind == "i" else list(_spelled(values.tolist()))
    rows = []
    for counts in values:  # from the first bin that is not empty to the last
        full = np.flatnonzero(counts)
        first, end = (int(full[0]), int(full[-1]) + 1) if full.size else (0, 0)
        rows.append([first, *counts[first:end].tolist()])
    return rows


def _read(key: str, values: Any, layers: int) -> NDArray[Any]:
    if not isinstance(values, list) or len(values) != layers:
        raise ValueError(f"{key} must be a list of {layers} layers")
    if key == "histogram":
        counts = np.zeros((layers, _histogram.BINS), np.int64)
        for row, numbers in zip(counts, values, strict=True):
            first, *some = _number(numbers, int)
            if not 0 <= first <= first + len(some) <= len(row) or min(some, default=0) < 0:
                raise ValueError("histogram must lie within the bins")
            row[first : first + len(some)] = some
        return counts
    if key in ("count", "exponent"):
        whole = np.array([integer(key, v, least=-(2**40)) for v in values], np.int64)
        if np.any(np.abs(whole) > 2**53) or (key == "count" and np.any(whole < 0)):
            raise ValueError(f"{key} is out of range")
        return whole
    numbers = np.array(_number(values, float), np.float64)
    most = 1.0 if key in _SHARES else math.inf
    if numbers.shape != (layers,) or np.any((numbers < _least(key)) | (numbers > most)):
        raise ValueError(f"{key} must be numbers from {_least(key)} to {most}")
    return numbers


def _least(key: str) -> float:
    return 0.0 if key in (*_SHARES, "variance", "update_ratio") else -math.inf


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"names must be texts, got {values!r:.40}")
    return tuple(values)
