"""What each kind of layer does, forward and back.

Arrays are (batch, features) or (batch, height, width, channels). A gradient is the cost's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from varprop.layers import (
    Activation,
    AvgPool2d,
    BatchNorm,
    Bias,
    Conv2d,
    Dense,
    Dropout,
    Elementwise,
    Flatten,
    GlobalAvgPool,
    LayerNorm,
    Residual,
    RMSNorm,
    Scale,
)
from varprop.reference.draws import Array

if TYPE_CHECKING:
    from varprop._images import Window
    from varprop.network import Step

Mask = NDArray[np.bool_]
Tap = tuple[tuple[int, int], tuple[slice, ...]]


# --- products -----------------------------------------------------------------------------------


def dense(x: Array, w: Array) -> Array:
    """Return X W; on an image, at every position."""
    product: Array = x @ w
    return product


def dense_back(x: Array, w: Array, gradient: Array) -> tuple[Array, Array]:
    """Return the gradients by W and by X, from that by X W."""
    rows, deltas = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
    return rows.T @ deltas, gradient @ w.T


def convolution(x: Array, w: Array, layer: Conv2d) -> Array:
    """Return at each place of the kernel the sum over its positions of what it covers times W."""
    shape = layer.output_shape(x.shape[1:])
    window = layer.window(x.shape[1:])
    padded = _padded(x, shape, window)
    y = np.zeros((len(x), *shape))
    for at, covered in _taps(window, shape):
        for into, out in _groups(layer, x.shape[-1]):
            y[..., out] += padded[covered][..., into] @ w[at][:, out]
    return y


def convolution_back(x: Array, w: Array, gradient: Array, layer: Conv2d) -> tuple[Array, Array]:
    """Return the gradients by W and by X, from that by their convolution."""
    window = layer.window(x.shape[1:])
    padded = _padded(x, gradient.shape[1:], window)
    by_w, by_padded = np.zeros(w.shape), np.zeros(padded.shape)
    for at, covered in _taps(window, gradient.shape[1:]):
        for into, out in _groups(layer, x.shape[-1]):
            by_w[at][:, out], by_x = dense_back(
                padded[covered][..., into], w[at][:, out], gradient[..., out]
            )
            by_padded[covered][..., into] += by_x
    return by_w, _unpadded(by_padded, x.shape, window)


def pool(x: Array, window: Window, shape: tuple[int, ...]) -> Array:
    """Return the mean of what the window covers at each of its places."""
    taps = list(_taps(window, shape))
    return np.asarray(sum(x[covered] for _, covered in taps) / len(taps))


def pool_back(x: Array, window: Window, gradient: Array) -> Array:
    """Return the gradient by X, from that by the means."""
    by_x, taps = np.zeros(x.shape), list(_taps(window, gradient.shape[1:]))
    for _, covered in taps:
        by_x[covered] += gradient / len(taps)
    return by_x


def _taps(window: Window, shape: tuple[int, ...]) -> Iterator[Tap]:
    """Yield each position in the window, and which numbers it covers as the window slides."""
    places, strides = shape[:2], (window.stride_height, window.stride_width)
    for at in np.ndindex(window.height, window.width):
        covered = (
            slice(start, start + (count - 1) * stride + 1, stride)
            for start, count, stride in zip(at, places, strides, strict=True)
        )
        yield at, (slice(None), *covered)


def _padded(x: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Return an image with zeros before it, and as many behind as the window covers."""
    ends = (
        (shape[0] - 1) * window.stride_height + window.height,
        (shape[1] - 1) * window.stride_width + window.width,
    )
    sizes = (max(end, a + b) for end, a, b in zip(ends, x.shape[1:], window[4:], strict=False))
    padded = np.zeros((len(x), *sizes, x.shape[-1]))
    _unpadded(padded, x.shape, window)[...] = x
    return padded


def _unpadded(padded: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Return the part of a padded image that is the image."""
    _, height, width, _ = shape
    rows = slice(window.top, window.top + height)
    return padded[:, rows, window.left : window.left + width]


def _groups(layer: Conv2d, channels: int) -> Iterator[tuple[slice, slice]]:
    """Yield for each group its channels in and out."""
    into, out = channels // layer.groups, layer.channels // layer.groups
    for g in range(layer.groups):
        yield slice(g * into, (g + 1) * into), slice(g * out, (g + 1) * out)


# --- normalization ------------------------------------------------------------------------------


def _axes(layer: LayerNorm | RMSNorm | BatchNorm, x: Array) -> tuple[int, ...]:
    """Return the axes that the mean is taken over."""
    return tuple(range(x.ndim - 1)) if isinstance(layer, BatchNorm) else (x.ndim - 1,)


def _centred(layer: LayerNorm | RMSNorm | BatchNorm, x: Array) -> Array:
    if isinstance(layer, RMSNorm):
        return x
    return np.asarray(x - x.mean(_axes(layer, x), keepdims=True))


def normalized(x: Array, layer: LayerNorm | RMSNorm | BatchNorm) -> Array:
    """Return z / sqrt(mean(z^2) + eps), with z = x - mean(x), or z = x of RMSNorm."""
    z = _centred(layer, x)
    return np.asarray(z / np.sqrt((z * z).mean(_axes(layer, x), keepdims=True) + layer.eps))


def normalized_back(x: Array, gradient: Array, layer: LayerNorm | RMSNorm | BatchNorm) -> Array:
    """Return the gradient by x: along y itself it is lost, and along the mean."""
    y, z = normalized(x, layer), _centred(layer, x)
    size = np.sqrt((z * z).mean(_axes(layer, x), keepdims=True) + layer.eps)
    by_z = (gradient - y * (gradient * y).mean(_axes(layer, x), keepdims=True)) / size
    return _centred(layer, by_z)


# --- all kinds ----------------------------------------------------------------------------------


def forward(
    step: Step, x: Array, skip: Array, w: Array | None, b: Array | None, mask: Mask | None
) -> tuple[Array, Array]:
    """Return a step's pre-activations and activations.

    Parameters
    ----------
    step : Step
    x : array
        What enters; of a residual, what leaves its branch.
    skip : array
        Of a residual, what entered its branch.
    w, b : array or None
        Weights and biases, None where there are none.
    mask : array or None
        Of dropout, whether a number is kept.
    """
    layer = step.layer
    match layer:
        case Dense() | Conv2d() if w is not None:
            y = dense(x, w) if isinstance(layer, Dense) else convolution(x, w, layer)
            y = y if b is None else y + b
            return y, layer.activation.value(y)
        case Activation():
            return x, layer.function.value(x)
        case Elementwise():
            return x, _own(step, layer.value, x)
        case LayerNorm() | RMSNorm() | BatchNorm():
            return x, normalized(x, layer)
        case Dropout() if mask is not None:
            return x, np.where(mask, x / (1.0 - layer.rate), 0.0)
        case Bias():
            out = x if b is None else x + b
        case Scale():
            out = layer.factor * x
        case Residual():
            out = layer.skip_scale * skip + layer.branch_scale * x
        case AvgPool2d() | GlobalAvgPool():
            means = pool(x, layer.window(x.shape[1:]), _places(step))
            out = means.reshape(-1, *step.output_shape)
        case Flatten():
            out = (np.moveaxis(x, -1, 1) if layer.channels_first else x).reshape(len(x), -1)
        case _:
            raise TypeError(f"unknown layer {layer!r}")
    return out, out


def _places(step: Step) -> tuple[int, ...]:
    """Return at how many places a pool's window stands."""
    return step.output_shape if len(step.output_shape) == 3 else (1, 1, *step.output_shape)


def _own(step: Step, function: Callable[[Array], Array], x: Array) -> Array:
    """Call a user's function."""
    try:
        return function(x)
    except ValueError as error:
        raise ValueError(f"layer {step.name!r}: {error}") from None


def slope(step: Step, y: Array) -> Array:
    """Return phi'(y): one where a layer has no activation function."""
    if isinstance(step.layer, Elementwise):
        return _own(step, step.layer.slope, y)
    phi = step.activation
    return np.ones_like(y) if phi is None else phi.derivative(y)


def back(
    step: Step, x: Array, w: Array | None, delta: Array, mask: Mask | None
) -> tuple[Array | None, Array | None, Array]:
    """Return the gradients by a step's weights, biases and inputs, from that by what is before phi.

    Parameters
    ----------
    step, x, w, mask
        As in :func:`forward`.
    delta : array
        Gradient by Y = X W + b; of all layers without an activation, by what leaves them.

    Returns
    -------
    weights, bias : array or None
        None of layers that have none.
    inputs : array
        By what entered; of a residual by what leaves its branch.
    """
    layer = step.layer
    summed: Any = delta.sum(axis=tuple(range(delta.ndim - 1)))
    match layer:
        case Dense() if w is not None:
            by_w, by_x = dense_back(x, w, delta)
            return by_w, summed, by_x
        case Conv2d() if w is not None:
            by_w, by_x = convolution_back(x, w, delta, layer)
            return by_w, summed, by_x
        case Bias():
            return None, summed, delta
        case Activation() | Elementwise():
            return None, None, delta
        case LayerNorm() | RMSNorm() | BatchNorm():
            return None, None, normalized_back(x, delta, layer)
        case Dropout() if mask is not None:
            return None, None, np.where(mask, delta / (1.0 - layer.rate), 0.0)
        case Scale():
            return None, None, layer.factor * delta
        case Residual():
            return None, None, layer.branch_scale * delta
        case AvgPool2d() | GlobalAvgPool():
            gradient = delta.reshape(len(x), *_places(step))
            return None, None, pool_back(x, layer.window(x.shape[1:]), gradient)
        case Flatten():
            if not layer.channels_first:
                return None, None, delta.reshape(x.shape)
            first = (len(x), x.shape[-1], *x.shape[1:-1])
            return None, None, np.moveaxis(delta.reshape(first), 1, -1)
    raise TypeError(f"unknown layer {layer!r}")
