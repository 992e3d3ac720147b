"""Tuned networks: theory's own numbers, LSUV by hand in NumPy, and simulations of them."""

import copy
import math
import pickle

import numpy as np
import pytest

import varprop as vp
from varprop import theory

BIAS = "normal(std=0.3)"
SMALL = "normal(std=0.02)"


def image_net():
    block = [vp.LayerNorm(), vp.Conv2d(12, 3, activation="tanh", bias=BIAS), vp.Dense(12)]
    return vp.Network(
        (6, 7, 3),
        [
            vp.Conv2d(12, 3, weight=SMALL),
            vp.Activation("relu"),
            vp.Residual(block, branch_scale=0.5),
            vp.Conv2d(8, 3, stride=2, padding="valid", activation="gelu", weight="he_normal"),
            vp.Flatten(),
            vp.Dense(50, "tanh", "orthogonal", BIAS),
            vp.Dropout(0.2),
            vp.Dense(10, weight="uniform(-1, 1)"),
        ],
    )


CHAINS = {
    "tanh": vp.mlp([30, 50, 80, 20], "tanh", SMALL),
    "relu": vp.mlp([30, 50, 80, 20], "relu", "glorot_uniform", BIAS),
    "sigmoid": vp.mlp([30, 50, 80, 20], "sigmoid", "orthogonal", "constant(0.5)"),
    "images": image_net(),
}


@pytest.mark.parametrize("name", CHAINS)
def test_unit_variance_by_theory(name):
    tuned = vp.tune(CHAINS[name])
    with_weights = [tuned.index(layer) for layer in tuned.weight_names]
    found = theory.propagate(tuned, c=None).preactivations.var[with_weights]
    assert found == pytest.approx(np.ones(len(found)), abs=1e-12)
    assert tuned.report.left == {}
    assert tuned.report.before.q == pytest.approx(theory.propagate(CHAINS[name], c=None).q)


def test_unit_variance_of_relu_is_he():
    tuned = vp.tune(vp.mlp([30, 50, 80, 20], "relu", "normal(std=7)"))
    stds = [layer.weight.std for layer in tuned.layers]
    assert stds == pytest.approx([30**-0.5, (2 / 50) ** 0.5, (2 / 80) ** 0.5], rel=1e-12)
    assert list(tuned.report.factors.values()) == pytest.approx([std / 7 for std in stds])


def test_unit_variance_is_what_a_simulation_has():
    """At width 500 single trials are off by some percent, means of 10 by 1 or 2: within 6."""
    for activation in ("tanh", "gelu", "softplus"):
        tuned = vp.tune(vp.mlp([500] * 6, activation, SMALL, BIAS))
        run = vp.simulate(tuned, 40, trials=10)
        assert run.preactivations.var == pytest.approx(np.ones(5), abs=0.06)


def test_the_inputs_count():
    data = np.random.default_rng(0).normal(2.0, 3.0, (400, 30))
    tuned = vp.tune(CHAINS["tanh"], inputs=data)
    std = 1 / math.sqrt(30 * np.mean(data.astype("float32") ** 2))
    assert tuned.layers[0].weight.std == pytest.approx(std, rel=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "selu", "hard_tanh", "gelu"])
def test_critical(activation):
    """Each layer passes on gradients as they are, in theory and in a simulation of width 1000."""
    tuned = vp.tune(vp.mlp([1000] * 7, activation, SMALL, bias=BIAS), "critical")
    assert theory.propagate(tuned).chi_1 == pytest.approx(np.ones(6), abs=1e-9)
    run = vp.simulate(tuned, 20, trials=4, backward=True)
    assert run.input_gradients.log10_second_moment == pytest.approx([0.0], abs=0.1)


def test_critical_counts_activations_of_their_own():
    layers = [vp.Dense(40, weight=SMALL), vp.Activation("tanh"), vp.Scale(0.5)]
    tuned = vp.tune(vp.Network(30, [*layers, *layers]), "critical")
    chi_1 = theory.propagate(tuned).chi_1
    assert [chi_1[:3].prod(), chi_1[3:].prod()] == pytest.approx([1.0, 1.0], abs=1e-9)
    rows = [line.split() for line in str(tuned.report).splitlines()[-2:]]
    assert [(row[0], row[-1]) for row in rows] == [("dense1", "1"), ("dense2", "1")]


def test_critical_where_no_scale_is():
    layers = [vp.Dense(40), vp.RMSNorm(eps=0.0), vp.Dense(40), vp.Activation("tanh")]
    tuned = vp.tune(vp.Network(30, layers), "critical", inputs=np.full((2, 30), 3.0))
    assert tuned.report.left == {"dense1": "chi_1 is 1 at no scale"}
    assert tuned.layers[0] == vp.Network(30, layers).layers[0]


# --- measured -----------------------------------------------------------------------------------


def lsuv(net, data):
    """Return the factors of Mishkin and Matas (2016) for a chain of dense layers, in one trial."""
    x, factors = data.astype(np.float32).astype(float), []
    for step in net.steps:
        law, shape = step.layer.parameters(step.input_shape)["weight"]
        w = vp.weights(shape, law, seed=3, name=f"{step.name}.weight").astype(float)
        y = x @ w
        factors.append(1 / y.std())
        x = step.layer.activation.value(y / y.std())
    return factors


@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
def test_measured_is_lsuv(activation):
    net = vp.mlp([30, 50, 80, 20], activation, SMALL)
    data = np.random.default_rng(1).exponential(2.0, (60, 30))
    tuned = vp.tune(net, method="measured", inputs=data, trials=1, seed=3)
    assert list(tuned.report.factors.values()) == pytest.approx(lsuv(net, data), rel=1e-6)


@pytest.mark.parametrize("name", CHAINS)
def test_measured_networks_have_unit_variance_in_the_typical_trial(name):
    tuned = vp.tune(CHAINS[name], method="measured", inputs=30, trials=5, seed=1)
    run = vp.simulate(tuned, 30, trials=5, seed=1)
    with_weights = [tuned.index(layer) for layer in tuned.weight_names]
    logs = run.preactivations.per_trial.log10_var[:, with_weights]
    assert logs.mean(axis=0) == pytest.approx(np.zeros(len(with_weights)), abs=1e-5)
    assert tuned.report.after.preactivations.var == pytest.approx(run.preactivations.var)
    before = vp.simulate(CHAINS[name], 30, trials=5, seed=1)
    assert tuned.report.before.preactivations.var == pytest.approx(before.preactivations.var)
    others = vp.simulate(tuned, 30, trials=5, seed=2).preactivations.log10_var[with_weights]
    assert others == pytest.approx(np.zeros(len(others)), abs=0.3)  # of other draws, narrow layers


def test_measured_where_there_is_no_theory():
    layers = [vp.Dense(40, "tanh", "uniform(0, 1)"), vp.BatchNorm(), vp.Dense(30, weight="eye")]
    net = vp.Network(30, layers)
    with pytest.raises(NotImplementedError, match="layer 'dense1': no theory of weights whose"):
        vp.tune(net)
    tuned = vp.tune(net, method="measured", inputs=50, trials=3)
    found = tuned.report.after.preactivations.per_trial.log10_var.mean(axis=0)
    assert found[[0, 2]] == pytest.approx([0.0, 0.0], abs=1e-5)


# --- what stays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["theory", "measured"])
def test_what_cannot_be_tuned_is_left_and_listed(method):
    layers = [vp.Dense(30, weight="zeros"), vp.Dense(30, bias="normal(std=1.5)")]
    net = vp.Network(30, [vp.Dense(30, "tanh"), *layers])
    tuned = vp.tune(net, method=method)
    assert list(tuned.report.factors) == ["dense1"]
    assert tuned.report.left["dense2"] == "its products are 0"
    assert tuned.layers[1:] == net.layers[1:]
    assert "left as it was: dense2 (its products are 0)" in str(tuned.report)


def test_biases_that_are_too_large():
    net = vp.mlp([30, 30, 30], bias="normal(std=1.5)")
    assert vp.tune(net).report.left["dense1"] == "its biases have variance 2.25"
    left = vp.tune(net, method="measured").report.left["dense2"]
    assert left.startswith("its biases have variance ")


def test_given_weights_stay():
    given = np.eye(30)
    net = vp.Network(30, [vp.Dense(30, "tanh"), vp.Dense(30, weight=given), vp.Dense(30)])
    tuned = vp.tune(net, method="measured")
    assert tuned.report.left == {"dense2": "its weights are given"}
    assert np.array_equal(tuned.layers[1].weight.array, given)
    with pytest.raises(NotImplementedError, match="layer 'dense2': no theory of given weights"):
        vp.tune(net)


def test_many_that_are_left():
    text = str(vp.tune(vp.mlp([5] * 30, weight="zeros")).report)
    assert "left as it was: dense5 " in text
    assert "and 24 more: report.left" in text
    assert "forward: unknown before" in text


# --- the network and its report -----------------------------------------------------------------


def test_a_tuned_network_is_a_network(tmp_path):
    tuned = vp.tune(CHAINS["tanh"])
    assert isinstance(tuned, vp.Network)
    tuned.to_toml(tmp_path / "net.toml")
    plain = vp.Network.from_toml(tmp_path / "net.toml")
    assert type(plain) is vp.Network
    assert plain == tuned
    assert tuned == plain
    assert hash(plain) == hash(tuned)
    assert tuned != CHAINS["tanh"]
    assert tuned != 5
    assert type(vp.TunedNetwork.from_dict(tuned.to_dict())) is vp.Network
    for other in (copy.deepcopy(tuned), pickle.loads(pickle.dumps(tuned))):
        assert other == tuned
        assert str(other.report) == str(tuned.report)
    run = vp.simulate(tuned)
    run.save(tmp_path / "run.json")
    assert vp.load(tmp_path / "run.json").network == tuned


def test_laws_stay_what_they_are():
    laws = ["normal(std=2)", "uniform(-1, 1)", "he_uniform", "orthogonal", "sparse(sparsity=0.5)"]
    net = vp.Network(40, [vp.Dense(40, weight=law) for law in laws])
    tuned = vp.tune(net)
    kinds = [type(layer.weight) for layer in tuned.layers]
    assert kinds == [vp.Normal, vp.Uniform, vp.VarianceScaling, vp.Orthogonal, vp.Scaled]


@pytest.mark.parametrize(
    "arguments", [{}, {"goal": "critical"}, {"method": "measured"}, {"inputs": np.ones((3, 30))}]
)
@pytest.mark.parametrize("name", ["images", "deep", "explosive"])
def test_reports_fit_the_page(name, arguments):
    nets = {
        "images": CHAINS["images"],
        "deep": vp.mlp([30] * 60, "tanh", SMALL, BIAS),
        "explosive": vp.mlp([30] * 300, "relu", "normal(std=3)"),
    }
    net = nets[name]
    if "inputs" in arguments and name == "images":
        arguments = {"inputs": np.ones((3, *net.inputs))}
    report = vp.tune(net, **arguments).report
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80, text
    assert text.count("\n") < 40
    if name == "explosive" and "method" not in arguments:
        assert report.before is None
        assert "out of range before, x 1 after" in text
    assert repr(report).startswith("<TuneReport: ")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 5}, TypeError, "net must be a Network, got int"),
        ({"net": vp.Network(5, [vp.Scale(2.0)])}, ValueError, "must have layers with weights"),
        ({"goal": "unit"}, ValueError, "unknown goal 'unit'"),
        ({"method": "mesured"}, ValueError, "unknown method 'mesured': did you mean 'measured'"),
        ({"goal": "critical", "method": "measured"}, ValueError, "needs method='theory'"),
        ({"trials": 0}, ValueError, "trials must be an integer >= 1"),
        ({"inputs": np.ones((3, 4))}, ValueError, r"inputs must have shape \(batch, 30\)"),
        ({"seed": -1, "method": "measured"}, ValueError, "seed"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        vp.tune(**{"net": CHAINS["tanh"], **arguments})


def test_reports_go_both_ways_and_name_unstable_fixed_points():
    gelu = vp.mlp([50] * 4, "gelu")
    assert "variance 1 is an unstable fixed point of gelu" in str(vp.tune(gelu).report)
    assert "unstable" not in str(vp.tune(vp.mlp([50] * 4, "tanh")).report)
    measured = str(vp.tune(gelu, method="measured", trials=3).report)
    assert "forward: " in measured
    assert "backward: " in measured
