"""varprop.torch.Monitor against plain hooks and NumPy, and against a training without it."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import nullcontext

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
import varprop.torch  # noqa: E402

nn, F = torch.nn, torch.nn.functional


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mlp(activation=nn.Tanh, sizes=(20, 30, 40, 5)):
    layers = [(nn.Linear(a, b), activation()) for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*[module for pair in layers for module in pair][:-1])
    vp.torch.init_(model, {"*.weight": "xavier_normal", "*.bias": "normal(std=0.1)"}, seed=3)
    return model


def batches(count, rows=32, features=20, classes=5):
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        yield (
            torch.randn(rows, features, generator=generator),
            torch.randint(classes, (rows,), generator=generator),
        )


def held_out(rows=64, features=20):
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(6))


def train(model, optimizer, steps, monitor=None):
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if monitor is not None:
            monitor.log(loss=loss)
        optimizer.step()


def sgd(model, lr=0.5):
    return torch.optim.SGD(model.parameters(), lr=lr)


def plain(model, steps, every, on, slope):
    """Train with hooks of torch's own, and return arrays of all that a record has of a step."""
    linears = [i for i, module in enumerate(model) if isinstance(module, nn.Linear)]
    records, optimizer = [], sgd(model)

    def hook(kept, name, tensor):
        kept[name] = tensor
        if tensor.requires_grad:
            tensor.retain_grad()

    def outputs(x):
        kept = {}
        handles = [
            module.register_forward_hook(lambda _m, _args, out, name=str(i): hook(kept, name, out))
            for i, module in enumerate(model)
        ]
        out = model(x)
        for handle in handles:
            handle.remove()
        return out, kept

    for step, (x, y) in enumerate(batches(steps)):
        found = {}
        with torch.no_grad():
            found["activations"] = {k: v.numpy() for k, v in outputs(on)[1].items()}
        optimizer.zero_grad()
        out, kept = outputs(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        found["loss"] = loss.item()
        # Of a Tanh the pre-activations are what the Linear before it gave.
        own = {name: tensor.grad.numpy().copy() for name, tensor in kept.items()}
        found["gradients"] = {
            str(i): own[str(i if i in linears else i - 1)] for i in range(len(model))
        }
        before = {str(i): model[i].weight.detach().numpy().copy() for i in linears}
        found["weights"] = before
        found["weight_gradients"] = {str(i): model[i].weight.grad.numpy().copy() for i in linears}
        optimizer.step()
        found["update_ratio"] = {
            name: np.linalg.norm(model[int(name)].weight.detach().numpy() - w) / np.linalg.norm(w)
            for name, w in before.items()
        }
        found["slopes"] = {
            str(i): slope(found["activations"][str(i - 1)])
            for i in range(len(model))
            if i not in linears
        }
        if step % every == 0:
            records.append(found)
    return records


@pytest.mark.parametrize(
    ("activation", "slope"),
    [
        (nn.Tanh, lambda z: 1 - np.tanh(z.astype(np.float64)) ** 2),
        (nn.ReLU, lambda z: (z > 0).astype(np.float64)),
    ],
)
def test_every_number(activation, slope):
    on = held_out()
    with vp.torch.Monitor(mlp(activation), 20, on) as m:
        train(m._model, sgd(m._model), 61, m)
    expected = plain(mlp(activation), 61, 20, on, slope)
    assert m.steps.tolist() == [0, 20, 40, 60]
    assert m.losses == pytest.approx([found["loss"] for found in expected], rel=1e-6)
    for record, found in zip(m.records, expected, strict=True):
        for name in ("activations", "gradients", "weight_gradients", "weights"):
            ours = record.of(name)
            assert ours.layer_names == tuple(found[name])
            for i, numbers in enumerate(found[name].values()):
                numbers = numbers.astype(np.float64)
                assert ours.count[i] == numbers.size
                assert ours.mean[i] == pytest.approx(numbers.mean(), rel=1e-9, abs=1e-12)
                assert ours.std[i] == pytest.approx(numbers.std(), rel=1e-9)
                assert (ours.min[i], ours.max[i]) == (numbers.min(), numbers.max())
                for q, value in (("p02", 2), ("p98", 98)):
                    # Right to a bin: a sixteenth of an octave, and 2^-10 of the size near zero.
                    low, high = np.percentile(numbers, (value - 0.5, value + 0.5))
                    room = abs(low) / 16, abs(high) / 16
                    near = 2**-9 * np.sqrt(np.mean(numbers**2))
                    assert low - room[0] - near <= getattr(ours, q)[i] <= high + room[1] + near
                counts, edges = (part[i] for part in ours.histogram())
                np.testing.assert_array_equal(counts, plain_histogram(numbers, edges))
        for name, slopes in found["slopes"].items():
            i = record.activations.of(name)
            sure = np.abs(np.abs(slopes) - 0.1) > 1e-5  # float32 may see others on the other side
            share = np.mean(np.abs(slopes) < 0.1)
            assert record.activations.saturation[i] == pytest.approx(
                share, abs=np.mean(~sure) + 1e-12
            )
            assert record.activations.zero_slope[i] == pytest.approx(np.mean(slopes == 0))
            assert record.activations.dead[i] == pytest.approx(np.mean((slopes == 0).all(axis=0)))
        linear = [record.activations.of(name) for name in found["weights"]]
        assert np.isnan(record.activations.saturation[linear]).all()
        np.testing.assert_allclose(
            record.weights.update_ratio, list(found["update_ratio"].values()), rtol=1e-5
        )
    assert m.hidden == ("1", "3")
    if activation is nn.ReLU:
        assert (m.activations.zero_slope[:, [1, 3]] > 0.2).all()


def plain_histogram(numbers, edges):
    """Count as the bins say: a negative number belongs to the bin whose lower end it is."""
    magnitudes = np.abs(numbers)
    up, down = numbers[numbers >= 0], magnitudes[numbers < 0]
    ends = edges[edges > 0]
    above, below = (np.searchsorted(ends, part, side="right") for part in (up, down))
    counts = np.zeros(len(edges) - 1, np.int64)
    middle = len(counts) // 2
    np.add.at(counts, middle + above, 1)
    np.add.at(counts, middle - below, 1)
    return counts


class Noisy(nn.Module):
    """A model with a state: BatchNorm, dropout, a counter of its own."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(20, 30), nn.BatchNorm1d(30), nn.ReLU(inplace=True), nn.Dropout(0.3)
        )
        self.branch, self.head = nn.Linear(30, 30), nn.Linear(30, 5)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        h = self.body(x)
        h = h + torch.tanh(self.branch(h)) + 0.1 * h
        return self.head(F.dropout(h, 0.1, self.training))


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("make", [sgd, lambda m: torch.optim.Adam(m.parameters(), lr=0.01)])
def test_training_is_unchanged_to_the_bit(given, make):
    def trained(watch):
        torch.manual_seed(0)
        model = Noisy()
        optimizer = make(model)
        monitor = vp.torch.Monitor(model, 7, held_out() if given else None)
        with monitor if watch else nullcontext() as m:
            for step, (x, y) in enumerate(batches(300)):
                if step % 50 == 49:  # the user's own evaluation
                    model.eval()
                    with torch.no_grad():
                        model(x)
                    model.train()
                optimizer.zero_grad(set_to_none=step % 2 == 0)
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        return model, torch.get_rng_state(), m

    (alone, state, _), (watched, same, m) = trained(False), trained(True)
    assert torch.equal(state, same)
    assert alone.calls == watched.calls
    for (name, one), (_, two) in zip(
        alone.state_dict().items(), watched.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two), name
    assert len(m.records) == 43
    assert np.isfinite(m.gradients.std[:-1]).all()
    for module in watched.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_the_batch_of_training_itself():
    """Without `on` the activations are those of the step's own batch."""
    model = mlp()
    with vp.torch.Monitor(model, 4) as m:
        train(model, sgd(model), 9)
    model, optimizer = mlp(), None
    for step, (x, y) in enumerate(batches(9)):
        optimizer = optimizer or sgd(model)
        if step % 4 == 0:
            with torch.no_grad():
                hidden = model[:2](x).numpy()
            assert m.activations.std[step // 4, 1] == pytest.approx(hidden.std(), rel=1e-6)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert m.steps.tolist() == [0, 4, 8]  # of 9 steps: no pass follows the last


def gradients_of(model, x, y):
    """Return the gradient's standard deviation at the first Linear's output."""
    kept = []

    def keep(_module, _args, out):
        out.retain_grad()
        kept.append(out)

    handle = model[0].register_forward_hook(keep)
    F.cross_entropy(model(x), y).backward()
    handle.remove()
    return kept[0].grad.numpy().std()


def test_accumulated_gradients():
    """The last backward pass before the step, and the weights' gradients of all of them."""
    model, other = mlp(), mlp()
    (x1, y1), (x2, y2) = batches(2)
    optimizer = sgd(model)
    with vp.torch.Monitor(model, on=held_out()) as m:
        for x, y in ((x1, y1), (x2, y2)):
            F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            model(x1)  # a look in between
        model(x1)  # and a pass that nothing goes back through
        optimizer.step()
    gradients_of(other, x1, y1)
    assert m.records[0].gradients.std[0] == pytest.approx(gradients_of(other, x2, y2), rel=1e-6)
    assert m.records[0].weight_gradients.std[0] == pytest.approx(
        other[0].weight.grad.numpy().std(), rel=1e-6
    )


def test_a_closure():
    model, (x, y) = mlp(), next(batches(1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with vp.torch.Monitor(model, 1, held_out()) as m:
        optimizer.step(closure)
    assert m.steps.tolist() == [0, 1]
    assert m.gradients.std[0, 0] == pytest.approx(gradients_of(mlp(), x, y), rel=1e-6)
    assert np.isfinite(m.weight_gradients.std[0]).all()


def test_several_optimizers():
    """They make one step together, and its record is of the weights after all of them."""
    model = mlp()
    optimizers = [torch.optim.SGD(model[i].parameters(), 0.5) for i in (0, 2, 4)]
    stranger = nn.Linear(3, 3)
    another = sgd(stranger)
    with vp.torch.Monitor(model, 2, held_out()) as m:
        for x, y in batches(6):
            for optimizer in (*optimizers, another):
                optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            stranger(torch.ones(3)).sum().backward()
            for optimizer in (*optimizers, another):
                optimizer.step()
    alone = mlp()
    with vp.torch.Monitor(alone, 2, held_out()) as expected:
        train(alone, sgd(alone), 6)
    for signal_ in ("activations", "gradients", "weight_gradients", "weights"):
        ours, theirs = getattr(m, signal_), getattr(expected, signal_)
        np.testing.assert_allclose(ours.std, theirs.std, rtol=1e-6)
    np.testing.assert_allclose(m.weights.update_ratio, expected.weights.update_ratio, rtol=1e-6)


def test_steps_by_hand():
    model = mlp()
    with vp.torch.Monitor(model, 2, held_out()) as m:
        for x, y in batches(6):
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.5 * p.grad
            m.step()
    alone = mlp()
    with vp.torch.Monitor(alone, 2, held_out()) as expected:
        train(alone, sgd(alone), 6)
        with pytest.raises(RuntimeError, match="optimizers of torch"):
            expected.step()
    assert m.steps.tolist() == expected.steps.tolist() == [0, 2, 4, 6]
    for signal_ in ("activations", "gradients", "weight_gradients", "weights"):
        ours, theirs = getattr(m, signal_), getattr(expected, signal_)
        np.testing.assert_allclose(ours.std, theirs.std, rtol=1e-6)
    np.testing.assert_allclose(m.weights.update_ratio, expected.weights.update_ratio, rtol=1e-5)


class Outer(torch.optim.Optimizer):
    """An optimizer that wraps another, and holds the same parameters."""

    def __init__(self, inner):
        self.inner = inner
        super().__init__(inner.param_groups, {})

    def step(self):
        self.inner.step()


def test_optimizers_in_optimizers_and_after_one_another():
    model = mlp()
    with vp.torch.Monitor(model, 1, held_out()) as m:
        train(model, Outer(sgd(model)), 3)
        train(model, sgd(model), 2)
        train(model, torch.optim.Adam(model[0].parameters()), 1)
    assert m.steps.tolist() == list(range(7))


def test_optimizers_on_the_way_back():
    """Each parameter is moved as soon as its gradient is there."""
    model, alone = mlp(), mlp()
    optimizers = {p: torch.optim.SGD([p], 0.5) for p in model.parameters()}

    def move(p):
        optimizers[p].step()
        p.grad = None

    for p in optimizers:
        p.register_post_accumulate_grad_hook(move)
    with vp.torch.Monitor(model, 1, held_out()) as m:
        for x, y in batches(3):
            F.cross_entropy(model(x), y).backward()
    with vp.torch.Monitor(alone, 1, held_out()) as expected:
        train(alone, sgd(alone), 3)
    for signal_ in ("activations", "gradients", "weight_gradients", "weights"):
        ours, theirs = getattr(m, signal_), getattr(expected, signal_)
        np.testing.assert_allclose(ours.std, theirs.std, rtol=1e-6)
    np.testing.assert_allclose(m.weights.update_ratio, expected.weights.update_ratio, rtol=1e-5)


def test_frozen_parameters():
    model = mlp()
    model[0].requires_grad_(False)
    with vp.torch.Monitor(model, 1, held_out()) as m:
        train(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1), 1)
    record = m.records[0]
    assert np.isnan(record.weight_gradients.mean[0])
    assert np.isnan(record.gradients.mean[0])  # nothing goes back through it
    assert np.isnan(record.weights.update_ratio[0])
    assert record.weights.std[0] == pytest.approx(model[0].weight.numpy().std(), rel=1e-6)
    assert (record.weights.update_ratio[1:] > 0).all()


def test_nested_monitors_and_an_exception(tmp_path):
    first, second = mlp(), mlp(nn.ReLU)
    optimizers = sgd(first), sgd(second)
    one = vp.torch.Monitor(first, 3, held_out(), path=tmp_path / "one")
    two = vp.torch.Monitor(second, 2, held_out())

    def training():
        with one, two:
            for i, (x, y) in enumerate(batches(7)):
                for model, optimizer in zip((first, second), optimizers, strict=True):
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y).backward()
                    if i < 4 or model is second:
                        optimizer.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        training()
    assert (one.steps.tolist(), two.steps.tolist()) == ([0, 3], [0, 2, 4, 6])
    assert vp.torch.load_monitor(tmp_path / "one").steps.tolist() == [0, 3]
    assert not first[0]._forward_hooks
    before = len(one.records)
    train(first, optimizers[0], 5)
    assert len(one.records) == before
    with pytest.raises(RuntimeError, match="make another"), one:
        pass
    with pytest.raises(RuntimeError, match="must be entered"):
        one.log(loss=1.0)


def test_a_model_that_fails():
    """An error of the model on the held-out batch comes at once, and leaves nothing behind."""
    model = mlp()
    with pytest.raises(RuntimeError), vp.torch.Monitor(model, on=torch.ones(2, 3)):
        pass
    assert not model[0]._forward_hooks
    optimizer, (x, y) = sgd(model), next(batches(1))
    with vp.torch.Monitor(model, 1, held_out()) as m:
        with pytest.raises(RuntimeError):
            model(torch.ones(2, 3))  # the user's own, caught
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert m.gradients.std[0, 0] == pytest.approx(gradients_of(mlp(), x, y), rel=1e-6)


def test_copies_of_a_model_do_not_listen(tmp_path):
    model, (x, y) = mlp(), next(batches(1))
    optimizer = sgd(model)
    with vp.torch.Monitor(model, 1, held_out()) as m:
        twin = copy.deepcopy(model)
        torch.save(model, tmp_path / "model")
        read = torch.load(tmp_path / "model", weights_only=False)
        for other in (twin, read):
            F.cross_entropy(2 * other(x), y).backward()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert m.gradients.std[0, 0] == pytest.approx(gradients_of(mlp(), x, y), rel=1e-6)
    assert torch.equal(twin(x), read(x))


class Pair(nn.Module):
    """A model whose parts are called, and one of them twice."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(sizes=(20, 30, 10)), mlp(sizes=(10, 5))

    def forward(self, x):
        return self.decoder(self.encoder(x) + self.encoder(-x))


@pytest.mark.parametrize("parts", [False, True])
def test_models_called_in_parts(parts):
    model, (x, y) = Pair(), next(batches(1))
    optimizer = sgd(model)
    with vp.torch.Monitor(model, 1, held_out()) as m:
        out = model.decoder(model.encoder(x)) if parts else model(x)
        F.cross_entropy(out, y).backward()
        optimizer.step()
    record = m.records[0]
    assert "encoder.0:2" in record.activations.layer_names
    assert ("encoder.0:2" in record.gradients.layer_names) != parts
    assert np.isfinite(record.gradients.std).all()


def test_checkpoints():
    """Gradients of modules that are called again on the way back."""
    from torch.utils.checkpoint import checkpoint

    x, y = next(batches(1))
    for reentrant in (False, True):
        model = mlp()
        optimizer = sgd(model)
        with vp.torch.Monitor(model, 1, held_out()) as m:
            h = model[0](x)
            h = checkpoint(model[1:3], h, use_reentrant=reentrant)
            F.cross_entropy(model[3:](h), y).backward()
            optimizer.step()
        names = m.records[0].gradients.layer_names
        assert m.records[0].gradients.std[names.index("0")] == pytest.approx(
            gradients_of(mlp(), x, y), rel=1e-6
        )


def test_layers_signals_and_statistics():
    model = Noisy()
    with vp.torch.Monitor(model, on=held_out(), layers=["body.*", nn.Linear]) as m:
        pass
    names = ("body.0", "body.1", "body.2", "body.3", "branch", "head")
    assert m.activations.layer_names == names
    assert m.weights.layer_names == ("body.0", "branch", "head")
    with vp.torch.Monitor(
        model, on=held_out(), layers="branch", statistics=(), signals="activations"
    ) as m:
        train(model, sgd(model), 1)
    assert m.records[0].layer_names == {"activations": ("branch",)}
    for ask in (
        lambda: m.gradients,
        lambda: m.activations.p98,
        lambda: m.activations.saturation,
        lambda: m.records[0].weights,
    ):
        with pytest.raises(ValueError, match=r"not recorded|unknown signal"):
            ask()
    with vp.torch.Monitor(
        mlp(), on=held_out(), statistics=("kurtosis", "saturation(threshold=0.5)")
    ) as m:
        pass
    with torch.no_grad():
        z = mlp()[0](held_out()).numpy().astype(np.float64)
    share = np.mean(1 - np.tanh(z) ** 2 < 0.5)
    assert m.activations.saturation[0, 1] == pytest.approx(share, abs=2e-3)
    fourth = np.mean((z - z.mean()) ** 4) / z.var() ** 2
    assert m.activations.kurtosis[0, 0] == pytest.approx(fourth, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": "bdy.*"}, ValueError, "'bdy.*' matches no module: the nearest is 'body.3'"),
        ({"layers": nn.GELU}, ValueError, "GELU matches no module: there are Noisy, Sequential"),
        ({"layers": 3}, TypeError, "layers"),
        ({"layers": [3]}, TypeError, "patterns of names or types of modules, got 3"),
        ({"every": 0}, ValueError, "every must be an integer >= 1"),
        ({"on": "text"}, TypeError, "on must hold a tensor"),
        ({"on": torch.full((2, 20), torch.nan)}, ValueError, "on must be finite"),
        ({"statistics": "correlation"}, ValueError, "unknown statistics of a Monitor"),
        ({"signals": "weight"}, ValueError, "did you mean 'weights'"),
        ({"first_step": -1}, ValueError, "first_step"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error) as caught:
        vp.torch.Monitor(Noisy(), **arguments)
    assert message in str(caught.value)


def test_compiled_models(monkeypatch):
    for kind in vars(torch.optim).values():  # as some versions switch their hooks off for good
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            monkeypatch.setattr(kind, "step", kind.step)
    model = torch.compile(mlp(), backend="eager")
    with pytest.raises(ValueError, match="on must be given of a compiled model"):
        vp.torch.Monitor(model)
    with pytest.warns(UserWarning, match="gradients by pre-activations are not recorded"):
        monitor = vp.torch.Monitor(model, 1, held_out())

    def trained(model, monitor):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with monitor:
                optimizer = sgd(model)
                for x, y in batches(2):
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y).backward()
                    optimizer.step()
                    if any("switched the hooks of optimizers off" in str(w.message) for w in said):
                        monitor.step()
        return monitor

    m, alone = trained(model, monitor), mlp()
    expected = trained(alone, vp.torch.Monitor(alone, 1, held_out()))
    np.testing.assert_allclose(m.activations.std, expected.activations.std, rtol=1e-6)
    np.testing.assert_allclose(m.weights.update_ratio, expected.weights.update_ratio, rtol=1e-5)
    assert m.activations.layer_names == expected.activations.layer_names
    assert set(m.records[0].observed) == {"activations", "weight_gradients", "weights"}


def test_where_numbers_are_lost_forward():
    model = mlp()
    optimizer, m = sgd(model), vp.torch.Monitor(model, 4, held_out())

    def training():
        with m:
            train(model, optimizer, 3)
            with torch.no_grad():
                model[2].weight[3, 4] = torch.inf
            train(model, optimizer, 10)

    with pytest.warns(
        RuntimeWarning, match="step 3, first in the activations of layer '2'"
    ) as said:
        training()
    assert m.first_nonfinite == (3, "2", "activations")
    assert len([one for one in said if one.category is RuntimeWarning]) == 1
    assert np.isnan(m.records[-1].activations.p98[-1])


def test_where_numbers_are_lost_backward():
    """A gradient that is lost on the way back: seen in that step, though none is recorded."""
    model = mlp()
    optimizer, m = sgd(model), vp.torch.Monitor(model, 100, held_out())

    def training():
        with m:
            for i, (x, y) in enumerate(batches(9)):
                optimizer.zero_grad()
                hidden = model[:3](x)
                if i == 5:
                    hidden.register_hook(lambda g: g * torch.nan)
                F.cross_entropy(model[3:](hidden), y).backward()
                optimizer.step()

    with pytest.warns(RuntimeWarning, match="step 5, first in the weight gradients of layer '2'"):
        training()
    assert m.first_nonfinite == (5, "2", "weight_gradients")
    assert np.isfinite(m.records[0].gradients.std).all()


def test_a_loss_that_is_lost(tmp_path):
    model = mlp()
    with (
        pytest.warns(RuntimeWarning, match="step 0, first in the loss"),
        vp.torch.Monitor(model, 100, held_out(), path=tmp_path / "run") as m,
    ):
        m.log(loss=float("nan"))
    assert m.first_nonfinite == (0, None, "loss")
    with torch.no_grad():
        model[2].bias[0] = torch.nan
    with (
        pytest.warns(RuntimeWarning, match="activations of layer '2'"),
        vp.torch.Monitor(model, 100, held_out()),
    ):
        pass
    assert vp.torch.load_monitor(tmp_path / "run").first_nonfinite == (0, None, "loss")


def same(one, two):
    assert [r.to_dict() for r in one.records] == [r.to_dict() for r in two.records]
    for signal_ in one.records[0].observed:
        for a, b in zip(one.records, two.records, strict=True):
            for key, values in a.observed[signal_].items():
                np.testing.assert_array_equal(values, b.observed[signal_][key])


def test_files(tmp_path):
    model, path = mlp(), tmp_path / "run.jsonl"
    optimizer = sgd(model)
    with vp.torch.Monitor(model, 2, held_out(), path=path) as m:
        train(model, optimizer, 4, m)
        m.save(tmp_path / "copy")
        train(model, optimizer, 3, m)
    m.save(tmp_path / "copy")
    m.save(tmp_path / "copy")
    m.save(path)
    assert path.read_bytes() == (tmp_path / "copy").read_bytes()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["line"].get("step") for line in lines] == [None, 0, 2, 4, 6]
    read = vp.torch.load_monitor(path)
    same(m, read)
    assert read.model == "Sequential"
    assert vp.torch.Monitor.load(path).steps.tolist() == [0, 2, 4, 6]
    read.save(path)
    with pytest.raises(ValueError, match="first_step continues them"):
        vp.torch.Monitor(model, 2, held_out(), path=path).__enter__()
    with vp.torch.Monitor(model, 2, held_out(), path=path, first_step=7) as more:
        train(model, optimizer, 2)
    assert vp.torch.load_monitor(path).steps.tolist() == [0, 2, 4, 6, 7, 8]
    more.save(tmp_path / "more")
    with pytest.raises(ValueError, match="holds other records than that of step 0"):
        m.save(tmp_path / "more")
    other = tmp_path / "other"
    other.write_bytes(b"epoch,loss\n1,2\n")
    for act in (lambda: m.save(other), lambda: vp.torch.load_monitor(other)):
        with pytest.raises(ValueError, match="is no file of a Monitor"):
            act()
    assert other.read_bytes() == b"epoch,loss\n1,2\n"
    with pytest.raises(FileNotFoundError):
        m.save(tmp_path / "none" / "run")


def test_torn_and_damaged_files(tmp_path):
    path = tmp_path / "run"
    model = mlp()
    with vp.torch.Monitor(model, 1, held_out(8), path=path) as m:
        train(model, sgd(model), 3)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 5
    ends = np.cumsum([len(one) for one in lines])
    rng = random.Random(0)
    for cut in [*rng.sample(range(1, len(whole)), 30), *ends, *(ends - 1)]:
        for tail in (b"", b"\0" * 20, b"\0" * 20 + b"\n"):
            path.write_bytes(whole[:cut] + tail)
            complete = int((ends <= cut).sum())
            if not complete:
                with pytest.raises(ValueError, match="nothing of a Monitor"):
                    vp.torch.load_monitor(path)
            else:
                assert len(vp.torch.load_monitor(path).records) == complete - 1
        if complete:
            m._files.clear()
            m.save(path)
            assert path.read_bytes().startswith(whole)
            assert complete == 5 or path.read_bytes() == whole
    for _ in range(60):  # a byte that changed in the middle
        place = rng.randrange(int(ends[-2]))
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=r"damaged|no file of a Monitor|does not hold"):
            vp.torch.load_monitor(path)


def test_hostile_files(tmp_path):
    from varprop.torch._monitor.file import line

    model = mlp()
    with vp.torch.Monitor(model, 1, held_out(8)) as m:
        train(model, sgd(model), 1)
    head, record = m._header(), m.records[0].to_dict()
    path = tmp_path / "run"

    def tried(*bodies):
        path.write_bytes(b"".join(map(line, bodies)))
        return vp.torch.load_monitor(path)

    assert len(tried(head, record).records) == 1

    def changed(*keys, value):
        new = copy.deepcopy(record)
        part = new
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return new

    ours = ("signals", "activations")
    for bad in (
        changed("step", value=-1),
        changed("step", value=0.5),
        changed("step", value="0"),
        changed("loss", value=[1.0]),
        changed("types", value=["Tanh"]),
        changed("signals", value=[]),
        changed("signals", "noise", value={}),
        changed(*ours, "layers", value=["0"]),
        changed(*ours, "layers", value="01234"),
        changed(*ours, "mean", value=[0.0]),
        changed(*ours, "mean", value=[None] * 5),
        changed(*ours, "variance", value=[-1.0] * 5),
        changed(*ours, "saturation", value=[2.0] * 5),
        changed(*ours, "count", value=[2**60] * 5),
        changed(*ours, "exponent", value=[2**60] * 5),
        changed(*ours, "histogram", value=[[0] * 600] * 5),
        changed(*ours, "histogram", value=[[-1, 1]] * 5),
        changed(*ours, "histogram", value=[[0, 2**70]] * 5),
        changed(*ours, "histogram", value=[[]] * 5),
        {},
        {"nonfinite": [0, "0", "noise"]},
        {"nonfinite": [0, 1, "loss"]},
        {"nonfinite": 3},
    ):
        with pytest.raises(ValueError, match="does not hold records of a Monitor"):
            tried(head, bad)
    for first in (
        record,
        {**head, "monitor": 2},
        {**head, "statistics": ["pickle"]},
        {**head, "model": 1},
    ):
        with pytest.raises(ValueError, match="does not hold records of a Monitor"):
            tried(first, record)
    with pytest.raises(ValueError, match="comes after"):
        tried(head, record, record)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    model = mlp()

    def full(_):
        raise OSError(28, "No space left on device")

    m = vp.torch.Monitor(model, 1, held_out(), path=tmp_path / "run")

    def training():
        with m:
            train(model, sgd(model), 1)
            monkeypatch.setattr(os, "fsync", full)
            train(model, sgd(model), 3)

    with pytest.warns(UserWarning, match=r"records are not saved from step 1 on, but kept"):
        training()
    monkeypatch.undo()
    assert m.steps.tolist() == [0, 1, 2, 3, 4]
    m.save(tmp_path / "run")
    same(m, vp.torch.load_monitor(tmp_path / "run"))


KILLED = """
import sys, torch, varprop as vp
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Tanh(), torch.nn.Linear(30, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
with vp.torch.Monitor(model, 1, torch.randn(20, 20), path=sys.argv[1]) as m:
    for step in range(10**6):
        optimizer.zero_grad()
        model(torch.randn(8, 20)).square().mean().backward()
        optimizer.step()
        if len(m._records) > step - 2:
            print(len(m._records), flush=True)
"""


def test_killed_in_the_middle(tmp_path):
    """SIGKILL at random moments: all that was said to be saved is there, and it goes on."""
    rng = random.Random(1)
    paths = [tmp_path / str(i) for i in range(3)]
    command = [sys.executable, "-c", textwrap.dedent(KILLED)]
    workers = [subprocess.Popen([*command, path], stdout=subprocess.PIPE) for path in paths]
    for worker, path in zip(workers, paths, strict=True):
        for _ in range(rng.randrange(20, 60)):
            said = worker.stdout.readline()
        time.sleep(rng.random() / 50)
        worker.send_signal(signal.SIGKILL)
        said = (worker.stdout.read().splitlines() or [said])[-1]
        worker.wait()
        worker.stdout.close()
        read = vp.torch.load_monitor(path)
        assert len(read.records) >= int(said)
        assert read.steps.tolist() == list(range(len(read.records)))
        assert np.isfinite(read.activations.std).all()
        model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1))
        first = len(read.records)
        with vp.torch.Monitor(model, 1, held_out(), path=path, first_step=first):
            pass
        assert vp.torch.load_monitor(path).steps.tolist() == list(range(first + 1))


def test_tables():
    pandas = pytest.importorskip("pandas")
    model = mlp()
    with vp.torch.Monitor(model, 2, held_out()) as m:
        train(model, sgd(model), 4)
    frame = m.to_dataframe()
    assert len(frame) == 3 * (5 + 3 + 3) + 2 * 5  # nothing came back after the last step
    one = frame[(frame.step == 2) & (frame.layer == "1") & (frame.signal == "activations")]
    assert one["std"].item() == m.activations.std[1, 1]
    assert one["p98"].item() == m.activations.p98[1, 1]
    assert frame[frame.signal == "weights"].update_ratio.notna().sum() == 6
    assert isinstance(frame, pandas.DataFrame)


def test_pictures():
    pytest.importorskip("matplotlib")
    model = mlp()
    with vp.torch.Monitor(model, 2, held_out()) as m:
        train(model, sgd(model), 6)
    axes = m.plot("percentiles").axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["3"].get_xdata(), [0, 2, 4, 6])
    np.testing.assert_allclose(lines["3"].get_ydata(), m.activations.std[:, 3])
    assert any(np.array_equal(one.get_ydata(), m.activations.p98[:, 3]) for one in axes.lines)
    (bars, _) = m.plot("activations", layers="1").axes[0].containers[0], None
    np.testing.assert_allclose(bars[0].get_ydata(), m.activations.mean[:, 1])
    assert len(m.plot().axes) == 4
    for kind in ("gradients", "weight_gradients", "updates", "saturation"):
        m.plot(kind)
    for one in m.plot("histograms", signal="weight_gradients", steps=[0, 2, 4]).axes:
        for line_ in one.lines:  # a density
            x, y = line_.get_data()
            assert np.sum((y[1:] + y[:-1]) / 2 * np.diff(x)) == pytest.approx(1, abs=0.05)
    for arguments, message in (
        ({"kind": "std"}, "unknown kind 'std'"),
        ({"kind": "histograms", "steps": 3}, "3 is not recorded, the nearest is"),
        ({"kind": "histograms", "signal": "noise"}, "unknown signal"),
        ({"kind": "gradients", "steps": 3}, "of kind 'histograms' alone"),
        ({"kind": "gradients", "layers": "7"}, "unknown layer '7'"),
    ):
        with pytest.raises(ValueError, match=message):
            m.plot(**arguments)
