"""Draws: a weight is a pure function of (seed, tensor name, trial, row, column, law).

It is a word of Threefry under the tensor's key, and a transform of that word.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _keys, _spec, initializers
from varprop._draw import Draw, normal_probability
from varprop._laws import Law

__all__ = [
    "numbers",
    "standard_normal",
    "standard_truncated",
    "standard_uniform",
    "threefry",
    "weights",
    "words",
]

Array = NDArray[np.float64]
Words = NDArray[np.signedinteger[Any]]

_WORD = {"float32": np.int32, "float64": np.int64, "float16": np.int32, "bfloat16": np.int32}
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry(key: Sequence[int], counter: ArrayLike) -> NDArray[np.uint32]:
    """Return the words of Threefry4x32-20 for any number of counters.

    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; as in Random123.

    Parameters
    ----------
    key : sequence of 4 int
        Words of 32 bits.
    counter : array of uint32, shape (4, ...)

    Returns
    -------
    ndarray of uint32, shape (4, ...)

    Examples
    --------
    >>> [f"{word:08x}" for word in threefry((0, 0, 0, 0), [0, 0, 0, 0])]
    ['9c6ca96a', 'e17eae66', 'fc10ecd4', '5256a7d8']
    """
    keys = np.array([*key, 0x1BD11BDA], np.uint32)
    keys[4] = np.bitwise_xor.reduce(keys)
    shape = np.shape(counter)
    x = np.array(counter, np.uint32).reshape(4, -1) + keys[:4, None]
    for turn in range(20):
        for left, rotation in zip((0, 2), _ROTATIONS[turn % 8], strict=True):
            right = left + 1 if turn % 2 == 0 else 3 - left
            x[left] += x[right]
            x[right] = x[left] ^ (x[right] << rotation | x[right] >> 32 - rotation)
        if turn % 4 == 3:
            x += np.roll(keys, -(turn // 4 + 1))[:4, None]
            x[3] += np.uint32(turn // 4 + 1)
    return x.reshape(shape)


def words(key: Sequence[int], rows: int, columns: int, trial: int, dtype: str) -> Words:
    """Return the signed word behind each number of a matrix, rows filled up to whole groups.

    A counter is (column, group, low and high half of the trial). A group is 4 rows of 32-bit
    words, one per word of Threefry; for float64 it is 2 rows of 64-bit words, low half first.
    Numbers of float16 and bfloat16 are roundings of the float32 number.
    """
    word = np.dtype(_WORD[dtype])
    group = 16 // word.itemsize
    counter = np.empty((4, -(-rows // group), columns), np.uint32)
    counter[0] = np.arange(columns)
    counter[1] = np.arange(counter.shape[1])[:, None]
    counter[2], counter[3] = trial & 0xFFFFFFFF, trial >> 32
    drawn: NDArray[Any] = threefry(key, counter)
    if word.itemsize == 8:
        drawn = drawn[::2] | drawn[1::2].astype(np.uint64) << 32
    signed: Words = drawn.view(word).swapaxes(0, 1).reshape(-1, columns)
    return signed


def standard_uniform(words: Words) -> Array:
    """Return odd multiples of 2^-24 (of 2^-53 for 64-bit words) on (-1, 1)."""
    bits, digits = (32, 24) if words.itemsize == 4 else (64, 53)
    odd = 2 * (words >> bits - digits) + 1
    return odd.astype(np.float64) * 2.0**-digits


def standard_normal(words: Words) -> Array:
    """Return standard normals by Box-Muller on the words of rows 2i and 2i + 1.

    The first word is the radius, at full resolution so that tails reach past 6.6 sigma. The
    second is an angle within 45 degrees of an axis, and two bits that say which axis.
    """
    bits = 8 * words.itemsize
    first, second = words[::2], words[1::2]
    fraction = (first + 0.5) / 2.0**bits  # on (-1/2, 1/2); modulo 1 it is uniform on (0, 1)
    log = np.where(fraction > 0.0, np.log(np.abs(fraction)), np.log1p(fraction))
    radius = np.sqrt(-2.0 * log)
    angle = ((second << 2) + 2) / 2.0**bits * (math.pi / 2.0)
    along = np.where(second < 0, -1.0, 1.0) * radius * np.cos(angle)
    across = radius * np.sin(angle)
    swapped = second >> bits - 2 & 1 == 1
    normal = np.empty(words.shape)
    normal[::2] = np.where(swapped, across, along)
    normal[1::2] = np.where(swapped, along, across)
    return normal


def standard_truncated(words: Words, low: float, high: float) -> Array:
    """Return standard normals given that they fall between low and high, by their quantile.

    At the usual bounds +-2 the uniform is :func:`standard_uniform`; others take all bits.
    """
    if words.itemsize == 8 or (low, high) == (-2.0, 2.0):
        uniform = standard_uniform(words)
    else:
        uniform = (2.0 * words.astype(np.float64) + 1.0) * 2.0**-32
    within = 0.5 * normal_probability(low, high)
    below = normal_probability(-math.inf, low) + within * (1.0 + uniform)
    above = normal_probability(high, math.inf) + within * (1.0 - uniform)
    tail = _normal_quantile(np.minimum(below, above))  # the smaller one has all its digits
    normal: Array = np.where(below < above, tail, -tail)
    return normal.clip(low, high)


_normal_quantile: Callable[[Array], Array] = np.vectorize(
    statistics.NormalDist().inv_cdf, otypes=[np.float64]
)


def numbers(draw: Draw, words: Words) -> Array:
    """Return the numbers that a law asks for, one for each word."""
    match draw.distribution:
        case "constant":
            return np.full(words.shape, draw.mean)
        case "uniform":
            centre, half = 0.5 * draw.low + 0.5 * draw.high, 0.5 * draw.high - 0.5 * draw.low
            return centre + half * standard_uniform(words)
        case "normal":
            return draw.mean + draw.std * standard_normal(words)
        case "truncated_normal":
            return draw.mean + draw.std * standard_truncated(words, draw.low, draw.high)


def weights(
    shape: Sequence[int],
    init: str | Law | ArrayLike = "he_normal",
    *,
    seed: int = 0,
    name: str = "",
    trial: int = 0,
    dtype: str = "float32",
) -> Array:
    """Return the weights of one tensor in one trial.

    Parameters
    ----------
    shape : sequence of int
        A matrix has prod(shape[:-1]) rows and shape[-1] columns; (n,) is one column.
    init : str, Law, number or array
    seed, trial : int
        At least 0, and the trial under 2**63.
    name : str
        Name of the tensor: "input", or "<layer>.weight" and "<layer>.bias" of a layer.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Whose words are drawn; laws formed whole always draw float64.

    Returns
    -------
    ndarray of float64
        Not rounded to `dtype`.

    Examples
    --------
    >>> weights((2, 3), "uniform(-1, 1)", seed=1).round(3)
    array([[-0.63 , -0.998,  0.062],
           [-0.382,  0.479,  0.095]])
    """
    shape = _spec.sizes("shape", shape)
    trial = _spec.integer("trial", trial)
    if trial >= 2**63:
        raise ValueError(f"trial must be under 2**63, got {trial}")
    if dtype not in _WORD:
        raise _spec.unknown("dtype", dtype, _WORD)

    def source(shape: Sequence[int], law: Law, part: str = "") -> Array:
        full = f"{name}/{part}" if part else name
        return weights(shape, law, seed=seed, name=full, trial=trial, dtype="float64")

    law = initializers.resolve(init)
    draw = law.compile(shape)
    if draw is None:
        return law.form(shape, source)
    columns = shape[-1] if len(shape) > 1 else 1
    rows = math.prod(shape) // columns
    drawn = words(_keys.key(seed, name), rows, columns, trial, dtype)
    return numbers(draw, drawn)[:rows].reshape(shape)
