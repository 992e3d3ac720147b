"""What is observed of every layer, over trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec
from varprop.reference.chain import backward as gradients
from varprop.reference.chain import chain
from varprop.reference.draws import Array
from varprop.reference.layers import slope

if TYPE_CHECKING:
    from varprop.network import Network

__all__ = [
    "correlation",
    "histogram",
    "histogram_edges",
    "moments",
    "saturation",
    "simulate",
]

Signals = dict[str, list[dict[str, Any]]]  # of each signal, what was observed layer by layer
Asked = dict[str, tuple[Any, dict[str, Any]]]  # of each statistic, its arguments


def moments(values: Array) -> dict[str, float]:
    """Return count, population moments and extremes; the exponent of 2 that scales them is 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = values.mean()
        centred = values - mean
        square = centred * centred
        return {
            "count": values.size,
            "exponent": 0,
            "mean": mean,
            "variance": square.mean(),
            "m3": (square * centred).mean(),
            "m4": (square * square).mean(),
            "minimum": values.min(),
            "maximum": values.max(),
        }


# From 2^-10 to 2^6, each octave in 16 equal parts.
_MAGNITUDES = np.array([2.0 ** (m // 16 - 10) * (1 + m % 16 / 16) for m in range(257)])


def histogram_edges() -> Array:
    """Return the 516 edges of a histogram's bins, ascending, the first and the last infinite."""
    return np.concatenate([[-np.inf], -_MAGNITUDES[::-1], _MAGNITUDES, [np.inf]])


def histogram(values: ArrayLike) -> NDArray[np.int64]:
    """Return how many numbers fall into each of the 515 bins.

    A bin holds its edge next to zero, and not the other: positive numbers and their negatives
    fall into bins that mirror each other, and the one in the middle is |x| < 2^-10.

    Examples
    --------
    >>> counts = histogram([0.0, 3.0, -3.0, -1000.0])
    >>> edges = histogram_edges()
    >>> [(float(edges[b]), float(edges[b + 1])) for b in counts.nonzero()[0][-2:]]
    [(-0.0009765625, 0.0009765625), (3.0, 3.125)]
    """
    values = np.ravel(values)
    magnitude = np.searchsorted(_MAGNITUDES, np.abs(values), side="right")
    bins = 257 + np.where(values < 0, -magnitude, magnitude)
    return np.bincount(bins, minlength=515)


def correlation(values: Array) -> float:
    """Return the mean cosine between two different examples, each a row or an image.

    Examples of zeros have none and are left out; NaN where fewer than two are left.
    """
    values = values.reshape(len(values), -1)
    alive = values[values.any(axis=1)]
    rows = len(alive)
    if rows < 2:
        return float("nan")
    unit = alive / np.linalg.norm(alive, axis=1, keepdims=True)
    cosines = unit @ unit.T
    return float((cosines.sum() - cosines.trace()) / (rows * (rows - 1)))


def saturation(slopes: Array, threshold: float = 0.1) -> dict[str, float]:
    """Return shares of the numbers phi'(y) of a layer, shape (batch, ..., units).

    "saturation" is the share of numbers under the threshold in magnitude, "zero_slope" of those
    exactly zero, "dead" that of units (channels of an image) whose numbers are all exactly zero.
    """
    zero = slopes == 0
    return {
        "saturation": np.mean(np.abs(slopes) < threshold),
        "zero_slope": np.mean(zero),
        "dead": np.mean(zero.all(axis=tuple(range(zero.ndim - 1)))),
    }


def simulate(
    net: Network,
    inputs: int | ArrayLike,
    *,
    trials: int = 1,
    seed: int = 0,
    first_trial: int = 0,
    dtype: str = "float32",
    statistics: Sequence[str] = (),
    backward: bool = False,
    loss: str = "gaussian",
    targets: ArrayLike | None = None,
) -> dict[str, dict[str, NDArray[Any]]]:
    """Push a batch through a network in each trial, and return what every layer showed.

    Parameters
    ----------
    net : Network
    inputs : int or array, shape (batch, features) or (batch, height, width, channels)
        A number of examples of standard normals, drawn anew in each trial; or these themselves.
    trials, first_trial : int
        Trials first_trial to first_trial + trials - 1.
    seed, dtype
        As in :func:`weights`. The chain itself is in float64, and overflows where that does.
    statistics : sequence of str
        More than :func:`moments`, which are always there: "histogram" of every signal,
        "correlation" of preactivations and activations, "gradient_correlation" of gradients,
        "saturation" or "saturation(threshold=0.05)" of activations.
    backward : bool
        Push the gradients of a cost back, too.
    loss, targets
        As in :func:`backward`.

    Returns
    -------
    dict
        By signal a dict of arrays of shape (trials, layers), a histogram's with an axis of bins
        behind; "count" is that of one trial, of shape (layers,). The signals are "preactivations"
        and "activations"; with `backward` also "gradients" (by the pre-activations),
        "weight_gradients" and "bias_gradients", of the layers that have these, and
        "input_gradients", which has one layer.
    """
    asked = {name: (args, kwargs) for name, args, kwargs in map(_spec.parse, statistics)}
    observed: list[Signals] = []
    for trial in range(first_trial, first_trial + _spec.integer("trials", trials, least=1)):
        options: dict[str, Any] = {"seed": seed, "trial": trial, "dtype": dtype}
        signals = _forward(net, inputs, asked, **options)
        if backward:
            signals |= _backward(net, inputs, loss, targets, asked, **options)
        observed.append(signals)
    return {name: _stacked([signals[name] for signals in observed], asked) for name in observed[0]}


def _forward(net: Network, inputs: int | ArrayLike, asked: Asked, **options: Any) -> Signals:
    signals: Signals = {"preactivations": [], "activations": []}
    layers = chain(net, inputs, **options)
    for step, (_, _, y, x) in zip(net.steps, layers, strict=True):
        for name, values in (("preactivations", y), ("activations", x)):
            signals[name].append(_observed(values, asked, "correlation"))
        if "saturation" in asked:
            args, kwargs = asked["saturation"]
            signals["activations"][-1] |= saturation(slope(step, y), *args, **kwargs)
    return signals


def _backward(
    net: Network,
    inputs: int | ArrayLike,
    loss: str,
    targets: ArrayLike | None,
    asked: Asked,
    **options: Any,
) -> Signals:
    layers = list(gradients(net, inputs, loss, targets, **options))[::-1]
    return {
        "gradients": [
            _observed(layer.preactivations, asked, "gradient_correlation") for layer in layers
        ],
        "weight_gradients": [_observed(g.weights, asked) for g in layers if g.weights is not None],
        "bias_gradients": [_observed(g.bias, asked) for g in layers if g.bias is not None],
        "input_gradients": [_observed(layers[0].inputs, asked)],
    }


def _observed(values: Array, asked: Asked, correlated: str = "") -> dict[str, Any]:
    """Return the moments of one signal of one layer, and what else was asked for."""
    found: dict[str, Any] = dict(moments(values))
    if "histogram" in asked:
        found["histogram"] = histogram(values)
    if correlated in asked:
        found["correlation"] = correlation(values)
    return found


def _stacked(trials: list[list[dict[str, Any]]], asked: Asked) -> dict[str, NDArray[Any]]:
    like = trials[0][0] if trials[0] else _observed(np.zeros(1), asked)  # no layer, yet its keys
    arrays = {}
    for key, value in like.items():
        one, shape = np.asarray(value), (len(trials), len(trials[0]))
        rows = [[seen[key] for seen in row] for row in trials]
        arrays[key] = np.array(rows, one.dtype).reshape(*shape, *one.shape)
    return {**arrays, "count": arrays["count"][0]}
