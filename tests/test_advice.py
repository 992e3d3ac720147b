"""What a verdict says mends a network, done; and what it says that nothing mends, tried."""

import re
import sys

import numpy as np
import pytest

import varprop as vp
from varprop import theory
from varprop._wide import Chain


def judged(net, **options):
    settings = {"inputs": 20, "trials": 10, "backward": True}
    return vp.simulate(net, **(settings | options)).verdict


def words(verdict):
    return verdict.forward, verdict.backward


HEALTHY = ("stable", "stable")
MENDED = [
    *("linear", "relu", "leaky_relu(slope=0.2)", "elu", "selu", "celu", "softsign", "tanh"),
    *("hard_tanh", "sigmoid", "hard_sigmoid", "erf", "sin", "relu6"),
]


@pytest.mark.parametrize("depth", [20, 100])
@pytest.mark.parametrize("std", [0.03, 0.3])
@pytest.mark.parametrize("activation", MENDED)
def test_what_it_names_mends(activation, std, depth):
    """Weights a third and three times what linear ones need, both ways, in fixed draws."""
    before = judged(vp.mlp([100] * (depth + 1), activation, f"normal(std={std})"))
    assert (before.advice is None) == (words(before) == HEALTHY)
    if before.advice is None:
        return
    after = judged(vp.mlp([100] * (depth + 1), activation, before.advice.weight))
    assert words(after) == HEALTHY
    told = re.fullmatch(
        r"to mend it: weight='.*', about x (.*) forward, x (.*) backward", str(before.advice)
    )
    found = [direction.log10_factor for direction in after.details.values()]
    assert np.log10([float(x) for x in told.groups()]) == pytest.approx(found, abs=0.6)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "mish"])
def test_what_it_names_mends_few_layers(activation):
    before = judged(vp.mlp([200] * 16, activation, "normal(std=0.02)"))
    assert words(judged(vp.mlp([200] * 16, activation, before.advice.weight))) == HEALTHY


def test_names_come_first():
    for activation, name in (("linear", "lecun_normal"), ("relu", "he_normal")):
        for std in (0.01, 1.0):
            verdict = judged(vp.mlp([100] * 11, activation, f"normal(std={std})"))
            assert verdict.advice.weight == name


def test_measured_factors_are_met_exactly():
    """A factor on all weights is one on all signals: what is told is what comes."""
    net = vp.mlp([30] * 61, "relu", "normal(std=0.3)")
    before = judged(net)
    law = before.advice.weight
    assert law.startswith("normal(std=")
    after = judged(vp.mlp([30] * 61, "relu", law))
    told = [float(x) for x in re.findall(r"x (\S+) (?:for|back)ward", str(before.advice))]
    found = [10**direction.log10_factor for direction in after.details.values()]
    assert told == pytest.approx(found, rel=0.05)


NETS = {
    "widths": vp.mlp([64, 100, 200, 300, 10], "relu", "normal(std=0.01)"),
    "tanh of widths": vp.mlp([64, *[100, 150] * 10], "tanh", "normal(std=0.3)"),
    "last linear": vp.mlp([64, 100, 200, 300, 10], "tanh", "normal(std=0.01)", None, "linear"),
    "biases": vp.mlp([80] * 20, "relu", "normal(std=0.02)", "normal(std=0.1)"),
    "orthogonal": vp.mlp([50] * 20, "relu", "orthogonal"),
    "scaled": vp.mlp([50] * 20, "linear", vp.Scaled("orthogonal", 3.0)),
    "mean": vp.mlp([64, 100, 200, 300, 10], "relu", "uniform(0, 1)"),
    "zeros": vp.mlp([64, 100, 200, 300, 10], "tanh", "zeros"),
    "convolutions": vp.Network((8, 8, 16), [vp.Conv2d(16, 3, activation="relu")] * 20),
    "activations": vp.Network(60, [vp.Dense(60, weight="he_uniform"), vp.Activation("tanh")] * 3),
}


def with_weights(net, law):
    record = net.to_dict()
    for layer in record["layers"]:
        layer.update({"weight": law} if "weight" in layer else {})
    return vp.Network.from_dict(record)


@pytest.mark.parametrize("name", [name for name in NETS if name != "activations"])
def test_other_networks(name):
    verdict = judged(NETS[name])
    assert words(verdict) != HEALTHY
    assert words(judged(with_weights(NETS[name], verdict.advice.weight))) == HEALTHY


def test_networks_for_which_no_law_is_known():
    net = vp.Network(60, [vp.Dense(60, weight="normal(std=0.01)"), vp.Activation("tanh")] * 10)
    verdict = judged(net)
    assert verdict.advice.weight is None
    assert "vp.tune(net, method='measured')" in str(verdict)
    assert judged(vp.tune(net, method="measured")).forward == "stable"


def test_residuals():
    def net(scale):
        block = [vp.Dense(64, "relu", "he_normal"), vp.Dense(64)]
        return vp.Network(64, [vp.Dense(64), *[vp.Residual(block, branch_scale=scale)] * 20])

    verdict = judged(net(1.0))
    assert words(verdict) == ("exploding", "exploding")
    scale = float(re.search("branch_scale=([0-9.]+)", str(verdict)).group(1))
    assert scale == pytest.approx(20**-0.5, rel=0.1)
    assert words(judged(net(scale))) == HEALTHY
    fading = [vp.Dense(64), *[vp.Residual([vp.Dense(64)], 0.1, skip_scale=0.5)] * 20]
    assert "to mend it: skip_scale and branch_scale" in str(judged(vp.Network(64, fading)))


def test_forward_alone():
    for activation in ("relu", "tanh", "sigmoid", "softplus"):
        net = vp.mlp([100] * 21, activation, "normal(std=0.5)")
        verdict = judged(net, backward=False)
        if verdict.advice is None:
            assert verdict.forward == "stable"
            continue
        assert "backward" not in str(verdict)
        net = with_weights(net, verdict.advice.weight)
        assert judged(net, backward=False).forward == "stable"


def images(law):
    return vp.Network((8, 8, 16), [vp.Conv2d(16, 3, activation="tanh", weight=law)] * 30)


def normed(law):
    return vp.Network(100, [vp.Dense(100, "tanh", law), vp.LayerNorm()] * 50)


@pytest.mark.parametrize("make", [images, normed])
def test_what_was_done_is_not_advised_again(make):
    """Of unit variance gradients explode: a law of a smaller gain mends both ways."""
    tuned = vp.tune(make("normal(std=0.03)"), method="measured")
    for net in (tuned, vp.Network(tuned.inputs, tuned.layers)):
        before = judged(net)
        assert words(before) == ("stable", "exploding")
        assert "vp.tune" not in str(before.advice)
        after = judged(make(before.advice.weight))
        assert words(after) == HEALTHY
        told = re.search("about x (.*) forward, x (.*) backward", str(before.advice)).groups()
        found = [direction.log10_factor for direction in after.details.values()]
        assert np.log10([float(x) for x in told]) == pytest.approx(found, abs=0.3)


def test_where_there_is_no_theory_tuning_is_not_advised_twice():
    block = [*[vp.Dense(60, "tanh", "normal(std=0.02)")] * 2, vp.BatchNorm()]
    net = vp.Network(60, [*block * 10, vp.Dense(60, "tanh", "normal(std=0.001)")])
    before = judged(net)
    assert "vp.tune(net, method='measured')" in str(before.advice)
    after = judged(vp.tune(net, method="measured"))
    assert words(after) == ("stable", "exploding")
    assert str(after.advice).startswith("to mend it: smaller weights in all layers")


BRANCHES = {
    "relu at the end": [vp.Dense(64, "relu", "he_normal")] * 2,
    "linear at the end": [vp.Dense(64, "relu", "he_normal"), vp.Dense(64)],
    "normed": [vp.LayerNorm(), vp.Dense(64, "relu", "he_normal"), vp.Dense(64)],
    "tanh": [vp.Dense(64, "tanh", "he_normal"), vp.Dense(64)],
    "no theory": [vp.BatchNorm(), vp.Dense(64, "relu", "he_normal"), vp.Dense(64)],
}


@pytest.mark.parametrize("name", BRANCHES)
def test_one_advice_is_enough_for_residuals(name):
    def net(scale):
        return vp.Network(64, [vp.Residual(BRANCHES[name], branch_scale=scale)] * 100)

    before = judged(net(1.0))
    assert "exploding" in words(before)
    scale = float(re.search("branch_scale=([0-9.]+)", str(before)).group(1))
    after = judged(net(scale))
    assert words(after) == HEALTHY
    assert max(abs(direction.log10_factor) for direction in after.details.values()) < 0.7
    if name != "no theory":
        told = re.search("about x (.*) forward, x (.*) backward", str(before.advice)).groups()
        found = [direction.log10_factor for direction in after.details.values()]
        assert np.log10([float(x) for x in told]) == pytest.approx(found, abs=0.2)


def test_what_leaves_the_range_is_not_said_to_be_zero():
    verdict = judged(vp.mlp([100] * 51, "tanh", "normal(std=.001)"))
    assert "forward: vanishing, underflow to zero within 50 layers" in str(verdict)
    assert words(judged(vp.mlp([100] * 51, "tanh", verdict.advice.weight))) == HEALTHY


def test_periods_are_judged_whole():
    net = vp.Network(100, [vp.Dense(100, weight="normal(std=.01)"), vp.LayerNorm()] * 3)
    assert words(judged(net)) == HEALTHY
    assert judged(net).details["forward"].layers == 5


# --- where nothing mends ------------------------------------------------------------------------


def test_no_scale_mends_softplus():
    """Its mean grows the signal before its slope, under 1, keeps the gradient: every gain fails."""
    verdict = judged(vp.mlp([100] * 51, "softplus", "he_normal"))
    assert verdict.advice.weight is None
    told = "backward needs a gain of ([0-9.]+), and the nearest at which forward is stable is (.*)"
    backward, forward = map(float, re.search(told, str(verdict.advice)).groups())
    for gain in np.linspace(forward - 0.1, backward + 0.1, 20):
        tried = judged(vp.mlp([100] * 51, "softplus", f"normal(std={gain / 10})"))
        assert words(tried) != HEALTHY
    found = [
        judged(vp.mlp([100] * 51, "softplus", f"normal(std={g / 10})")) for g in (forward, backward)
    ]
    assert found[0].forward == "stable"
    assert found[1].backward == "stable"


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_no_scale_mends_deep_gelu(activation):
    """Its fixed point is unstable: at each gain trials die or explode."""
    verdict = judged(vp.mlp([100] * 101, activation, "he_normal"))
    assert verdict.advice.weight is None
    assert "no scale of the weights mends it: at every gain chance" in str(verdict)
    for gain in np.linspace(1.3, 1.8, 26):
        tried = judged(vp.mlp([100] * 101, activation, f"normal(std={gain / 10})"))
        failing = [direction.failing for direction in tried.details.values()]
        assert max(failing) > 0.5


def test_zeros_have_no_scale():
    verdict = judged(vp.mlp([3] * 200, "relu", "he_normal"))
    assert words(verdict) == ("vanishing", "vanishing")
    assert str(verdict.advice).startswith("no scale of the weights mends it: what is exactly zero")


# --- what stands behind it ----------------------------------------------------------------------


def test_wide_chains_are_those_of_theory():
    names = [name for name in vp.activations.NAMES if name != "squared_relu"]
    gains = np.array([0.8, 1.2, 1.5])
    for name in names:
        phi = vp.activations.resolve(name)
        chain = Chain((phi,) * 10, (10**12,) * 10, (0.04,) * 10, 2.0)
        found = chain.factors(gains)
        for column, gain in enumerate(gains):
            weight, bias = f"normal(std={gain / 10})", "normal(std=0.2)"
            exact = theory.propagate(vp.mlp([100] * 11, name, weight, bias), 2.0, None)
            there = exact.activations.log10_second_moment
            back = exact.gradients.log10_second_moment
            expected = there[-1] - there[0], back[0] - back[-1]
            assert found.middle(column) == pytest.approx(expected, abs=0.03), name


def test_it_needs_no_scipy(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("scipy", "varprop.theory"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    advice = judged(vp.mlp([100] * 21, "tanh", "normal(std=0.01)")).advice
    assert advice.weight.startswith("normal(std=0.1")


def test_where_it_stands():
    run = vp.simulate(vp.mlp([100] * 21, "relu", "normal(std=0.01)"), 10, trials=4)
    line = "to mend it: weight='he_normal', about x"
    assert line in str(run.verdict)
    assert line in str(run)
    assert "to mend it: weight=&#x27;he_normal&#x27;, about x" in run._repr_html_()
    with pytest.raises(vp.UnhealthySignal, match="to mend it: weight='he_normal', about x"):
        run.assert_healthy()
    healthy = vp.simulate(vp.mlp([100] * 5), 10, trials=4)
    assert healthy.verdict.advice is None
    assert "mend" not in str(healthy)


def test_it_fits_the_page():
    for net in (*NETS.values(), vp.mlp([100] * 101, "gelu"), vp.mlp([30] * 51, "softplus")):
        text = str(judged(net))
        assert max(map(len, text.splitlines())) <= 80, text


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_of_implicit_weights_it_names_laws_that_can_be(activation: str) -> None:
    sizes = [300, 200, *[300] * 29]
    law = "variance_scaling(5.0, distribution='untruncated_normal')"
    net = vp.mlp(sizes, activation, weight=law)
    run = vp.simulate(net, 20, trials=4, backward=True, method="implicit")
    weight = run.verdict.advice.weight
    mended = vp.mlp(sizes, activation, weight=weight)
    vp.simulate(mended, 20, trials=4, backward=True, method="implicit").assert_healthy()
