"""PyTorch's gain of every activation beside ours, and what each does to a deep network."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from varprop import _spec, _table, activations
from varprop._fans import gain
from varprop._gain import Goal, recommended_gain
from varprop._table import Column
from varprop.activations import ActivationFunction

if TYPE_CHECKING:
    from varprop.theory._kernels import Kernel

__all__ = ["GainEffect", "GainRow", "GainTable", "gain_table"]

_TORCH = ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu")
_FIXED = 1e-13  # of q'/q - 1: rounding


@dataclass(frozen=True)
class GainEffect:
    """A gain, and what a network of it does at infinite width.

    Attributes
    ----------
    gain : float
    log10_variance : float
        Decimal logarithm of the second moment of the pre-activations after so many layers, where
        they begin with 1.
    log10_gradient : float
        Decimal logarithm of the factor on the second moment of gradients, as many layers back.
    unstable : bool
        The second moment stays, but at an unstable fixed point: smaller ones die out and larger
        ones grow, as that of every finite network is, one or the other.
    """

    gain: float
    log10_variance: float
    log10_gradient: float
    unstable: bool = False


@dataclass(frozen=True)
class GainRow:
    """An activation: PyTorch's gain and those for our goals, None where there is none."""

    activation: str
    torch: GainEffect | None
    unit_variance: GainEffect | None
    critical: GainEffect | None


@dataclass(frozen=True)
class GainTable:
    """Gains and what they do, as :func:`gain_table` returns them; printed, a table."""

    rows: tuple[GainRow, ...]
    sigma_b: float
    depth: int

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain Python values."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"<GainTable of {len(self.rows)} activations>"

    def __str__(self) -> str:
        named = [re.sub(r"\w+=", "", row.activation) for row in self.rows]  # leaky_relu(0.2)
        names = Column("", "activation", named)
        columns = [
            *_columns("PyTorch", [row.torch for row in self.rows]),
            *_columns("unit variance", [row.unit_variance for row in self.rows]),
            *_columns("critical", [row.critical for row in self.rows]),
        ]
        biases = f", biases of std {self.sigma_b:g}" * (self.sigma_b > 0.0)
        foot = [
            f"gain: weights of variance gain^2 / fan_in{biases}; -: there is none",
            "unit variance: pre-activations of variance 1 keep it; critical: gradients keep",
            "their size where signals settle",
            f"var, grad: log10 of the factor that {self.depth} layers put on the pre-activations'",
            "second moment, which begins at 1, and on that of gradients, at infinite width",
        ]
        effects = [e for row in self.rows for e in (row.torch, row.unit_variance, row.critical)]
        if any(effect is not None and effect.unstable for effect in effects):
            foot += [
                "*: an unstable fixed point: at any finite width signals leave it, to die or to",
                "explode",
            ]
        return "\n".join([*_table.lines(names, columns), "", *foot])


def gain_table(
    names: Iterable[str | ActivationFunction] | None = None,
    *,
    sigma_b: float = 0.0,
    depth: int = 100,
) -> GainTable:
    """Return for activations PyTorch's gain, ours for each goal, and what they do to deep networks.

    Parameters
    ----------
    names : iterable of str, optional
        Activations; by default all of ``activations.NAMES``.
    sigma_b : float
        Standard deviation of the biases; from 1 on there is no gain of unit variance.
    depth : int
        Number of layers.

    Returns
    -------
    GainTable

    Notes
    -----
    From pre-activations of second moment q = 1 on, q' = gain^2 E[phi(sqrt(q) z)^2] + sigma_b^2, and
    gradients gain^2 E[phi'(sqrt(q) z)^2] each layer (Poole et al. 2016; Schoenholz et al. 2017), as
    in :func:`varprop.theory.propagate`. Needs SciPy.

    Examples
    --------
    >>> print(gain_table(["relu", "tanh", "gelu"]))  # doctest: +NORMALIZE_WHITESPACE
                     PyTorch          unit variance          critical
    activation    gain  var  grad    gain   var  grad    gain   var  grad
    relu         1.414  0.0   0.0   1.414  0.0    0.0   1.414   0.0   0.0
    tanh         1.667  0.1   8.3   1.593  0.0    7.1   1.000  -2.3  -2.1
    gelu             -    -     -   1.534  0.0*   3.0       -     -     -
    <BLANKLINE>
    gain: weights of variance gain^2 / fan_in; -: there is none
    unit variance: pre-activations of variance 1 keep it; critical: gradients keep
    their size where signals settle
    var, grad: log10 of the factor that 100 layers put on the pre-activations'
    second moment, which begins at 1, and on that of gradients, at infinite width
    *: an unstable fixed point: at any finite width signals leave it, to die or to
    explode
    """
    given = activations.NAMES if names is None else names
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"names must be a list of activations, got {given!r}")
    chosen = [activations.resolve(name) for name in given]
    if not chosen:
        raise ValueError("names must name an activation, got none")
    depth, sigma_b = _spec.integer("depth", depth, least=1), _spec.real("sigma_b", sigma_b, least=0)
    rows = tuple(_row(phi, sigma_b, depth) for phi in chosen)
    return GainTable(rows, sigma_b, depth)


def _row(function: ActivationFunction, sigma_b: float, depth: int) -> GainRow:
    from varprop.theory import NoCriticalPoint
    from varprop.theory._kernels import kernel

    phi = kernel(function)

    def ours(goal: Goal) -> GainEffect:
        return _effect(phi, recommended_gain(function, goal, sigma_b), sigma_b, depth)

    theirs = None
    if function.name in _TORCH:
        theirs = _effect(phi, gain(function.name, function.parameter), sigma_b, depth)
    try:
        critical = ours("critical")
    except NoCriticalPoint:
        critical = None
    unit = ours("unit_variance") if sigma_b < 1.0 else None
    return GainRow(str(function), theirs, unit, critical)


def _effect(phi: Kernel, gain: float, sigma_b: float, depth: int) -> GainEffect:
    w, b, q, gradient = gain**2, sigma_b**2, 1.0, 0.0
    for layer in range(depth):
        factor = w * float(phi.slope_square(q))
        after = w * float(phi.square(q)) + b
        if abs(after / q - 1.0) <= _FIXED:
            gradient += (depth - layer) * math.log10(factor)
            unstable = w * float(phi.growth(q)) > 1.0 + 1e-6
            return GainEffect(gain, math.log10(q), gradient, unstable)
        gradient += math.log10(factor)
        q = after
    return GainEffect(gain, math.log10(q), gradient)


def _columns(group: str, effects: list[GainEffect | None]) -> list[Column]:
    marked = any(effect is not None and effect.unstable for effect in effects)
    rows = [_cells(effect, marked) for effect in effects]
    titles = ("gain", "var", "grad")
    return [
        Column(group, title, list(cells))
        for title, cells in zip(titles, zip(*rows, strict=True), strict=True)
    ]


def _cells(effect: GainEffect | None, marked: bool) -> tuple[str, str, str]:
    if effect is None:
        return "-", "-", "-"
    mark = ("*" if effect.unstable else " ") if marked else ""
    gain = f"{effect.gain:.3f}" if effect.gain < 10.0 else f"{effect.gain:.2f}"
    return gain, _written(effect.log10_variance) + mark, _written(effect.log10_gradient)


def _written(logarithm: float) -> str:
    if abs(logarithm) >= 99.95:
        return f"{logarithm:.0f}"
    return f"{round(logarithm, 1) + 0.0:.1f}"  # no -0.0
