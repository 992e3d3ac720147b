"""Singular values of products of matrices: all of them, the largest and smallest, or moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from varprop._extras import require

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Map = Callable[[Array], Array]

FEW = 50  # singular values among which an iteration has nothing to save
RESOLVED = 1e-4  # of the largest: an iteration finds others above it, to 1e-8
NOTHING = -(1 << 28)  # exponent of a row of zeros
BLOCK, OVERLAP = 400, 60  # powers of two that the rows of one block span, and share with the next


@dataclass(frozen=True)
class Scaled:
    """Numbers ``mantissa * 2**exponent``."""

    mantissa: Array
    exponent: Integers

    @property
    def value(self) -> Array:
        """The numbers; beyond the range of float64 infinite, or zero."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(self.mantissa, self.exponent))

    @property
    def log10(self) -> Array:
        """Decimal logarithms of the numbers."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log10(self.mantissa) + self.exponent * math.log10(2))

    def at(self, position: int | list[int]) -> Scaled:
        """Return those at positions of the last axis."""
        return Scaled(self.mantissa[..., position], self.exponent[..., position])


class Chain:
    """J^T = W_1 D_1 ... W_L D_L at several inputs, applied to rows from its narrower end.

    Parameters
    ----------
    weight : callable
        Returns W of a layer, shape (fan_in, width).
    slopes : dict
        The diagonals of D by layer, shape (inputs, width).
    features : int
        Rows of W_1.
    """

    def __init__(
        self, weight: Callable[[int], Array], slopes: dict[int, Array], features: int
    ) -> None:
        self.weight = weight
        self.slopes = slopes
        self.inputs, self.outputs = slopes[max(slopes)].shape
        self.from_inputs = features <= self.outputs
        self.narrow, self.wide = sorted((features, self.outputs))

    @property
    def rank(self) -> Integers:
        """How many singular values the units with a slope leave other than zero, by input."""
        alive = np.min([(slope != 0).sum(axis=1) for slope in self.slopes.values()], axis=0)
        lost = np.any([np.isnan(slope).any(axis=1) for slope in self.slopes.values()], axis=0)
        return np.asarray(np.where(lost, self.narrow, np.minimum(alive, self.narrow)))

    def steps(self, back: bool = False) -> Iterator[Map]:
        """Yield the factors as functions of rows, shape (inputs, rows, units); or go back."""
        onward = self.from_inputs != back
        for layer in sorted(self.slopes, reverse=not onward):
            slope = self.slopes[layer][:, np.newaxis]
            yield partial(_onward if onward else _backward, self.weight(layer), slope)


def _onward(weight: Array, slope: Array, rows: Array) -> Array:
    return _times(rows, weight) * slope


def _backward(weight: Array, slope: Array, rows: Array) -> Array:
    return _times(rows * slope, weight.T)


def _times(rows: Array, matrix: Array) -> Array:
    """Multiply the rows of all inputs in one product."""
    return (rows.reshape(-1, len(matrix)) @ matrix).reshape(*rows.shape[:2], -1)


def _rescaled(rows: Array, exponent: Integers) -> tuple[Array, Integers]:
    """Move a power of two from each row into the exponents, shape (inputs, rows)."""
    largest = np.abs(rows).max(axis=2)
    power = np.frexp(largest)[1]
    scaled = np.ldexp(rows, -power[..., np.newaxis])
    return scaled, np.where(largest == 0, NOTHING, exponent + power)


def _triangles(chain: Chain) -> tuple[Array, Integers]:
    """Return T, triangular, such that J = Q diag(2**exponent) T, or its transpose.

    Rows fall off as the singular values do: none loses its digits to a larger one.
    """
    rows = np.broadcast_to(np.eye(chain.narrow), (chain.inputs, chain.narrow, chain.narrow))
    triangle, exponent = rows, np.zeros((chain.inputs, chain.narrow), np.int64)
    for step in chain.steps():
        q, r = np.linalg.qr(step(rows).swapaxes(1, 2))
        largest = np.maximum.accumulate(exponent[:, ::-1], axis=1)[:, ::-1]  # from each row down
        shift = exponent[:, np.newaxis] - largest[:, : q.shape[2], np.newaxis]
        product = np.ldexp(r, np.minimum(shift, 0)) @ triangle
        triangle, exponent = _rescaled(product, largest[:, : q.shape[2]])
        rows = q.swapaxes(1, 2)
    return triangle, exponent


def spectra(chain: Chain) -> Scaled:
    """Return all singular values, descending; NaN where numbers left the range of float64."""
    triangles = zip(*_triangles(chain), chain.rank, strict=True)
    found = [_graded(*triangle, chain.narrow) for triangle in triangles]
    return Scaled(*(np.stack(column) for column in zip(*found, strict=True)))


def _graded(rows: Array, exponent: Integers, rank: int, count: int) -> tuple[Array, Integers]:
    """Return singular values of diag(2**exponent) @ rows, whose exponents fall; 0 past the rank.

    LAPACK finds no small ones under about 1e-150 of the largest. So they come from blocks on the
    diagonal of L, where rows = L Q, that overlap: by g decades, for a relative error of 1e-2g.
    """
    values, powers = np.zeros(count), np.zeros(count, np.int64)
    if not np.isfinite(rows).all():
        values[:rank] = np.nan
        return values, powers
    lower = np.asarray(np.linalg.qr(rows.T, mode="r")).T
    fall = np.maximum.accumulate(exponent.max() - exponent)
    first = done = 0
    while done < rank:
        last = int(np.searchsorted(fall, fall[first] + BLOCK, "right"))
        block = slice(first, last)
        top = exponent[block].max()
        found = np.linalg.svd(
            np.ldexp(lower[block, block], (exponent[block] - top)[:, np.newaxis]), compute_uv=False
        )
        known = last if last == len(fall) else int(np.searchsorted(fall, fall[last] - OVERLAP))
        known = min(known, rank)
        values[done:known], powers[done:known] = found[done - first : known - first], top
        done = known
        first = int(np.searchsorted(fall, fall[min(done, len(fall) - 1)] - OVERLAP))
    return values, powers


def moments(chain: Chain, signs: Array, order: int) -> Scaled:
    """Estimate tr((J J^T)^k) / outputs, k = 1, ..., `order`, from signs (inputs, probes, narrow).

    The squared length of a row after k passes through J, there and back in turn, has this trace
    for its mean (Hutchinson 1990). The last axis of the result holds estimate, standard error.
    """
    rows, exponent = signs, np.zeros(signs.shape[:2], np.int64)
    pairs, exponents = [], []
    for k in range(order):
        for step in chain.steps(back=k % 2 == 1):
            rows, exponent = _rescaled(step(rows), exponent)
        common = exponent.max(axis=1, keepdims=True)
        squares = np.ldexp(np.square(rows).sum(axis=2), 2 * (exponent - common)) / chain.outputs
        error = squares.std(axis=1, ddof=1) / signs.shape[1] ** 0.5
        pairs.append(np.stack([squares.mean(axis=1), error], axis=1))
        exponents.append(2 * common)
    return Scaled(np.stack(pairs, axis=1), np.stack(exponents, axis=1))


def extremes(chain: Chain, start: Array, count: tuple[int, int]) -> Scaled:
    """Return so many of the largest singular values, then of the smallest, each descending.

    Of one input; iterations start from `start`, a random vector of the narrower end. Of the largest
    those under 1e-4 of the first, which an iteration cannot tell from its rounding, are NaN.
    """
    largest, smallest = count
    if chain.narrow <= FEW + sum(count):
        return spectra(chain).at([*range(largest), *range(-smallest, 0)])
    both = [
        find(chain, start, number)
        for find, number in ((_largest, largest), (_smallest, smallest))
        if number
    ]
    mantissa, exponent = (np.concatenate(parts) for parts in zip(*both, strict=True))
    return Scaled(mantissa[np.newaxis], exponent[np.newaxis])


def _largest(chain: Chain, start: Array, count: int) -> tuple[Array, Integers]:
    """Find singular values by products of the factors with vectors."""
    rows, powers = start.reshape(1, 1, -1), list[Integers]()
    for step in chain.steps():  # these powers keep the products of other vectors within range, too
        rows, power = _rescaled(step(rows), np.zeros((1, 1), np.int64))
        powers.append(power)
    if not np.isfinite(rows).all() or not rows.any():
        return np.full(count, rows.sum()), np.zeros(count, np.int64)

    def apply(vector: Array, back: bool) -> Array:
        rows = vector.reshape(1, 1, -1)
        for step, power in zip(chain.steps(back), powers[:: -1 if back else 1], strict=True):
            rows = np.ldexp(step(rows), -power)
        return rows.ravel()

    forward, adjoint = partial(apply, back=False), partial(apply, back=True)
    values = _iterated((chain.wide, chain.narrow), forward, adjoint, start, count)
    values[values < RESOLVED * values[0]] = np.nan
    values[chain.rank[0] :] = 0.0
    return values, np.full(count, sum(powers))


def _smallest(chain: Chain, start: Array, count: int) -> tuple[Array, Integers]:
    """Find singular values as inverses of the largest ones of a triangular matrix's inverse."""
    rank = int(chain.rank[0])
    zeros = chain.narrow - rank
    if zeros >= count:
        return np.zeros(count), np.zeros(count, np.int64)
    (triangle,), (exponent,) = _triangles(chain)
    if not zeros and np.isfinite(triangle).all() and np.diagonal(triangle).all():
        least = exponent.min()
        scale = least - exponent
        linalg = require("scipy.linalg", "scipy")
        solve = partial(linalg.solve_triangular, triangle, check_finite=False)
        inverses = _iterated(
            triangle.shape,
            lambda vector: solve(np.ldexp(vector.ravel(), scale)),
            lambda vector: np.ldexp(solve(vector.ravel(), trans="T"), scale),
            start,
            count,
        )
        if inverses[-1] > RESOLVED * inverses[0]:
            return 1 / inverses[::-1], np.full(count, least)
    values, powers = _graded(triangle, exponent, rank, chain.narrow)
    return values[-count:], powers[-count:]


def _iterated(shape: tuple[int, ...], matvec: Map, rmatvec: Map, start: Array, count: int) -> Array:
    """Return the largest singular values of a linear operator, descending (ARPACK)."""
    linalg = require("scipy.sparse.linalg", "scipy")
    operator = linalg.LinearOperator(shape, matvec, rmatvec, dtype=np.float64)
    found: Array = linalg.svds(operator, count, v0=start, return_singular_vectors=False)
    return np.sort(found)[::-1]
