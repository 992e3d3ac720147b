"""What tuning did: the factor on every layer's weights, and the layers before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop import _table, initializers
from varprop._gain import Goal
from varprop._table import DOTS, Column, shown
from varprop.initializers import (
    DeltaOrthogonal,
    Given,
    Law,
    Normal,
    Orthogonal,
    Uniform,
    VarianceScaling,
)
from varprop.layers import Conv2d, Dense, Layer, Residual
from varprop.run import Run

if TYPE_CHECKING:
    from varprop.network import Network
    from varprop.theory import Propagation


_LISTED = 5  # layers left as they were


class Factors(NamedTuple):
    """What to multiply the weights of layers by, and why some are left as they are."""

    by_layer: dict[str, float]
    left: dict[str, str]


def untuned(net: Network) -> dict[str, str]:
    """Return the layers whose weights are given, and so stay."""
    return {
        step.name: "its weights are given"
        for step in net.steps
        if isinstance(step.law("weight"), Given)
    }


def blocks(net: Network) -> Iterator[tuple[int, int]]:
    """Yield the position of each layer whose weights can be tuned, and where its block ends.

    That is before the next weights, or the end of the branch.
    """
    steps, branched = net.steps, {step.skip for step in net.steps}
    for position, step in enumerate(steps):
        if step.weight_shape is None or isinstance(step.law("weight"), Given):
            continue
        end = position + 1
        while end < len(steps) and steps[end].weight_shape is None:
            if isinstance(steps[end].layer, Residual) or end - 1 in branched:
                break
            end += 1
        yield position, end


def multiplied(layer: Layer, factor: float) -> Layer:
    """Return a layer with its weights multiplied, their law as simple as it can be."""
    assert isinstance(layer, Dense | Conv2d)
    return replace(layer, weight=_law(layer.weight, factor))


def _law(law: Law, factor: float) -> Law:
    match law:
        case Normal():
            return Normal(factor * law.std, factor * law.mean)
        case Uniform():
            return Uniform(factor * law.low, factor * law.high)
        case VarianceScaling():
            return replace(law, scale=factor**2 * law.scale)
        case Orthogonal() | DeltaOrthogonal():
            return replace(law, gain=factor * law.gain)
    return initializers.scaled(law, factor)


@dataclass(frozen=True, repr=False, eq=False)
class TuneReport:
    """What :func:`tune` did; printed, a table.

    Attributes
    ----------
    goal, method : str
    factors : dict of str to float
        What the weights of each layer were multiplied by.
    left : dict of str to str
        Layers with weights that are as they were, and why.
    before, after : Run or theory.Propagation
        The network as it was and as it is: what was measured, or what theory says; `before` is None
        where that leaves the range of floats.
    """

    goal: Goal
    method: str
    factors: dict[str, float]
    left: dict[str, str]
    before: Run | Propagation | None
    after: Run | Propagation

    def __repr__(self) -> str:
        return f"<TuneReport: {len(self.factors)} layers tuned, {len(self.left)} left>"

    def __str__(self) -> str:
        names = self.after.network.weight_names
        factors = [f"{self.factors[name]:.4g}" if name in self.factors else "-" for name in names]
        columns = [
            Column("", "layer", list(names)),
            Column("weights", "factor", factors),
            *_columns("before", self.before, self.goal, len(names)),
            *_columns("after", self.after, self.goal, len(names)),
        ]
        rows = shown(len(names), None)
        first, *others = (
            column._replace(cells=[DOTS if i is None else column.cells[i] for i in rows])
            for column in columns
        )
        return "\n".join([*self._head(), "", *_table.lines(first, others), *self._foot()])

    def _head(self) -> list[str]:
        layers = f"{len(self.factors)} of {len(self.after.network.weight_names)} layers"
        goals = {"unit_variance": "pre-activations of variance 1", "critical": "chi_1 = 1"}
        were = {} if self.before is None else _travelled(self.before)
        return [
            f"{layers} with weights tuned to {goals[self.goal]}",
            _how(self.after),
            *(
                f"{way}: {_power(were.get(way, math.inf))} before, {_power(now)} after"
                for way, now in _travelled(self.after).items()
            ),
        ]

    def _foot(self) -> list[str]:
        lines = []
        if not isinstance(self.after, Run) and self.goal == "unit_variance":
            lines += _unstable(self.after.network)
        if isinstance(self.after, Run) and self.after.trials > 1:
            lines.append("var: of pre-activations in the typical trial, low to high: 95% interval")
        lines += [f"left as it was: {name} ({why})" for name, why in [*self.left.items()][:_LISTED]]
        if len(self.left) > _LISTED:
            lines.append(f"and {len(self.left) - _LISTED} more: report.left")
        return ["", *lines] if lines else []


def _unstable(net: Network) -> list[str]:
    """Say which activations keep a variance of 1 at an unstable fixed point, biases aside."""
    from varprop.theory._kernels import kernel

    inner = dict.fromkeys(step.activation for step in net.steps[:-1])
    kernels = (kernel(phi) for phi in inner if phi is not None)
    found = [
        str(phi.name) for phi in kernels if phi.growth(1.0) > (1.0 + 1e-6) * phi.square(1.0) > 0.0
    ]
    if not found:
        return []
    return [
        f"variance 1 is an unstable fixed point of {', '.join(found)}: at any finite width",
        "signals leave it, to die or to explode",
    ]


def _how(found: Run | Propagation) -> str:
    if isinstance(found, Run):
        trials = f"{found.trials} trial{'s' * (found.trials > 1)}"
        return f"measured in {trials} of {found.batch} rows, seed {found.seed}"
    return "by theory, at infinite width"


def _travelled(found: Run | Propagation) -> dict[str, float]:
    """Return decimal logarithms of the factors on mean squares over all layers, each way."""
    if isinstance(found, Run):
        return {way: one.log10_factor for way, one in found.verdict.details.items()}
    squares = found.activations.log10_second_moment
    units = np.log10(found.network.sizes["gradients"])
    gradients = found.gradients.log10_second_moment + units
    with np.errstate(invalid="ignore"):  # of what is exactly zero
        return {
            "forward": float(squares[-1] - squares[0]),
            "backward": float(gradients[0] - gradients[-1]),
        }


def _power(logarithm: float) -> str:
    """Write ten to this power as a factor."""
    if math.isnan(logarithm):
        return "unknown"
    if math.isinf(logarithm):
        return "exactly zero" if logarithm < 0.0 else "out of range"
    return f"x {10**logarithm:.3g}" if abs(logarithm) < 3.0 else f"x 10^{logarithm:.1f}"


def _columns(group: str, found: Run | Propagation | None, goal: Goal, layers: int) -> list[Column]:
    """Return what the goal is about in every layer with weights, with its interval if any."""
    title = "var" if goal == "unit_variance" else "chi_1"
    if found is None:
        return [Column(group, title, ["out of range"] * layers)]
    net = found.network
    at = [net.layer_names.index(name) for name in net.weight_names]
    if not isinstance(found, Run):
        values = found.preactivations.var[at] if goal == "unit_variance" else _slopes(found, at)
        return [Column(group, title, _written(values))]
    with np.errstate(over="ignore", under="ignore"):
        typical = 10 ** found.preactivations.per_trial.log10_var.mean(axis=0)[at]
    columns = [Column(group, title, _written(typical))]
    if found.trials > 1:
        low, high = (end[at] for end in found.preactivations.interval("var"))
        columns += [Column(group, "low", _written(low)), Column(group, "high", _written(high))]
    return columns


def _slopes(found: Propagation, at: list[int]) -> NDArray[np.float64]:
    """Return chi_1 of each block, from one layer's inputs to those of the next with weights."""
    ends = dict(blocks(found.network))
    return np.array([np.prod(found.chi_1[i : ends.get(i, i + 1)]) for i in at])


def _written(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.4g}" for value in values.tolist()]
