"""Losses: what goes back from the last activation, and the targets that they compare it with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec
from varprop._weights import weights
from varprop.network import Network

#: For each loss, the tensor that is drawn for it where no targets are given.
TENSORS = {
    "gaussian": "cotangent",
    "mse": "targets",
    "softmax_cross_entropy": "targets",
    "bce": "targets",
}


def check(net: Network, loss: str) -> str:
    """Return the loss, or raise the error that says why it does not fit the network."""
    if loss not in TENSORS:
        raise _spec.unknown("loss", loss, TENSORS)
    last, shape = net.steps[-1], net.output_shape
    if loss == "bce" and (last.activation is None or last.activation.name != "sigmoid"):
        found = repr(str(last.activation)) if last.activation else f"layer {last.name!r}"
        raise ValueError(f"loss 'bce' needs a sigmoid as the last activation, got {found}")
    if loss == "softmax_cross_entropy" and len(shape) > 1:
        raise ValueError(
            f"loss {loss!r} needs outputs of shape (width,), got {shape}: "
            "Flatten() or GlobalAvgPool() makes one of an image"
        )
    if loss == "softmax_cross_entropy" and shape[0] < 2:
        raise ValueError(f"loss {loss!r} needs at least 2 outputs, got 1")
    return loss


def check_targets(
    net: Network, loss: str, targets: ArrayLike | None, batch: int, dtype: str
) -> NDArray[Any] | None:
    """Return given targets as the core reads them: labels as int64, all others in the dtype."""
    if targets is None:
        return None
    if loss == "gaussian":
        raise ValueError("targets must be None for loss 'gaussian', which compares with none")
    given = np.asarray(targets)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"targets must hold real numbers, got dtype {given.dtype}")
    labels = loss == "softmax_cross_entropy"
    shapes = [(batch,)] * labels + [(batch, *net.output_shape)]
    if given.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"targets must have shape {wanted} for loss {loss!r}, got {given.shape}")
    if given.ndim == 1:
        return _labels(given, net.output_shape[0])
    with np.errstate(over="ignore"):
        cast = np.array(given, dtype=dtype, order="C")
    if not np.isfinite(cast).all():
        raise ValueError(f"targets must be finite in {dtype}")
    if loss != "mse" and (cast.min() < 0 or cast.max() > 1):
        raise ValueError(f"targets of loss {loss!r} must lie between 0 and 1")
    cast.flags.writeable = False
    return cast


def _labels(given: NDArray[Any], classes: int) -> NDArray[np.int64]:
    if given.dtype.kind not in "iu":
        raise TypeError(f"targets of shape (batch,) must be integer labels, got {given.dtype}")
    if given.min() < 0 or given.max() >= classes:
        wrong = int(given[(given < 0) | (given >= classes)][0])
        raise ValueError(f"targets must be labels from 0 to {classes - 1}, got {wrong}")
    labels = np.array(given, dtype=np.int64)
    labels.flags.writeable = False
    return labels


def drawn(
    net: Network, loss: str, batch: int, *, seed: int, trial: int, dtype: str
) -> NDArray[Any]:
    """Return what a trial draws for its loss: the cotangent, or the targets."""

    def draw(law: str, shape: tuple[int, ...]) -> NDArray[Any]:
        return weights(shape, law, seed=seed, name=TENSORS[loss], trial=trial, dtype=dtype)

    shape = (batch, *net.output_shape)
    if loss in ("gaussian", "mse"):
        return draw("normal", shape)
    if loss == "bce":
        return (draw("uniform(-1, 1)", shape) > 0).astype(dtype)
    _, width = shape
    share = (draw("uniform(-1, 1)", (batch,)).astype(np.float64) + 1) / 2
    return np.minimum((share * width).astype(np.int64), width - 1)
