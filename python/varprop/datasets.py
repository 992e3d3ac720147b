"""Data sets that are drawn, not downloaded: Shapeset-3x2, as many images as one likes.

Images have the shape (height, width, channels), as everywhere in varprop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop import _memory, _raster, _shapeset, _spec

__all__ = ["SHAPESET_CLASSES", "shapeset", "shapeset_stream"]

SHAPESET_CLASSES = (
    "triangle",
    "parallelogram",
    "ellipse",
    "triangle and parallelogram",
    "parallelogram and ellipse",
    "triangle and ellipse",
    "two triangles",
    "two parallelograms",
    "two ellipses",
)
"""What the labels 0 to 8 of Shapeset-3x2 mean."""

_SMALLEST = 10  # the longest shape, 0.8 of the side, between two margins of one pixel
_IMAGES = (1 << 33) - 1  # of a seed: so many rows has a tensor
_PIXELS = 1 << 19  # painted at a time; no number depends on it
_LEVELS = np.array([level / 255 * 2 - 1 for level in range(256)], np.float32)


def shapeset(
    n: int,
    seed: int = 0,
    *,
    size: int | tuple[int, int] = 32,
    channels: int = 1,
    masks: bool = False,
    first: int = 0,
) -> tuple[NDArray[Any], ...]:
    """Draw images of Shapeset-3x2: one or two triangles, parallelograms or ellipses each.

    Image i depends on the seed, the size and i, and on nothing else: ``shapeset(50)`` is the
    beginning of ``shapeset(100)``.

    Parameters
    ----------
    n : int
        Number of images, at least 0.
    seed : int
        Any integer >= 0.
    size : int or (int, int)
        Height and width in pixels, at least 10. Shapes scale with the smaller of the two.
    channels : int
        Each has greys of its own; the first is the image that one channel alone would be.
    masks : bool
        Return where the shapes are, too.
    first : int
        Number of the first image: seeds are independent, and so are images of other numbers.

    Returns
    -------
    images : ndarray of float32, shape (n, height, width, channels)
        Within [-1, 1].
    labels : ndarray of int64, shape (n,)
        0 to 8, see ``SHAPESET_CLASSES``.
    masks : ndarray of float32, shape (n, height, width, 1)
        1 on a shape, 0 on the background; only where asked for.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit; a seed has 2**33 - 1 images.
    MemoryError
        The images would not fit, with the estimate.

    Notes
    -----
    Glorot and Bengio 2010, section 2.1. docs/shapeset.md states the whole process, and what of it
    is ours. All numbers are draws of :func:`varprop.weights`.

    Examples
    --------
    >>> import varprop as vp
    >>> images, labels = vp.datasets.shapeset(1000)
    >>> images.shape, images.dtype, vp.datasets.SHAPESET_CLASSES[labels[0]]
    ((1000, 32, 32, 1), dtype('float32'), 'ellipse')
    >>> batch = images.reshape(1000, -1)  # what a dense layer reads
    """
    n, seed, first = (
        _spec.integer(name, value) for name, value in (("n", n), ("seed", seed), ("first", first))
    )
    height, width = _size(size)
    channels = _spec.integer("channels", channels, least=1)
    masks = _flag("masks", masks)
    if first + n > _IMAGES:
        raise ValueError(f"first + n must be under 2**33, got {first} + {n}")
    planes = channels + masks
    _memory.require(4 * n * height * width * planes, f"a set of {n} images of {height} x {width}")
    images = np.empty((n, height, width, channels), np.float32)
    labels = np.empty(n, np.int64)
    shown = np.empty((n if masks else 0, height, width, 1), np.float32)
    step = _step(height, width)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        count = part.stop - start
        scenes = _shapeset.scenes(seed, first + start, count, height, width)
        painted = _paint(scenes, height, width)
        greys = _shapeset.greys(seed, first + start, count, channels)
        palette = _LEVELS[greys].reshape(3 * count, channels)
        entries = painted + 3 * np.arange(count)[:, np.newaxis, np.newaxis]
        np.take(palette, entries, axis=0, out=images[part], mode="clip")
        labels[part] = scenes.labels
        if masks:
            shown[part, :, :, 0] = painted > 0
    return (images, labels, shown) if masks else (images, labels)


def shapeset_stream(
    batch: int,
    seed: int = 0,
    *,
    size: int | tuple[int, int] = 32,
    channels: int = 1,
    masks: bool = False,
    first: int = 0,
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield batch after batch of the images that :func:`shapeset` draws, without repeating one.

    Parameters
    ----------
    batch : int
        Images a batch, at least 1.
    seed, size, channels, masks
        As in :func:`shapeset`.
    first : int
        Number of the first image of the first batch: where an interrupted training goes on.

    Yields
    ------
    tuple
        What ``shapeset(batch, seed, first=first + k * batch, ...)`` returns, for k = 0, 1, 2, ...

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit, before the first batch.

    Examples
    --------
    >>> import varprop as vp
    >>> stream = vp.datasets.shapeset_stream(10, seed=3)
    >>> (images, labels), (more, _) = next(stream), next(stream)
    >>> bool((more == vp.datasets.shapeset(20, seed=3)[0][10:]).all())
    True
    """
    batch = _spec.integer("batch", batch, least=1)
    seed, first = _spec.integer("seed", seed), _spec.integer("first", first)

    def draw(n: int, start: int) -> tuple[NDArray[Any], ...]:
        return shapeset(n, seed, size=size, channels=channels, masks=masks, first=start)

    draw(0, first)  # the errors of the other arguments

    def batches() -> Iterator[tuple[NDArray[Any], ...]]:
        start = first
        while True:  # small batches are drawn many at a time
            ahead = max(1, min(_step(*_size(size)), _IMAGES - start) // batch)
            block = draw(ahead * batch, start)
            start += ahead * batch
            for done in range(0, ahead * batch, batch):
                rows = slice(done, done + batch)
                yield tuple(part[rows].copy() for part in block)

    return batches()


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(size, Iterable):
        side = _spec.integer("size", size, least=_SMALLEST)
        return side, side
    sides = _spec.sizes("size", size)
    if len(sides) != 2 or min(sides) < _SMALLEST:
        raise ValueError(
            f"size must be an integer >= {_SMALLEST}, or two, (height, width), got {size!r}"
        )
    return sides[0], sides[1]


def _step(height: int, width: int) -> int:
    """Return how many images are painted at a time."""
    return max(1, _PIXELS // (height * width))


def _flag(argument: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument} must be True or False, got {value!r}")
    return bool(value)


def _paint(scenes: _shapeset.Scenes, height: int, width: int) -> NDArray[np.int64]:
    """Return 0 for the background, 1 and 2 for the shapes, shape (scenes, height, width)."""
    count = scenes.kinds.shape[1]
    columns = np.min_scalar_type(width)
    begin = np.zeros((2, count, height), columns)
    end = np.zeros_like(begin)
    for order, shapes, where in (
        (0, scenes.first, np.arange(count)),
        (1, scenes.second, scenes.pairs),
    ):
        for kind, sides in enumerate(_shapeset.SIDES):
            chosen = np.flatnonzero(shapes.kind == kind)
            x, y = shapes.outline(chosen, sides)
            low, high = _raster.spans(x, y, height, width)
            begin[order, where[chosen]] = low.T
            end[order, where[chosen]] = high.T
    first, second = _raster.fill(begin, end, width).view(np.uint8)
    painted: NDArray[np.int64] = np.maximum(first, 2 * second).astype(np.int64)
    return painted  # the second over the first
