"""varprop.torch.Monitor where a training loses its numbers: NaN and infinities."""

from __future__ import annotations

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
from training_torch import batches, held_out, mlp, sgd, train  # noqa: E402

import varprop.torch  # noqa: E402

nn, F = torch.nn, torch.nn.functional

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")


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


def test_numbers_lost_where_nobody_looks():
    """In a layer that is not watched, between records: named all the same, and once."""
    model = mlp()
    optimizer, m = sgd(model), vp.torch.Monitor(model, 100, held_out(), layers="4")
    model[0].weight.register_hook(lambda g: g * torch.nan)

    def training():
        with m:
            train(model, optimizer, 3)

    with pytest.warns(RuntimeWarning, match="first in the weight gradients of layer '0'") as said:
        training()
    assert m.first_nonfinite == (0, "0", "weight_gradients")
    assert len([one for one in said if one.category is RuntimeWarning]) == 1


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
