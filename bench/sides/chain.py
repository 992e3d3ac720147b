"""500 rows through 100 linear layers of 100: the mean and variance of each layer."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from typing import Any

import numpy as np

from sides import Job, Side, torch_on

ROWS, WIDTH, DEPTH = 500, 100, 100
STD = WIDTH**-0.5


def varprop(trials: int = 1, dtype: str = "float32") -> Side:
    def side(threads: int) -> Job:
        import varprop as vp

        net = vp.mlp([WIDTH] * (DEPTH + 1), "linear", weight=vp.Normal(STD))
        seeds = count()

        def job() -> object:
            run = vp.simulate(
                net, ROWS, trials=trials, seed=next(seeds), dtype=dtype, threads=threads
            )
            return run.depth_average()

        return job

    return side


def numpy(trials: int = 1) -> Side:
    """As in the document, in float64; its threads are those of the BLAS."""

    def trial() -> object:
        mean = var = 0.0
        X = np.random.normal(size=(500, 100))  # noqa: NPY002
        for _ in range(100):
            W = np.random.normal(size=(100, 100), scale=np.sqrt(1 / 100))  # noqa: NPY002
            X = X @ W
            mean += X.mean()
            var += X.var()
        return mean / 100, np.sqrt(var / 100)

    return lambda _: lambda: [trial() for _ in range(trials)]


def torch(trials: int = 1) -> Side:
    """One trial after the other, into tensors that are there already."""

    def side(threads: int) -> Job:
        torch = torch_on(threads)
        x, y = torch.empty(ROWS, WIDTH), torch.empty(ROWS, WIDTH)
        w = torch.empty(WIDTH, WIDTH)

        def trial() -> object:
            source, target = x, y
            source.normal_()
            seen = []
            for _ in range(DEPTH):
                w.normal_(0.0, STD)
                torch.mm(source, w, out=target)
                seen.append(torch.var_mean(target))
                source, target = target, source
            return seen

        return lambda: [trial() for _ in range(trials)]

    return side


def torch_batched(trials: int) -> Side:
    """All trials' products in one call."""

    def side(threads: int) -> Job:
        torch = torch_on(threads)
        x, y = torch.empty(trials, ROWS, WIDTH), torch.empty(trials, ROWS, WIDTH)
        w = torch.empty(trials, WIDTH, WIDTH)

        def job() -> object:
            source, target = x, y
            source.normal_()
            seen = []
            for _ in range(DEPTH):
                w.normal_(0.0, STD)
                torch.bmm(source, w, out=target)
                seen.append(torch.var_mean(target, dim=(1, 2)))
                source, target = target, source
            return seen

        return job

    return side


def jax(trials: int = 1, batched: bool = True) -> Side:
    """Compiled as a scan; trials batched by vmap, or one after the other."""

    def side(_: int) -> Job:  # its threads are the environment's NPROC
        jax = import_module("jax")
        jax.config.update("jax_platforms", "cpu")
        normal, split = jax.random.normal, jax.random.split

        def layer(x: Any, key: Any) -> Any:
            x = x @ (STD * normal(key, (WIDTH, WIDTH)))
            return x, (x.mean(), x.var())

        def trial(key: Any) -> Any:
            keys = split(key, DEPTH + 1)
            return jax.lax.scan(layer, normal(keys[0], (ROWS, WIDTH)), keys[1:])[1]

        def all_trials(seed: Any) -> Any:
            key = jax.random.key(seed)
            if trials == 1:
                return trial(key)
            keys = split(key, trials)
            return jax.vmap(trial)(keys) if batched else jax.lax.map(trial, keys)

        run = jax.jit(all_trials)
        seeds = count()
        return lambda: jax.block_until_ready(run(next(seeds)))

    return side
