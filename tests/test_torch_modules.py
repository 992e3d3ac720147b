"""Networks as PyTorch's modules, and back: activations, weights, outputs, gradients, errors."""

from __future__ import annotations

import numpy as np
import pytest
from networks import BIAS, NETWORKS, conv, dense

import varprop as vp
from varprop import _job, reference

torch = pytest.importorskip("torch")

from signals_torch import ours, seen, theirs  # noqa: E402
from torch import nn  # noqa: E402

from varprop.torch import from_module, modules, to_module  # noqa: E402
from varprop.torch._convert import activations  # noqa: E402

FUNCTIONS = [*vp.activations.NAMES, "leaky_relu(0.3)", "elu(0.5)", "celu(2.0)"]
SEED, TRIAL, BATCH = 5, 2, 6


# --- activations --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", FUNCTIONS)
def test_activations_are_torchs_both_ways(text):
    phi = vp.activations.resolve(text)
    module = activations.to_module(phi)
    x = torch.linspace(-9, 9, 1002, dtype=torch.float64, requires_grad=True)
    y = module(x)
    y.sum().backward()
    numbers = x.detach().numpy()
    np.testing.assert_allclose(y.detach(), phi.value(numbers), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(x.grad, phi.derivative(numbers), rtol=1e-6, atol=1e-8)
    if phi.name != "linear":
        (layer,) = from_module(nn.Sequential(module), 3).layers
        assert layer == vp.Activation(phi, name="0")


@pytest.mark.parametrize(
    ("module", "name"),
    [(nn.Hardtanh(0.0, 6.0), "relu6"), (nn.Hardtanh(), "hard_tanh"), (nn.ReLU(True), "relu")],
)
def test_functions_of_two_names(module, name):
    assert from_module(nn.Sequential(module), 3).layers[0].function.name == name


# --- to PyTorch ---------------------------------------------------------------------------------

GOING = {
    name: (inputs, [layer for layer in layers if not isinstance(layer, vp.Dropout)])
    for name, (inputs, layers) in NETWORKS.items()  # without masks, which are torch's own draws
    if name != "elementwise"
} | {
    "same with strides": ((7, 6, 3), [conv(4, (3, 2), stride=(2, 3)), conv(3, 2), conv(2, 4)]),
    "pairs of zeros": ((7, 6, 3), [conv(4, 3, padding=(0, 2)), conv(3, (3, 1), padding=(1, 0))]),
    "images": (
        (6, 5, 4),
        [
            vp.RMSNorm(),
            vp.Residual([vp.LayerNorm(1e-3), dense(4, "silu"), vp.Bias(BIAS)], 0.5, 0.7),
            conv(6, 3, weight="orthogonal", bias=None, groups=2, activation="leaky_relu(0.2)"),
            vp.Sequential([vp.Activation("erf"), vp.Residual([vp.Scale(0.3)])], name="head"),
            vp.Dense(3, "relu", bias=None),
            vp.Flatten(),
            vp.Dense(5, "sin", "normal(std=0.2)"),
        ],
    ),
}


def names_of(net):
    """Return for each step the name of the module that its activations leave."""
    plain = ("linear", None)
    phis = [getattr(getattr(step.layer, "activation", None), "name", None) for step in net.steps]
    return [
        step.name if phi in plain else f"{step.name}_{phi}"
        for step, phi in zip(net.steps, phis, strict=True)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", GOING)
def test_modules_compute_what_is_simulated(case, dtype):
    net = vp.Network(*GOING[case])
    job = _job.make(net, BATCH, seed=SEED, dtype=dtype, backward=True, loss="gaussian")
    core = job.core(TRIAL, 1)
    positions = range(len(net.steps))
    whole = job.run(core, job.plan(core, 1), activations=positions, parameters=True)["whole"]

    module = to_module(net, SEED, TRIAL, dtype=getattr(torch, dtype))
    options = {"seed": SEED, "trial": TRIAL, "dtype": dtype}
    inputs = reference.weights((BATCH, *net.input_shape), "normal", name="input", **options)
    out, outputs = seen(module, theirs(inputs, getattr(torch, dtype)))
    cotangent = reference.cotangent(net, BATCH, **options)
    (out * theirs(cotangent, getattr(torch, dtype))).sum().backward()

    tolerance = 3e-5 if dtype == "float32" else 1e-12

    def close(found, expected, where):
        found = found.reshape(expected.shape)
        error = np.abs(found - expected).max() / (np.abs(expected).max() or 1)
        assert error < tolerance, where

    for name, found in zip(names_of(net), whole["activations"], strict=True):
        close(found, ours(outputs[name]), name)
    for part, names in (("weight", net.weight_names), ("bias", net.bias_names)):
        for name, found in zip(names, whole[f"{part}_gradients"], strict=True):
            tensor = getattr(module.get_submodule(name), part)
            if tensor is None:  # of a layer without biases there is a gradient all the same
                continue
            gradient = tensor.grad.numpy()
            if gradient.ndim > 1:
                gradient = np.moveaxis(gradient, (1, 0), (-2, -1))
            close(found, gradient, f"{part} of {name}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_the_draws_to_the_bit(dtype):
    layers = [
        vp.Conv2d(8, (3, 2), weight="he_normal", bias=BIAS, groups=2, name="stem"),
        vp.Residual([vp.Dense(8, "relu", "orthogonal"), vp.Bias("normal")]),
        vp.Flatten(),
        vp.Dense(5, weight="sparse(0.4)", bias=np.arange(5.0)),
    ]
    net = vp.Network((6, 5, 4), layers)
    state = torch.get_rng_state()
    module = to_module(net, SEED, TRIAL, dtype=getattr(torch, dtype))
    assert torch.equal(torch.get_rng_state(), state)
    found = dict(module.named_parameters())
    assert list(found) == [
        *("stem.weight", "stem.bias", "residual1.dense1.weight", "residual1.dense1.bias"),
        *("residual1.bias1.bias", "dense1.weight", "dense1.bias"),
    ]
    for step in net.steps:
        for part, (law, shape) in step.layer.parameters(step.input_shape).items():
            name = f"{step.name}.{part}"
            drawn = vp.weights(shape, law, seed=SEED, name=name, trial=TRIAL, dtype=dtype)
            tensor = found[name].detach().numpy()
            turned = np.moveaxis(tensor, (1, 0), (-2, -1)) if tensor.ndim > 1 else tensor
            assert turned.reshape(shape).tobytes() == drawn.tobytes(), name
            assert found[name].requires_grad


def test_plain_modules_where_torch_has_them():
    net = vp.Network(
        (8, 8, 3),
        [
            vp.Conv2d(4, 3, activation="relu", bias=None),
            vp.Conv2d(4, 3, padding=1, stride=2, name="down"),
            *(vp.BatchNorm(1e-3), vp.AvgPool2d(2), vp.Dropout(0.2)),
            *(vp.Flatten(channels_first=True), vp.LayerNorm(), vp.RMSNorm(), vp.BatchNorm()),
            *(vp.Dense(6, "gelu_tanh"), vp.Dense(6, "gelu_tanh", name="dense1_gelu_tanh")),
        ],
    )
    module = to_module(net)
    assert type(module) is nn.Sequential
    assert module.training
    assert module.input_shape == (3, 8, 8)
    rms = getattr(nn, "RMSNorm", modules.RMSNorm)
    assert {name: type(part) for name, part in module.named_children()} == {
        "conv1": nn.Conv2d,
        "conv1_relu": nn.ReLU,
        "down": nn.Conv2d,
        "batchnorm1": nn.BatchNorm2d,
        "avgpool1": nn.AvgPool2d,
        "dropout1": nn.Dropout,
        "flatten1": nn.Flatten,
        "layernorm1": nn.LayerNorm,
        "rmsnorm1": rms,
        "batchnorm2": nn.BatchNorm1d,
        "dense1": nn.Linear,
        "dense1_gelu_tanh2": nn.GELU,
        "dense1_gelu_tanh": nn.Linear,
        "dense1_gelu_tanh_gelu_tanh": nn.GELU,
    }


@pytest.mark.parametrize(
    ("net", "options", "error", "message"),
    [
        (
            vp.Network(3, [vp.Residual([vp.Elementwise(np.tanh)])]),
            {},
            ValueError,
            r"layer 'residual1\.elementwise1' holds a function, which is no torch module",
        ),
        (
            vp.Network(3, [vp.Sequential([vp.Dense(3, name="forward")], name="a")]),
            {},
            ValueError,
            r"layer 'a\.forward' must have another name: 'forward' is an attribute",
        ),
        (
            vp.mlp([3, 3]),
            {"dtype": torch.float16},
            ValueError,
            r"unknown dtype torch\.float16.*torch\.float32, torch\.float64",
        ),
        (vp.Dense(3), {}, TypeError, "network must be a Network, got Dense"),
    ],
)
def test_what_is_no_module(net, options, error, message):
    with pytest.raises(error, match=message):
        to_module(net, **options)


# --- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOING)
def test_there_and_back(case):
    """The same numbers, but for the order of sums: a dense layer on an image is a convolution."""
    net = vp.Network(*GOING[case])
    back = from_module(to_module(net, SEED, TRIAL), values=True)
    assert back.input_shape == net.input_shape
    options = {"trials": 1, "first_trial": TRIAL, "seed": SEED, "backward": True}
    one, other = (vp.simulate(one, BATCH, **options) for one in (net, back))
    kept = [back.index(name) for name in names_of(net)]
    for signal, which in (
        ("activations", kept),
        ("weight_gradients", slice(None)),
        ("input_gradients", slice(None)),
    ):
        found, expected = getattr(other, signal), getattr(one, signal)
        size = np.sqrt(expected.second_moment)
        np.testing.assert_allclose(found.var[which], expected.var, rtol=3e-5, atol=1e-10)
        assert np.all(np.abs(found.mean[which] - expected.mean) <= 1e-5 * size), signal


def test_laws_give_a_network_of_the_same_draws():
    net = vp.mlp([30, 40, 50], "tanh", "torch_linear")
    law = {"*.weight": "torch_linear", "*.bias": "zeros"}
    back = from_module(to_module(net), init=law)
    assert [str(step.law("weight")) for step in back.steps[::2]] == ["torch_linear"] * 2
    one, other = (vp.simulate(one, 10, trials=3, seed=1) for one in (net, back))
    np.testing.assert_allclose(one.activations.var, other.activations.var[1::2], rtol=1e-6)
