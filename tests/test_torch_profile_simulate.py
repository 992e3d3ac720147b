"""A profile of a Sequential is the simulation of its network, written by hand or by from_module."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
import varprop.torch  # noqa: E402

nn = torch.nn

SEED = 11

DENSE = (
    (6,),
    nn.Sequential(
        nn.Linear(6, 9),
        nn.Tanh(),
        nn.LayerNorm(9),
        nn.Linear(9, 9),
        nn.ReLU(inplace=True),
        nn.Linear(9, 9),
        nn.Dropout(0.0),
        nn.GELU(),
    ),
    [
        vp.Dense(9, weight="he_normal", name="0"),
        vp.Activation("tanh", name="1"),
        vp.LayerNorm(name="2"),
        vp.Dense(9, weight="he_normal", name="3"),
        vp.Activation("relu", name="4"),
        vp.Dense(9, weight="he_normal", name="5"),
        vp.Dropout(0.0, name="6"),
        vp.Activation("gelu", name="7"),
    ],
)
IMAGES = (
    (3, 8, 6),
    nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(5, 4, (1, 3), stride=2, padding=1),
    ),
    [
        vp.Conv2d(5, 3, weight="he_normal", name="0"),
        vp.BatchNorm(name="1"),
        vp.Activation("gelu", name="2"),
        vp.AvgPool2d(2, name="3"),
        vp.Conv2d(4, (1, 3), stride=2, padding=1, weight="he_normal", name="4"),
    ],
)


@pytest.mark.parametrize(("shape", "model", "layers"), [DENSE, IMAGES], ids=["dense", "images"])
@pytest.mark.parametrize("loss", ["gaussian", "mse"])
def test_a_sequential_is_the_simulation_of_its_network(shape, model, layers, loss):
    inputs = vp.weights((20, *shape), "normal", seed=SEED, name="input", dtype="float64")
    ours = inputs.transpose(0, 2, 3, 1) if len(shape) == 3 else inputs
    net = vp.Network(ours.shape[1:] if len(shape) == 3 else shape[0], layers)
    options = {"seed": SEED, "trials": 3, "first_trial": 1, "loss": loss}
    model = copy.deepcopy(model).double()
    run = vp.torch.profile(model, inputs, init="he_normal", **options)
    simulated = vp.simulate(net, ours, backward=True, dtype="float64", **options)
    assert run.layer_names == simulated.layer_names
    for signal in simulated.observed:
        one, other = getattr(run, signal), getattr(simulated, signal)
        assert one.layer_names == other.layer_names
        agree(one, other)
    assert np.array_equal(run.inputs(), simulated.inputs())
    assert np.array_equal(run.weights("0", 2), simulated.weights("0", 2))
    for name, direction in simulated.verdict.details.items():
        found = run.verdict.details[name]
        assert found.word == direction.word
        assert found.layers == direction.layers
        assert found.log10_factor == pytest.approx(direction.log10_factor, abs=1e-9)


def agree(one, other) -> None:
    size = np.sqrt(np.max(other.per_trial.var))  # a bias before a norm has none but rounding
    np.testing.assert_allclose(
        one.per_trial.var, other.per_trial.var, rtol=1e-9, atol=(1e-12 * size) ** 2
    )
    np.testing.assert_allclose(
        one.per_trial.mean, other.per_trial.mean, rtol=1e-9, atol=1e-9 * size
    )


def convolutions():
    return nn.Sequential(
        nn.BatchNorm2d(3),  # not after a convolution: gradients by its biases would be nothing
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 12, 3, padding=1, groups=4), nn.Tanh()),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 10),
    )


def layers():
    hidden = [nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.LayerNorm(16)) for _ in range(4)]
    return nn.Sequential(*hidden, nn.Linear(16, 5))


@pytest.mark.parametrize("loss", [None, "softmax_cross_entropy"])
@pytest.mark.parametrize("init", [None, "xavier_normal"])
@pytest.mark.parametrize(("make", "shape"), [(convolutions, (6, 3, 8, 8)), (layers, (6, 16))])
def test_a_sequential_is_what_simulate_makes_of_it(make, shape, init, loss):
    model, inputs = make(), torch.tensor(vp.weights(shape, "normal", seed=SEED, name="input"))
    run = vp.torch.profile(model, inputs, init=init, trials=3, seed=SEED, loss=loss)
    net = vp.torch.from_module(model, init=init)
    ours = inputs.numpy().transpose(0, 2, 3, 1) if len(shape) == 4 else inputs.numpy()
    loss = loss or "gaussian"
    other = vp.simulate(net, ours, trials=3, seed=SEED, backward=True, loss=loss)
    assert run.layer_names == other.layer_names
    for signal in other.observed:
        mine, theirs = getattr(run, signal), getattr(other, signal)
        assert mine.layer_names == theirs.layer_names
        one, two = mine.per_trial, theirs.per_trial
        scale = np.sqrt(two.second_moment)
        np.testing.assert_allclose(one.second_moment, two.second_moment, rtol=1e-5, atol=1e-12)
        np.testing.assert_allclose(one.mean / scale, two.mean / scale, atol=1e-5)
    verdicts = [str(one.verdict).partition("to mend")[0].strip() for one in (run, other)]
    assert verdicts[0] == verdicts[1]
