"""The same network with weights of such scales that every layer meets a goal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from varprop import _job, _spec, layers
from varprop._gain import Goal
from varprop._job import Job
from varprop._simulate import simulate
from varprop._tune_report import Factors, TuneReport, multiplied
from varprop.layers import Layer
from varprop.network import Network

if TYPE_CHECKING:
    from varprop.theory import Propagation

__all__ = ["TuneReport", "TunedNetwork", "tune"]

Method = Literal["theory", "measured"]


class TunedNetwork(Network):
    """A network as :func:`tune` returns it, equal to any other of the same layers.

    Attributes
    ----------
    report : TuneReport
        What was changed, and every layer before and after; printed, a table.
    """

    report: TuneReport

    def __init__(self, net: Network, report: TuneReport) -> None:
        super().__init__(net.inputs, net.layers)
        self.report = report

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Network):
            return NotImplemented
        return (self.inputs, self.layers) == (other.inputs, other.layers)

    __hash__ = Network.__hash__

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Network:
        """Return the network that ``to_dict`` described, without a report."""
        return Network.from_dict(description)


def tune(
    net: Network,
    goal: Goal = "unit_variance",
    *,
    method: Method = "theory",
    inputs: int | ArrayLike = 100,
    trials: int = 10,
    seed: int = 0,
) -> TunedNetwork:
    """Return a network whose weights have such scales that every layer meets a goal.

    Each law of weights, of dense layers and convolutions within branches too, is multiplied by a
    factor, one layer after the other. Biases, the scales of residuals and given weights stay.

    Parameters
    ----------
    net : Network
    goal : {"unit_variance", "critical"}
        "unit_variance": the variance of every layer's pre-activations is 1. "critical": chi_1 is 1,
        the factor on small differences, and on gradients, from the inputs of a layer to those of
        the next one that has weights.
    method : {"theory", "measured"}
        "theory": at infinite width, of weights drawn anew; needs SciPy. "measured": on inputs and
        draws of the weights, layer by layer as Mishkin and Matas (2016) do (LSUV), for the goal
        "unit_variance" alone: in the typical trial, that is of the geometric mean over trials.
    inputs : int or array
        As in :func:`simulate`: the data, or the number of rows of standard normals. Of them, theory
        knows mean and mean square.
    trials, seed : int
        Of "measured": number of draws of all weights, and their seed.

    Returns
    -------
    TunedNetwork
        A :class:`Network` with a ``report``: factors, and every layer before and after, with 95%
        intervals where it was measured; and the layers that were left as they are, with why.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit.
    NotImplementedError
        There is no theory of a layer: the message names it, method="measured" may do.

    Notes
    -----
    Where a normalization follows, the scale of its inputs changes nothing after it. A sum of a skip
    and a branch of unit variance grows with every block: see ``branch_scale`` of
    :class:`Residual`. Measuring takes one pass forward in NumPy, and two runs, there and back, for
    the report.

    Examples
    --------
    >>> import varprop as vp
    >>> tuned = tune(vp.mlp([100] * 4, "tanh", "normal(std=0.01)"), method="measured")
    >>> vp.simulate(tuned).preactivations.var.round(2)
    array([1., 1., 1.])
    >>> tuned.layers[1].weight.std.__round__(3)
    0.159
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    if goal not in get_args(Goal):
        raise _spec.unknown("goal", goal, get_args(Goal))
    if method not in get_args(Method):
        raise _spec.unknown("method", method, get_args(Method))
    if goal == "critical" and method == "measured":
        raise ValueError("goal 'critical' needs method='theory', got method='measured'")
    trials = _spec.integer("trials", trials, least=1)
    job = _job.make(net, inputs, seed=seed, dtype="float32")
    if not net.weight_names:
        raise ValueError("net must have layers with weights, it has none")
    if method == "measured":
        return _measured(job, inputs, trials, goal)
    return _by_theory(job, goal)


def _measured(job: Job, inputs: int | ArrayLike, trials: int, goal: Goal) -> TunedNetwork:
    from varprop import _tune_measured

    found = _tune_measured.factors(job, trials)
    tuned = multiplied_by(job.net, found)
    before, after = (
        simulate(net, inputs, trials=trials, seed=job.seed, backward=True)
        for net in (job.net, tuned)
    )
    return TunedNetwork(tuned, TuneReport(goal, "measured", *found, before, after))


def _by_theory(job: Job, goal: Goal) -> TunedNetwork:
    from varprop import theory
    from varprop._tune_theory import factors

    mean, q = 0.0, 1.0
    if job.given is not None:
        data = job.given.astype(np.float64)
        mean, q = float(data.mean()), float(np.mean(data * data))
    try:
        found = factors(job.net, goal, q, mean)
    except NotImplementedError as error:
        raise NotImplementedError(f"{error}; method='measured' may do") from None
    tuned = multiplied_by(job.net, found)
    after = theory.propagate(tuned, q, None, mean=mean)
    before: Propagation | None = None
    with suppress(ValueError):  # it leaves the range of floats
        before = theory.propagate(job.net, q, None, mean=mean)
    return TunedNetwork(tuned, TuneReport(goal, "theory", *found, before, after))


def multiplied_by(net: Network, found: Factors) -> Network:
    """Return a network with the weights of its layers multiplied."""

    def change(name: str, layer: Layer) -> list[Layer]:
        factor = found.by_layer.get(name)
        return [layer if factor is None else multiplied(layer, factor)]

    return Network(net.inputs, layers.replaced(net.layers, change))
