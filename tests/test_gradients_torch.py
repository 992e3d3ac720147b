"""Gradients against PyTorch's automatic differentiation in float64, on the very same weights."""

import numpy as np
import pytest

import varprop as vp
from varprop import activations, reference

torch = pytest.importorskip("torch")
F = torch.nn.functional

FUNCTIONS = {
    "linear": lambda y, _: y,
    "relu": lambda y, _: F.relu(y),
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": lambda y, _: F.selu(y),
    "celu": F.celu,
    "gelu": lambda y, _: F.gelu(y),
    "gelu_tanh": lambda y, _: F.gelu(y, approximate="tanh"),
    "silu": lambda y, _: F.silu(y),
    "mish": lambda y, _: F.mish(y),
    "softplus": lambda y, _: F.softplus(y, threshold=700),  # else y itself beyond 20
    "softsign": lambda y, _: F.softsign(y),
    "tanh": lambda y, _: torch.tanh(y),
    "hard_tanh": lambda y, _: F.hardtanh(y),
    "sigmoid": lambda y, _: torch.sigmoid(y),
    "hard_sigmoid": lambda y, _: F.relu6(y + 3) / 6,  # F.hardsigmoid's 1/6 is a float32
    "erf": lambda y, _: torch.erf(y),
    "sin": lambda y, _: torch.sin(y),
    "relu6": lambda y, _: F.relu6(y),
    "squared_relu": lambda y, _: F.relu(y) ** 2,
}
COSTS = {
    "gaussian": lambda x, cotangent: (cotangent * x).sum(),
    "mse": F.mse_loss,
    "softmax_cross_entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy,
}
ACTIVATIONS = (
    *activations.NAMES,
    *("leaky_relu(slope=0.2)", "leaky_relu(slope=-1.5)", "elu(alpha=0.3)", "celu(alpha=2.5)"),
)
TARGETS = [loss for loss in COSTS if loss != "gaussian"]


def tensor(array, grad=False):
    array = np.array(array)  # of its own, and writable
    array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)
    return torch.tensor(array, requires_grad=grad)


def autograd(net, weights, biases, inputs, loss, target):
    """Return the gradients by every layer's pre-activations, weights and biases, and by inputs."""
    x = first = tensor(inputs, grad=True)
    leaves = {"gradients": [], "weight_gradients": [], "bias_gradients": []}
    for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
        w = tensor(weight, grad=True)
        b = tensor(np.zeros(layer.width) if bias is None else bias, grad=True)
        y = x @ w + b
        y.retain_grad()
        x = FUNCTIONS[layer.activation.name](y, layer.activation.parameter)
        for signal, leaf in zip(leaves, (y, w, b), strict=True):
            leaves[signal].append(leaf)
    COSTS[loss](x, tensor(target)).backward()
    leaves["input_gradients"] = [first]
    return {signal: [leaf.grad.numpy() for leaf in found] for signal, found in leaves.items()}


def autograd_of_run(run, trial):
    """Return the gradients on exactly what a run used in one of its trials."""
    layers = range(len(run.layer_names))
    return autograd(
        run.network,
        [run.weights(layer, trial) for layer in layers],
        [run.bias(layer, trial) for layer in layers],
        run.inputs(trial),
        run.loss,
        run.cotangent(trial) if run.loss == "gaussian" else run.targets(trial),
    )


def network(sizes, activation, loss, **options):
    """Return a chain whose last activation suits the loss."""
    last = "sigmoid" if loss == "bce" else None
    return vp.mlp(sizes, activation, output_activation=last, **options)


def targets_of_a_user(loss, shape):
    """Return numbers in (0, 1); for cross entropy the rows are probabilities."""
    given = np.random.default_rng(5).uniform(size=shape)
    return given / given.sum(axis=1, keepdims=True) if loss == "softmax_cross_entropy" else given


# --- the reference ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "given"), [*((loss, False) for loss in COSTS), *((loss, True) for loss in TARGETS)]
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_reference_agrees(activation, loss, given):
    net = network([7, 9, 8, 5], activation, loss, bias="normal(std=0.2)")
    options = {"seed": 3, "trial": 2, "dtype": "float64"}
    layers = list(reference.chain(net, 11, **options))
    weights = [layer.weights for layer in layers]
    biases = [
        reference.weights((layer.width,), layer.bias, name=f"{layer.name}.bias", **options)
        for layer in net.layers
    ]
    if loss == "gaussian":
        targets, used = None, reference.cotangent(net, 11, **options)
    elif given:
        targets = used = targets_of_a_user(loss, (11, 5))
    else:
        targets, used = None, reference.targets(net, 11, loss, **options)
    exact = autograd(net, weights, biases, layers[0].inputs, loss, used)
    found = list(reference.backward(net, 11, loss, targets, **options))[::-1]
    for signal, part in zip(exact, reference.Gradients._fields, strict=True):
        for layer, g in zip(found, exact[signal], strict=False):  # of input gradients the first
            size = np.sqrt(np.mean(g**2))
            np.testing.assert_allclose(getattr(layer, part), g, rtol=1e-10, atol=1e-10 * size)


KINKS = np.array([-6.0, -3.0, -1.0, -0.0, 0.0, 1.0, 3.0, 6.0])


def at_kinks(activation):
    """Return a layer and the inputs for which every unit is at each kink once."""
    net = vp.Network(8, [vp.Dense(8, activation, np.eye(8))])
    return net, np.stack([np.roll(KINKS, shift) for shift in range(8)])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_reference_at_kinks_agrees(activation):
    net, points = at_kinks(activation)
    cotangent = reference.cotangent(net, 8)
    exact = autograd(net, [np.eye(8)], [None], points, "gaussian", cotangent)
    (layer,) = reference.backward(net, points)
    for found, (g,) in zip(layer, exact.values(), strict=True):
        np.testing.assert_allclose(found, g, rtol=1e-12, atol=1e-14)


# --- simulations --------------------------------------------------------------------------------


def tolerance(net, batch, dtype):
    """Relative error of a gradient's size, as that of a forward product in test_simulate.py.

    A sum of n terms is wrong by about sqrt(n) epsilon of its terms' root sum of squares, n being
    the fan-in forward, the width back, and the batch for the weights; each of the products,
    forward and back, passes on the errors of those before it. Four times that leaves room for
    the activations', which are wrong by some epsilon themselves.
    """
    longest = max(batch, *(size for shape in net.shapes for size in shape))
    return 4 * np.finfo(dtype).eps * np.sqrt(longest) * 2 * len(net.layers)


def check(run):
    """Hold the statistics of a run's gradients, trial by trial, against autograd's."""
    slack = tolerance(run.network, run.batch, run.dtype)
    for row in range(run.trials):
        for signal, arrays in autograd_of_run(run, run.first_trial + row).items():
            found = getattr(run, signal).per_trial
            assert found.mean.shape == (run.trials, len(arrays))
            for i, g in enumerate(arrays):
                check_one(found, (row, i), g, slack, f"{signal}, layer {i}, trial {row}")


def check_one(found, at, g, slack, where):
    """Hold the statistics of one gradient in one trial against those of the array."""
    square = np.mean(g**2)
    size = np.sqrt(square)
    assert found.count[at] == g.size, where
    assert found.mean[at] == pytest.approx(g.mean(), abs=slack * size), where
    assert found.var[at] == pytest.approx(g.var(), rel=slack, abs=0), where
    assert found.second_moment[at] == pytest.approx(square, rel=slack, abs=0), where
    assert found.log10_second_moment[at] == pytest.approx(np.log10(square), abs=slack), where
    assert found.min[at] == pytest.approx(g.min(), abs=10 * slack * size), where
    assert found.max[at] == pytest.approx(g.max(), abs=10 * slack * size), where
    if g.size > 1:
        kurtosis = np.mean((g - g.mean()) ** 4) / g.var() ** 2
        assert found.kurtosis[at] == pytest.approx(kurtosis, rel=10 * slack, abs=0), where


OPTIONS = {"backward": True, "statistics": ("moments", "extremes", "kurtosis"), "trials": 2}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", COSTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_simulation_agrees(activation, loss, dtype):
    # No pre-activation of these seeds is within 1e-6 of a kink, where rounding chooses the slope.
    net = network(
        [30, 100, 77, 10], activation, loss, weight="glorot_normal", bias="normal(std=0.2)"
    )
    check(vp.simulate(net, 137, loss=loss, seed=1, dtype=dtype, **OPTIONS))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", TARGETS)
def test_simulation_with_given_targets_agrees(loss, dtype):
    net = network([30, 40, 10], "tanh", loss)
    targets = targets_of_a_user(loss, (137, 10))
    check(vp.simulate(net, 137, loss=loss, targets=targets, dtype=dtype, **OPTIONS))


def test_simulation_with_given_labels_agrees():
    labels = np.arange(137) % 10
    net = vp.mlp([30, 40, 10], "tanh")
    run = vp.simulate(net, 137, loss="softmax_cross_entropy", targets=labels, **OPTIONS)
    assert np.array_equal(run.targets(1), labels)
    check(run)


@pytest.mark.parametrize("loss", COSTS)
def test_simulation_of_given_inputs_and_weights_agrees(loss):
    rng = np.random.default_rng(0)
    last = "sigmoid" if loss == "bce" else "linear"
    layers = [
        vp.Dense(19, "gelu", rng.normal(size=(7, 19)) / 3, rng.normal(size=19), "first"),
        vp.Dense(65, "leaky_relu(slope=0.3)", "orthogonal", None),
        vp.Dense(5, last, "sparse(0.5, std=0.3)", rng.normal(size=5)),
    ]
    data = rng.normal(size=(70, 7))
    check(vp.simulate(vp.Network(7, layers), data, loss=loss, dtype="float64", **OPTIONS))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("sizes", "batch"),
    [([1, 1], 1), ([5, 16, 3], 1), ([3, 70, 70], 1003), ([64, 520, 1000, 10], 33)],
)
def test_simulation_of_any_shape_agrees(sizes, batch, dtype):
    check(vp.simulate(vp.mlp(sizes, "tanh"), batch, first_trial=3, dtype=dtype, **OPTIONS))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_simulation_at_kinks_agrees(activation, dtype):
    check(vp.simulate(*at_kinks(activation), dtype=dtype, **OPTIONS))


@pytest.mark.parametrize("loss", ["gaussian", "mse", "softmax_cross_entropy"])
@pytest.mark.parametrize("std", [1e-4, 4])
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu(slope=0.3)"])
def test_gradients_beyond_the_range_of_float32(activation, std, loss):
    # From 10^-120 to 10^128: autograd's float64 holds it and its square, float32 does not.
    net = vp.mlp([100] * 41, activation, f"normal(std={std})", bias=None)
    run = vp.simulate(net, 30, trials=1, loss=loss, backward=True)
    assert not run.out_of_range
    slack = tolerance(net, 30, "float32")
    for signal, arrays in autograd_of_run(run, 0).items():
        with np.errstate(divide="ignore"):
            exact = [np.log10(np.mean(g**2)) for g in arrays]
        found = getattr(run, signal).per_trial.log10_second_moment[0]
        np.testing.assert_allclose(found, exact, atol=slack)


def test_gradients_vanish_while_the_signal_does_not():
    net = vp.mlp([50] * 31, "tanh", "normal(std=1e-3)", bias="normal")
    run = vp.simulate(net, 20, trials=1, backward=True)
    assert not run.out_of_range
    exact = [np.log10(np.mean(g**2)) for g in autograd_of_run(run, 0)["gradients"]]
    assert exact[0] < 2 * -45  # less than float32 can tell from zero
    found = run.gradients.per_trial.log10_second_moment[0]
    np.testing.assert_allclose(found, exact, atol=tolerance(net, 20, "float32"))
