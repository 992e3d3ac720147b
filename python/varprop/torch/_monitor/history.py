"""The records of a training: tables, pictures, files."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop import _catalogue
from varprop._core import __version__
from varprop._extras import require
from varprop._spec import integer
from varprop.torch._monitor import file
from varprop.torch._monitor.record import SIGNALS, LayerStatistics, Record, stacked

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from varprop.torch._monitor.picture import Kind

FORMAT = 1  # of the files


class NonFinite(NamedTuple):
    """Where a training left the finite numbers.

    Attributes
    ----------
    step : int
        Steps taken before.
    layer : str or None
        The first layer on the signal's way; None where the loss was the first.
    signal : str
        One of the signals, or "loss".
    """

    step: int
    layer: str | None
    signal: str

    def __str__(self) -> str:
        where = "" if self.layer is None else f" of layer {self.layer!r}"
        signal = self.signal.replace("_", " ")
        return f"NaN or infinity at step {self.step}, first in the {signal}{where}"


class History:
    """The records of a training, in the order of their steps.

    Made by a :class:`Monitor`, or read by :func:`load_monitor`.

    Attributes
    ----------
    model : str
        Class of the model.
    statistics : tuple of str
        What was recorded, beside moments.
    first_nonfinite : NonFinite or None
        (step, layer, signal) where the first NaN or infinity was.
    """

    def __init__(self, model: str, statistics: Iterable[str]) -> None:
        self.model = model
        self.statistics = tuple(statistics)
        self.first_nonfinite: NonFinite | None = None
        self._records: list[Record] = []
        self._path: str | PathLike[str] | None = None
        self._files: dict[Path, _Saved] = {}

    @property
    def records(self) -> list[Record]:
        """All records that are complete."""
        return list(self._records)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The step of every record."""
        return np.array([record.step for record in self.records], np.int64)

    @property
    def losses(self) -> NDArray[np.float64]:
        """The loss logged in the step of every record, NaN without."""
        losses = [record.loss for record in self.records]
        return np.array([np.nan if loss is None else loss for loss in losses])

    @property
    def activations(self) -> LayerStatistics:
        """Statistics of what leaves every layer, arrays of shape (records, layers)."""
        return stacked(self.records, "activations")

    @property
    def gradients(self) -> LayerStatistics:
        """Statistics of the gradients by pre-activations, as of :attr:`Record.gradients`."""
        return stacked(self.records, "gradients")

    @property
    def weight_gradients(self) -> LayerStatistics:
        """Statistics of the gradients by weights that the optimizer took."""
        return stacked(self.records, "weight_gradients")

    @property
    def weights(self) -> LayerStatistics:
        """Statistics of the weights before each recorded step, and ``update_ratio``."""
        return stacked(self.records, "weights")

    @property
    def hidden(self) -> tuple[str, ...]:
        """The layers that are activation functions, or else all, without the model's output."""
        from varprop.torch._convert.activations import TYPES

        known = {kind.__name__ for kind in TYPES}
        types: dict[str, str] = {}
        for record in self._records:
            names = record.layer_names.get("activations", ())
            types |= dict(zip(names, record.types, strict=True))
        last = next(reversed(types), None)
        inside = [name for name in types if name != last] or list(types)
        return tuple(name for name in inside if types[name] in known) or tuple(inside)

    def to_dataframe(self) -> DataFrame:
        """Return a table, one row for each layer of each signal of each record.

        Columns are step, layer, signal and the statistics, NaN where a signal has none.

        Needs pandas: ``pip install "varprop[dataframe]"``.
        """
        pandas = require("pandas", "dataframe")
        fields = list(dict.fromkeys(f for s in self._recorded() for f in self._fields(s)))
        columns: dict[str, list[Any]] = {"step": [], "layer": [], "signal": []}
        columns |= {field: [] for field in fields}
        for record in self.records:
            for signal, names in record.layer_names.items():
                found = record.of(signal)
                columns["step"] += [record.step] * len(names)
                columns["layer"] += names
                columns["signal"] += [signal] * len(names)
                own = self._fields(signal)
                for field in fields:
                    nothing = [np.nan] * len(names)
                    columns[field] += getattr(found, field).tolist() if field in own else nothing
        frame: DataFrame = pandas.DataFrame(columns)
        return frame

    def _recorded(self) -> list[str]:
        return [s for s in SIGNALS if any(s in record.observed for record in self.records)]

    def _fields(self, signal: str) -> tuple[str, ...]:
        if signal == "activations":
            return _catalogue.fields(self.statistics, signal)
        own = _catalogue.fields(self.statistics, "gradients")
        return (*own, "update_ratio") if signal == "weights" else own

    def plot(
        self,
        kind: Kind | None = None,
        *,
        layers: Iterable[str] | None = None,
        signal: str = "activations",
        steps: int | Iterable[int] | None = None,
        figure: Figure | None = None,
    ) -> Figure:
        """Draw a training, over its steps.

        - "activations": mean and standard deviation (bars) of the activations, figure 2.
        - "percentiles": their 98th percentiles (marks) and standard deviations (lines), figure 3.
        - "gradients": standard deviations of the gradients by pre-activations.
        - "weight_gradients": standard deviations of the gradients by weights, figure 9.
        - "updates": how far a step moves the weights, |dw| / |w|.
        - "saturation": the shares of saturated activations (lines) and of dead units (marks).
        - "histograms": the distributions of a signal at some steps: figure 4 of the activations,
          figure 8 of the weight gradients at step 0.

        None draws figures 2, 3, 8 and 9 together. The figures are Glorot and Bengio's (2010).

        Needs Matplotlib: ``pip install "varprop[plot]"``.

        Parameters
        ----------
        kind : str, optional
        layers : iterable of str, optional
            By default the activation functions inside the model; of gradients by weights, the
            layers that have some but for the last. Of over eight, eight from first to last.
        signal : {"activations", "gradients", "weight_gradients", "weights"}
            Of kind "histograms".
        steps : int or iterable of int, optional
            Of kind "histograms": recorded steps, by default the first and the last.
        figure : matplotlib Figure or SubFigure, optional
            Where to draw; by default a new figure that pyplot does not know.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            There is no record yet, or none of what is asked for.
        """
        from varprop.torch._monitor.picture import plot

        return plot(self, kind, layers=layers, signal=signal, steps=steps, figure=figure)

    def save(self, path: str | PathLike[str] | None = None) -> None:
        """Append to a file the records that it has not yet, each whole or not at all.

        Parameters
        ----------
        path : str or path, optional
            By default the Monitor's own, to which records are appended anyway.

        Raises
        ------
        ValueError
            There is no path; it is another kind of file, or one of other records.
        """
        path = self._path if path is None else path
        if path is None:
            raise ValueError("path must be given where the Monitor has none")
        key = Path(path).absolute()
        if key not in self._files:
            self._files[key] = _Saved(path, self)
        self._files[key].write(self)
        self._files[key].appender.close()

    def _header(self) -> dict[str, Any]:
        return {
            "monitor": FORMAT,
            "varprop": __version__,
            "model": self.model,
            "statistics": list(self.statistics),
        }


class _Saved:
    """A file, and how much of a history is in it."""

    def __init__(self, path: str | PathLike[str], history: History) -> None:
        bodies, whole = file.read(path) if Path(path).exists() else ([], 0)
        self.last = -1  # step of the last record there
        self.nonfinite = False
        if bodies:
            there = _history(path, bodies)
            if (there.model, there.statistics) != (history.model, history.statistics):
                raise ValueError(
                    f"{path} holds records of {there.model} with statistics {there.statistics}, "
                    f"not of {history.model} with {history.statistics}"
                )
            self.last = there._records[-1].step if there._records else -1
            known = {record.step: record for record in there._records}
            for record in history._records:
                if record.step <= self.last and not _same(record, known.get(record.step)):
                    raise ValueError(f"{path} holds other records than that of step {record.step}")
            self.nonfinite = there.first_nonfinite is not None
        self.appender = file.Appender(path, whole)
        self._begun = bool(bodies)

    def write(self, history: History) -> None:
        """Append what is new."""
        if not self._begun:
            self.appender.append(history._header())
            self._begun = True
        if history.first_nonfinite is not None and not self.nonfinite:
            self.appender.append({"nonfinite": list(history.first_nonfinite)})
            self.nonfinite = True
        for record in history._records:
            if record.step > self.last:
                self.appender.append(record.to_dict())
                self.last = record.step


def _same(one: Record, other: Record | None) -> bool:
    return other is not None and one.to_dict() == other.to_dict()


def load_monitor(path: str | PathLike[str]) -> History:
    """Read the records that a :class:`Monitor` saved, up to the last whole one.

    Nothing in the file is ever executed, and all is checked.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    History
        ``records``, ``activations`` ..., ``to_dataframe()``, ``plot()``, as a Monitor has.

    Raises
    ------
    ValueError
        It is another kind of file, or damaged before its end.
    """
    bodies, _ = file.read(path)
    return _history(path, bodies)


def _history(path: str | PathLike[str], bodies: list[dict[str, Any]]) -> History:
    if not bodies:
        raise ValueError(f"{path} holds nothing of a Monitor yet")
    try:
        head, *rest = bodies
        if head["monitor"] != FORMAT:
            raise ValueError(f"format must be {FORMAT}, got {head['monitor']!r:.40}")
        if not isinstance(head["model"], str):
            raise ValueError("model must be a text")
        history = History(head["model"], _catalogue.resolve(head["statistics"]))
        for body in rest:
            if "nonfinite" in body:
                history.first_nonfinite = _nonfinite(body["nonfinite"])
                continue
            record = Record.from_dict(body, history.statistics)
            if history._records and record.step <= history._records[-1].step:
                raise ValueError(f"step {record.step} comes after {history._records[-1].step}")
            history._records.append(record)
    except Exception as error:  # whatever a strange file makes its readers raise
        lack = "no entry " if isinstance(error, KeyError) else ""
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} does not hold records of a Monitor: {lack}{reason}") from error
    return history


def _nonfinite(value: Any) -> NonFinite:
    step, layer, signal = value
    if not (layer is None or isinstance(layer, str)) or signal not in (*SIGNALS, "loss"):
        raise ValueError(f"nonfinite must be a step, a layer and a signal, got {value!r:.80}")
    return NonFinite(integer("step", step), layer, signal)
