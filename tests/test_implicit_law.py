"""Implicit against explicit weights: the same law, by Kolmogorov and Smirnov's test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import varprop as vp
from varprop.layers import Layer

stats = pytest.importorskip("scipy.stats")

# Two samples of 2000 trials, independent, on inputs that are given. All seeds are fixed; had the
# laws been equal and the seeds not been tried, one of the some 2000 comparisons would fail in one
# of 50 test runs.
TRIALS, LEVEL = 2000, 1e-5
FEATURES = 16
METHODS = ("explicit", "implicit")


def given(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, FEATURES))


ROWS = {
    "one": given(1),
    "some": given(4),
    "more than the width": given(30),
    "equal and zero": np.vstack([given(2), given(1), np.zeros((1, FEATURES))]),
}


def mlp(activation: str, bias: str | None, width: int = 20) -> list[Layer]:
    law = f"normal(std={(2.0 if activation == 'relu' else 1.3) ** 0.5 / width**0.5})"
    return [vp.Dense(width, activation, law, bias) for _ in range(4)] + [vp.Dense(3, "linear", law)]


def block() -> vp.Residual:
    law = "normal(std=0.25)"
    return vp.Residual([vp.LayerNorm(), vp.Dense(20, "tanh", law), vp.Dense(20, weight=law)], 0.7)


NETWORKS: dict[str, list[Layer]] = {
    **{f"{phi}": mlp(phi, None) for phi in ("linear", "relu", "tanh")},
    **{f"{phi} with biases": mlp(phi, "normal(std=0.3)") for phi in ("linear", "relu", "tanh")},
    "residual": [vp.Dense(20, weight="normal(std=0.3)"), block(), block(), vp.RMSNorm(), block()],
}


def statistics(layers: list[Layer], inputs: np.ndarray, method: str, **options: Any) -> dict:
    """Return what is compared, by signal: columns of layers, rows of trials."""
    several = len({row.tobytes() for row in inputs}) > 1
    run = vp.simulate(
        vp.Network(FEATURES, layers),
        inputs,
        trials=TRIALS,
        seed=5,
        method=method,
        backward=True,
        statistics=("correlation", "gradient_correlation") if several else ("moments",),
        **options,
    )
    found = {
        f"{signal} {name}": getattr(getattr(run, signal).per_trial, name)
        for signal in run.observed
        for name in ("log10_second_moment", "mean")
    }
    if several:
        found["correlation"] = run.preactivations.per_trial.correlation
        found["gradient correlation"] = run.gradients.per_trial.correlation
    return found


def compare(one: dict, other: dict) -> None:
    for what in one:
        for layer, (a, b) in enumerate(zip(one[what].T, other[what].T, strict=True)):
            assert (np.isfinite(a) == np.isfinite(b)).all() or np.isfinite(a).mean() > 0.99
            a, b = (np.nan_to_num(np.round(x, 5), neginf=-1e9) for x in (a, b))  # 1, but for ulps
            assert stats.ks_2samp(a, b, method="asymp").pvalue > LEVEL, (what, layer)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", NETWORKS)
def test_laws_are_equal(name: str, rows: str) -> None:
    compare(*(statistics(NETWORKS[name], ROWS[rows], m) for m in METHODS))


@pytest.mark.parametrize("name", ["linear", "tanh"])
def test_laws_of_doubles_are_equal(name: str) -> None:
    # Of more rows than features the others are roundings, far below what is left of squares.
    compare(*(statistics(mlp(name, None), given(30), m, dtype="float64") for m in METHODS))


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy"])
def test_laws_are_joint(name: str, loss: str) -> None:
    # What goes back depends on what went forward: so do sums and differences of the two.
    one, other = (statistics(mlp(name, "normal(std=0.3)"), given(6), m, loss=loss) for m in METHODS)
    for found in (one, other):
        forward = found["preactivations log10_second_moment"]
        for signal in ("gradients", "weight_gradients"):
            back = found[f"{signal} log10_second_moment"]
            found[f"{signal} above"] = forward[:, 2:] + back[:, :-2]
            found[f"{signal} over"] = forward[:, 1:] - back[:, :-1]
    compare(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_converge(dtype: str) -> None:
    # The ordered phase: after 16 layers tanh has brought the rows together to 1e-4 of their size.
    layers = [vp.Dense(20, "tanh", "normal(std=0.15)", "normal(std=0.4)") for _ in range(12)]
    one, other = (statistics(layers, ROWS["some"], method, dtype=dtype) for method in METHODS)
    for what in ("correlation", "gradient correlation", "input_gradients log10_second_moment"):
        for a, b in zip(one[what].T, other[what].T, strict=True):
            a, b = (np.log10(1 - x) if what == "correlation" else x for x in (a, b))
            assert stats.ks_2samp(a, b, method="asymp").pvalue > LEVEL, what
