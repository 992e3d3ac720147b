"""The expected second moments of a run, over draws of weights, for the inputs that it had."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from varprop.layers import Dense
from varprop.network import Network
from varprop.theory._first_order import correction
from varprop.theory._propagate import Propagation, propagate
from varprop.theory.gaussian import Array

if TYPE_CHECKING:
    from varprop.run import Run

_NODES = 6  # mean squares that stand for those of all given inputs


class Inputs(NamedTuple):
    """What is to know of the inputs.

    Attributes
    ----------
    squares, shares : ndarray
        Mean squares of the examples, or some that stand for them, and their shares.
    mean, logarithm : float
        Means of the mean squares, and of their logarithms.
    features : int
        How many normals an input has; 0 where inputs are given.
    kurtosis : float
        E x^4 / (E x^2)^2 of the features of an example.
    """

    squares: Array
    shares: Array
    mean: float
    logarithm: float
    features: int
    kurtosis: float


def of_inputs(run: Run) -> Inputs:
    """Return what theory has to know of a run's inputs.

    Raises
    ------
    NotImplementedError
        Inputs were given to a layer that asks for more than their mean squares.
    """
    if run.given_inputs is None:
        features = int(run.network.sizes["input_gradients"][0])
        return Inputs(np.ones(1), np.ones(1), 1.0, 0.0, features, 3.0)
    x = np.asarray(run.given_inputs, np.float64)
    skipped = any(step.skip == -1 for step in run.network.steps)
    if not isinstance(run.network.steps[0].layer, Dense) or x.ndim != 2 or skipped:
        raise NotImplementedError(
            "no theory of given inputs but to a dense layer: other layers have it of normal ones"
        )
    squares = (x**2).mean(axis=1)
    mean = float(squares.mean())
    if mean == 0.0:
        return Inputs(np.zeros(1), np.ones(1), 0.0, -math.inf, 0, 3.0)
    with np.errstate(divide="ignore"):
        logarithm = float(np.log(squares).mean())
    kurtosis = float((x**4).mean() / (squares**2).mean())
    alive = squares[squares > 0.0]
    few, shares = _few(alive)
    if len(alive) < len(squares):  # where an input of 0 stays 0, nothing stands for it
        share = len(alive) / len(squares)
        few, shares = np.append(0.0, few), np.append(1.0 - share, share * shares)
    return Inputs(few, shares, mean, logarithm, 0, kurtosis)


def second_moments(
    net: Network, found: Propagation, inputs: Inputs
) -> dict[str, tuple[Array, Array]]:
    """Return for each signal ln of its expected second moment by layer, and the doubt about it."""
    signals = ("preactivations", "activations", "gradients")
    spread = 2.0 / inputs.features if inputs.features else 0.0
    squares, shares = inputs.squares, inputs.shares
    if _proportional(net):  # as mean squares are, so are their means
        squares, shares = np.array([inputs.mean]), np.ones(1)
    logs, doubts = [], []
    for square in squares.tolist():
        at = found if square == inputs.mean else propagate(net, square, None)
        more = correction(
            net,
            at.q,
            at.activations.second_moment,
            start=square,
            spread=spread,
            kurtosis=inputs.kurtosis,
        )
        with np.errstate(divide="ignore"):
            log = np.log([getattr(at, signal).second_moment for signal in signals])
        logs.append(log if more is None else log + more[:3])
        doubt = np.array((more.doubt, more.doubt, more.doubt_back) if more else 3 * [_open(net)])
        doubts.append(doubt)
    log = special.logsumexp(logs, axis=0, b=shares[:, None, None])
    return dict(zip(signals, zip(log, np.max(doubts, axis=0), strict=True), strict=True))


def _open(net: Network) -> Array:
    """Return what a width may do where it is not derived: about 1/width for each layer of weights.

    Of the whole network: gradients come through what is above, at signals from what is below.
    """
    fan_in = [step.weight_shape[-2] for step in net.steps if step.weight_shape is not None]
    return np.full(len(net.steps), sum(1.0 / n for n in fan_in))


def _proportional(net: Network) -> bool:
    """Whether all second moments are in proportion to those of the inputs."""
    return all(
        isinstance(step.layer, Dense)
        and step.layer.activation.homogeneous
        and (step.layer.bias is None or str(step.layer.bias) == "zeros")
        for step in net.steps
    )


def _few(squares: Array) -> tuple[Array, Array]:
    """Return a few mean squares, and shares, that stand for all.

    Gauss's quadrature for the law of the roots over the examples, by Lanczos's recursion (Golub
    and Welsch 1969): right for polynomials up to degree 11.
    """
    roots = np.sqrt(squares)
    count = min(_NODES, len(np.unique(roots)))
    basis = [np.full(len(roots), len(roots) ** -0.5)]
    diagonal, beside = [], []
    for _ in range(count):
        diagonal.append(float(basis[-1] @ (roots * basis[-1])))
        rest = roots * basis[-1]
        for _ in range(2):
            rest = rest - np.array(basis).T @ (np.array(basis) @ rest)
        size = float(np.linalg.norm(rest))
        if size <= 1e-9 * float(roots.max()):
            break
        beside.append(size)
        basis.append(rest / size)
    matrix = np.diag(diagonal)
    links = np.diag(beside[: len(diagonal) - 1], 1)
    nodes, vectors = np.linalg.eigh(matrix + links + links.T)
    return np.maximum(nodes, 0.0) ** 2, vectors[0] ** 2
