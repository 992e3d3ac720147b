"""Two parametrizations side by side: closed forms of the ratios, words, picture, errors."""

from __future__ import annotations

import numpy as np
import pytest

import varprop as vp

BIAS = "normal(std=0.3)"
RESIDUAL = vp.Network(
    (6, 5, 3),
    [
        vp.Conv2d(8, 3, activation="tanh", bias=BIAS),
        vp.Residual([vp.RMSNorm(), vp.Conv2d(8, 3, activation="gelu"), vp.Bias(BIAS)], 0.5),
        vp.Flatten(),
        vp.Dense(4),
    ],
)
FACTORS = {"conv1": 3.0, "residual1.conv1": 0.2, "dense1": 50.0}


@pytest.mark.parametrize("where", ["output", "input"])
def test_of_a_rescaled_network(where: str) -> None:
    """With weights r times as large: r^2 and r, exactly."""
    found = vp.compare(RESIDUAL, vp.rescale(RESIDUAL, FACTORS, where), 6, trials=2, seed=4)
    assert found.same_function
    assert found.difference < 1e-13
    assert max(found.layer_differences.values()) < 1e-13
    assert tuple(found.layer_differences) == ("conv1", "residual1.conv1", "dense1")
    r = {f"{layer}.weight": factor for layer, factor in FACTORS.items()}
    r |= {f"{layer}.bias": f if where == "output" else 1.0 for layer, f in FACTORS.items()}
    r["residual1.bias1.bias"] = 1.0
    assert set(found.parameters) == set(r)
    for name, factor in r.items():
        zeros = name in ("residual1.conv1.bias", "dense1.bias")
        ratio = found.weight_ratio[name]
        assert np.isnan(ratio) if zeros else ratio == pytest.approx(factor, rel=1e-12)
        assert found.gradient_ratio[name] == pytest.approx(1 / factor, rel=1e-10)
        assert found.eps_multipliers[name] == pytest.approx(1 / factor, rel=1e-10)
        for optimizer, power in (("sgd", 2), ("momentum", 2), ("adam", 1)):
            assert found.multipliers[optimizer][name] == pytest.approx(factor**power, rel=1e-9)
            # Adam's eps of 1e-8 is felt where gradients are small.
            tolerance = 1e-5 if optimizer != "adam" else 1e-3
            effective = found.effective_rate_ratio[optimizer][name]
            assert effective == pytest.approx(factor**-power, rel=tolerance)
    for before, after in found.mismatch.values():
        assert before > 0.1
        assert after < 1e-9


def test_small_steps_move_the_outputs_alike() -> None:
    """One corrected step, whatever its size: the issue of the learning rate."""
    other = vp.rescale(RESIDUAL, FACTORS)
    for rate in (1e-6, 1e-3, 0.1):
        rates = dict.fromkeys(("sgd", "momentum", "adam"), rate)
        found = vp.compare(RESIDUAL, other, 6, learning_rates=rates)
        assert max(after for _, after in found.mismatch.values()) < 1e-6


def test_in_float32() -> None:
    found = vp.compare(RESIDUAL, vp.rescale(RESIDUAL, FACTORS), 6, dtype="float32")
    assert found.same_function
    assert found.multipliers["sgd"]["conv1.weight"] == pytest.approx(9, rel=1e-4)
    assert max(after for _, after in found.mismatch.values()) < 1e-3


def test_relative_updates_against_the_reference() -> None:
    net = vp.mlp([20, 30, 5], "tanh", bias=BIAS)
    rates = {"sgd": 0.5, "adam": 0.25}
    found = vp.compare(net, net, 9, loss="softmax_cross_entropy", learning_rates=rates, eps=1e-3)
    options = {"seed": 0, "trial": 0, "dtype": "float64"}
    layers = list(vp.reference.backward(net, 9, "softmax_cross_entropy", **options))[::-1]
    for layer, back in zip(net.layer_names, layers, strict=True):
        w = vp.weights((20, 30) if layer == "dense1" else (30, 5), "lecun_normal",
                       name=f"{layer}.weight", dtype="float64")  # fmt: skip
        size = np.linalg.norm(w)
        g = back.weights
        for optimizer, step in (
            ("sgd", 0.5 * g),
            ("momentum", 0.01 * g),
            ("adam", 0.25 * g / (np.abs(g) + 1e-3)),
        ):
            a, b = found.relative_updates[optimizer][f"{layer}.weight"]
            assert a == b == pytest.approx(np.linalg.norm(step) / size, rel=1e-10)


def test_effective_rates_against_the_reference() -> None:
    """A first step of one weight alone, taken in the reference, moves the outputs as far."""
    net = vp.mlp([12, 10, 4], "tanh", bias=None)
    other = vp.mlp([12, 10, 4], "tanh", weight="he_normal", bias=None)
    found = vp.compare(net, other, 7)
    options = {"seed": 0, "trial": 0, "dtype": "float64"}
    moved = []
    for one in (net, other):
        layers = list(vp.reference.chain(one, 7, **options))
        gradients = list(vp.reference.backward(one, 7, "mse", **options))[::-1]
        w = layers[0].weights - 1e-6 * gradients[0].weights
        stepped = vp.mlp([12, 10, 4], "tanh", weight=one.layers[1].weight, bias=None)
        stepped = vp.Network(12, [vp.Dense(10, "tanh", w, None), stepped.layers[1]])
        *_, after = vp.reference.chain(stepped, 7, **options)
        moved.append(np.linalg.norm(after.activations - layers[-1].activations))
    ratio = found.effective_rate_ratio["sgd"]["dense1.weight"]
    assert ratio == pytest.approx(moved[1] / moved[0], rel=1e-4)
    assert not found.same_function
    assert "Not the same function" in str(found)
    assert "They part at layer 'dense1'" in str(found)


def test_of_a_network_with_itself() -> None:
    net = vp.mlp([20, 30, 5], "relu")
    found = vp.compare(net, net, 9, trials=2)
    assert found.difference == 0
    assert set(found.multipliers["adam"].values()) == {1.0}
    assert "They train alike" in str(found)


def test_weights_of_zeros() -> None:
    """Behind a last layer of zeros no gradient comes back: the weights themselves tell."""
    net = vp.Network(8, [vp.Dense(6, "tanh", bias=None), vp.Dense(3, weight="zeros", bias=None)])
    found = vp.compare(net, vp.rescale(net, {"dense1": 4, "dense2": 10}), 5)
    assert found.same_function
    assert found.multipliers["sgd"]["dense1.weight"] == pytest.approx(16)
    assert found.multipliers["sgd"]["dense2.weight"] == pytest.approx(100)
    assert found.mismatch["adam"][1] < 1e-9


def test_explains_in_words() -> None:
    found = vp.compare(RESIDUAL, vp.rescale(RESIDUAL, FACTORS), 6)
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("The same function: outputs of up to ")
    assert "They do not train alike" in text
    assert "conv1.weight x 3: a step moves the outputs x 0.111 (SGD), x 0.333 (Adam)" in text
    assert "and 2 more" in text
    row = next(line for line in text.splitlines() if line.startswith("dense1.weight  "))
    assert "multiply b by: the learning rates" in text
    assert row.split()[1:] == ["50", "0.02", "0.0004", "0.02", "2.5e+03", "50", "0.02"]
    assert repr(found).endswith("the same function>")
    deep = vp.mlp([10] * 41, "tanh")
    text = str(vp.compare(deep, vp.rescale(deep, dict.fromkeys(range(40), 2)), 4))
    assert max(map(len, text.splitlines())) <= 80
    assert "and 76 more" in text
    assert len(text.splitlines()) < 70


def test_picture() -> None:
    pytest.importorskip("matplotlib")
    found = vp.compare(RESIDUAL, vp.rescale(RESIDUAL, FACTORS), 6)
    rates, updates = found.plot().axes
    assert rates.get_yticklabels()[0].get_text() == "conv1.weight"
    lines = {line.get_label(): line.get_xdata() for line in rates.lines}
    np.testing.assert_allclose(lines["SGD: measured"], lines["SGD: 1 / multiplier"], rtol=1e-4)
    assert lines["SGD: measured"][0] == pytest.approx(1 / 9, rel=1e-4)
    assert {"SGD, a", "SGD, b", "Adam, a", "Adam, b"} <= {x.get_label() for x in updates.lines}


def test_progress() -> None:
    seen: list[float] = []
    net = vp.mlp([5, 4, 3])
    vp.compare(net, vp.rescale(net, {0: 2}), 5, trials=2, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


NET = vp.mlp([5, 4, 3], "tanh")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((NET, "net"), TypeError, "net_b must be a Network, got str"),
        ((NET, vp.mlp([6, 4, 3])), ValueError, r"input_shape .* got \(5,\), \(6,\)"),
        ((NET, vp.mlp([5, 4, 2])), ValueError, r"output_shape .* got \(3,\), \(2,\)"),
        ((NET, vp.mlp([5, 7, 3])), ValueError, r"'dense1.weight' is \(5, 4\) and \(5, 7\)"),
        ((NET, vp.mlp([5, 4, 3], bias=None)), ValueError, r"'dense1.bias' is \(4,\) and missing"),
        ((vp.Network(3, [vp.Scale(2)]),) * 2, ValueError, "they have none"),
        ((NET, NET, np.ones((2, 4))), ValueError, r"inputs must have shape \(batch, 5\)"),
    ],
)
def test_bad_networks(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vp.compare(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": "bce"}, ValueError, "loss 'bce' needs a sigmoid"),
        ({"targets": np.ones(3)}, ValueError, "targets must have shape"),
        ({"trials": 0}, ValueError, "trials must be an integer >= 1"),
        ({"eps": -1}, ValueError, "eps must be a finite number >= 0"),
        ({"dtype": "float16"}, ValueError, "unknown dtype 'float16'"),
        ({"learning_rates": {"adma": 1}}, ValueError, "did you mean 'adam'"),
        ({"learning_rates": {"adam": -1}}, ValueError, r"learning_rates\['adam'\] must be"),
        ({"learning_rates": 0.1}, TypeError, "learning_rates must be a mapping"),
    ],
)
def test_bad_options(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vp.compare(NET, NET, 3, **options)


def test_outputs_beyond_all_floats() -> None:
    net = vp.mlp([10] * 400, weight="normal(std=100)")
    with pytest.raises(ValueError, match=r"layer .dense1.*. leaves the range of floats in trial 0"):
        vp.compare(net, net, 3)


def test_a_norm_makes_functions_nearly_the_same() -> None:
    """Larger weights before a norm are the same but for its eps."""

    def net(law: object) -> vp.Network:
        first = vp.Conv2d(8, 3, weight=law, bias=None)
        return vp.Network((6, 6, 3), [first, vp.BatchNorm(), vp.Flatten(), vp.Dense(4)])

    found = vp.compare(net("he_normal"), net(vp.Scaled("he_normal", 3)), 6)
    assert not found.same_function
    text = str(found)
    assert text.startswith("Nearly the same function: ")
    assert "They do not train alike" in text
    assert found.multipliers["sgd"]["conv1.weight"] == pytest.approx(9, rel=1e-4)
    assert found.mismatch["sgd"][1] < 1e-3


def test_what_no_gradient_reaches() -> None:
    net = vp.Network(20, [vp.Dense(20, "relu"), vp.Dense(20, weight="zeros"), vp.Dense(5)])
    found = vp.compare(net, vp.rescale(net, {"dense1": 2}), 6)
    assert found.multipliers["sgd"]["dense1.weight"] == pytest.approx(4)
    assert np.isnan(found.multipliers["sgd"]["dense1.bias"])  # zeros, and no gradient
    assert "nan" not in str(found)
    dead = vp.Network(5, [vp.Dense(4, weight="zeros", bias=None)] * 2)
    assert "nothing to compare" in str(vp.compare(dead, vp.rescale(dead, {0: 2}), 6))


def test_steps_beyond_all_floats() -> None:
    with pytest.raises(ValueError, match=r"a step of 'dense1\.\w+' is beyond the range of floats"):
        vp.compare(NET, vp.rescale(NET, {"dense1": 1e200}), 3)
