"""Random weights: any region of any tensor, the same numbers wherever they are drawn."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from varprop import _core, _memory, _spec, initializers
from varprop._draw import Draw
from varprop._extras import require
from varprop._keys import key
from varprop._progress import Report, progress_bar
from varprop._threads import thread_count
from varprop.initializers import Law

Axis = tuple[int, int, int]  # start, step, count

_DTYPES = ("float32", "float64", "float16", "bfloat16")
_RANGES = {
    name: (float(np.finfo(name).smallest_subnormal), float(np.finfo(name).max))
    for name in ("float32", "float64")
}


def weights(
    shape: int | tuple[int, ...],
    init: str | Law | ArrayLike = "he_normal",
    *,
    seed: int = 0,
    name: str = "",
    trial: int = 0,
    dtype: DTypeLike = "float32",
    region: slice | tuple[slice, ...] | None = None,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
    progress: bool | Report = False,
) -> NDArray[Any]:
    """Draw the weights of one tensor.

    A number depends on the seed, the name, the trial, its position, the law and the dtype, and on
    nothing else: not on the region, the order, the threads or the machine.

    Parameters
    ----------
    shape : int or tuple of int
        (fan_in, fan_out) or (*kernel, in, out); laws without fans take any shape.
    init : str, Law or array
        A name such as ``"he_normal"`` or ``"normal(std=0.1)"``, a law, or the weights themselves.
    seed : int
        Any integer >= 0.
    name : str
        Name of the tensor: tensors of different names are independent.
    trial : int
        Number of the draw: trials are independent.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        float16 and bfloat16 (extra bf16) are the float32 numbers rounded to nearest even.
    region : tuple of slice, optional
        Draws the part ``weights(...)[region]`` alone, at the cost of the part. Laws that are formed
        whole (orthogonal, delta_orthogonal, sparse) cost the whole.
    out : ndarray, optional
        Filled in place, C-contiguous or strided; of the region's shape and the dtype.
    threads : int, optional
        By default as many as there are cores.
    progress : bool or callable
        A bar on the terminal, or a function of the fraction done.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit; nothing is written.
    MemoryError
        The array would not fit, with the estimate; nothing is allocated.

    Notes
    -----
    Threefry4x32-20 (Salmon et al. 2011) keyed by BLAKE2b of seed and name, its counter made of row,
    column and trial. ``varprop.reference.weights`` states the same in NumPy.

    Examples
    --------
    >>> import varprop as vp
    >>> whole = vp.weights((1000, 200), "glorot_uniform", seed=1, name="dense1.weight")
    >>> part = vp.weights((1000, 200), "glorot_uniform", seed=1, name="dense1.weight",
    ...                   region=(slice(500, 510), slice(0, 200, 50)))
    >>> bool((part == whole[500:510, ::50]).all())
    True
    """
    tensor = _tensor(init, shape, seed, name, trial, dtype, region, threads)
    target = _empty(tensor) if out is None else out
    if out is not None:
        _check(out, tensor, _dtype(tensor.kind))
    _fill(target, tensor, progress)
    return target


def fill(
    target: NDArray[Any],
    law: str | Law | ArrayLike,
    *,
    shape: int | tuple[int, ...],
    seed: int = 0,
    name: str = "",
    trial: int = 0,
    dtype: DTypeLike = "float32",
    region: slice | tuple[slice, ...] | None = None,
    threads: int | None = None,
    progress: bool | Report = False,
) -> None:
    """Fill memory of any strides with what ``weights(shape, law, ...)`` returns.

    NumPy has no bfloat16: its target may be the same memory seen as uint16, without ml_dtypes.
    """
    tensor = _tensor(law, shape, seed, name, trial, dtype, region, threads)
    bits = tensor.kind == "bfloat16" and target.dtype == np.uint16
    _check(target, tensor, target.dtype if bits else _dtype(tensor.kind))
    _fill(target, tensor, progress)


class _Tensor(NamedTuple):
    """A tensor and the part of it that is wanted, checked."""

    law: Law
    draw: Draw | None  # None for laws that are formed whole
    sizes: tuple[int, ...]
    axes: list[Axis]
    seed: int
    name: str
    key: tuple[int, int, int, int]
    trial: int
    kind: str
    threads: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the part."""
        return tuple(count for _, _, count in self.axes)


def _tensor(
    init: str | Law | ArrayLike,
    shape: int | tuple[int, ...],
    seed: int,
    name: str,
    trial: int,
    dtype: DTypeLike,
    region: slice | tuple[slice, ...] | None,
    threads: int | None,
) -> _Tensor:
    sizes = _spec.sizes("shape", (shape,) if isinstance(shape, int) else shape)
    law = initializers.resolve(init)
    draw = law.compile(sizes)
    words = key(seed, name)
    trial = _trial(trial)
    kind = dtype_name(dtype)
    if draw is not None and not in_range(draw.rms, kind):
        raise ValueError(f"init {law} is out of the range of {kind}")
    axes = _axes(region, sizes)
    count = thread_count(threads)
    matrix = sizes if len(sizes) > 1 else (*sizes, 1)
    if draw is not None and (math.prod(matrix[:-1]) >= 2**33 or matrix[-1] >= 2**32):
        raise ValueError(f"shape must have under 2**33 rows and 2**32 columns, got {sizes}")
    return _Tensor(law, draw, sizes, axes, seed, name, words, trial, kind, count)


def dtype_name(dtype: DTypeLike, allowed: tuple[str, ...] = _DTYPES) -> str:
    """Return the name of a dtype, or the error that lists those allowed."""
    try:
        if dtype is None:
            raise TypeError
        name = dtype if isinstance(dtype, str) and dtype in allowed else np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in allowed:
        raise _spec.unknown("dtype", name, allowed)
    return name


def in_range(rms: float, dtype: str) -> bool:
    """Return whether numbers of this size are more than zeros or infinities in the dtype."""
    least, most = _RANGES["float64" if dtype == "float64" else "float32"]
    return rms == 0.0 or least < rms < most


def _trial(trial: int) -> int:
    number = _spec.integer("trial", trial)
    if number >= 2**63:
        raise ValueError(f"trial must be under 2**63, got {number}")
    return number


def _axes(region: slice | tuple[slice, ...] | None, sizes: tuple[int, ...]) -> list[Axis]:
    """Return start, step and count along each axis."""
    if region is None:
        region = ()
    if not isinstance(region, (slice, tuple)):
        raise TypeError(f"region must be a tuple of slices, got {region!r}")
    slices = (region,) if isinstance(region, slice) else region
    if len(slices) > len(sizes):
        raise ValueError(f"region must have at most {len(sizes)} slices, got {len(slices)}")
    axes = []
    for axis, size in enumerate(sizes):
        part = slices[axis] if axis < len(slices) else slice(None)
        if not isinstance(part, slice):
            raise TypeError(f"region[{axis}] must be a slice, got {part!r}")
        for end in (part.start, part.stop):
            if end is not None and not -size <= _index(end, axis) <= size:
                raise ValueError(f"region[{axis}] must lie within 0 to {size}, got {part}")
        start, stop, step = part.indices(size)
        axes.append((start, step, len(range(start, stop, step))))
    return axes


def _index(value: object, axis: int) -> int:
    return _spec.integer(f"region[{axis}]", value, least=-(2**63))


def _slice(axis: Axis) -> slice:
    start, step, count = axis
    stop = start + step * count
    return slice(start, stop if stop >= 0 else None, step)


def _dtype(kind: str) -> np.dtype[Any]:
    return np.dtype(require("ml_dtypes", "bf16").bfloat16 if kind == "bfloat16" else kind)


def _empty(tensor: _Tensor) -> NDArray[Any]:
    dtype, shape = _dtype(tensor.kind), tensor.shape
    what = f"an array of shape {shape}, {tensor.kind},"
    _memory.require(dtype.itemsize * math.prod(shape), what)
    return np.empty(shape, dtype)


def _check(out: object, tensor: _Tensor, dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {tensor.kind}, got {out.dtype}")
    if out.shape != tensor.shape:
        raise ValueError(f"out must have shape {tensor.shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")


def _fill(target: NDArray[Any], tensor: _Tensor, progress: bool | Report) -> None:
    memory = target.view(np.uint16) if tensor.kind == "bfloat16" else target
    if tensor.draw is None:
        memory[...] = _formed(tensor)
        return
    with progress_bar(progress) as report:
        _draw(memory, tensor, tensor.draw, report)
        if report is not None:
            report(1.0)


def _draw(memory: NDArray[Any], tensor: _Tensor, draw: Draw, report: Report | None) -> None:
    """Draw a region: its last axis holds the columns, all others the rows."""
    sizes, axes = tensor.sizes, tensor.axes
    if len(sizes) < 2:  # a vector is one column
        memory = memory.reshape(1, 1) if memory.ndim == 0 else memory[:, np.newaxis]
        sizes, axes = (*(sizes or (1,)), 1), [*(axes or [(0, 1, 1)]), (0, 1, 1)]
    apart = [math.prod(sizes[axis + 1 : -1]) for axis in range(len(sizes) - 1)]
    row = sum(start * rows for (start, _, _), rows in zip(axes, apart, strict=False))
    steps = [step * rows for (_, step, _), rows in zip(axes, [*apart, 1], strict=True)]
    first = (row, axes[-1][0])
    _core.draw(
        draw, tensor.key, tensor.trial, first, steps, memory, tensor.kind, tensor.threads, report
    )


def _formed(tensor: _Tensor) -> NDArray[Any]:
    """Return the region of a tensor that is formed whole; bfloat16 as uint16."""
    sizes = tensor.sizes
    _memory.require(4 * 8 * math.prod(sizes), f"a tensor of shape {sizes} formed whole")

    def source(part_shape: tuple[int, ...], part_law: Law, part: str = "") -> NDArray[np.float64]:
        return weights(
            part_shape,
            part_law,
            seed=tensor.seed,
            name=f"{tensor.name}/{part}" if part else tensor.name,
            trial=tensor.trial,
            dtype="float64",
            threads=tensor.threads,
        )

    part = tensor.law.form(sizes, source)[tuple(_slice(axis) for axis in tensor.axes)]
    if tensor.kind != "bfloat16":
        return part.astype(tensor.kind)
    bits = part.astype(np.float32).view(np.uint32)  # to the nearest, ties to even
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
