"""What tests of sweeps have in common: networks in a module, so that workers find them."""

from __future__ import annotations

import varprop as vp
from varprop._sweep.task import Task

GRID = {"sigma_w": [0.5, 1.0, 2.0], "depth": [3, 6]}
SMALL = {"inputs": 4, "trials": 3, "progress": False}
QUIET = {**SMALL, "store": None}


def same(one, other):
    """Tell whether two results are the same to the bit."""
    import xarray

    xarray.testing.assert_identical(one, other)
    return True


def chunks(store):
    """Return the files of the points that are done."""
    return [path for path in (store / "values").glob("c.*") if "partial" not in path.name]


def watched(monkeypatch):
    """Return a list that grows by each simulation: a point's values, first trial, trials."""
    done = []
    run = Task.run

    def counted(self, point, first, trials, **how):
        done.append((*point.values(), first, trials))
        return run(self, point, first, trials, **how)

    monkeypatch.setattr(Task, "run", counted)
    return done


def chain(sigma_w, depth=6, width=10, sigma_b=0.0):
    """Return tanh layers of Gaussian weights."""
    weight = f"normal(std={sigma_w / width**0.5!r})"
    return vp.mlp([width] * (depth + 1), "tanh", weight, f"normal(std={sigma_b})")


def depth_of(position):
    """Return a network of as many layers as a list says, with an activation of its own."""
    return vp.Network(8, [vp.Dense(8), vp.Activation("relu")] * (1 + position))
