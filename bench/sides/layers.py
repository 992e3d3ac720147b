"""Layers of one width, batch 512: drawn, multiplied, activated and observed; the products alone."""

from __future__ import annotations

import ctypes
from itertools import count

import numpy as np
from numpy.typing import NDArray

from sides import Job, Side, mkl_on, torch_on

Matrix = NDArray[np.float32]

ROWS = 512
UNITS = 8192  # in all: many narrow layers or few wide ones, so that a call's own cost is small


def varprop(width: int, activation: str, dtype: str = "float32") -> Side:
    """Return the side that does the whole layer."""

    def side(threads: int) -> Job:
        import varprop as vp

        net = vp.mlp([width] * (UNITS // width + 1), activation, weight=vp.Normal(width**-0.5))
        seeds = count()
        return lambda: vp.simulate(
            net, ROWS, trials=1, seed=next(seeds), dtype=dtype, threads=threads
        )

    return side


def calls(number: int) -> Side:
    """Return the side that simulates two layers of 16 again and again."""

    def side(threads: int) -> Job:
        import varprop as vp

        net = vp.mlp([16, 16, 16], "relu", weight="he_normal")
        return lambda: [
            vp.simulate(net, 16, trials=1, seed=seed, threads=threads) for seed in range(number)
        ]

    return side


def numpy(width: int) -> Side:
    """Return the side of the products alone, as the two below do."""

    def side(_: int) -> Job:
        x, weights, out = factors(width)
        return lambda: [np.matmul(x, w, out=out) for w in weights]

    return side


def torch(width: int) -> Side:
    def side(threads: int) -> Job:
        torch = torch_on(threads)
        x, weights, out = factors(width)
        left, *right, target = map(torch.from_numpy, (x, *weights, out))
        return lambda: [torch.mm(left, w, out=target) for w in right]

    return side


def mkl(width: int) -> Side:
    """Return the side that calls cblas_sgemm with nothing in between."""

    def side(threads: int) -> Job:
        size, real, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
        sgemm = mkl_on(threads).cblas_sgemm
        sgemm.restype = None
        sgemm.argtypes = [*[size] * 6, real, pointer, size, pointer, size, real, pointer, size]
        x, weights, out = factors(width)
        row_major, as_it_is = 101, 111
        shape = (row_major, as_it_is, as_it_is, ROWS, width, width)
        # These pointers keep their arrays alive.
        left, *right, target = (array.ctypes.data_as(pointer) for array in (x, *weights, out))

        def job() -> object:
            return [sgemm(*shape, 1, left, width, w, width, 0, target, width) for w in right]

        job()
        np.testing.assert_allclose(out, x @ weights[-1], rtol=0, atol=1e-3)
        return job

    return side


def factors(width: int) -> tuple[Matrix, list[Matrix], Matrix]:
    """Return one left factor, the right factors of all layers, and room for a product."""
    weights = [matrix(width, width) for _ in range(UNITS // width)]
    return matrix(ROWS, width), weights, matrix(ROWS, width)


def matrix(rows: int, columns: int) -> Matrix:
    """Return random numbers on a line of the cache, as PyTorch's are and as MKL likes them."""
    room = np.empty(rows * columns + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    numbers = room[start : start + rows * columns].reshape(rows, columns)
    np.random.default_rng(0).standard_normal(out=numbers, dtype=np.float32)
    return numbers
