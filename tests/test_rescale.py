"""The same function with larger weights: outputs, laws, names, errors."""

from __future__ import annotations

import numpy as np
import pytest

import varprop as vp
from varprop import initializers, reference

BIAS = "normal(std=0.3)"
NET = vp.Network(
    (6, 5, 4),
    [
        vp.Conv2d(8, 3, stride=2, activation="tanh", bias=BIAS),
        vp.Residual(
            [vp.LayerNorm(), vp.Conv2d(8, 3, groups=2, activation="gelu", weight="uniform(-1, 2)")],
            branch_scale=0.5,
        ),
        vp.Flatten(),
        vp.Dense(7, "sigmoid", "orthogonal", BIAS),
        vp.Dense(3, weight=np.linspace(-1, 1, 21).reshape(7, 3), bias=None),
    ],
)
FACTORS = {"conv1": 3, "residual1.conv1": 0.1, "dense1": 200, "dense2": 7.5}


@pytest.mark.parametrize("where", ["output", "input"])
def test_is_the_same_function(where: str) -> None:
    """In the reference, which knows nothing of rescaling, and in the core."""
    other = vp.rescale(NET, FACTORS, where=where)
    options = {"seed": 3, "trial": 1, "dtype": "float64"}
    *_, a = reference.chain(NET, 4, **options)
    *_, b = reference.chain(other, 4, **options)
    np.testing.assert_allclose(a.activations, b.activations, rtol=1e-12)
    runs = [vp.simulate(net, 4, trials=2, seed=3, dtype="float64") for net in (NET, other)]
    for signal in ("mean", "var"):
        one, two = (getattr(run.activations, signal)[-1] for run in runs)
        assert two == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize("where", ["output", "input"])
def test_weights_are_the_same_draws_times_the_factor(where: str) -> None:
    run, other = (
        vp.simulate(net, 2, trials=1) for net in (NET, vp.rescale(NET, FACTORS, where=where))
    )
    for layer, factor in FACTORS.items():
        one, two = factor * run.weights(layer), other.weights(layer)
        np.testing.assert_allclose(two, one, rtol=3e-7, atol=3e-7 * factor)
    bias = FACTORS["conv1"] if where == "output" else 1
    np.testing.assert_allclose(other.bias("conv1"), bias * run.bias("conv1"), rtol=3e-7)


def test_names_and_order() -> None:
    after = vp.rescale(NET, {"residual1.conv1": 2, -1: 3})
    assert after.layer_names[1:6] == (
        *("residual1.layernorm1", "residual1.conv1", "residual1.conv1_scale"),
        *("residual1.conv1_activation", "residual1"),
    )
    before = vp.rescale(NET, {"residual1.conv1": 2}, where="input")
    assert before.layer_names[1:5] == (
        *("residual1.layernorm1", "residual1.conv1_scale", "residual1.conv1", "residual1"),
    )
    linear = vp.rescale(vp.mlp([3, 2]), {"dense1": 2})
    assert linear.layer_names == ("dense1", "dense1_scale")
    twice = vp.rescale(linear, {"dense1": 2})
    assert twice.layer_names == ("dense1", "dense1_scale2", "dense1_scale")
    assert str(twice.layers[0].weight) == "scaled(law='lecun_normal', factor=4.0)"


def test_survives_a_file(tmp_path) -> None:
    net = vp.rescale(vp.mlp([4, 5, 3], "tanh", bias=BIAS), {"dense1": 3.0, "dense2": 0.1})
    net.to_toml(tmp_path / "net.toml")
    assert vp.Network.from_toml(tmp_path / "net.toml") == net
    run = vp.simulate(net, 3, trials=2)
    run.save(tmp_path / "run.json")
    assert vp.load(tmp_path / "run.json").network == net


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ({"conv9": 2}, ValueError, "unknown layer 'conv9'"),
        ({"residual1": 2}, ValueError, "layer 'residual1' has no weights: conv1, residual1.conv1"),
        ({"conv1": 0}, ValueError, r"factors\['conv1'\] must be greater than 0, got 0"),
        ({"conv1": -2}, ValueError, "must be greater than 0, got -2"),
        ({"conv1": float("nan")}, ValueError, r"factors\['conv1'\] must be a finite number"),
        ({"conv1": "3"}, TypeError, r"factors\['conv1'\] must be a number"),
        ({"conv1": 2, 0: 2}, ValueError, "must name layer 'conv1' once"),
        ([("conv1", 2)], TypeError, "factors must be a mapping"),
    ],
)
def test_bad_factors(factors: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vp.rescale(NET, factors)


def test_bad_where() -> None:
    with pytest.raises(ValueError, match="unknown where 'inside'"):
        vp.rescale(NET, {"conv1": 2}, where="inside")


@pytest.mark.parametrize(
    "law", ["he_normal", "uniform(-1, 3)", "truncated_normal(low=-1, high=3)", "orthogonal"]
)
def test_scaled_law(law: str) -> None:
    scaled = vp.Scaled(law, 3.5)
    assert initializers.resolve(str(scaled)) == scaled
    plain, larger = (
        vp.weights((40, 30), init, seed=2, name="w", dtype="float64") for init in (law, scaled)
    )
    np.testing.assert_allclose(larger, 3.5 * plain, rtol=1e-14, atol=1e-14)
    assert scaled.iid == initializers.resolve(law).iid
    whole = reference.weights((40, 30), scaled, seed=2, name="w", dtype="float64")
    np.testing.assert_allclose(larger, whole, rtol=1e-12, atol=1e-14)


def test_bad_scaled_law() -> None:
    with pytest.raises(ValueError, match="factor must be greater than 0, got -1"):
        vp.Scaled("normal", -1)
    with pytest.raises(ValueError, match="unknown law 'nrmal': did you mean 'normal'"):
        initializers.resolve("scaled(law='nrmal', factor=2)")
