"""What :func:`varprop.jacobian` found: singular values or moments, a summary, a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from varprop import _heading, _spec, _table
from varprop._extras import require
from varprop._singular import Scaled
from varprop.network import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from varprop.run import Run

__all__ = ["Jacobian"]

Array = NDArray[np.float64]
Result = TypeVar("Result")

_DECADES = 2  # between median and largest singular value, past which their axis is logarithmic
_FLOATS = 300  # decimal logarithms that a float can be the power of
_FEW = 5  # curves that have styles and names of their own
_ROOM = 20  # characters of a layer's name
_STYLES = ("-", "--", "-.", ":")


class Jacobian:
    """The singular values of a network's Jacobians, by trial and input.

    Made by :func:`jacobian`; printed, it is a short report. With ``layers="all"`` each result is a
    dict: the layer's name to what is described here.

    Attributes
    ----------
    network : Network
        Whose Jacobian.
    layers, method : str
        What was asked for.
    batch : int
        Number of inputs.
    given_inputs : ndarray or None
        The inputs, shape (inputs, features), where they were given, not drawn.
    seed : int
        Seed of all draws.
    trials, first_trial : int
        Trials first_trial, ..., first_trial + trials - 1.
    dtype : str
        Type of the draws.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([64, 100, 10], "tanh", weight="glorot_uniform")
    >>> found = vp.jacobian(net, inputs=3, layers="all")
    >>> {layer: values.shape for layer, values in found.singular_values.items()}
    {'dense1': (1, 3, 64), 'dense2': (1, 3, 10)}
    """

    loss = given_targets = None  # what the heading of a run asks for

    def __init__(
        self,
        network: Network,
        *,
        inputs: int | NDArray[Any],
        seed: int,
        trials: int,
        first_trial: int,
        dtype: str,
        layers: str,
        method: str,
        ends: tuple[int, int],
        parts: dict[str, Scaled],
    ) -> None:
        self.network = network
        self.given_inputs = None if isinstance(inputs, int) else inputs
        self.batch = inputs if isinstance(inputs, int) else len(inputs)
        self.seed = seed
        self.trials = trials
        self.first_trial = first_trial
        self.dtype = dtype
        self.layers = layers
        self.method = method
        self._parts = parts
        self._gives = _gives(method, ends)

    def _by_layer(self, what: str, take: Callable[[Scaled], Result]) -> dict[str, Result]:
        if what not in self._gives:
            raise ValueError(f"no {what}: method {self.method!r} gives {', '.join(self._gives)}")
        return {name: take(part) for name, part in self._parts.items()}

    def _each(self, what: str, take: Callable[[Scaled], Result]) -> Any:
        found = self._by_layer(what, take)
        return found if self.layers == "all" else found[self.layers]

    @property
    def singular_values(self) -> Any:
        """Singular values, shape (trials, inputs, min(features, outputs)), descending.

        Of method "extreme" the largest, then the smallest. NaN where a pre-activation has left the
        range of float64; infinite or 0 where a singular value has.
        """
        return self._each("singular values", lambda part: part.value)

    @property
    def log10_singular_values(self) -> Any:
        """Decimal logarithms of the singular values, finite where these are not 0."""
        return self._each("singular values", lambda part: part.log10)

    @property
    def mean(self) -> Any:
        """Mean of the singular values, shape (trials, inputs)."""
        return self._each("mean", lambda part: _mean(part).value)

    @property
    def max(self) -> Any:
        """Largest singular value, shape (trials, inputs)."""
        return self._each("largest", lambda part: part.at(0).value)

    @property
    def min(self) -> Any:
        """Smallest singular value, shape (trials, inputs)."""
        return self._each("smallest", lambda part: part.at(-1).value)

    @property
    def condition_number(self) -> Any:
        """Largest over smallest singular value, shape (trials, inputs)."""
        return self._each("condition number", lambda part: _condition(part).value)

    @property
    def moments(self) -> Any:
        """Estimates of tr((J J^T)^k) / outputs, k = 1, 2, ..., shape (trials, inputs, order)."""
        return self._each("moments", lambda part: part.at(0).value)

    @property
    def moments_error(self) -> Any:
        """Standard errors of the moments, from their spread over the probes."""
        return self._each("moments", lambda part: part.at(1).value)

    @property
    def log10_moments(self) -> Any:
        """Decimal logarithms of the moments."""
        return self._each("moments", lambda part: part.at(0).log10)

    def histogram(self, bins: int = 50, *, log10: bool = False) -> Any:
        """Count the singular values of all trials and inputs.

        Parameters
        ----------
        bins : int
            Number of bins; of the same edges for all layers.
        log10 : bool
            Count their decimal logarithms, without the zeros.

        Returns
        -------
        counts : ndarray
            Shape (bins,).
        edges : ndarray
            Shape (bins + 1,).
        """
        found = self._counts(_spec.integer("bins", bins, least=1), log10)
        return found if self.layers == "all" else found[self.layers]

    def _counts(self, bins: int, log10: bool) -> dict[str, tuple[NDArray[np.int64], Array]]:
        values = self._by_layer("histogram", lambda part: part.log10 if log10 else part.value)
        finite = {name: numbers[np.isfinite(numbers)] for name, numbers in values.items()}
        edges = _edges(np.concatenate([*finite.values()]), bins, log10)
        return {name: (np.histogram(part, edges)[0], edges) for name, part in finite.items()}

    def plot(self, *, bins: int = 50, figure: Figure | None = None) -> Figure:
        """Draw the histogram of the singular values, a curve for each layer.

        Their axis is logarithmic where the median is less than a hundredth of the largest. Needs
        Matplotlib: ``pip install "varprop[plot]"``.

        Parameters
        ----------
        bins : int
            Number of bins.
        figure : matplotlib Figure, optional
            Where to draw; by default a new figure that pyplot does not know.

        Returns
        -------
        matplotlib.figure.Figure
        """
        logarithms = self._by_layer("histogram", lambda part: part.log10)
        every = np.concatenate([values.ravel() for values in logarithms.values()])
        finite = every[np.isfinite(every)]
        low, high = np.quantile(finite, (0.5, 1)) if finite.size else (0.0, 0.0)
        wide = bool(high - low > _DECADES or abs(high) > _FLOATS)
        counts = self._counts(_spec.integer("bins", bins, least=1), wide)
        if figure is None:
            figure = require("matplotlib.figure", "plot").Figure((7, 4), layout="constrained")
        figure.suptitle("\n".join(self._heading()), fontsize="small", parse_math=False)
        axes = figure.subplots()
        last = len(counts) - 1
        for position, (name, (count, edges)) in enumerate(counts.items()):
            axes.stairs(
                count / logarithms[name].size,
                edges,
                color=str(0.75 * (1 - position / last)) if last else "0",
                linestyle=_STYLES[position % len(_STYLES)] if last < _FEW else "-",
                label=name if last < _FEW or position in (0, last) else None,
            )
        if last:
            axes.legend(frameon=False)
        zeros = np.count_nonzero(np.isneginf(every))
        missing = f", without the {zeros} of {every.size} that are 0" if wide and zeros else ""
        axes.set_xlabel(f"{'log10 ' if wide else ''}singular value{missing}")
        axes.set_ylabel("share of singular values")
        return figure

    def _heading(self) -> list[str]:
        whole = self.layers == "end_to_end"
        which = "the outputs by the inputs" if whole else "each layer's outputs by its inputs"
        title = f"Jacobian of {which}, method {self.method}"
        return [title, *_heading.heading(cast("Run", self))]

    def _notes(self) -> list[str]:
        """Return what the numbers of the table are, and what is missing from them."""
        matrices = self.trials * self.batch
        lost = max(np.count_nonzero(np.isnan(part.at(0).mantissa)) for part in self._parts.values())
        notes = [f"geometric means over {matrices} Jacobians"] if matrices > 1 else []
        return notes + [f"{lost} of {matrices} left the range of float64"] * bool(lost)

    def _cells(self, part: Scaled) -> list[dict[str, str]]:
        """Return the lines of one layer, by column."""
        if self.method == "moments":
            estimate = part.at(0)
            with np.errstate(invalid="ignore"):
                errors = part.at(1).mantissa / estimate.mantissa
            return [
                {
                    "k": str(k + 1),
                    "tr (J J^T)^k / outputs": _typical(estimate.at(k)),
                    "std. error": _percent(errors[..., k]),
                }
                for k in range(estimate.mantissa.shape[-1])
            ]
        cells = {}
        if self.method == "svd":
            zeros = np.count_nonzero(part.mantissa == 0, axis=-1).mean()
            cells["number"] = str(part.mantissa.shape[-1])
            cells["zeros"] = f"{zeros:.4g}"
            cells["mean"] = _typical(_mean(part))
        if "smallest" in self._gives:
            cells["smallest"] = _typical(part.at(-1))
        if "largest" in self._gives:
            cells["largest"] = _typical(part.at(0))
        if "condition number" in self._gives:
            cells["condition"] = _typical(_condition(part))
        return [cells]

    def __str__(self) -> str:
        names = _table.shortened(list(self._parts), _ROOM)
        blocks = [
            [{"layer": name * (not line), **cells} for line, cells in enumerate(self._cells(part))]
            for name, part in zip(names, self._parts.values(), strict=True)
        ]
        titles = list(blocks[0][0])
        dots = [dict.fromkeys(titles, _table.DOTS)]
        shown = (dots if i is None else blocks[i] for i in _table.shown(len(blocks), None))
        rows = [titles, *([*cells.values()] for block in shown for cells in block)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        notes = self._notes()
        return "\n".join([*self._heading(), "", *table, *[""] * bool(notes), *notes])

    def __repr__(self) -> str:
        last = self.first_trial + self.trials - 1
        return (
            f"Jacobian({self.layers}, method {self.method}, trials {self.first_trial} to {last}, "
            f"{self.batch} input{'s' * (self.batch > 1)})"
        )


def _gives(method: str, ends: tuple[int, int]) -> list[str]:
    """Return what a method finds."""
    if method == "moments":
        return ["moments"]
    gives = ["singular values", *["largest"] * bool(ends[0]), *["smallest"] * bool(ends[1])]
    if all(ends):
        gives.append("condition number")
    return gives if method == "extreme" else [*gives, "mean", "histogram"]


def _mean(part: Scaled) -> Scaled:
    largest = part.exponent[..., :1]
    with np.errstate(under="ignore"):
        return Scaled(np.ldexp(part.mantissa, part.exponent - largest).mean(-1), largest[..., 0])


def _condition(part: Scaled) -> Scaled:
    largest, smallest = part.at(0), part.at(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = largest.mantissa / smallest.mantissa
    return Scaled(ratio, largest.exponent - smallest.exponent)


def _typical(part: Scaled) -> str:
    """Write the geometric mean over trials and inputs."""
    logarithms = part.log10[~np.isnan(part.log10)]
    log10 = float(logarithms.mean()) if logarithms.size else math.nan
    if not math.isfinite(log10):
        return "0" if log10 < 0 else str(log10)
    if abs(log10) < _FLOATS:
        return f"{10**log10:.4g}"
    return f"{10 ** (log10 % 1):.3f}e{math.floor(log10):+d}"


def _percent(errors: Array) -> str:
    """Write the relative error of a geometric mean, from those of the numbers."""
    known = errors[np.isfinite(errors)]
    return f"{100 * math.hypot(*known) / known.size:.2g}%" if known.size else str(math.nan)


def _edges(values: Array, bins: int, log10: bool) -> Array:
    """Return edges of bins around numbers, which may all be one but for rounding."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    least = 0.1 if log10 or high == 0 else 0.1 * high
    spare = max(0.0, least - (high - low)) / 2
    return np.linspace(low - spare, high + spare, bins + 1)
