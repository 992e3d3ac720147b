"""The chain: layer after layer forward, and the gradients of a cost on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec
from varprop.layers import BatchNorm, Dropout, LayerNorm, Residual, RMSNorm
from varprop.reference import layers, losses
from varprop.reference.draws import Array, weights

if TYPE_CHECKING:
    from varprop.network import Network, Step

__all__ = ["Gradients", "Layer", "backward", "chain"]


class Layer(NamedTuple):
    """One layer in one trial.

    Of dense layers and convolutions the pre-activations are X W + b and the activations phi of
    them. Of activations, normalizations and dropout the pre-activations are what enters; of the
    others, what leaves, as the activations are. Weights are None where there are none.
    """

    inputs: Array
    weights: Array | None
    preactivations: Array
    activations: Array


class Gradients(NamedTuple):
    """Gradients of the cost by a layer's pre-activations, weights, biases and inputs.

    Weights and biases are None of layers that have none. What enters a branch goes to its skip,
    too: as `inputs` it has the sum of both gradients, as `preactivations` (where a normalization
    begins the branch, say) that through the layer itself. The inputs of a residual are what leaves
    its branch.
    """

    preactivations: Array
    weights: Array | None
    bias: Array | None
    inputs: Array


def chain(
    net: Network,
    inputs: int | ArrayLike,
    *,
    seed: int = 0,
    trial: int = 0,
    dtype: str = "float32",
) -> Iterator[Layer]:
    """Yield what every layer does, in order of execution, in one trial.

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
        x = weights((batch, *net.input_shape), "normal", name="input", **options)
    else:
        x = np.asarray(inputs, np.float64)
    branched = {step.skip for step in net.steps}
    kept = {-1: x}  # activations that a skip leads from
    for position, step in enumerate(net.steps):
        drawn = {
            part: weights(shape, law, name=f"{step.name}.{part}", **options)
            for part, (law, shape) in step.layer.parameters(step.input_shape).items()
        }
        w, b = drawn.get("weight"), drawn.get("bias")
        skip = x if step.skip is None else kept[step.skip]
        y, out = layers.forward(step, x, skip, w, b, _mask(step, len(x), **options))
        yield Layer(x, w, y, out)
        x = out
        if position in branched:
            kept[position] = x


def _mask(step: Step, batch: int, **options: Any) -> NDArray[np.bool_] | None:
    """Return which numbers dropout keeps; None for other layers."""
    if not isinstance(step.layer, Dropout):
        return None
    *places, channels = step.input_shape
    rows = batch * prod(places)
    drawn = weights((rows, channels), "uniform(-1, 1)", name=f"{step.name}.mask", **options)
    kept: NDArray[np.bool_] = drawn > 2.0 * step.layer.rate - 1.0
    return kept.reshape(batch, *step.input_shape)


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
        Shape of the last activations; labels of shape (batch,) too for "softmax_cross_entropy".
        Drawn by :func:`targets` where not given.

    Examples
    --------
    >>> import varprop as vp
    >>> [layer.weights.shape for layer in backward(vp.mlp([3, 5, 2], "tanh"), 10, "mse")]
    [(5, 2), (3, 5)]
    """
    losses.check(net, loss)
    options: dict[str, Any] = {"seed": seed, "trial": trial, "dtype": dtype}
    made = list(chain(net, inputs, **options))
    x = made[-1].activations
    if targets is None and loss == "gaussian":
        targets = losses.cotangent(net, len(x), **options)
    elif targets is None:
        targets = losses.targets(net, len(x), loss, **options)
    last = len(made) - 1
    # By position, the gradient by the activations: where they go two ways, it is a sum.
    gradients = {last: losses.SLOPES[loss](x, np.asarray(targets, np.float64))}
    for position in range(last, -1, -1):
        step, layer = net.steps[position], made[position]
        gradient = gradients.pop(position)
        if isinstance(step.layer, Residual) and step.skip is not None:
            _add(gradients, step.skip, step.layer.skip_scale * gradient)
        # With bce, by a sigmoid x it is divided by x (1 - x), which is the sigmoid's slope.
        if loss != "bce" or position < last:
            gradient = gradient * layers.slope(step, layer.preactivations)
        mask = _mask(step, len(x), **options)
        by_w, by_b, by_x = layers.back(step, layer.inputs, layer.weights, gradient, mask)
        _add(gradients, position - 1, by_x)
        by_y = by_x if isinstance(step.layer, _WHOLE) else gradient
        yield Gradients(by_y, by_w, by_b, gradients[position - 1])


_WHOLE = (LayerNorm, RMSNorm, BatchNorm, Dropout)  # their pre-activations are what enters


def _add(gradients: dict[int, Array], position: int, more: Array) -> None:
    gradients[position] = gradients[position] + more if position in gradients else more
