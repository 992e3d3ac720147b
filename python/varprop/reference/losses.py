"""Losses: their targets, and their gradients by the last activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from varprop import _spec
from varprop.reference.draws import Array, weights

if TYPE_CHECKING:
    from varprop.network import Network

__all__ = ["cotangent", "targets"]


def cotangent(
    net: Network, batch: int, *, seed: int = 0, trial: int = 0, dtype: str = "float32"
) -> Array:
    """Return what the loss "gaussian" takes as the cost's gradient by the last activations."""
    shape = (batch, *net.output_shape)
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
    shape = (batch, *net.output_shape)

    def draw(shape: tuple[int, ...], law: str) -> Array:
        return weights(shape, law, seed=seed, name="targets", trial=trial, dtype=dtype)

    match loss:
        case "mse":
            return draw(shape, "normal")
        case "softmax_cross_entropy":
            _, width = shape
            share = (draw((batch,), "uniform(-1, 1)") + 1.0) / 2.0
            labels = np.floor(share * width).astype(np.int64)
            return np.minimum(labels, width - 1)  # the largest share of float64 rounds to 1
        case "bce":
            return (draw(shape, "uniform(-1, 1)") > 0).astype(np.float64)
    raise _spec.unknown("loss", loss, [name for name in SLOPES if name != "gaussian"])


def check(net: Network, loss: str) -> None:
    """Raise the error of a loss that does not fit the network."""
    if loss not in SLOPES:
        raise _spec.unknown("loss", loss, SLOPES)
    shape = net.output_shape
    if loss == "softmax_cross_entropy" and len(shape) != 1:
        raise ValueError(f"loss {loss!r} needs outputs of shape (width,), got {shape}")
    if loss == "bce" and net.steps[-1].activation is None:
        raise ValueError(f"loss 'bce' needs a sigmoid at the end, got {net.layer_names[-1]!r}")


def _cross_entropy_slope(x: Array, t: Array) -> Array:
    if t.ndim == 1:  # labels
        t = np.eye(x.shape[1])[t.astype(np.int64)]
    power = np.exp(x - x.max(axis=1, keepdims=True))
    softmax = power / power.sum(axis=1, keepdims=True)
    slope: Array = (softmax * t.sum(axis=1, keepdims=True) - t) / len(x)
    return slope


# The cost's gradient by the last activations x, for targets t (for the cotangent t).
SLOPES: dict[str, Callable[[Array, Array], Array]] = {
    "gaussian": lambda _, t: t,
    "mse": lambda x, t: 2.0 * (x - t) / x.size,
    "softmax_cross_entropy": _cross_entropy_slope,
    "bce": lambda x, t: (x - t) / x.size,  # times the sigmoid's slope: see backward
}
