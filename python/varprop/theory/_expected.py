"""The expected second moments of a run, over draws of weights, for the inputs that it had."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from varprop.layers import Dense
from varprop.network import Network
from varprop.theory._first_order import Tails, correction
from varprop.theory._open import left_open
from varprop.theory._propagate import Propagation, propagate
from varprop.theory.gaussian import Array

if TYPE_CHECKING:
    from varprop.run import Run

_SIGNALS = ("preactivations", "activations", "gradients")
# Mean squares that stand for those of all inputs, and how many show the error: of inputs of nearly
# one size, whose logarithms have a standard deviation under the first number, and of others.
_NODES = ((0.3, (4, 3)), (math.inf, (9, 6)))


class Inputs(NamedTuple):
    """What is to know of the inputs.

    Attributes
    ----------
    rules : list of ndarray
        Rows of a mean square, its share of the examples, and their :class:`Tails`: one for all or
        some that stand for them. A second array, of fewer rows, tells how well these do.
    mean, logarithm : float
        Means of the mean squares, and of their logarithms.
    features : int
        How many normals an input has; 0 where inputs are given.
    tails : Tails
        Of all examples.
    """

    rules: list[Array]
    mean: float
    logarithm: float
    features: int
    tails: Tails


def of_inputs(run: Run) -> Inputs:
    """Return what theory has to know of a run's inputs.

    Raises
    ------
    NotImplementedError
        Inputs were given to a layer that asks for more than their mean squares.
    """
    if run.given_inputs is None:
        features = int(run.network.sizes["input_gradients"][0])
        return Inputs([_row(1.0, Tails())], 1.0, 0.0, features, Tails())
    x = np.asarray(run.given_inputs, np.float64)
    skipped = any(step.skip == -1 for step in run.network.steps)
    if not isinstance(run.network.steps[0].layer, Dense) or x.ndim != 2 or skipped:
        raise NotImplementedError(
            "no theory of given inputs but to a dense layer: other layers have it of normal ones"
        )
    squares = (x**2).mean(axis=1)
    mean = float(squares.mean())
    if mean == 0.0:
        return Inputs([_row(0.0, Tails())], 0.0, -math.inf, 0, Tails())
    with np.errstate(divide="ignore"):
        logarithm = float(np.log(squares).mean())
    alive = squares > 0.0
    sizes, few = squares[alive], x[alive] / np.sqrt(squares[alive])[:, None]
    fourth = (few**4).mean(axis=1)
    tails = np.array([fourth, fourth**2, (few**6).mean(axis=1)])
    spread = float(np.log(sizes).std())
    nodes = next(counts for most, counts in _NODES if spread <= most)
    rules = [_few(sizes, tails, count) for count in nodes]
    if len(rules[0]) == len(rules[1]):  # all of them
        del rules[1]
    share = len(sizes) / len(squares)
    if share < 1.0:  # where an input of 0 stays 0, nothing stands for it
        for rule in rules:
            rule[:, 1] *= share
        rules = [np.append(rule, [[0.0, 1.0 - share, *Tails()]], axis=0) for rule in rules]
    return Inputs(rules, mean, logarithm, 0, Tails(*tails.mean(axis=1).tolist()))


def _row(square: float, tails: Tails) -> Array:
    return np.array([[square, 1.0, *tails]])


def second_moments(
    net: Network, found: Propagation, inputs: Inputs
) -> dict[str, tuple[Array, Array]]:
    """Return for each signal ln of its expected second moment by layer, and the doubt about it."""
    # As mean squares are in proportion to those of the inputs, so are their means.
    rules = [_row(inputs.mean, inputs.tails)] if _proportional(net) else inputs.rules
    open_ = None
    logs, doubts = [], []
    for rule in rules:
        parts = []
        for square, _, *tails in rule.tolist():
            at = found if square == inputs.mean else propagate(net, square, None)
            more = _corrected(net, at, square, inputs, Tails(*tails))
            with np.errstate(divide="ignore"):
                log = np.log([getattr(at, signal).second_moment for signal in _SIGNALS])
            if more is None:
                open_ = open_ or left_open(net, found, inputs.tails.fourth)
                more = np.array([np.zeros(log.shape), np.array(open_)])
            parts.append([log + more[0], more[1]])
        log, doubt = np.swapaxes(parts, 0, 1)
        logs.append(special.logsumexp(log, axis=0, b=rule[:, 1, None, None]))
        doubts.append(doubt.max(axis=0))
    with np.errstate(invalid="ignore"):
        apart = 0.5 * np.abs(logs[0] - logs[-1])
    doubt = np.hypot(doubts[0], np.where(np.isfinite(apart), apart, 0.0))
    return dict(zip(_SIGNALS, zip(logs[0], doubt, strict=True), strict=True))


def _corrected(
    net: Network, at: Propagation, square: float, inputs: Inputs, tails: Tails
) -> Array | None:
    """Return what a width adds to the logarithms, and the doubts; None where it is not derived."""
    spread = 2.0 / inputs.features if inputs.features else 0.0
    after = at.activations.second_moment
    more = correction(net, at.q, after, start=square, spread=spread, tails=tails)
    return None if more is None else np.array([more[:3], more[3:]])


def _proportional(net: Network) -> bool:
    """Whether all second moments are in proportion to those of the inputs."""
    return all(
        isinstance(step.layer, Dense)
        and step.layer.activation.homogeneous
        and (step.layer.bias is None or str(step.layer.bias) == "zeros")
        for step in net.steps
    )


def _few(squares: Array, values: Array, count: int) -> Array:
    """Return rows of a few mean squares, their shares, and values, that stand for all.

    Gauss's quadrature for the law of the logarithms over the examples, by Lanczos's recursion
    (Golub and Welsch 1969): right for polynomials up to degree 2 count - 1, times values half that.
    """
    logs = np.log(squares)
    centre, scale = logs.mean(), max(float(logs.std()), 1e-9)
    logs = (logs - centre) / scale
    basis = [np.full(len(logs), len(logs) ** -0.5)]
    diagonal, beside = [], []
    for _ in range(min(count, len(np.unique(logs)))):
        diagonal.append(float(basis[-1] @ (logs * basis[-1])))
        rest = logs * basis[-1]
        for _ in range(2):
            rest = rest - np.array(basis).T @ (np.array(basis) @ rest)
        size = float(np.linalg.norm(rest))
        if size <= 1e-9 * float(np.abs(logs).max()):
            break
        beside.append(size)
        basis.append(rest / size)
    matrix = np.diag(diagonal)
    links = np.diag(beside[: len(diagonal) - 1], 1)
    nodes, vectors = np.linalg.eigh(matrix + links + links.T)
    fitted = vectors.T @ (np.array(basis[: len(diagonal)]) @ values.T) * len(logs) ** -0.5
    fitted = fitted / vectors[0][:, None]
    fitted = np.clip(fitted, values.min(axis=1), values.max(axis=1))
    return np.column_stack([np.exp(centre + scale * nodes), vectors[0] ** 2, fitted])
