"""Gains against published moments, mpmath, PyTorch, and networks that have them."""

import math

import mpmath
import numpy as np
import pytest

import varprop as vp
from varprop import theory

# E[phi(z)^2] of a standard normal z.
MOMENTS = {
    "linear": 1.0,
    "relu": 0.5,
    "leaky_relu(slope=0.2)": 0.52,
    "gelu": 0.4252215,
    "silu": 0.3557755,
    "elu": 0.6449454,
    "mish": 0.4523422,
    "tanh": 0.3942945,
    "sigmoid": 0.2933790,
    "softplus": 0.9212459,
    "selu": 1.0,
}


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("sigma_b", [0.0, 0.6])
def test_unit_variance(name, sigma_b):
    found = vp.recommended_gain(name, sigma_b=sigma_b)
    assert found**2 * MOMENTS[name] + sigma_b**2 == pytest.approx(1.0, abs=3e-7)


@pytest.mark.parametrize(
    ("name", "phi"),
    [("tanh", mpmath.tanh), ("silu", lambda x: x / (1 + mpmath.exp(-x))), ("sin", mpmath.sin)],
)
def test_unit_variance_to_all_digits(name, phi):
    with mpmath.workdps(25):
        weighted = lambda z: phi(z) ** 2 * mpmath.npdf(z)  # noqa: E731
        square = mpmath.quad(weighted, [-12, -4, 0, 4, 12])
        assert vp.recommended_gain(name) == pytest.approx(float(1 / mpmath.sqrt(square)), rel=1e-13)


def test_a_function_of_ones_own():
    assert vp.recommended_gain(lambda x: 3.0 * x) == pytest.approx(1 / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "sigma_b", "square"),
    [
        ("relu", 0.0, 2.0),
        ("linear", 0.0, 1.0),
        ("leaky_relu(0.5)", 0.0, 1.6),
        ("tanh", 0.0, 1.0),
        ("tanh", 0.01**0.5, 1.42420529048860),
        ("tanh", 0.05**0.5, 1.76095463960674),
        ("erf", 0.0, math.pi / 4),
    ],
)
def test_critical(name, sigma_b, square):
    found = vp.recommended_gain(name, "critical", sigma_b=sigma_b)
    assert found**2 == pytest.approx(square, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("tnah",), ValueError, "unknown activation 'tnah': did you mean 'tanh'"),
        ((5,), TypeError, "activation must be a string"),
        (("tanh", "unit"), ValueError, "unknown goal 'unit'. One of: unit_variance, critical"),
        (("tanh", "unit_variance", -1), ValueError, "sigma_b must be a finite number >= 0"),
        (("tanh", "unit_variance", 1), ValueError, "sigma_b must be under 1 for goal='unit_var"),
        (("gelu", "critical"), theory.NoCriticalPoint, "gelu has no edge of chaos at sigma_b = 0"),
        (("relu", "critical", 0.1), theory.NoCriticalPoint, "relu has no edge of chaos"),
        ((lambda x: 0.0 * x,), ValueError, "has no gain: all that leaves it is 0"),
    ],
)
def test_what_has_no_gain(arguments, error, message):
    with pytest.raises(error, match=message):
        vp.recommended_gain(*arguments)


# --- the table ----------------------------------------------------------------------------------


def test_the_gains_of_pytorch():
    torch = pytest.importorskip("torch")
    theirs = {}
    for name in vp.activations.NAMES:
        try:
            theirs[name] = torch.nn.init.calculate_gain(name)
        except ValueError:
            theirs[name] = None
    assert sum(gain is not None for gain in theirs.values()) == 6
    for row in vp.gain_table(depth=1).rows:
        if theirs[row.activation] is None:
            assert row.torch is None
        else:
            assert row.torch.gain == pytest.approx(theirs[row.activation], rel=1e-15)
    (row,) = vp.gain_table(["leaky_relu(0.2)"]).rows
    assert row.torch.gain == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.2))


def test_gains_of_ours():
    for row in vp.gain_table(sigma_b=0.3, depth=1).rows:
        name = row.activation
        assert row.unit_variance.gain == vp.recommended_gain(name, sigma_b=0.3)
        if row.critical is None:
            with pytest.raises(theory.NoCriticalPoint):
                vp.recommended_gain(name, "critical", 0.3)
        else:
            assert row.critical.gain == vp.recommended_gain(name, "critical", 0.3)


def chain(name, gain, sigma_b, depth, width=100):
    """Return layers whose first pre-activations are the inputs."""
    weight = f"normal(std={gain / math.sqrt(width)!r})"
    layers = [vp.Dense(width, name, weight, f"normal(std={sigma_b})")] * depth
    return vp.Network(width, [vp.Activation(name), *layers])


@pytest.mark.parametrize("sigma_b", [0.0, 0.2])
def test_effects_are_those_of_a_propagation(sigma_b):
    depth = 12
    names = [name for name in vp.activations.NAMES if name != "squared_relu"]
    for row in vp.gain_table(names, sigma_b=sigma_b, depth=depth).rows:
        for effect in filter(None, (row.torch, row.unit_variance, row.critical)):
            net = chain(row.activation, effect.gain, sigma_b, depth)
            found = theory.propagate(net, c=None)
            assert effect.log10_variance == pytest.approx(np.log10(found.q[-1]), abs=1e-9)
            gradients = found.gradients.log10_second_moment
            through = gradients[0] - gradients[-1]
            assert through == pytest.approx(effect.log10_gradient, abs=1e-9)


def test_effects_are_those_of_a_simulation():
    """At width 800, where chance moves a mean square by a few percent a layer: within 0.2."""
    for name, which in (("tanh", "torch"), ("selu", "unit_variance"), ("sigmoid", "torch")):
        (row,) = vp.gain_table([name], depth=10).rows
        effect = getattr(row, which)
        run = vp.simulate(chain(name, effect.gain, 0.0, 10, 800), 20, trials=4, backward=True)
        ends = run.preactivations.log10_second_moment
        assert ends[-1] == pytest.approx(effect.log10_variance, abs=0.1)
        back = run.gradients.log10_second_moment
        assert back[0] - back[-1] == pytest.approx(effect.log10_gradient, abs=0.2)


def test_unstable_fixed_points():
    """Of gelu's, silu's and mish's unit variance every network leaves, to either side."""
    rows = {row.activation: row for row in vp.gain_table().rows}
    unstable = {name for name, row in rows.items() if row.unit_variance.unstable}
    assert unstable == {"gelu", "gelu_tanh", "silu", "mish", "squared_relu"}
    assert not any(row.critical and row.critical.unstable for row in rows.values())
    net = chain("gelu", rows["gelu"].unit_variance.gain, 0.0, 100)
    ends = vp.simulate(net, 20, trials=40).preactivations.per_trial.log10_second_moment[:, -1]
    assert np.mean(np.abs(ends) > 2) > 0.9
    assert ends.min() < -2
    assert ends.max() > 2


def test_the_table_is_printed():
    for table in (
        vp.gain_table(),
        vp.gain_table(["leaky_relu(0.123456789)", "elu(alpha=2)"], sigma_b=0.5, depth=1000),
    ):
        text = str(table)
        assert max(map(len, text.splitlines())) <= 80
        assert all(row.activation[:4] in text for row in table.rows)
    words = " ".join(str(vp.gain_table()).split())
    assert " tanh 1.667 0.1 8.3 1.593 0.0 7.1 1.000 -2.3 -2.1 " in words
    assert " gelu - - - 1.534 0.0* 3.0 - - - " in words
    assert repr(vp.gain_table(["relu"])) == "<GainTable of 1 activations>"
    record = vp.gain_table(["relu", "silu"], depth=7).to_dict()
    assert (record["depth"], record["rows"][1]["torch"]) == (7, None)
    assert record["rows"][0]["critical"]["gain"] == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"names": "relu"}, TypeError, "names must be a list of activations, got 'relu'"),
        ({"names": ["rellu"]}, ValueError, "unknown activation 'rellu': did you mean 'relu'"),
        ({"names": []}, ValueError, "names must name an activation, got none"),
        ({"depth": 0}, ValueError, "depth must be an integer >= 1, got 0"),
    ],
)
def test_bad_tables(arguments, error, message):
    with pytest.raises(error, match=message):
        vp.gain_table(**arguments)


def test_biases_of_std_1_leave_no_gain_of_unit_variance():
    table = vp.gain_table(["tanh"], sigma_b=1.0)
    assert table.rows[0].unit_variance is None
    critical = vp.recommended_gain("tanh", "critical", sigma_b=1.0)
    assert table.rows[0].critical.gain == critical
    with pytest.raises(ValueError, match="sigma_b must be a finite number"):
        vp.gain_table(["tanh"], sigma_b=float("nan"))
