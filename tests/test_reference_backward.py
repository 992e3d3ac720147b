"""The reference's gradients against finite differences, exact growth rates and the laws of losses.

Statistical tests have fixed seeds; with others, a right implementation would fail with
probability 1e-4 a test.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import special, stats

from varprop import activations, reference
from varprop.network import Dense, Network, mlp

LOSSES = ("gaussian", "mse", "softmax_cross_entropy", "bce")


# --- finite differences -------------------------------------------------------------------------

BATCH, SIZES = 6, (4, 5, 3)


def cost(x, loss, targets):
    """Return the cost of the last activations by its definition."""
    match loss:
        case "gaussian":
            return np.sum(targets * x)
        case "mse":
            return np.mean((x - targets) ** 2)
        case "softmax_cross_entropy":
            log = special.log_softmax(x, axis=1)
            if targets.ndim == 1:
                return -np.mean(log[np.arange(len(x)), targets])
            return -np.mean(np.sum(targets * log, axis=1))
        case "bce":
            return -np.mean(targets * np.log(x) + (1 - targets) * np.log1p(-x))


def parameters(rng):
    """Return all that a cost depends on, and zeros to be added to the pre-activations."""
    found = {"input": rng.normal(size=(BATCH, SIZES[0]))}
    for i, shape in enumerate(pairwise(SIZES)):
        found[f"weight{i}"] = rng.normal(size=shape) / 2
        found[f"bias{i}"] = rng.normal(size=shape[1]) / 2
        found[f"shift{i}"] = np.zeros((BATCH, shape[1]))
    return found


def differences(function, arrays, name, step=1e-5):
    """Return the gradient of a function of arrays by one of them, number by number."""
    gradient = np.empty(arrays[name].shape)
    for where in np.ndindex(gradient.shape):
        sides = []
        for sign in (1, -1):
            moved = arrays[name].copy()
            moved[where] += sign * step
            sides.append(function({**arrays, name: moved}))
        gradient[where] = (sides[0] - sides[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("loss", [*LOSSES, "probabilities"])
@pytest.mark.parametrize("activation", activations.NAMES)
def test_gradients_are_finite_differences(activation, loss):
    rng = np.random.default_rng(1)
    arrays = parameters(rng)
    kinds = (activation, "sigmoid" if loss == "bce" else activation)
    net = Network(
        SIZES[0],
        [
            Dense(width, kind, arrays[f"weight{i}"], arrays[f"bias{i}"])
            for i, (width, kind) in enumerate(zip(SIZES[1:], kinds, strict=True))
        ],
    )
    targets = {
        "gaussian": None,
        "mse": rng.normal(size=(BATCH, SIZES[-1])),
        "softmax_cross_entropy": rng.integers(SIZES[-1], size=BATCH),
        "probabilities": rng.uniform(size=(BATCH, SIZES[-1])),  # rows sum to what they will
        "bce": rng.uniform(size=(BATCH, SIZES[-1])),
    }[loss]
    loss = "softmax_cross_entropy" if loss == "probabilities" else loss
    used = reference.cotangent(net, BATCH, seed=3) if loss == "gaussian" else targets

    def value(arrays):
        x = arrays["input"]
        for i, kind in enumerate(kinds):
            y = x @ arrays[f"weight{i}"] + arrays[f"bias{i}"] + arrays[f"shift{i}"]
            x = activations.resolve(kind).value(y)
        return cost(x, loss, used)

    found = {}
    layers = reference.backward(net, arrays["input"], loss, targets, seed=3)
    for i, layer in zip((1, 0), layers, strict=True):
        found[f"shift{i}"], found[f"weight{i}"], found[f"bias{i}"], found["input"] = layer
    assert found.keys() == arrays.keys()
    for name, gradient in found.items():
        # The step's square, and the rounding of the cost over the step: 1e-10 and 1e-11.
        exact = differences(value, arrays, name)
        np.testing.assert_allclose(gradient, exact, rtol=1e-8, atol=1e-8, err_msg=name)


# --- losses -------------------------------------------------------------------------------------


def test_a_saturated_sigmoid_keeps_its_gradient():
    # x (1 - x) underflows, and (x - t) / x (1 - x) times it would be 0 / 0.
    net = Network(1, [Dense(1, "sigmoid", np.eye(1))])
    (layer,) = reference.backward(net, [[800.0], [-800.0]], "bce", [[0.0], [1.0]])
    assert layer.preactivations.tolist() == [[0.5], [-0.5]]


def test_large_logits_do_not_overflow():
    net = Network(2, [Dense(2, weight=np.eye(2))])
    (layer,) = reference.backward(net, [[1e5, -1e5]], "softmax_cross_entropy", [1])
    assert layer.preactivations.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_drawn_targets_follow_their_laws(dtype):
    net, batch = mlp([3, 7]), 10_000
    options = {"seed": 2, "trial": 5, "dtype": dtype}
    drawn = {loss: reference.targets(net, batch, loss, **options) for loss in LOSSES[1:]}
    cotangent = reference.cotangent(net, batch, **options)
    normal = reference.weights((batch, 7), "normal", name="cotangent", **options)
    assert np.array_equal(cotangent, normal)
    normal = reference.weights((batch, 7), "normal", name="targets", **options)
    assert np.array_equal(drawn["mse"], normal)
    labels = drawn["softmax_cross_entropy"]
    assert labels.shape == (batch,)
    assert stats.chisquare(np.bincount(labels, minlength=7)).pvalue > 1e-4
    u = reference.weights((batch,), "uniform(-1, 1)", name="targets", **options)
    for label in range(7):  # label k where u falls into the k-th of seven equal parts of (-1, 1)
        inside = (u >= -1 + 2 * label / 7) & (u < -1 + 2 * (label + 1) / 7)
        assert np.array_equal(labels == label, inside)
    u = reference.weights((batch, 7), "uniform(-1, 1)", name="targets", **options)
    assert np.array_equal(drawn["bce"], np.where(u > 0, 1.0, 0.0))
    for loss, target in drawn.items():  # and backward takes them
        net = mlp([3, 7], output_activation="sigmoid")
        (one,) = reference.backward(net, batch, loss, **options)
        (other,) = reference.backward(net, batch, loss, target, **options)
        assert np.array_equal(one.weights, other.weights)


def test_unknown_losses():
    with pytest.raises(ValueError, match="unknown loss 'mce': did you mean 'mse'"):
        next(reference.backward(mlp([3, 2]), 5, "mce"))
    with pytest.raises(ValueError, match="unknown loss 'gaussian'"):
        reference.targets(mlp([3, 2]), 5, "gaussian")


# --- closed forms -------------------------------------------------------------------------------


def test_gradients_of_a_linear_chain_grow_exactly_at_finite_width():
    # log |delta|^2 of one example grows by log(chi2_n / n) a layer, as the signal does.
    width, depth, trials = 20, 30, 60
    net = mlp([width] * (depth + 1), weight=f"normal(std={width**-0.5})", bias=None)
    run = reference.simulate(net, 1, trials=trials, seed=2, backward=True)

    def squares(signal):
        return run[signal]["variance"] + run[signal]["mean"] ** 2

    steps = -np.diff(np.log(squares("gradients")), axis=1)
    mean = special.digamma(width / 2) + math.log(2 / width)
    var = special.polygamma(1, width / 2)
    assert abs(steps.mean() - mean) < 4.42 * math.sqrt(var / steps.size)
    ratio = stats.chi2(width, scale=1 / width).cdf
    assert stats.kstest(np.exp(steps).ravel(), ratio).pvalue > 1e-4
    # Of one example the weight gradient is an outer product, and the bias gradient is delta.
    products = squares("activations")[:, :-1] * squares("gradients")[:, 1:]
    np.testing.assert_allclose(squares("weight_gradients")[:, 1:], products, rtol=1e-12)
    np.testing.assert_allclose(squares("bias_gradients"), squares("gradients"), rtol=1e-12)


def test_orthogonal_layers_keep_the_gradients_size():
    net = mlp([30] * 8, weight="orthogonal", bias=None)
    run = reference.simulate(net, 50, seed=1, backward=True)
    size = np.mean(reference.cotangent(net, 50, seed=1) ** 2)
    for signal, layers in (("gradients", 7), ("input_gradients", 1)):
        found = run[signal]["variance"] + run[signal]["mean"] ** 2
        np.testing.assert_allclose(found, np.full((1, layers), size), rtol=1e-12)


# --- simulations --------------------------------------------------------------------------------


def test_simulation_observes_its_gradients():
    net = mlp([8, 7, 6, 5], "tanh", bias=None)
    options = {"seed": 4, "dtype": "float64"}
    asked = ("histogram", "saturation", "gradient_correlation")
    run = reference.simulate(
        net, 20, trials=2, first_trial=3, backward=True, loss="mse", statistics=asked, **options
    )
    plain = reference.simulate(net, 20, trials=2, first_trial=3, **options)
    assert list(plain) == ["preactivations", "activations"]
    for signal, observed in plain.items():
        for key, values in observed.items():
            assert np.array_equal(run[signal][key], values)
    counts = {
        "gradients": [140, 120, 100],
        "weight_gradients": [56, 42, 30],
        "bias_gradients": [7, 6, 5],
        "input_gradients": [160],
    }
    assert list(run) == [*plain, *counts]
    assert "correlation" not in run["activations"]
    for row, trial in enumerate((3, 4)):
        layers = list(reference.backward(net, 20, "mse", trial=trial, **options))[::-1]
        arrays = {
            "gradients": [layer.preactivations for layer in layers],
            "weight_gradients": [layer.weights for layer in layers],
            "bias_gradients": [layer.bias for layer in layers],
            "input_gradients": [layers[0].inputs],
        }
        for signal, expected in arrays.items():
            assert run[signal]["count"].tolist() == counts[signal]
            for i, values in enumerate(expected):
                found = {key: a[row, i] for key, a in run[signal].items() if key != "count"}
                assert found["mean"] == values.mean()
                assert found["variance"] == pytest.approx(values.var(), rel=1e-12)
                assert found["maximum"] == values.max()
                assert found["histogram"].tolist() == reference.histogram(values).tolist()
                assert ("correlation" in found) == (signal == "gradients")
                if signal == "gradients":
                    assert found["correlation"] == reference.correlation(values)
