"""The door between torch's tensors and ours: memory, layouts, dtypes."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from varprop import _weights
from varprop._laws import Law
from varprop._moments import Moments

Shape = tuple[int, ...]

DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


class Region(NamedTuple):
    """The part of a whole tensor that a shard holds: the whole's shape, and slices of it."""

    shape: Shape
    slices: tuple[slice, ...]


def our_order(dimensions: int) -> tuple[int, ...]:
    """Return torch's axes in our order: (out, in, *kernel) becomes (*kernel, in, out).

    Examples
    --------
    >>> our_order(4), our_order(1)
    ((2, 3, 1, 0), (0,))
    """
    return (*range(2, dimensions), *range(min(2, dimensions))[::-1])


def last_channels(dimensions: int) -> tuple[int, ...]:
    """Return the axes of a batch of signals in our order: of images, channels come last."""
    if dimensions not in (4, 5):
        return tuple(range(dimensions))
    return (0, *range(2, dimensions), 1)


def our_shape(shape: Shape) -> Shape:
    """Return the shape that a law sees of torch's."""
    return tuple(shape[axis] for axis in our_order(len(shape)))


def called(name: str) -> str:
    """Return what errors call a tensor of this name."""
    return f"parameter {name!r}" if name else "tensor"


def kind(tensor: torch.Tensor, name: str) -> str:
    """Return the name of a tensor's dtype, or the error of one that holds no weights."""
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{called(name)} must be {', '.join(DTYPES.values())}, got {tensor.dtype}")
    return DTYPES[tensor.dtype]


def numbers(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor's own memory as an array; a bfloat16 as its 16 bits."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def observe(tensor: torch.Tensor, moments: Moments) -> None:
    """Add a tensor's numbers to moments, read where they are."""
    moments._add(numbers(tensor.cpu()), DTYPES[tensor.dtype])


def check(tensor: torch.Tensor, law: Law, name: str, region: Region | None = None) -> None:
    """Raise the error of a tensor that cannot be filled, before anything is written."""
    dtype = kind(tensor, name)
    if tensor.layout != torch.strided:
        raise TypeError(f"{called(name)} must be strided, got layout {tensor.layout}")
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    if any(stride == 0 and size > 1 for size, stride in sizes):
        raise ValueError(f"{called(name)} must not share memory with itself: it is expanded")
    whole = tuple(tensor.shape) if region is None else region.shape
    if region is not None:
        _check_region(region, tuple(tensor.shape), name)
    if 0 in whole:
        return
    try:
        draw = law.compile(our_shape(whole))
        if draw is not None and not _weights.in_range(draw.rms, dtype):
            raise ValueError(f"{law} is out of the range of {dtype}")
    except ValueError as error:
        raise ValueError(f"{called(name)}: {error}") from None


def _check_region(region: Region, shape: Shape, name: str) -> None:
    try:
        part = tuple(count for *_, count in _weights._axes(region.slices, region.shape))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{called(name)}: {error}") from None
    if part != shape:
        raise ValueError(
            f"region of {called(name)} must have the tensor's shape {shape}, got {part}"
        )


def fill(
    tensor: torch.Tensor,
    law: Law,
    *,
    seed: int,
    name: str,
    trial: int = 0,
    region: Region | None = None,
    threads: int | None = None,
) -> None:
    """Fill a tensor in place, which :func:`check` has passed: the transpose of our weights."""
    if tensor.numel() == 0 or tensor.is_meta:
        return
    if tensor.device.type != "cpu":
        _say_once(tensor.device)
        host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        fill(host, law, seed=seed, name=name, trial=trial, region=region, threads=threads)
        with torch.no_grad():
            tensor.copy_(host)
        return
    # Autograd counts in-place writes: one of nothing, as it does not see ours.
    tensor.detach()[None][:0].zero_()
    order = our_order(tensor.dim())
    whole, slices = region or (tuple(tensor.shape), ())
    full = (*slices, *[slice(None)] * (len(whole) - len(slices)))
    _weights.fill(
        numbers(tensor).transpose(order),
        law,
        shape=our_shape(whole),
        seed=seed,
        name=name,
        trial=trial,
        dtype=DTYPES[tensor.dtype],
        region=tuple(full[axis] for axis in order),
        threads=threads,
    )


_said: set[str] = set()


def _say_once(device: torch.device) -> None:
    if device.type not in _said:
        _said.add(device.type)
        warnings.warn(
            f"tensors on {device.type} are drawn on the host and copied; the numbers are the same",
            stacklevel=2,
        )
