"""varprop.torch.profile against plain hooks and autograd.

The hooks are torch's own, on a copy of the model that changes nothing in place: forward hooks, and
full backward hooks, whose grad_input is the gradient through a module alone.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
import varprop.torch  # noqa: E402

nn, F = torch.nn, torch.nn.functional

SEED = 11
POINTWISE = (
    *(nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Dropout),
    *(nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.PReLU),
)


def drawn(shape, *, name="input", **options):
    return torch.tensor(vp.weights(shape, "normal", seed=SEED, name=name, **options))


class Block(nn.Module):
    """A residual block, which changes its tensors in place or not."""

    def __init__(self, inputs: int, outputs: int, stride: int, inplace: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.relu, self.inplace = nn.ReLU(inplace), inplace
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.inplace:
            out += self.shortcut(x)
        else:
            out = out + self.shortcut(x)
        return self.relu(out)


def convnet(inplace: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace),
        Block(8, 8, 1, inplace),
        Block(8, 12, 2, inplace),
        Block(12, 12, 1, inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


class Mixer(nn.Module):
    """Outputs of modules, and views of them, that are changed in place, or not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace
        self.up, self.down, self.out = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 8)
        self.act, self.drop, self.norm = nn.ReLU(inplace), nn.Dropout(0.0), nn.LayerNorm(8)
        self.flat = nn.Flatten(1)

    def forward(self, x):
        first, second, third = self.up(self.norm(x)).chunk(3, -1)
        gated = self.act(self.down(torch.tanh(first) * second))  # Linear of three axes gives a view
        h = self.drop(self.out(gated + third))
        if self.inplace:
            h += x
            h[..., :4].mul_(2.0)
            h = F.relu_(h)
            flat = self.flat(h * 1.5)
            flat *= 3
        else:
            h = torch.cat([2 * (h + x)[..., :4], (h + x)[..., 4:]], -1)
            flat = self.flat(F.relu(h) * 1.5) * 3
        return flat


class Hooked:
    """What plain hooks see of one pass and its way back, by the names of the modules' calls."""

    def __init__(self, model: nn.Module) -> None:
        self.entered, self.left, self.by_input, self.by_output = {}, {}, {}, {}
        self.calls: dict[str, int] = {}
        for name, module in model.named_modules():
            module.register_forward_hook(self._forward(name), with_kwargs=True)
            module.register_full_backward_hook(self._backward(name))

    def _forward(self, name):
        def hook(module, args, kwargs, output):
            first = output[0] if isinstance(output, tuple) else output
            self.calls[name] = self.calls.get(name, 0) + 1
            call = name if self.calls[name] == 1 else f"{name}:{self.calls[name]}"
            self.left[call] = first.detach().double().clone()
            if args:
                self.entered[call] = args[0].detach().double().clone()

        return hook

    def _backward(self, name):
        def hook(module, by_input, by_output):
            call = name if self.calls[name] == 1 else f"{name}:{self.calls[name]}"
            self.calls[name] -= 1  # the last call comes back first
            self.by_input[call], self.by_output[call] = by_input[0], by_output[0]

        return hook


def compare(run: vp.Run, twin: nn.Module, call, loss, init=None) -> None:
    """Hold each trial of a run against plain hooks on a twin of its model."""
    modules = dict(twin.named_modules())
    for row, trial in enumerate(range(run.first_trial, run.first_trial + run.trials)):
        fresh = copy.deepcopy(twin)
        if init is None:
            vp.torch.reset_parameters(fresh, SEED, trial=trial)
        else:
            vp.torch.init_(fresh, init, seed=SEED, trial=trial)
        hooked = Hooked(fresh)
        output = call(fresh)
        loss(output, trial).backward()
        for position, step in enumerate(run.network.steps):
            name = "" if step.name == type(twin).__name__ else step.name
            pointwise = isinstance(modules[name.split(":")[0]], POINTWISE)
            entered = hooked.entered if pointwise else hooked.left
            back = hooked.by_input if pointwise else hooked.by_output
            same(run.activations, row, position, hooked.left[name])
            same(run.preactivations, row, position, entered[name])
            same(run.gradients, row, position, back[name])
        for signal, is_weight in (("weight_gradients", True), ("bias_gradients", False)):
            statistics = getattr(run, signal)
            for position, name in enumerate(statistics.layer_names):
                own = dict(fresh.named_modules())["" if name == type(twin).__name__ else name]
                gradients = [
                    p.grad.double().flatten()
                    for key, p in own.named_parameters()
                    if (p.dim() > 1) == is_weight and (is_weight or "bias" in key)
                ]
                same(statistics, row, position, torch.cat(gradients))


def same(statistics, row: int, position: int, tensor) -> None:
    var, mean = torch.var_mean(tensor.double(), correction=0)
    name = statistics.layer_names[position]
    found = statistics.per_trial
    np.testing.assert_allclose(
        found.var[row, position], float(var), rtol=1e-5, atol=1e-20, err_msg=name
    )
    size = float(var + mean**2) ** 0.5
    np.testing.assert_allclose(
        found.mean[row, position], float(mean), rtol=1e-5, atol=1e-5 * size + 1e-12, err_msg=name
    )


def gaussian(output, trial):
    axes = (0, 2, 3, 1) if output.dim() == 4 else range(output.dim())
    shape = tuple(output.shape[axis] for axis in axes)
    cotangent = drawn(shape, name="cotangent", trial=trial)
    return (output * cotangent.permute(*np.argsort(list(axes)).tolist())).sum()


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer(norm_first, training):
    options = {"dropout": 0.0 if training else 0.3, "batch_first": True, "norm_first": norm_first}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors
        model = nn.Transformer(16, 4, 2, 2, 32, **options).train(training)
    source, target = drawn((3, 7, 16)), drawn((3, 5, 16), name="target")
    run = vp.torch.profile(model, (source, target), seed=SEED, trials=3, first_trial=2)
    assert run.layer_names[-1] == "decoder.norm"
    assert "decoder.layers.1.multihead_attn" in run.layer_names
    source.requires_grad_(), target.requires_grad_()  # for the full backward hooks
    compare(run, model, lambda m: m(source, target), gaussian)


@pytest.mark.parametrize("inplace", [True, False])
def test_a_residual_convnet(inplace):
    x = drawn((4, 3, 8, 8))
    run = vp.torch.profile(convnet(inplace), x, seed=SEED, trials=2)
    assert run.network.steps[5].name == "3.relu"
    assert "3.relu:2" in run.layer_names
    assert "3.shortcut" not in run.layer_names  # an empty one
    compare(run, convnet(False), lambda m: m(x.clone().requires_grad_()), gaussian)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
def test_tensors_that_are_changed_in_place(inplace, training):
    x = drawn((3, 5, 8))
    model = Mixer(inplace).train(training)
    run = vp.torch.profile(model, x, seed=SEED, trials=2)
    twin = Mixer(False).train(training)
    compare(run, twin, lambda m: m(x.clone().requires_grad_()), gaussian)


def test_inputs_get_their_gradient():
    model, x = nn.Sequential(nn.Linear(6, 9), nn.Tanh()), drawn((4, 6)).requires_grad_()
    run = vp.torch.profile(model, x.detach().numpy(), seed=SEED, trials=1)
    vp.torch.reset_parameters(model, SEED)
    gaussian(model(x), 0).backward()
    same(run.input_gradients, 0, 0, x.grad)
    assert np.array_equal(run.inputs(), x.detach().numpy())


OUTPUTS = {"mse": (4, 6, 5), "softmax_cross_entropy": (4, 6, 5), "bce": (4, 6, 5)}
LABELS = torch.arange(24).reshape(4, 6) % 5
TARGETS = {
    "mse": drawn((4, 6, 5), name="t"),
    "bce": torch.sigmoid(drawn((4, 6, 5), name="t")),
    "softmax_cross_entropy": LABELS,
}


def reference(loss, output, targets):
    """The losses, written out."""
    if loss == "mse":
        return ((output - targets) ** 2).mean()
    if loss == "bce":
        return -(targets * output.log() + (1 - targets) * (1 - output).log()).mean()
    logs = output.log_softmax(-1)
    if targets.dim() == output.dim():
        return -(targets * logs).sum(-1).mean()
    return -logs.gather(-1, targets.long().unsqueeze(-1)).mean()


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy", "bce"])
def test_losses_by_name(loss, given):
    def model():
        last = nn.Sigmoid() if loss == "bce" else nn.Tanh()
        return nn.Sequential(nn.Linear(7, 5), last)

    def targets(trial):
        if given:
            return TARGETS[loss]
        if loss == "softmax_cross_entropy":
            share = vp.weights(24, "uniform(-1, 1)", seed=SEED, name="targets", trial=trial)
            return torch.tensor(np.floor((share.astype(float) + 1) / 2 * 5)).reshape(4, 6)
        law = "normal" if loss == "mse" else "uniform(-1, 1)"
        numbers = vp.weights((4, 6, 5), law, seed=SEED, name="targets", trial=trial)
        return torch.tensor(numbers if loss == "mse" else (numbers > 0).astype(np.float32))

    x = drawn((4, 6, 7))
    own = TARGETS[loss].numpy().astype(float if loss != "softmax_cross_entropy" else int)
    run = vp.torch.profile(
        model(), x, seed=SEED, trials=2, loss=loss, targets=own if given else None
    )
    compare(
        run,
        model(),
        lambda m: m(x.clone().requires_grad_()),
        lambda output, trial: reference(loss, output, targets(trial)),
    )
    assert run.loss == loss
    assert (run.given_targets is not None) == given


def test_probabilities_as_targets():
    shares = drawn((4, 6, 5), name="t").softmax(-1)
    x, model = drawn((4, 6, 7)), nn.Linear(7, 5)
    run = vp.torch.profile(
        model, x, seed=SEED, trials=1, loss="softmax_cross_entropy", targets=shares
    )
    compare(
        run,
        model,
        lambda m: m(x.clone().requires_grad_()),
        lambda output, _: reference("softmax_cross_entropy", output, shares),
    )


def test_losses_that_are_functions():
    x, targets = drawn((4, 6, 7)), drawn((4, 6, 5), name="t")

    def alone(output):
        return output.pow(4).sum()

    def with_targets(output, targets):
        return (output - targets).abs().sum()

    run = vp.torch.profile(nn.Linear(7, 5), x, seed=SEED, trials=2, loss=alone)
    compare(run, nn.Linear(7, 5), lambda m: m(x.clone().requires_grad_()), lambda o, _: alone(o))
    assert run.loss == "alone"
    run = vp.torch.profile(
        nn.Linear(7, 5), x, seed=SEED, trials=2, loss=with_targets, targets=targets
    )
    compare(
        run,
        nn.Linear(7, 5),
        lambda m: m(x.clone().requires_grad_()),
        lambda output, _: with_targets(output, targets),
    )


def test_laws_of_the_user():
    x = drawn((5, 6))

    def model():
        return nn.Sequential(nn.Linear(6, 9), nn.PReLU(), nn.LayerNorm(9), nn.Linear(9, 3))

    init = {"*.weight": "normal(std=0.5)", "3.weight": "orthogonal", "*.bias": "normal"}
    init |= {"1.weight": 0.2}
    run = vp.torch.profile(model(), x, init=init, seed=SEED, trials=2)
    compare(run, model(), lambda m: m(x.clone().requires_grad_()), gaussian, init)
    vp.torch.init_(twin := model(), init, seed=SEED, trial=1)
    assert np.array_equal(run.weights("3", 1), twin[3].weight.detach().numpy().T)
    assert np.array_equal(run.bias("0", 1), twin[0].bias.detach().numpy())


def test_extremes_and_kurtosis():
    model, x = nn.Sequential(nn.Linear(6, 50), nn.GELU()), drawn((40, 6))
    run = vp.torch.profile(model, x, seed=SEED, trials=1, statistics=["extremes", "kurtosis"])
    vp.torch.reset_parameters(model, SEED)
    out = model(x).detach().double()
    centred = (out - out.mean()) / out.std(correction=0)
    assert run.activations.kurtosis[1] == pytest.approx(float((centred**4).mean()))
    assert run.activations.max[1] == pytest.approx(float(out.max()))


# --- any model ------------------------------------------------------------------------------------


def encoder(layers: int = 3, width: int = 16, **options) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True, **options)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def trunk(run: vp.Run) -> list[str]:
    return [step.name for step in run.network.steps if step.trunk is not None]


class Model(nn.Module):
    """A model of named parts, and a function of them and the inputs."""

    def __init__(self, forward, **parts) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self._forward(self, *args, **kwargs)


TOKENS = torch.arange(24).reshape(4, 6) % 11
X = drawn((4, 6, 16))
BACKWARDS = X.double().numpy()[::-1]
BACKWARDS.flags.writeable = False


def tied() -> nn.Module:
    model = Model(
        lambda m, tokens: m.head(torch.tanh(m.embed(tokens))),
        embed=nn.Embedding(11, 16),
        head=nn.Linear(16, 11, bias=False),
    )
    model.head.weight = model.embed.weight
    return model


def checkpointed(reentrant: bool) -> nn.Module:
    from torch.utils.checkpoint import checkpoint

    def forward(m, x):
        for block in m.blocks:
            x = checkpoint(block, x, use_reentrant=reentrant)
        return x

    return Model(forward, blocks=nn.ModuleList([residual() for _ in range(3)]))


def residual() -> nn.Module:
    return Model(
        lambda m, x: x + m.down(m.act(m.up(m.norm(x)))),
        norm=nn.LayerNorm(16),
        up=nn.Linear(16, 8),
        act=nn.ReLU(inplace=True),
        down=nn.Linear(8, 16),
    )


def last_of(m, x):
    outputs, _ = m.cell(x)
    return m.head(outputs[:, -1])


def shared(m, *, a, b):
    return {"step": 1, "sum": m.layer(a) + m.layer(b)}


@dataclasses.dataclass
class Answer:
    """What a model may return: the first tensor in it counts."""

    label: str
    logits: torch.Tensor


MODELS = {
    "a dataclass": (
        lambda: Model(lambda m, x: Answer("a", m.layer(x)), layer=nn.Linear(16, 3)),
        X,
        ["layer"],
    ),
    "an array, read-only and backwards": (lambda: nn.Linear(16, 3), BACKWARDS, ["Linear"]),
    "vmap": (
        lambda: Model(lambda m, x: torch.vmap(m.layer)(x), layer=nn.Linear(16, 3)),
        X,
        ["Model"],
    ),
    "one layer": (lambda: nn.Linear(16, 3), X, ["Linear"]),
    "one number an example": (lambda: nn.Linear(16, 1), X[0], ["Linear"]),
    "one example": (lambda: nn.Linear(16, 3), X[:1], ["Linear"]),
    "tied embedding": (tied, TOKENS, ["embed", "head"]),
    "sparse gradients": (
        lambda: nn.Sequential(nn.Embedding(11, 8, sparse=True), nn.Linear(8, 2)),
        TOKENS,
        ["0", "1"],
    ),
    "lstm": (
        lambda: Model(last_of, cell=nn.LSTM(16, 5, 2, batch_first=True), head=nn.Linear(5, 2)),
        X,
        ["cell", "head"],
    ),
    "gru alone": (lambda: nn.GRU(16, 5, batch_first=True), X, ["GRU"]),
    "attention alone": (
        lambda: nn.MultiheadAttention(16, 4, batch_first=True).eval(),
        (X, X, X),
        ["MultiheadAttention"],
    ),
    "keywords, a dict, a module twice": (
        lambda: Model(shared, layer=nn.Linear(16, 3), unused=nn.Linear(2, 2)),
        {"a": X, "b": 2 * X},
        ["layer", "layer:2", "Model"],
    ),
    "no modules inside": (
        lambda: Model(
            lambda m, x: x @ m.w + m.b,
            w=nn.Parameter(X[0, :5].T.clone()),
            b=nn.Parameter(torch.zeros(5)),
        ),
        X,
        ["Model"],
    ),
    "1-d convolution": (
        lambda: nn.Sequential(nn.Conv1d(6, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)),
        X,
        ["0", "1", "2", "3"],
    ),
    "3-d convolution": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 2), nn.BatchNorm3d(4), nn.ReLU()),
        drawn((2, 1, 3, 4, 5)),
        ["0", "1", "2"],
    ),
    "checkpoints": (lambda: checkpointed(False), X, None),
    "reentrant checkpoints": (lambda: checkpointed(True), X, None),
    "data parallel": (lambda: nn.DataParallel(nn.Sequential(nn.Linear(16, 2))), X, ["0"]),
    "bfloat16": (lambda: nn.Linear(16, 3).bfloat16(), X.bfloat16(), ["Linear"]),
    "float64": (lambda: nn.Linear(16, 3).double(), X.double(), ["Linear"]),
    "spectral norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(16, 8)), nn.Tanh()),
        X,
        ["0", "1"],
    ),
    "compiled": (lambda: torch.compile(nn.Sequential(nn.Linear(16, 2)), backend="eager"), X, ["0"]),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.filterwarnings("ignore:no law is known")
def test_models_of_every_kind(case, tmp_path):
    make, inputs, names = MODELS[case]
    run = vp.torch.profile(make(), inputs, seed=SEED, trials=3)
    assert names is None or list(run.layer_names) == names
    var = run.activations.per_trial.var
    assert np.isfinite(var).all()
    assert np.isfinite(run.gradients.per_trial.var).all()
    assert ("input_gradients" in run.observed) == (inputs is not TOKENS)
    assert run.verdict.forward == ("exploding" if case == "tied embedding" else "stable")
    assert all(name in run.table(every=1) for name in run.layer_names[:5])
    run.save(tmp_path / "run.npz")
    loaded = vp.load(tmp_path / "run.npz")
    assert loaded.network == run.network
    assert np.array_equal(loaded.activations.per_trial.var, var)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_change_no_number(reentrant):
    plain = Model(lambda m, x: m.blocks(x), blocks=nn.Sequential(*[residual() for _ in "abc"]))
    one, other = (
        vp.torch.profile(model, X, seed=SEED, trials=2)
        for model in (plain, checkpointed(reentrant))
    )
    assert one.layer_names == other.layer_names
    for signal in one.observed:
        found = [getattr(run, signal).per_trial.var for run in (one, other)]
        np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_padding_and_fast_paths_hide_no_module(training):
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, 4:] = True
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).train(training)
    run = vp.torch.profile(model, {"src": X, "src_key_padding_mask": mask}, seed=SEED, trials=2)
    assert "layers.1.self_attn" in run.layer_names
    x = X.clone().requires_grad_()
    compare(run, model.train(), lambda m: m(x, src_key_padding_mask=mask), gaussian)


def test_a_module_that_comes_to_nothing_has_zero_gradients():
    model = Model(lambda m, x: (m.out(x), m.aside(x)), out=nn.Linear(16, 2), aside=nn.Linear(16, 2))
    run = vp.torch.profile(model, X, trials=2)
    assert run.gradients.var[0] > 0
    assert run.gradients.per_trial.log10_second_moment[:, 1].tolist() == [-np.inf, -np.inf]


def test_a_pass_within_no_grad_has_no_gradient():
    def forward(m, x):
        x = m.layer(x)
        with torch.no_grad():
            gate = m.norm(x)
        with torch.inference_mode():
            other = m.norm(x)
        return x * gate + other.clone()

    model = Model(forward, layer=nn.Linear(16, 16), norm=nn.LayerNorm(16))
    run = vp.torch.profile(model, X, trials=2)
    assert run.layer_names == ("layer", "norm", "norm:2", "Model")
    assert np.isnan(run.gradients.var).tolist() == [False, True, True, False]


def test_a_model_that_differentiates():
    def forces(m, x):
        energy = m.out(torch.tanh(m.layer(x))).sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0]

    model = Model(forces, layer=nn.Linear(16, 8), out=nn.Linear(8, 1))
    x = X.clone().requires_grad_()
    run = vp.torch.profile(model, X, seed=SEED, trials=1)
    vp.torch.reset_parameters(model, SEED)
    gaussian(model(x), 0).backward()
    same(run.weight_gradients, 0, 0, model.layer.weight.grad)


# --- the way through the model --------------------------------------------------------------------


class Convolved(nn.Module):
    """A block that only chains others."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(x))


class Stage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, width, 1, True) for _ in range(2)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_the_trunk_is_the_repeated_blocks():
    image = drawn((2, 3, 8, 8))
    chain = nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(3)])
    towers = Model(lambda m, x: m.one(x) + m.two(2 * x), one=encoder(2), two=encoder(2))
    cases = [
        (encoder(3), X, ["layers.0", "layers.1", "layers.2"]),
        (chain, X, ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]),
        (convnet(True), image, ["3", "4", "5"]),
        (nn.Sequential(Convolved(3, 4), Convolved(4, 4)), image, ["0", "1"]),
        (nn.Sequential(Stage(3), Stage(3)), image, [f"{i}.blocks.{j}" for i in "01" for j in "01"]),
        (towers, X, [f"{name}.layers.{i}" for name in ("one", "two") for i in "01"]),
    ]
    for model, inputs, names in cases:
        assert trunk(vp.torch.profile(model, inputs, trials=1)) == names


def test_the_verdict_on_transformers():
    def words(**options):
        model = encoder(16, dropout=0.0, **options)
        verdict = vp.torch.profile(model, X, init=init, trials=2).verdict
        return verdict.forward, verdict.details["forward"].layers

    init = None
    assert words(norm_first=False) == ("stable", 16)
    assert words(norm_first=True) == ("stable", 16)
    init = {"*weight": "normal(std=1)", "*norm*.weight": "ones", "*bias": "zeros"}
    assert words(norm_first=False) == ("stable", 16)  # its norms see to it
    assert words(norm_first=True)[0] == "exploding"


def test_the_first_block_counts_where_it_is_broken():
    init = {"*weight": "torch_linear", "*norm*.weight": "ones", "*bias": "zeros"}
    model = encoder(4, dropout=0.0, norm_first=True)
    entering = float((X.double() ** 2).mean())

    def judged(init):
        run = vp.torch.profile(model, X, init=init, trials=3)
        assert run.block_inputs.second_moment[0] == pytest.approx(entering, rel=1e-6)
        blocks = run.activations.per_trial.second_moment[:, list(run.network.blocks)]
        return run.verdict, blocks[:, -1] / blocks[:, 0], blocks[:, -1] / entering

    verdict, from_first, _ = judged(init)
    factor = verdict.details["forward"].log10_factor
    assert factor == pytest.approx(np.log10(from_first).mean(), abs=1e-6)
    assert "over 3 blocks" in str(verdict)
    verdict, _, from_input = judged(init | {"layers.0.linear2.weight": "normal(std=20)"})
    factor = verdict.details["forward"].log10_factor
    assert factor == pytest.approx(np.log10(from_input).mean(), abs=1e-6)
    assert verdict.forward == "exploding"
    assert "over 4 blocks" in str(verdict)


def test_a_broken_init_fails_the_assertion():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(10)])
    x = drawn((8, 64))
    vp.torch.profile(model, x, init="glorot_normal", trials=3).assert_healthy()
    run = vp.torch.profile(model, x, init=vp.initializers.Normal(10 / 8), trials=3)
    with pytest.raises(vp.UnhealthySignal, match="backward exploding"):
        run.assert_healthy()
    run = vp.torch.profile(model, x, init=vp.initializers.Normal(0.1 / 8), trials=3)
    with pytest.raises(vp.UnhealthySignal, match="forward vanishing, backward vanishing"):
        run.assert_healthy()


# --- the run --------------------------------------------------------------------------------------


def test_halves_make_the_whole(tmp_path):
    model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(8, 2))
    options = {"seed": SEED, "statistics": ("extremes", "kurtosis")}
    whole = vp.torch.profile(model, X, trials=5, **options)
    first = vp.torch.profile(model, X, trials=2, **options)
    second = vp.torch.profile(model, X, trials=3, first_trial=2, **options)
    first.save(tmp_path / "first.json")
    joined = vp.concat([vp.load(tmp_path / "first.json"), second])
    for signal, observed in whole.observed.items():
        for key, values in observed.items():
            assert np.array_equal(values, joined.observed[signal][key]), (signal, key)


def test_what_a_run_offers():
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    run = vp.torch.profile(encoder(2), X, trials=3)
    frame = run.to_dataframe()
    assert set(run.layer_names) <= set(frame["layer"])
    assert len(run.table(every=1).splitlines()) >= len(run.layer_names)
    assert "layers.1<" in run._repr_html_()
    for kind in ("variance", "weight_gradients"):
        run.plot(kind=kind).clear()
    with pytest.raises(ValueError, match="in_proj_weight"):
        run.weights("layers.0.self_attn")
    with pytest.raises(NotImplementedError, match="profiled"):
        run.theory()
    with pytest.raises(TypeError, match="module that was profiled: it cannot be simulated"):
        vp.simulate(run.network, 5)


def test_weights_are_those_that_were_used():
    model = nn.Sequential(nn.Conv2d(3, 4, (1, 2), groups=1), nn.Conv2d(4, 6, 2, groups=2))
    run = vp.torch.profile(model, drawn((2, 3, 5, 5)), seed=SEED, trials=2)
    vp.torch.reset_parameters(model, SEED, trial=1)
    for name, module in model.named_children():
        weight = module.weight.detach().numpy().transpose(2, 3, 1, 0)
        assert np.array_equal(run.weights(name, 1), weight)
        assert np.array_equal(run.bias(name, 1), module.bias.detach().numpy())
    alone = nn.Linear(4, 3)
    run = vp.torch.profile(alone, drawn((2, 4)), seed=SEED, trials=1)
    vp.torch.reset_parameters(alone, SEED)
    assert np.array_equal(run.weights("Linear"), alone.weight.detach().numpy().T)


def test_what_leaves_the_range_is_said():
    model = Model(
        lambda m, x: m.last(m.first(x) * 1e30 * 1e30),
        first=nn.Linear(16, 16),
        last=nn.Linear(16, 16),
    )
    run = vp.torch.profile(model, X, trials=2)
    assert run.out_of_range == [("last", 0), ("last", 1)]
    assert run.activations.var[0] > 0
    assert np.isnan(run.activations.var[1])
    assert np.isnan(run.gradients.var).all()
    assert run.verdict.forward == "exploding"
    assert "out of the range of float32: module last in trial 0" in str(run).replace("\n", " ")


# --- bad input ------------------------------------------------------------------------------------


def integers() -> nn.Module:
    whole = nn.Parameter(torch.arange(3), requires_grad=False)
    return Model(lambda m, x: m.layer(x), layer=nn.Linear(16, 3), whole=whole)


def either(m, x):
    return m.one(x) if torch.rand(()) < 0.5 else m.two(x)


BAD = {
    "no module": (lambda: "model", {}, TypeError, "module must be a torch.nn.Module, got str"),
    "no parameters": (nn.Tanh, {}, ValueError, "model must have parameters"),
    "integers": (integers, {}, TypeError, "parameter 'whole' must be float32, .* got torch.int64"),
    "meta": (lambda: nn.Linear(16, 3, device="meta"), {}, ValueError, "'weight' has no values"),
    "script": (
        lambda: torch.jit.trace(nn.Linear(16, 3), X),
        {},
        TypeError,
        "model must be as it was before torch.jit",
    ),
    "structure": (
        lambda: Model(either, one=nn.Linear(16, 3), two=nn.Linear(16, 3)),
        {"trials": 20},  # alike with probability 2^-19
        ValueError,
        "model must call the same modules in each trial",
    ),
    "no way back": (
        lambda: Model(lambda m, x: m.a(x).argmax(-1).float(), a=nn.Linear(16, 3)),
        {},
        ValueError,
        "model must return a tensor that gradients go back from",
    ),
    "no tensor": (
        lambda: Model(lambda m, x: m.a(x).sum().item(), a=nn.Linear(16, 3)),
        {},
        ValueError,
        "model must return a tensor, got float",
    ),
    "pattern": (None, {"init": {"wieght": 1}}, ValueError, "'wieght'. matches no .* 'weight'"),
    "law": (None, {"init": "he_norm"}, ValueError, "init.*'he_norm'.*he_normal"),
    "trials": (None, {"trials": 0}, ValueError, "trials must be an integer >= 1, got 0"),
    "statistics": (
        None,
        {"statistics": "saturation"},
        ValueError,
        "unknown statistics of a profile 'saturation",
    ),
    "loss": (None, {"loss": "msee"}, ValueError, "unknown loss 'msee': did you mean 'mse'"),
    "loss of no kind": (None, {"loss": 3}, TypeError, "loss must be a name or a function"),
    "loss of many numbers": (None, {"loss": lambda y: y}, ValueError, "loss must return one num"),
    "loss without a past": (
        None,
        {"loss": lambda _: torch.zeros(())},
        ValueError,
        "loss must return a tensor that gradients go back from",
    ),
    "targets of gaussian": (None, {"targets": X}, ValueError, "targets must be None"),
    "targets' shape": (
        None,
        {"loss": "mse", "targets": np.zeros((4, 6))},
        ValueError,
        r"targets must have shape \(4, 6, 3\) for loss 'mse', got \(4, 6\)",
    ),
    "labels that are real": (
        None,
        {"loss": "softmax_cross_entropy", "targets": np.zeros((4, 6))},
        TypeError,
        "must be integers",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bad_input(case):
    make, options, error, message = BAD[case]
    model = make() if make else nn.Linear(16, 3)
    with pytest.raises(error, match=message):
        vp.torch.profile(model, X, **{"trials": 1, **options})


def test_lazy_modules_must_be_called_first():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.LazyLinear(3)
    with pytest.raises(ValueError, match="'weight' has no shape yet: call the lazy module once"):
        vp.torch.profile(model, X)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (X[:0], ValueError, "inputs must not be empty"),
        (X / 0, ValueError, "inputs must be finite"),
        ("x", TypeError, "inputs must hold a tensor or an array"),
        ((), TypeError, "inputs must hold a tensor or an array"),
    ],
)
def test_bad_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        vp.torch.profile(nn.Linear(16, 3), inputs)


def test_parameters_without_a_law_are_said():
    model = Model(
        lambda m, x: m.layer(x) + m.token, layer=nn.Linear(16, 3), token=nn.Parameter(X[:1, :1, :3])
    )
    with pytest.warns(UserWarning, match="no law is known of token") as caught:
        run = vp.torch.profile(model, X, trials=2)
    assert caught[0].filename == __file__
    assert run.layer_names == ("layer", "Model")
