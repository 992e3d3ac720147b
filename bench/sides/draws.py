"""10^7 random numbers, into an array that is there already."""

from __future__ import annotations

import ctypes
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sides import Job, Side, fastest, mkl_on, torch_on

SHAPE = (2500, 4000)


def varprop(law: str, dtype: str = "float32") -> Side:
    def side(threads: int) -> Job:
        import varprop as vp

        out = vp.weights(SHAPE, law, dtype=dtype)
        seeds = count()
        return lambda: vp.weights(
            SHAPE, law, seed=next(seeds), dtype=dtype, out=out, threads=threads
        )

    return side


def numpy(method: str) -> Side:
    def side(_: int) -> Job:
        draw = getattr(np.random.default_rng(0), method)
        out = np.zeros(SHAPE, np.float32)
        return lambda: draw(dtype=np.float32, out=out)

    return side


def torch(method: str, dtype: str = "float32", **arguments: float) -> Side:
    def side(threads: int) -> Job:
        torch = torch_on(threads)
        out = torch.zeros(SHAPE, dtype=getattr(torch, dtype))
        fill = getattr(torch.nn.init, method)  # these call Tensor.normal_ and so on, without grad
        return lambda: fill(out, **arguments)

    return side


# Of mkl_vsl_defines.h; generators are numbered in units of 2^20.
GENERATORS = {"mcg31": 1, "mcg59": 4, "mt": 8, "sfmt": 13, "philox": 16}
METHODS = {"bm": 0, "bm2": 1, "icdf": 2}  # Box-Muller, both of its numbers, inverse CDF


def mkl_normal(threads: int) -> Job:
    """Take the fastest generator and method of MKL's VSL."""
    out = np.zeros(SHAPE, np.float32)
    ways = {
        f"mkl {generator} {method}": mkl_vsl(number << 20, code, out)
        for generator, number in GENERATORS.items()
        for method, code in METHODS.items()
    }
    return fastest(ways)(threads)


def mkl_vsl(generator: int, method: int, out: NDArray[Any]) -> Side:
    def side(threads: int) -> Job:
        mkl, size, real = mkl_on(threads), ctypes.c_int, ctypes.c_float
        stream = ctypes.c_void_p()
        if mkl.vslNewStream(ctypes.byref(stream), size(generator), ctypes.c_uint(1)):
            raise RuntimeError(f"vslNewStream refuses generator {generator}")
        draw = mkl.vsRngGaussian
        draw.argtypes = [size, ctypes.c_void_p, size, ctypes.c_void_p, real, real]

        def job() -> None:
            if draw(method, stream, out.size, out.ctypes.data, 0.0, 1.0):
                raise RuntimeError(f"vsRngGaussian fails with method {method}")

        job()
        assert abs(out.std() - 1.0) < 0.01, "these are no standard normals"
        return job

    return side
