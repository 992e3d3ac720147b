"""Implicit weights, draw by draw: what must hold of every one, and what must not change a bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import varprop as vp
from varprop import _job
from varprop.layers import Layer

WIDTH = 50
NORMAL = "normal(std=0.2)"
BIAS = "normal(std=0.3)"


def dense(width: int = WIDTH, bias: str | None = BIAS, std: float = 0.2) -> vp.Dense:
    return vp.Dense(width, "linear", f"normal(std={std})", bias)


# Before each product stands a layer that passes everything on: the gradient by what enters the
# product is then among the signals.
NETWORKS: dict[str, list[Layer]] = {
    "linear": [dense(), dense(70), dense(40)],
    "tanh": [dense(), vp.Activation("tanh"), vp.Scale(1.0), dense(70), vp.Scale(1.0), dense(40)],
    "relu": [dense(), vp.Activation("relu"), vp.Scale(1.0), dense(70), vp.Scale(1.0), dense(3)],
    "residual": [
        dense(),
        vp.Residual(
            [
                vp.LayerNorm(),
                vp.Scale(1.0),
                dense(70),
                vp.Activation("tanh"),
                vp.Scale(1.0),
                dense(),
            ],
            0.5,
        ),
        vp.RMSNorm(),
        vp.Scale(1.0),
        dense(9),
    ],
}


def given(rows: int, width: int = 30, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width))


def whole(
    layers: list[Layer],
    inputs: np.ndarray,
    *,
    dtype: str = "float64",
    trial: int = 0,
    **options: Any,
) -> dict[str, Any]:
    net = vp.Network(inputs.shape[1], layers)
    job = _job.make(net, inputs, seed=3, dtype=dtype, backward=True, method="implicit", **options)
    core = job.core(trial, 1)
    found = job.run(core, job.plan(core, 1), activations=range(len(net.steps)), gradients=True)
    own = {"observed": found, "net": net, "inputs": np.float64(job.given), "dtype": dtype}
    return found["whole"] | own


def products(run: dict[str, Any]) -> list[tuple[np.ndarray, ...]]:
    """Return X, the gradient by it, Y and the gradient by it, of layers with weights, Y - b."""
    found, net = [], run["net"]
    bias = vp.simulate(net, 1, seed=3, method="implicit", dtype=run["dtype"]).bias
    for i, step in enumerate(net.steps):
        if step.weight_shape is None:
            continue
        x = run["inputs"] if i == 0 else run["activations"][i - 1]
        by_x = run["input_gradients"] if i == 0 else run["gradients"][i - 1]
        y = run["activations"][i]
        b = bias(i)
        found.append((x, by_x, y if b is None else y - b, run["gradients"][i]))
    return found


ROWS = {
    "one": given(1),
    "some": given(4),
    "more than the width": given(90),
    "zero and equal": np.vstack([given(3), np.zeros((1, 30)), given(2)]),
    "dependent": given(3).T[:, :, None].repeat(2, 2).reshape(30, 6).T @ np.eye(30)
    + 1e-9 * given(6, seed=2),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradients_fit_the_signals(name: str, rows: str, dtype: str) -> None:
    # X (W D^T) = Y D^T, as if there were one W that made Y and brought D back.
    eps = float(np.finfo(dtype).eps)
    for x, by_x, y, by_y in products(whole(NETWORKS[name], ROWS[rows], dtype=dtype)):
        size = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(by_x, axis=1)
        size = size + np.linalg.norm(y, axis=1)[:, None] * np.linalg.norm(by_y, axis=1)
        assert np.all(np.abs(x @ by_x.T - y @ by_y.T) <= 100 * eps * size)


@pytest.mark.parametrize("name", ["linear", "relu"])
def test_the_product_of_a_signal_and_its_gradient_is_kept(name: str) -> None:
    # Of homogeneous networks <x, dC/dx> = <y, dC/dy> by Euler.
    layers = [vp.Dense(60, name, NORMAL, None) for _ in range(30)]
    run = whole(layers, given(5), dtype="float64")
    ends = np.sum(run["activations"][-1] * run["gradients"][-1], axis=1)
    size = np.linalg.norm(run["inputs"], axis=1) * np.linalg.norm(run["input_gradients"], axis=1)
    starts = np.sum(run["inputs"] * run["input_gradients"], axis=1)
    assert np.all(np.abs(starts - ends) <= 1e-13 * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_moments_of_weight_gradients_are_those_of_the_product(name: str, dtype: str) -> None:
    run = whole(NETWORKS[name], given(12), dtype=dtype)
    observed = run["observed"]["weight_gradients"]
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    for i, (x, _, _, by_y) in enumerate(products(run)):
        gradient = x.T @ by_y
        exponent = int(observed["exponent"][0, i])
        mean = np.ldexp(observed["mean"][0, i], exponent)
        variance = np.ldexp(observed["variance"][0, i], 2 * exponent)
        assert mean == pytest.approx(gradient.mean(), abs=tolerance * gradient.std())
        assert variance == pytest.approx(gradient.var(), rel=tolerance)
    assert observed.keys() == {"mean", "variance", "exponent"}


def test_bias_gradients_are_sums_of_those_by_preactivations() -> None:
    run = whole(NETWORKS["tanh"], given(12))
    observed = run["observed"]["bias_gradients"]
    for i, (_, _, _, by_y) in enumerate(products(run)):
        sums = by_y.sum(axis=0)
        variance = np.ldexp(observed["variance"][0, i], 2 * int(observed["exponent"][0, i]))
        assert variance == pytest.approx(sums.var(), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_stay_zeros_and_equal_rows_equal(dtype: str) -> None:
    row = given(1)
    inputs = np.vstack([row, np.zeros_like(row), given(2, seed=2), row, np.zeros_like(row), row])
    # The chaotic phase: what is not equal to the bit would soon be far apart.
    layers = [vp.Dense(40, "tanh", "normal(std=0.6)", None) for _ in range(60)]
    run = whole(layers, inputs, dtype=dtype)
    for x in run["activations"]:
        assert not x[[1, 5]].any()
        assert x[0].tobytes() == x[4].tobytes() == x[6].tobytes()
        assert np.abs(x[2] - x[3]).max() > 0.1
    assert np.isfinite(run["input_gradients"]).all()


def test_no_unit_is_revived() -> None:
    # Narrow relu layers die in some rows, then in all.
    layers = [vp.Dense(3, "relu", "normal(std=0.8)", None) for _ in range(40)]
    run = whole(layers, given(6, 3), trial=4)
    alive = np.array([x.any(axis=1) for x in run["activations"]])
    assert alive[0].sum() >= 3
    assert not alive[-1].any()
    assert not np.any(alive[1:] & ~alive[:-1])
    assert not run["input_gradients"].any()


def test_of_more_rows_than_units_there_are_no_more_directions() -> None:
    run = whole([dense(20, None), dense(30, None), dense(25, None)], given(60, 30))
    ranks = [np.linalg.matrix_rank(x) for x in run["activations"]]
    assert ranks == [20, 20, 20]
    # Going back, they are those of the narrowest layer.
    assert np.linalg.matrix_rank(run["input_gradients"]) == 20


def test_rows_that_are_nearly_equal_keep_their_difference() -> None:
    # Its mean square shrinks by sigma_w^2 = 1/4 a layer, exactly as alone: it is a row, too.
    layers = [vp.Dense(400, "linear", "normal(std=0.025)", None) for _ in range(20)]
    x = given(1, 400)
    difference = 1e-4 * given(1, 400, seed=5)
    run = whole(layers, np.vstack([x, x + difference, -x, x + 2 * difference]))
    for depth, (a, b, c, d) in enumerate(run["activations"], 1):
        assert np.allclose(c, -a, rtol=0, atol=1e-14 * np.abs(a).max())
        assert np.allclose(d - a, 2 * (b - a), rtol=0, atol=1e-9 * np.abs(b - a).max())
        # ln of the factor has variance 2/n a layer: 5 sigma.
        ratio = np.log(np.mean((b - a) ** 2) / np.mean(difference**2) / 0.25**depth)
        assert abs(ratio) < 5 * np.sqrt(2 / 400 * depth) + depth / 400


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [given(4, 16), given(30, 16), ROWS["dependent"][:, :16]])
def test_beside_what_entered_the_gradient_is_new(rows: np.ndarray, dtype: str) -> None:
    # W D^T outside of the rows of X is normal, whatever roundings there are among these rows.
    layers = [*[dense(20, None) for _ in range(4)], dense(3, None)]
    tiny = {"float32": 1e-5, "float64": 1e-12}[dtype]
    for trial in range(10):
        for x, by_x, _, by_y in products(whole(layers, rows, dtype=dtype, trial=trial)):
            _, sizes, rest = np.linalg.svd(x)
            outside = by_x @ rest[(sizes > tiny * sizes[0]).sum() :].T
            left, sizes, _ = np.linalg.svd(by_y, full_matrices=False)
            normals = left[:, :3].T @ outside / (0.2 * sizes[:3, None])
            # 6 sigma.
            assert abs(np.sum(normals**2) - normals.size) <= 6 * np.sqrt(2 * normals.size)


@pytest.mark.parametrize("size", [1e-150, 1e-160, 1e-200, 1e-300, 5e-309, 1e-317, 1e150, 1e300])
def test_rows_of_any_size_are_rows(size: float) -> None:
    # Alone or beside others, also where the range of doubles ends before their squares.
    layers = [dense(60, None), vp.Activation("relu"), vp.Scale(1.0), dense(50, None)]
    x = given(4)
    for inputs in (size * x, np.vstack([x[:2], size * x[2:]]), np.vstack([size * x[:1], x[1:]])):
        run = whole(layers, inputs)
        assert run["observed"]["out_of_range"] == -1
        for x_, by_x, y, by_y in products(run):
            s, r = (np.abs(rows).max(axis=1, keepdims=True) for rows in (x_, y))
            assert s.min() > 0
            assert r.min() > 0
            assert (np.abs(by_x).max(axis=1) > 0.01).all()
            # X (W D^T) = Y D^T in units of the rows; subnormal numbers have few digits.
            few = 1e-12 if np.abs(inputs).min() > 1e-300 else 1e-4
            a, b = (x_ / s) @ by_x.T, (y / r) @ by_y.T * (r / s)
            assert np.allclose(a, b, rtol=0, atol=few * max(np.abs(a).max(), 1))


def test_rows_of_different_sizes_leave_each_other_alone() -> None:
    # By a power of two the numbers of linear layers change, and no other bit of theirs.
    layers = [vp.Dense(60, "linear", NORMAL, None) for _ in range(3)]
    x = given(5)
    one, other = (whole(layers, x * np.ldexp(1.0, [[0, 0, 0, 0, e]]).T) for e in (-2, -700))
    for a, b in zip(one["activations"], other["activations"], strict=True):
        assert np.allclose(a[:4], b[:4], rtol=1e-12)
        assert np.allclose(np.ldexp(a[4], 2), np.ldexp(b[4], 700), rtol=1e-12)
    assert np.allclose(one["input_gradients"], other["input_gradients"], rtol=1e-9)
    for signal in ("weight_gradients", "gradients"):
        a, b = (run["observed"][signal] for run in (one, other))
        assert np.isfinite(b["variance"]).all()
        assert a["variance"].shape == b["variance"].shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", ["some", "more than the width", "dependent"])
@pytest.mark.parametrize("name", ["relu", "residual"])
def test_threads_and_memory_change_no_bit(name: str, rows: str, dtype: str) -> None:
    net, inputs = vp.Network(30, NETWORKS[name] + [dense(1300)]), ROWS[rows]
    statistics = ("kurtosis", "histogram", "correlation", "saturation", "gradient_correlation")
    if len(inputs) == 1:
        statistics = statistics[:2]
    options: dict[str, Any] = {"dtype": dtype, "statistics": statistics, "backward": True}
    one = vp.simulate(net, inputs, trials=5, threads=1, method="implicit", **options)
    job = _job.make(net, inputs, seed=0, threads=3, method="implicit", **options)
    core = job.core(0, 5)
    for kept in range(core.fewest_kept, len(net.steps) + 1, 2):
        for by_trial in (True, False):
            other = job.run(core, _job.Plan(by_trial, kept))
            for signal, observed in one.observed.items():
                for key, values in observed.items():
                    if key != "count":
                        assert values.tobytes() == other[signal][key].tobytes(), (signal, key)


def test_trials_are_split_to_the_bit(tmp_path) -> None:
    net = vp.Network(30, NETWORKS["residual"])
    options: dict[str, Any] = {"inputs": 7, "backward": True, "method": "implicit"}
    one = vp.simulate(net, trials=5, **options)
    parts = [
        vp.simulate(net, trials=2, **options),
        vp.simulate(net, first_trial=2, trials=3, **options),
    ]
    other = vp.concat(parts)
    other.save(tmp_path / "run.json")
    for run in (other, vp.load(tmp_path / "run.json")):
        assert run.method == "implicit"
        assert run.gradients.var.tobytes() == one.gradients.var.tobytes()
        assert run.weight_gradients.var.tobytes() == one.weight_gradients.var.tobytes()
    with pytest.raises(ValueError, match="one method, got 'implicit'"):
        vp.concat([parts[0], vp.simulate(net, 7, first_trial=2, backward=True)])


def test_what_there_is_and_is_not() -> None:
    net = vp.mlp([20, 30, 10], "tanh", weight="normal(std=0.2)", bias=BIAS)
    run = vp.simulate(
        net, 6, backward=True, method="implicit", statistics=("kurtosis", "histogram")
    )
    with pytest.raises(ValueError, match=r"there are no weights: .* method='explicit'"):
        run.weights("dense1")
    assert run.bias("dense1").shape == (30,)
    explicit = vp.simulate(net, 6)
    assert (run.bias("dense1") == explicit.bias("dense1")).all()
    assert (run.inputs() == explicit.inputs()).all()
    for field in ("kurtosis", "min", "p50"):
        with pytest.raises(ValueError, match=r"never formed: simulate with method='explicit'"):
            getattr(run.weight_gradients, field)
    with pytest.raises(ValueError, match="never formed"):
        run.weight_gradients.per_trial.histogram()
    assert run.gradients.kurtosis.shape == (2,)
    assert "implicit weights" in str(run)
    assert run.to_dataframe().shape[0] == 2 * 5 + 1


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (vp.Dense(5, weight="lecun_normal"), r"lecun_normal, .* as 'normal\(std=0.5\)'; use"),
        (vp.Dense(5, weight="xavier_uniform"), r"of the same variance as 'normal\(std=0.47\d*\)'"),
        (vp.Dense(5, weight="orthogonal"), "layer 'dense1' has weight orthogonal; use"),
        (vp.Dense(5, weight="normal(mean=1.0)"), r"has weight normal\(.*mean=1.0\); use"),
        (vp.Dense(5, weight=np.eye(4, 5)), "'dense1' has weight"),
    ],
)
def test_laws_that_need_their_weights(layer: Layer, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        vp.simulate(vp.Network(4, [layer]), method="implicit")
    assert "method='explicit'" in str(error.value)


def test_layers_that_need_their_weights() -> None:
    net = vp.Network((4, 4, 2), [vp.Conv2d(3, 3, weight="normal")])
    with pytest.raises(ValueError, match=r"'conv1' is a convolution.*method='explicit'"):
        vp.simulate(net, method="implicit")
    with pytest.raises(ValueError, match=r"method.*implict.* .*'implicit'"):
        vp.simulate(net, method="implict")  # type: ignore[arg-type]


MILLION = """
import resource
import varprop as vp
net = vp.mlp([10**6] * 101, "tanh", weight="normal(std=0.001)", bias=None)
run = vp.simulate(net, 16, trials=1, backward=True, method="implicit")
assert not run.out_of_range
q = vp.theory.propagate(net, c=None).activations.second_moment
# The spread of a layer's mean square goes with the root of depth / width, some 1e-2.
assert abs(run.activations.second_moment / q - 1).max() < 0.05
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's peak memory")
def test_a_hundred_layers_of_a_million_units_take_under_2_gb() -> None:
    run = subprocess.run(
        [sys.executable, "-c", MILLION], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 2e9
