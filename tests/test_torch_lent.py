"""A profile gives the model back as it was, to the bit, however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import varprop as vp

torch = pytest.importorskip("torch")
import varprop.torch  # noqa: E402

nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore:no law is known")


class Stateful(nn.Module):
    """A model that changes its own state in every pass, in all the ways that there are."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8, padding_idx=0)
        self.first, self.norm, self.last = nn.Linear(8, 8), nn.BatchNorm1d(5), nn.Linear(8, 3)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
        self.drop, self.attend = nn.Dropout(0.2), nn.MultiheadAttention(8, 2, batch_first=True)
        self.token = nn.Parameter(torch.ones(8))
        self.register_buffer("steps", torch.zeros(1, dtype=torch.long))
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.register_buffer("later", None)
        self.memory = None
        self.error: BaseException | None = None
        self.attend.eval()
        self.first.bias.requires_grad_(False)

    def forward(self, tokens):
        self.steps += 1
        self.cache = self.cache + 1
        self.later = torch.ones(3)
        self.register_buffer("new", torch.ones(1), persistent=False)
        self.extra = "set in a pass"
        with torch.no_grad():
            self.token.clamp_(max=0.5)
        x = self.norm(torch.tanh(self.first(self.embed(tokens) * self.token)))
        x = x + self.attend(x, x, x)[0]
        x = self.drop(self.spectral(x))
        self.memory = x if self.memory is None else self.memory + x
        self.eval()
        if self.error is not None:
            raise self.error
        return self.last(self.memory)


TOKENS = torch.arange(20).reshape(4, 5) % 7


def made() -> Stateful:
    torch.manual_seed(3)
    model = Stateful()
    model(TOKENS).sum().backward()
    model.train()
    model.memory = None
    model.norm.eval()
    model.attend.eval()
    model.first.register_forward_hook(lambda *_: None)
    model.token.register_hook(lambda g: g)
    return model


def bits(tensor):
    data = tensor.detach()
    return None if tensor.grad is None else id(tensor.grad), data.numpy().tobytes()


def state(model: nn.Module) -> dict[str, object]:
    """Everything about a model and about torch that a profile might leave changed."""
    attention = getattr(torch.backends, "mha", None)  # since torch 2.3
    found: dict[str, object] = {
        "random": torch.get_rng_state().numpy().tobytes(),
        "fast path": attention and attention.get_fastpath_enabled(),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        hooks = None if tensor._backward_hooks is None else len(tensor._backward_hooks)
        found[name] = (
            *(id(tensor), tensor.data_ptr(), tensor._version, tensor.requires_grad, hooks),
            bits(tensor),
        )
        if tensor.grad is not None:
            found[f"gradient of {name}"] = tensor.grad.numpy().tobytes(), tensor.grad._version
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            size = len(value) if isinstance(value, (dict, set)) else None
            found[f"{name}: {attribute}"] = id(value), size
        found[f"{name}: buffers"] = list(module._buffers), list(module._non_persistent_buffers_set)
    return found


@pytest.fixture
def model():
    """A model that must be as it was when the test is over."""
    model = made()
    before = state(model)
    yield model
    if model.error is not None:
        model.error = None
    after = state(model)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed == set()


def test_after_a_run(model):
    run = vp.torch.profile(model, TOKENS, trials=3)
    assert run.layer_names[-1] == "last"
    again = vp.torch.profile(model, TOKENS, trials=1, first_trial=2)
    for signal in run.observed:  # each trial starts with the same state
        found = getattr(run, signal).per_trial.var[2]
        assert found.tolist() == getattr(again, signal).per_trial.var[0].tolist(), signal


def test_within_no_grad(model):
    with torch.no_grad():
        run = vp.torch.profile(model, TOKENS, trials=1)
        assert not torch.is_grad_enabled()
    assert run.weight_gradients.var[0] > 0


def test_within_inference_mode(model):
    with torch.inference_mode():
        run = vp.torch.profile(model, TOKENS.clone(), trials=1)
        assert torch.is_inference_mode_enabled()
        layer = nn.Sequential(nn.PReLU())
        with pytest.raises(ValueError, match=r"'0.weight' must not be made in torch.inference_m"):
            vp.torch.profile(layer, torch.ones(2, 3))
    assert run.weight_gradients.var[0] > 0


@pytest.mark.parametrize("error", [RuntimeError("of the model"), KeyboardInterrupt()])
def test_after_an_error_of_the_model(model, error):
    vars(model)["error"] = error
    try:
        with pytest.raises(type(error)) as caught:
            vp.torch.profile(model, TOKENS, trials=2)
    finally:
        vars(model)["error"] = None
    assert caught.value is error


def test_after_an_error_of_the_loss(model):
    error = ZeroDivisionError("of the loss")

    def loss(_):
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        vp.torch.profile(model, TOKENS, trials=2, loss=loss)
    assert caught.value is error


def test_after_an_error_on_the_way_back(model):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(*_):
            raise ZeroDivisionError("on the way back")

    with pytest.raises(ZeroDivisionError, match="on the way back"):
        vp.torch.profile(model, TOKENS, trials=2, loss=lambda output: Fails.apply(output).sum())


def test_after_an_interruption_between_trials(model):
    def progress(fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vp.torch.profile(model, TOKENS, trials=4, progress=progress)


@pytest.mark.parametrize("call", range(1, 17, 3))
def test_after_an_interruption_within_a_pass(call):
    model, calls = made(), []

    def hook(*_):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt

    for module in model.modules():
        module.register_forward_hook(hook)
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        vp.torch.profile(model, TOKENS, trials=3)
    assert state(model) == before


def test_bad_input_touches_nothing(model):
    for options in ({"trials": 0}, {"loss": "none"}, {"init": {"nothing": 1}}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            vp.torch.profile(model, TOKENS, **options)


def test_a_pass_of_the_users_goes_on():
    layers = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
    x = torch.ones(3, 6)
    layers(x).pow(2).sum().backward()
    wanted = [p.grad.clone() for p in layers.parameters()]
    layers.zero_grad()
    pending = layers(x).pow(2).sum()
    vp.torch.profile(layers, x, trials=2)
    pending.backward()
    for parameter, gradient in zip(layers.parameters(), wanted, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_a_module_that_returns_a_parameter_keeps_no_hook():
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5, 8))

        def forward(self):
            return self.weight

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions, self.layer = Positions(), nn.Linear(8, 3)

        def forward(self, x):
            return self.layer(x + self.positions())

    model = Placed()
    init = {"positions.weight": "normal", "layer.weight": "he_normal"}
    run = vp.torch.profile(model, torch.ones(2, 5, 8), init=init, trials=2)
    assert run.gradients.var[0] == pytest.approx(run.weight_gradients.var[0])
    assert not model.positions.weight._backward_hooks


# A real interruption, at any time: in a process of its own, many times.
INTERRUPTED = """\
import os, random, signal, sys, threading
sys.path.insert(0, {tests!r})
from test_torch_lent import TOKENS, made, state, vp
model = made()
vp.torch.profile(model, TOKENS, trials=2)
before = state(model)
numbers = random.Random(5)
for _ in range({rounds}):
    timer = threading.Timer(numbers.uniform(0, 0.03), os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        vp.torch.profile(model, TOKENS, trials=10**6)
    except KeyboardInterrupt:
        timer.join()
    after = state(model)
    assert before == after, {{k for k in before | after if before.get(k) != after.get(k)}}
print("as it was")
"""


def test_after_interruptions_at_any_time():
    code = INTERRUPTED.format(tests=str(Path(__file__).parent), rounds=30)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "as it was\n", done.stderr
