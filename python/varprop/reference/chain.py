"""The chain: layer after layer forward, and the gradients of a cost on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec
from varprop.reference.draws import Array, weights

if TYPE_CHECKING:
    from varprop.network import Network

__all__ = ["Gradients", "Layer", "backward", "chain", "cotangent", "targets"]


class Layer(NamedTuple):
    """One layer in one trial: Y = X W + b and phi(Y)."""

    inputs: Array
    weights: Array
    preactivations: Array
    activations: Array


class Gradients(NamedTuple):
    """Gradients of the cost by a layer's pre-activations, weights, biases and inputs."""

    preactivations: Array
    weights: Array
    bias: Array
    inputs: Array


def chain(
    net: Network,
    inputs: int | ArrayLike,
    *,
    seed: int = 0,
    trial: int = 0,
    dtype: str = "float32",
) -> Iterator[Layer]:
    """Yield Y = X W + b and the next X = phi(Y), layer after layer, in one trial.

    The parameters are those of :func:`simulate`.

    Examples
    --------
    >>> import varprop as vp
    >>> [layer.activations.shape for layer in chain(vp.mlp([3, 5, 2], "tanh"), 10)]
    [(10, 5), (10, 2)]
    """
    options: dict[str, Any] = {"seed": seed, "trial": trial, "dtype": dtype}
    if np.ndim(inputs) == 0:
        batch = _spec.integer("inputs", inputs, least=1)
        x = weights((batch, net.inputs), "normal", name="input", **options)
    else:
        x = np.asarray(inputs, np.float64)
    for name, layer, shape in zip(net.layer_names, net.layers, net.shapes, strict=True):
        w = weights(shape, layer.weight, name=f"{name}.weight", **options)
        y = x @ w
        if layer.bias is not None:
            y += weights(shape[1:], layer.bias, name=f"{name}.bias", **options)
        done = Layer(x, w, y, layer.activation.value(y))
        yield done
        x = done.activations


def cotangent(
    net: Network, batch: int, *, seed: int = 0, trial: int = 0, dtype: str = "float32"
) -> Array:
    """Return what the loss "gaussian" takes as the cost's gradient by the last activations."""
    shape = (batch, net.shapes[-1][1])
    return weights(shape, "normal", seed=seed, name="cotangent", trial=trial, dtype=dtype)


def targets(
    net: Network, batch: int, loss: str, *, seed: int = 0, trial: int = 0, dtype: str = "float32"
) -> NDArray[Any]:
    """Return the targets that a loss draws where none are given.

    ========================= ==============================================
    ``mse``                   standard normals, one for each last activation
    ``softmax_cross_entropy`` labels, one for each row, all equally probable
    ``bce``                   zeros and ones, one for each last activation
    ========================= ==============================================
    """
    width = net.shapes[-1][1]

    def draw(shape: tuple[int, ...], law: str) -> Array:
        return weights(shape, law, seed=seed, name="targets", trial=trial, dtype=dtype)

    match loss:
        case "mse":
            return draw((batch, width), "normal")
        case "softmax_cross_entropy":
            share = (draw((batch,), "uniform(-1, 1)") + 1.0) / 2.0
            labels = np.floor(share * width).astype(np.int64)
            return np.minimum(labels, width - 1)  # the largest share of float64 rounds to 1
        case "bce":
            return (draw((batch, width), "uniform(-1, 1)") > 0).astype(np.float64)
    raise _spec.unknown("loss", loss, [name for name in _SLOPES if name != "gaussian"])


def _cross_entropy_slope(x: Array, t: Array) -> Array:
    if t.ndim == 1:  # labels
        t = np.eye(x.shape[1])[t.astype(np.int64)]
    power = np.exp(x - x.max(axis=1, keepdims=True))
    softmax = power / power.sum(axis=1, keepdims=True)
    slope: Array = (softmax * t.sum(axis=1, keepdims=True) - t) / len(x)
    return slope


# The cost's gradient by the last activations x, for targets t (for the cotangent t).
_SLOPES: dict[str, Callable[[Array, Array], Array]] = {
    "gaussian": lambda _, t: t,
    "mse": lambda x, t: 2.0 * (x - t) / x.size,
    "softmax_cross_entropy": _cross_entropy_slope,
    "bce": lambda x, t: (x - t) / x.size,  # times the sigmoid's slope: see backward
}


def backward(
    net: Network,
    inputs: int | ArrayLike,
    loss: str = "gaussian",
    targets: ArrayLike | None = None,
    *,
    seed: int = 0,
    trial: int = 0,
    dtype: str = "float32",
) -> Iterator[Gradients]:
    """Yield the gradients of a cost, from the last layer to the first, in one trial.

    Parameters
    ----------
    net, inputs, seed, trial, dtype
        As in :func:`simulate`.
    loss : {"gaussian", "mse", "softmax_cross_entropy", "bce"}
        The cost on the last activations: its gradient is standard normal, or it is PyTorch's
        functional of that name, reduced by the mean. For "bce" they are those of a sigmoid.
    targets : array, optional
        Shape (batch, width); labels of shape (batch,) too for "softmax_cross_entropy". Drawn by
        :func:`targets` where not given.

    Examples
    --------
    >>> import varprop as vp
    >>> [layer.weights.shape for layer in backward(vp.mlp([3, 5, 2], "tanh"), 10, "mse")]
    [(5, 2), (3, 5)]
    """
    if loss not in _SLOPES:
        raise _spec.unknown("loss", loss, _SLOPES)
    layers = list(chain(net, inputs, seed=seed, trial=trial, dtype=dtype))
    x = layers[-1].activations
    if targets is None:
        targets = _drawn(net, len(x), loss, seed=seed, trial=trial, dtype=dtype)
    slopes = [
        layer.activation.derivative(y)
        for layer, (_, _, y, _) in zip(net.layers, layers, strict=True)
    ]
    if loss == "bce":  # by a sigmoid x it is divided by x (1 - x), which is the sigmoid's slope
        slopes[-1] = np.ones_like(x)
    gradient = _SLOPES[loss](x, np.asarray(targets, np.float64))
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        delta = gradient * slope
        gradient = delta @ layer.weights.T
        yield Gradients(delta, layer.inputs.T @ delta, delta.sum(axis=0), gradient)


def _drawn(net: Network, batch: int, loss: str, **options: Any) -> NDArray[Any]:
    if loss == "gaussian":
        return cotangent(net, batch, **options)
    return targets(net, batch, loss, **options)
