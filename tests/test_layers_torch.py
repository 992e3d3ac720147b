"""Every kind of layer, forward and back, against PyTorch's autograd on the same weights, float64.

Both the NumPy reference and the core, whose signals are taken whole.
"""

import numpy as np
import pytest

import varprop as vp
from varprop import _job, reference

torch = pytest.importorskip("torch")
F = torch.nn.functional

OPTIONS = {"seed": 3, "trial": 2, "dtype": "float64"}
BATCH = 5


def cube(x):
    return x**3 / (1 + x**2)


def cube_slope(x):
    return (x**4 + 3 * x**2) / (1 + x**2) ** 2


FUNCTIONS = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
}

# Of each case the inputs, and its layers.
FLAT, IMAGE = 7, (6, 5, 4)
NOISY = {"weight": "he_normal", "bias": "normal(std=0.3)"}
CASES = {
    "dense": (FLAT, [vp.Dense(6, "tanh", **NOISY)]),
    "dense without bias": (FLAT, [vp.Dense(6, "gelu", bias=None)]),
    "dense on an image": (IMAGE, [vp.Dense(3, "tanh", **NOISY)]),
    "conv": (IMAGE, [vp.Conv2d(3, 3, activation="tanh", **NOISY)]),
    "conv without bias": (IMAGE, [vp.Conv2d(3, 3, bias=None)]),
    "conv, even kernel": (IMAGE, [vp.Conv2d(3, (2, 4), **NOISY)]),
    "conv, valid": (IMAGE, [vp.Conv2d(3, (3, 2), padding="valid", **NOISY)]),
    "conv, padded": (IMAGE, [vp.Conv2d(3, (2, 3), padding=3, **NOISY)]),
    "conv, padded by pairs": (IMAGE, [vp.Conv2d(3, (2, 3), 2, padding=(0, 3), **NOISY)]),
    "conv, same with a stride": (IMAGE, [vp.Conv2d(3, (3, 4), stride=(2, 3), **NOISY)]),
    "conv, stride beyond the kernel": (IMAGE, [vp.Conv2d(3, (1, 2), stride=(4, 3), **NOISY)]),
    "conv, valid with a stride": (IMAGE, [vp.Conv2d(3, 2, stride=3, padding="valid", **NOISY)]),
    "conv, padded with a stride": (IMAGE, [vp.Conv2d(3, 3, stride=2, padding=1, **NOISY)]),
    "conv in groups": (IMAGE, [vp.Conv2d(6, 3, groups=2, **NOISY)]),
    "conv of each channel": (IMAGE, [vp.Conv2d(8, 3, stride=2, groups=4, **NOISY)]),
    "conv, orthogonal": (IMAGE, [vp.Conv2d(4, 3, weight="delta_orthogonal")]),
    "scale": (FLAT, [vp.Scale(-0.3)]),
    "scale of an image": (IMAGE, [vp.Scale(2)]),
    "activation": (FLAT, [vp.Activation("gelu")]),
    "activation of an image": (IMAGE, [vp.Activation("relu")]),
    "bias": (FLAT, [vp.Bias("normal")]),
    "bias of an image": (IMAGE, [vp.Bias("normal")]),
    "residual": (FLAT, [vp.Residual([vp.Dense(FLAT, "tanh", **NOISY)], 0.3, 1.7)]),
    "residual of an image": (IMAGE, [vp.Residual([vp.Conv2d(4, 3, **NOISY)])]),
    "residual in residual": (
        FLAT,
        [
            vp.Residual(
                [
                    vp.Residual([vp.Activation("tanh")], 0.5),
                    vp.Residual([vp.Scale(3)], skip_scale=-1),
                ],
                0.7,
            ),
            vp.Residual([vp.Residual([vp.Residual([vp.LayerNorm()])])]),
        ],
    ),
    "layernorm": (FLAT, [vp.LayerNorm(0.1)]),
    "layernorm of an image": (IMAGE, [vp.LayerNorm()]),
    "rmsnorm": (FLAT, [vp.RMSNorm(0.1)]),
    "rmsnorm of an image": (IMAGE, [vp.RMSNorm()]),
    "batchnorm": (FLAT, [vp.BatchNorm(0.1)]),
    "batchnorm of an image": (IMAGE, [vp.BatchNorm()]),
    "avgpool": (IMAGE, [vp.AvgPool2d(2)]),
    "avgpool, overlapping": (IMAGE, [vp.AvgPool2d((3, 2), 1)]),
    "avgpool, apart": (IMAGE, [vp.AvgPool2d((1, 2), (4, 3))]),
    "globalavgpool": (IMAGE, [vp.GlobalAvgPool()]),
    "flatten": (IMAGE, [vp.Flatten()]),
    "flatten what is flat": (FLAT, [vp.Flatten()]),
    "flatten, channels first": (IMAGE, [vp.Flatten(channels_first=True)]),
    "flatten, channels first, in between": (
        IMAGE,
        [
            vp.Conv2d(3, 3, **NOISY),
            vp.Flatten(channels_first=True),
            vp.Flatten(channels_first=True),
            vp.Dense(4, **NOISY),
        ],
    ),
    "sequential": (
        IMAGE,
        [
            vp.Sequential([vp.Conv2d(3, 3, **NOISY), vp.Sequential([vp.Activation("tanh")])]),
            vp.Residual([vp.Sequential([vp.Dense(3, **NOISY), vp.LayerNorm()])], 0.4),
        ],
    ),
    "dropout": (FLAT, [vp.Dropout(0.4)]),
    "dropout of an image": (IMAGE, [vp.Dropout(0.7)]),
    "no dropout": (FLAT, [vp.Dropout(0)]),
    "elementwise": (FLAT, [vp.Elementwise(cube, cube_slope)]),
    "elementwise of an image": (IMAGE, [vp.Elementwise(cube, cube_slope)]),
    "mixed": (
        (7, 6, 3),
        [
            vp.Conv2d(4, 3, stride=2, activation="gelu", name="stem", **NOISY),
            vp.BatchNorm(),
            vp.Activation("relu"),
            vp.Residual(
                [
                    vp.LayerNorm(),
                    vp.Conv2d(8, 3, activation="gelu", **NOISY),
                    vp.Residual([vp.RMSNorm(), vp.Dense(8, "tanh"), vp.Dropout(0.3)], 0.5, 0.9),
                    vp.Conv2d(4, 1, groups=4, bias=None),
                ],
                branch_scale=0.7,
            ),
            vp.AvgPool2d(2),
            vp.Flatten(),
            vp.Residual([vp.Dense(8, "tanh", **NOISY), vp.Elementwise(cube, cube_slope)]),
            vp.Bias("normal"),
            vp.Scale(0.5),
            vp.Dense(5, **NOISY),
        ],
    ),
}


def padding(size, kernel, stride, rule):
    """Return zeros before and behind along an axis: TensorFlow's documentation of "SAME"."""
    if rule == "same":
        extra = max(kernel - stride if size % stride == 0 else kernel - size % stride, 0)
        return extra // 2, extra - extra // 2
    return (0, 0) if rule == "valid" else (rule, rule)


def rules(padding):
    return padding if isinstance(padding, tuple) else (padding, padding)


def convolved(x, w, layer):
    (up, down), (left, right) = (
        padding(*numbers)
        for numbers in zip(
            x.shape[1:3], layer.kernel, layer.stride, rules(layer.padding), strict=True
        )
    )
    padded = F.pad(x.permute(0, 3, 1, 2), (left, right, up, down))
    y = F.conv2d(padded, w.permute(3, 2, 0, 1), stride=layer.stride, groups=layer.groups)
    return y.permute(0, 2, 3, 1)


class Model:
    """A network in PyTorch, with the weights that the reference draws."""

    def __init__(self, net, inputs):
        self.drawn = dict(
            zip(net.layer_names, reference.chain(net, inputs, **OPTIONS), strict=True)
        )
        self.found = {}  # by name: inputs, weights, biases, pre-activations, activations
        self.x = torch.tensor(np.array(self.drawn[net.layer_names[0]].inputs), requires_grad=True)
        self.out = self.container(net.layers, self.x, "")

    def container(self, layers, x, within):
        for layer in layers:
            name = f"{within}{layer.name}"
            if isinstance(layer, vp.Sequential):
                x = self.container(layer.layers, x, f"{name}.")
            else:
                x = self.layer(layer, x, name)
        return x

    def layer(self, layer, x, name):
        w = b = None
        entered = x
        before = x.clone()  # so that its gradient is that through this layer
        match layer:
            case vp.Dense() | vp.Conv2d():
                w = torch.tensor(self.drawn[name].weights, requires_grad=True)
                b = self.bias(name, layer.bias, w.shape[-1])
                y = x @ w if isinstance(layer, vp.Dense) else convolved(x, w, layer)
                before = y + b
                out = FUNCTIONS[layer.activation.name](before)
            case vp.Activation():
                out = FUNCTIONS[layer.function.name](before)
            case vp.Elementwise():
                out = cube(before)
            case vp.LayerNorm():
                out = F.layer_norm(before, before.shape[-1:], eps=layer.eps)
            case vp.RMSNorm():
                out = before / torch.sqrt(torch.mean(before**2, -1, keepdim=True) + layer.eps)
            case vp.BatchNorm():
                columns = before.reshape(-1, before.shape[-1])
                out = F.batch_norm(columns, None, None, training=True, eps=layer.eps)
                out = out.reshape(before.shape)
            case vp.Dropout():
                rows = before.numel() // before.shape[-1]
                u = reference.weights(
                    (rows, before.shape[-1]), "uniform(-1, 1)", name=f"{name}.mask", **OPTIONS
                )
                kept = torch.tensor((u + 1) / 2 > layer.rate).reshape(before.shape)
                out = before * kept / (1 - layer.rate)
            case vp.Bias():
                b = self.bias(name, layer.law, x.shape[-1])
                before = out = x + b
            case vp.Scale():
                before = out = layer.factor * x
            case vp.Residual():
                entered = self.container(layer.layers, x, f"{name}.")
                before = out = layer.skip_scale * x + layer.branch_scale * entered
            case vp.AvgPool2d():
                pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), layer.size, layer.stride)
                before = out = pooled.permute(0, 2, 3, 1)
            case vp.GlobalAvgPool():
                before = out = x.mean(dim=(1, 2))
            case vp.Flatten():
                if layer.channels_first and x.ndim == 4:
                    x = x.permute(0, 3, 1, 2)
                before = out = x.flatten(1)
        parts = (entered, w, b, before, out)
        for part in parts:
            if part is not None and not part.is_leaf:
                part.retain_grad()
        self.found[name] = parts
        return out

    def bias(self, name, law, width):
        drawn = np.zeros(width)
        if law is not None:
            drawn = reference.weights((width,), law, name=f"{name}.bias", **OPTIONS)
        return torch.tensor(drawn, requires_grad=True)


def close(found, expected, where):
    if expected is None:
        assert found is None, where
        return
    expected = expected.detach().numpy()
    size = np.sqrt(np.mean(expected**2))
    assert found.shape == expected.shape, where
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * size, err_msg=where)


def check(net, loss="gaussian", inputs=BATCH):
    """Hold all that the reference yields against PyTorch."""
    model = Model(net, inputs)
    for name, made in model.drawn.items():
        entered, w, _, before, out = model.found[name]
        for found, expected in zip(made, (entered, w, before, out), strict=True):
            close(found, expected, name)
    if loss == "gaussian":
        cotangent = reference.cotangent(net, BATCH, **OPTIONS)
        (model.out * torch.tensor(cotangent)).sum().backward()
    else:
        targets = torch.tensor(reference.targets(net, BATCH, loss, **OPTIONS))
        cost = {
            "mse": F.mse_loss,
            "softmax_cross_entropy": F.cross_entropy,
            "bce": F.binary_cross_entropy,
        }[loss]
        cost(model.out, targets).backward()
    found = list(reference.backward(net, inputs, loss, **OPTIONS))[::-1]
    assert len(found) == len(net.steps) == len(model.found)
    check_core(net, model, loss, inputs)
    for name, gradients in zip(net.layer_names, found, strict=True):
        entered, w, b, before, _ = model.found[name]
        for part, tensor in zip(gradients._fields, (before, w, b, entered), strict=True):
            expected = None if tensor is None else tensor.grad
            close(getattr(gradients, part), expected, f"{part} of {name}")


def check_core(net, model, loss, inputs):
    """Hold what the core computes in float64 against PyTorch.

    Rounding grows with the root of the longest sum and with the layers that it goes through; eight
    of these are far above what is found, and far below what a wrong term would make.
    """
    job = _job.make(net, inputs, seed=OPTIONS["seed"], dtype="float64", backward=True, loss=loss)
    core = job.core(OPTIONS["trial"], 1)
    positions = range(len(net.steps))
    whole = job.run(core, job.plan(core, 1), activations=positions, parameters=True)["whole"]
    sums = max((np.prod(shape[:-1]) for shape in net.shapes), default=1)
    sums = max(sums, BATCH * max(np.prod(step.output_shape) for step in net.steps))
    tolerance = 8 * np.finfo(float).eps * np.sqrt(sums) * len(net.steps)

    def close(found, tensor, where):
        expected = tensor.detach().numpy()
        error = np.max(np.abs(found.reshape(expected.shape) - expected))
        assert error <= tolerance * (np.max(np.abs(expected)) or 1), where

    for name, found in zip(net.layer_names, whole["activations"], strict=True):
        close(found, model.found[name][4], f"activations of {name}")
    for part, names in ((1, net.weight_names), (2, net.bias_names)):
        gradients = whole["weight_gradients" if part == 1 else "bias_gradients"]
        for name, found in zip(names, gradients, strict=True):
            close(found, model.found[name][part].grad, f"gradients {part} of {name}")


@pytest.mark.parametrize("case", CASES)
def test_every_layer_agrees(case):
    check(vp.Network(*CASES[case]))


@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy", "bce"])
def test_a_mixed_network_agrees(loss):
    inputs, layers = CASES["mixed"]
    check(vp.Network(inputs, [*layers, vp.Activation("sigmoid")]), loss)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_losses_of_an_image_agree(loss):
    check(vp.Network(IMAGE, [vp.Conv2d(3, 3, activation="sigmoid", **NOISY)]), loss)


def test_given_images_agree():
    inputs, layers = CASES["mixed"]
    images = np.random.default_rng(0).normal(size=(BATCH, *inputs))
    check(vp.Network(inputs, layers), "mse", images)


def test_a_deep_residual_stack_agrees():
    block = vp.Residual([vp.LayerNorm(), vp.Dense(9, "gelu"), vp.Dense(9)], branch_scale=0.2)
    check(vp.Network(9, [block] * 20))


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_places_of_kernels_agree(size, kernel, stride):
    for rule in ("same", "valid", 0, 1, 2):
        layer = vp.Conv2d(1, (kernel, 1), (stride, 1), rule)
        before, behind = padding(size, kernel, stride, rule)
        if size + before + behind < kernel:
            with pytest.raises(ValueError, match="larger than the padded image"):
                layer.output_shape((size, 50, 1))
            continue
        padded = torch.zeros(1, 1, size + before + behind, 1)
        places = F.conv2d(padded, torch.zeros(1, 1, kernel, 1), stride=(stride, 1)).shape[2]
        assert layer.output_shape((size, 50, 1))[0] == places
        assert layer.window((size, 50, 1)).top == before
