"""Networks from PyTorch's modules: names, laws, shapes of inputs, and what is no network."""

from __future__ import annotations

import numpy as np
import pytest
from networks import flat, network

import varprop as vp
from varprop import reference

torch = pytest.importorskip("torch")

from signals_torch import ours, seen, theirs  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from varprop.torch import from_module, modules, to_module  # noqa: E402

SEED, TRIAL, BATCH = 5, 2, 6


def perceptron():
    body = nn.Sequential(nn.Linear(30, 40, bias=False), nn.LayerNorm(40), nn.GELU())
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), body, nn.BatchNorm1d(40), nn.Linear(40, 7))


def convnet():
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(3, 8, (3, 5), padding=(1, 2)), nn.BatchNorm2d(8, 1e-3), nn.ReLU(inplace=True)
        ),
        nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4, bias=False),
        nn.Identity(),
        nn.SiLU(),
        nn.Conv2d(12, 6, 3, padding="same"),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 10),
    )


MODULES = {
    "perceptron": (perceptron, (20,), {nn.Linear: "xavier_uniform"}),
    "convnet": (convnet, (3, 16, 16), {nn.Conv2d: "orthogonal", "7.*": "normal(std=0.1)"}),
}


@pytest.mark.parametrize("init", ["torch", "kaiming_normal", "mapping"])
@pytest.mark.parametrize("name", MODULES)
def test_simulations_are_those_of_plain_torch(name, init):
    """Weights drawn under the parameters' names; moments of every module's outputs by hooks."""
    build, shape, mapping = MODULES[name]
    init = {"torch": None, "mapping": mapping}.get(init, init)
    module = build()
    net = from_module(module, init=init)
    assert net.input_shape == (*shape[1:], shape[0])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, *net.input_shape)).astype(np.float32)
    targets = rng.normal(size=(BATCH, *net.output_shape)).astype(np.float32)
    options = {"seed": SEED, "trials": 2, "backward": True, "loss": "mse", "targets": targets}
    run = vp.simulate(net, x, **options)
    leaves = [part for part, one in module.named_modules() if not list(one.children())]
    assert net.layer_names == tuple(leaves)
    laws = {f"{s.name}.{part}": s.law(part) for s in net.steps for part in ("weight", "bias")}
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # which would change what a hook has kept
    for trial in range(2):
        with torch.no_grad():
            for key, tensor in module.named_parameters():
                if laws[key] is None:  # of a norm
                    continue
                order = (*range(2, tensor.dim()), 1, 0) if tensor.dim() > 1 else (0,)
                turned = tensor.permute(order)
                drawn = vp.weights(turned.shape, laws[key], seed=SEED, name=key, trial=trial)
                turned.copy_(torch.tensor(drawn))
        module.zero_grad()
        out, outputs = seen(module, theirs(x, torch.float32))
        functional.mse_loss(out, torch.tensor(targets)).backward()
        for position, part in enumerate(leaves):
            check(run.activations, trial, position, outputs[part].detach())
        for position, part in enumerate(net.weight_names):
            owner = module.get_submodule(part)
            check(run.weight_gradients, trial, position, owner.weight.grad)
            at = net.index(part)
            check(run.gradients, trial, at, outputs[part].grad)


def check(signal, trial, position, tensor):
    """Hold one layer's moments in one trial against a tensor's."""
    var, mean = torch.var_mean(tensor.double(), correction=0)
    size = float(tensor.double().square().mean().sqrt())
    found = signal.per_trial
    assert abs(found.mean[trial, position] - float(mean)) <= 1e-5 * size
    assert found.var[trial, position] == pytest.approx(float(var), rel=1e-5, abs=1e-10 * size**2)


@pytest.mark.parametrize("name", MODULES)
def test_what_init_fills_in_is_what_is_simulated(name):
    build, _, mapping = MODULES[name]
    module = vp.torch.init_(build(), mapping, seed=SEED, trial=TRIAL)
    options = {"trials": 1, "first_trial": TRIAL, "seed": SEED}
    drawn = from_module(module, init=mapping)
    kept = from_module(module, values=True)
    runs = [vp.simulate(net, BATCH, **options) for net in (drawn, kept)]
    assert flat(runs[0]) == flat(runs[1])


def test_torchs_default_laws():
    net = from_module(convnet(), (3, 16, 16))
    conv, _, _, grouped = net.steps[:4]
    assert str(conv.law("weight")) == str(grouped.law("weight")) == "torch_linear"
    assert conv.law("bias") == vp.Uniform(-(45**-0.5), 45**-0.5)
    assert grouped.law("bias") is None
    assert grouped.law("weight").compile(grouped.weight_shape).high == pytest.approx(18**-0.5)


def test_parameters_without_a_law_keep_their_values():
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    net = from_module(module, init={"0.weight": "he_normal"})
    assert str(net.layers[0].weight) == "he_normal"
    np.testing.assert_array_equal(net.layers[0].bias.array, module[0].bias.detach())
    np.testing.assert_array_equal(net.layers[1].weight.array, module[1].weight.detach().T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_of_any_dtype(dtype):
    module = nn.Sequential(nn.Conv2d(4, 6, (2, 3), groups=2)).to(dtype)
    (layer,) = from_module(module, (4, 8, 8), values=True).layers
    expected = module[0].weight.detach().double().permute(2, 3, 1, 0)
    np.testing.assert_array_equal(layer.weight.array, expected)


@pytest.mark.parametrize(
    ("module", "name", "layer"),
    [
        (nn.Linear(4, 3), "Linear", vp.Dense(3, weight="torch_linear", bias=vp.Uniform(-0.5, 0.5))),
        (nn.Tanh(), "Tanh", vp.Activation("tanh")),
        (nn.LayerNorm(4), "LayerNorm", vp.LayerNorm()),
        (nn.LayerNorm(4, elementwise_affine=False), "LayerNorm", vp.LayerNorm()),
        (nn.Dropout(0.25), "Dropout", vp.Dropout(0.25)),
        (modules.Scale(2.0), "Scale", vp.Scale(2.0)),
        (
            modules.Residual({"a": nn.Tanh()}, 0.5),
            "Residual",
            vp.Residual([vp.Activation("tanh", name="a")], 0.5),
        ),
    ],
)
def test_a_layer_alone_is_called_by_its_type(module, name, layer):
    assert from_module(module, (4,)) == vp.Network(4, [layer.renamed(name)])


def test_pools_of_a_number_of_places():
    module = nn.Sequential(nn.AdaptiveAvgPool2d((1, None)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = from_module(module, (5, 8, 6))
    assert [step.output_shape for step in net.steps] == [(1, 6, 5), (1, 1, 5), (5,)]
    x = torch.randn(3, 5, 8, 6, dtype=torch.float64)
    *_, last = reference.chain(net, ours(x))
    np.testing.assert_allclose(last.activations, module(x), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [1, 2, 3, (4, 5), 6])
def test_torchs_own_padding(kernel):
    for padding in ("same", "valid", (2, 1)):
        module = nn.Sequential(nn.Conv2d(3, 4, kernel, padding=padding)).double()
        x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
        (made,) = reference.chain(from_module(module, x.shape[1:], values=True), ours(x))
        np.testing.assert_allclose(made.activations, ours(module(x)), rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not hasattr(nn, "RMSNorm"), reason="since torch 2.4")
def test_rms_norms():
    net = from_module(nn.Sequential(nn.RMSNorm(8), nn.RMSNorm(8, eps=1e-3)))
    assert [layer.eps for layer in net.layers] == [torch.finfo(torch.float32).eps, 1e-3]


# --- the shape of an input ----------------------------------------------------------------------


def strided(side_in, side_out):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1), nn.Flatten(),
        nn.Linear(5 * side_out**2, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (nn.Sequential(nn.Tanh(), nn.Dropout(), nn.Linear(7, 3)), 7),
        (nn.Sequential(nn.LayerNorm(9), nn.Linear(9, 3)), 9),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 784),
        (nn.Sequential(nn.BatchNorm1d(6), nn.ReLU()), 6),
        (strided(32, 8), (32, 32, 3)),  # of 29 to 32 that fit
        (strided(28, 7), (28, 28, 3)),
        (strided(224, 56), (224, 224, 3)),
        (nn.Sequential(nn.Conv2d(1, 6, 5), nn.Flatten(), nn.Linear(6 * 24 * 24, 5)), (28, 28, 1)),
        (nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.LayerNorm(18)), (3, 3, 2)),
    ],
)
def test_shapes_that_modules_tell(module, inputs):
    assert from_module(module).inputs == inputs


def test_a_shape_that_is_left_on_the_module():
    net = vp.Network((5, 7, 3), [vp.Conv2d(4, 3), vp.GlobalAvgPool()])
    module = to_module(net)
    assert from_module(module).input_shape == (5, 7, 3)
    assert from_module(module, (3, 9, 9)).input_shape == (9, 9, 3)


# --- errors -------------------------------------------------------------------------------------


class Own(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def tied():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


def gained():
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    module[1].weight.data[2] = 1.5
    return module


def normed():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


UNTOLD = r"input_shape cannot be told from the modules.*: give input_shape=\(channels, height, wid"


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (
            nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))),
            {},
            r"module '1\.1' \(MaxPool2d\): varprop has no such layer. from_module takes: Ada.*Tanh",
        ),
        (nn.TransformerEncoderLayer(8, 2), {}, "TransformerEncoderLayer: varprop has no such"),
        (nn.Sequential(Own(4, 4)), {}, r"module '0' \(Own\): it is a Linear with a forward of"),
        (nn.Sequential(nn.ReLU(), nn.Sequential()), {}, r"module '1' \(Sequential\): it must not"),
        (normed(), {}, r"module '0' \(Param.*\): a Linear must have .* alone, got parametriz"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2)),
            {},
            r"module '0' \(Conv2d\): dilation must be \(1, 1\), got \(2, 2\)",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3, padding_mode="reflect", padding=1)),
            {"input_shape": (3, 8, 8)},
            r"module '0' \(Conv2d\): padding_mode must be 'zeros', got 'reflect'",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)),
            {},
            r"module '1' \(Conv2d\): needs 5 channels, got 4",
        ),
        (
            nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3)),
            {},
            r"module '1' \(Linear\): needs 4 features, got 3",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 3)),
            {"input_shape": (3, 6, 6)},
            r"module '1' \(Linear\): needs features, got an image: a Flatten before it",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.Conv2d(4, 4, 1)),
            {},
            r"module '1' \(Conv2d\): needs an image \(channels, height, width\), got 4 features",
        ),
        (
            nn.Sequential(nn.AvgPool2d(3, padding=1)),
            {"input_shape": (3, 6, 6)},
            r"module '0' \(AvgPool2d\): padding must be 0, got 1",
        ),
        (
            nn.Sequential(nn.AvgPool2d(3, ceil_mode=True)),
            {"input_shape": (3, 6, 6)},
            "ceil_mode must be False, got True",
        ),
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(4)),
            {"input_shape": (3, 6, 6)},
            "output_size must divide the image, 6 x 6, got 4",
        ),
        (
            nn.Sequential(nn.Flatten(2)),
            {"input_shape": (3, 6, 6)},
            r"module '0' \(Flatten\): start_dim must be 1, got 2",
        ),
        (
            nn.Sequential(nn.LayerNorm((3, 6, 6))),
            {"input_shape": (3, 6, 6)},
            r"module '0' \(LayerNorm\): normalized_shape must be \(features,\)",
        ),
        (nn.Sequential(nn.Softplus(2.0)), {"input_shape": 3}, "beta must be 1 and threshold 20"),
        (nn.Sequential(nn.Hardtanh(-2, 2)), {"input_shape": 3}, "bounds must be -1 and 1, or 0"),
        (
            modules.Residual({"a": nn.Linear(4, 5)}),
            {"input_shape": 4},
            "Residual: the branch must end with the shape it starts with, 4, got 5",
        ),
        (gained(), {"values": True}, r"module '1' \(LayerNorm\): weight of a norm must be 1, got"),
        (
            nn.Sequential(nn.BatchNorm1d(4)),
            {"init": {"*": "zeros"}},
            r"module '0' \(BatchNorm1d\): weight of a norm must be 1, got zeros",
        ),
        (tied(), {}, r"parameters '0\.weight' and '2\.weight' are one, of which a network would"),
        (
            nn.Sequential(nn.Linear(4, 4, device="meta")),
            {"values": True},
            r"module '0' \(Linear\): parameters on the meta device have no values",
        ),
        (perceptron(), {"init": {"3.wieght": 0}}, r"init\['3\.wieght'\] matches no parameter"),
        (perceptron(), {"init": "he_normal", "values": True}, "init must be None where values"),
        (perceptron(), {"input_shape": (1, 2)}, r"input_shape must be \(features,\) or \(channels"),
        (nn.ReLU(), {}, UNTOLD),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {}, UNTOLD),
        (
            nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
            ),
            {},
            UNTOLD,
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(50, 2)),
            {},
            r"no square image fits the 50 features of module '2'",
        ),
    ],
)
def test_modules_that_are_no_network(module, options, message):
    with pytest.raises(ValueError, match=message):
        from_module(module, **options)


def test_what_is_no_module_at_all():
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got Network"):
        from_module(network("pointwise"))


def test_tied_values_may_be_kept():
    net = from_module(tied(), values=True)
    assert net.layers[0].weight == net.layers[2].weight


@pytest.mark.filterwarnings("ignore:Lazy modules")  # before torch 2.5
def test_lazy_modules_are_named():
    with pytest.raises(ValueError, match=r"module '0' \(LazyLinear\): it is lazy"):
        from_module(nn.Sequential(nn.LazyLinear(4)))
