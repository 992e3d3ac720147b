"""varprop.torch.Monitor around loops of all kinds."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
from training_torch import batches, gradients_of, held_out, mlp, sgd, train  # noqa: E402

import varprop.torch  # noqa: E402

nn, F = torch.nn, torch.nn.functional

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")


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
        before = model[0].weight.detach().numpy().copy()
        optimizer.step(closure)
    assert m.steps.tolist() == [0, 1, 2]
    moved = np.linalg.norm(model[0].weight.detach().numpy() - before) / np.linalg.norm(before)
    assert m.weights.update_ratio[1, 0] == pytest.approx(moved, rel=1e-5)
    assert m.gradients.std[0, 0] == pytest.approx(gradients_of(mlp(), x, y), rel=1e-6)
    assert np.isfinite(m.weight_gradients.std[:2]).all()


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
        broken = torch.optim.LBFGS(model.parameters())
        with pytest.raises(ZeroDivisionError):
            broken.step(lambda: 1 / 0)
        train(model, Outer(sgd(model)), 3)
        train(model, sgd(model), 2)
        train(model, torch.optim.Adam(model[0].parameters()), 1)
    assert m.steps.tolist() == list(range(7))
    assert m.weight_gradients.count[:5].tolist() == [[600, 1200, 200]] * 5
    alone = mlp()
    with vp.torch.Monitor(alone, 1, held_out()) as expected:
        train(alone, sgd(alone), 3)
    np.testing.assert_array_equal(m.activations.std[:4], expected.activations.std)


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


def test_sparse_gradients():
    model = nn.Embedding(30, 4, sparse=True)
    with vp.torch.Monitor(model, on=torch.arange(5)) as m:
        model(torch.arange(3)).sum().backward()
        torch.optim.SparseAdam(model.parameters(), lr=0.01).step()
    record = m.records[0]
    assert record.weight_gradients.count[0] == 120
    assert record.weight_gradients.mean[0] == pytest.approx(0.1)  # ones in 3 rows of 30
    assert record.weights.update_ratio[0] > 0


def test_parametrized_weights():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(20, 8)), nn.Linear(8, 5))
    with vp.torch.Monitor(model, on=held_out()) as m:
        train(model, sgd(model), 1)
    record = m.records[0]
    assert record.weights.layer_names == record.weight_gradients.layer_names == ("0", "1")
    assert record.weights.count.tolist() == [8 + 8 * 20, 8 * 5]  # lengths, and directions
    assert (record.weights.update_ratio > 0).all()


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
