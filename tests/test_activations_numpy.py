"""Activations in NumPy against mpmath's values and derivatives, and published moments."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from varprop import activations

SELU_ALPHA = mpf("1.67326324235437728481704299167")
SELU_SCALE = mpf("1.05070098735548049341933498529")


def elu(x, alpha):
    return x if x > 0 else alpha * mpmath.expm1(x)


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


# What each name means, as its source defines it.
DEFINITIONS = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else x * mpf(0.01),
    "leaky_relu(slope=-2)": lambda x: x if x > 0 else -2 * x,
    "elu": lambda x: elu(x, 1),
    "elu(alpha=0.5)": lambda x: elu(x, mpf(0.5)),
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "celu": lambda x: elu(x, 1),
    "celu(alpha=2.5)": lambda x: x if x > 0 else mpf(2.5) * mpmath.expm1(x / mpf(2.5)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu_tanh": lambda x: (
        x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpf("0.044715") * x**3)))
    ),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "tanh": mpmath.tanh,
    "hard_tanh": lambda x: min(max(x, mpf(-1)), mpf(1)),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: min(max(x + 3, mpf(0)), mpf(6)) / 6,
    "erf": mpmath.erf,
    "sin": mpmath.sin,
    "relu6": lambda x: min(max(x, mpf(0)), mpf(6)),
    "squared_relu": lambda x: max(x, mpf(0)) ** 2,
}
POSITIVE = [1e-200, 1e-9, 1e-3, 0.1, 0.7, 1.3, 2.9, 3.1, 5.9, 6.5, 12, 19.9, 25, 37, 90, 700, 1e4]
POINTS = np.array([sign * x for sign in (-1, 1) for x in POSITIVE])


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(400):  # as 1 + tanh(x) and its differences cancel down to 1e-300
        yield


def check(got, definition, points):
    truth = np.array([float(definition(mpf(x))) for x in points])
    # exp(-x^2 / 2) amplifies rounding by up to x^2 = 1400, where it underflows.
    np.testing.assert_allclose(got, truth, rtol=1e-12, atol=1e-290)


@pytest.mark.parametrize("text", DEFINITIONS)
def test_value(text):
    phi = activations.resolve(text)
    check(phi.value(POINTS), DEFINITIONS[text], POINTS)


@pytest.mark.parametrize("text", DEFINITIONS)
def test_derivative(text):
    phi = activations.resolve(text)
    check(phi.derivative(POINTS), lambda x: mpmath.diff(DEFINITIONS[text], x), POINTS)


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        ("relu", 0.0, 0.0),
        ("leaky_relu(slope=0.3)", 0.0, 0.3),
        ("elu(alpha=0.5)", 0.0, 0.5),
        ("selu", 0.0, 1.7580993408473766),
        ("celu(alpha=0.5)", 0.0, 1.0),
        ("hard_tanh", -1.0, 0.0),
        ("hard_tanh", 1.0, 0.0),
        ("hard_sigmoid", -3.0, 0.0),
        ("hard_sigmoid", 3.0, 0.0),
        ("relu6", 0.0, 0.0),
        ("relu6", 6.0, 0.0),
        ("squared_relu", 0.0, 0.0),
    ],
)
def test_derivative_at_a_kink_is_pytorchs(text, x, expected):
    assert activations.resolve(text).derivative(x) == expected


@pytest.mark.parametrize(
    ("name", "second_moment"),
    [
        ("relu", 0.5),
        ("gelu", 0.4252215),
        ("silu", 0.3557755),
        ("elu", 0.6449454),
        ("mish", 0.4523422),
        ("tanh", 0.3942945),
        ("sigmoid", 0.2933790),
        ("softplus", 0.9212459),
        ("selu", 1.0),
    ],
)
def test_second_moment_under_a_standard_normal(name, second_moment):
    z = np.linspace(-12.0, 12.0, 48001)  # with 0 on the grid, the trapezoid's error is under 1e-7
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    phi = activations.resolve(name)
    integral = (phi.value(z) ** 2 * density).sum() * (z[1] - z[0])
    assert integral == pytest.approx(second_moment, abs=1.5e-7)


@pytest.mark.parametrize("name", activations.NAMES)
def test_nothing_overflows_into_nan(name):
    phi = activations.resolve(name)
    for x in (-1.7e308, -1e200, -1e4, -0.0, 0.0, 1e4, 1e200, 1.7e308):
        assert not np.isnan(phi.value(x)), x
        assert not np.isnan(phi.derivative(x)), x


def test_homogeneous_is_what_scales():
    x = np.array([-3.0, -0.5, 0.25, 2.0])
    scales = {
        name
        for name in activations.NAMES
        if np.array_equal(
            activations.resolve(name).value(4.0 * x), 4.0 * activations.resolve(name).value(x)
        )
    }
    assert scales == {name for name in activations.NAMES if activations.resolve(name).homogeneous}
    assert scales == {"linear", "relu", "leaky_relu"}


def test_names_keep_the_cores_numbering():
    expected = (
        *("linear", "relu", "leaky_relu", "elu", "selu", "celu", "gelu", "gelu_tanh", "silu"),
        *("mish", "softplus", "softsign", "tanh", "hard_tanh", "sigmoid", "hard_sigmoid", "erf"),
        *("sin", "relu6", "squared_relu"),
    )
    assert expected == activations.NAMES


@pytest.mark.parametrize("name", activations.NAMES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_of_any_shape_and_dtype_give_new_float64_ones(name, shape):
    phi = activations.resolve(name)
    x = np.full(shape, 0.5, np.float32)
    for result in (phi.value(x), phi.derivative(x)):
        assert result.dtype == np.float64
        assert result.shape == shape
        assert not np.shares_memory(result, x)
    wide = x.astype(np.float64)
    assert not np.shares_memory(phi.value(wide), wide)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((name, name) for name in activations.NAMES),
        ("leaky_relu(0.2)", "leaky_relu(slope=0.2)"),
        ("leaky_relu(slope=0)", "leaky_relu(slope=0.0)"),
        ("leaky_relu(0.01)", "leaky_relu"),
        ("elu(alpha=-1)", "elu(alpha=-1.0)"),
        (" celu( 0.1 ) ", "celu(alpha=0.1)"),
        ("tanh()", "tanh"),
    ],
)
def test_text_and_back(text, expected):
    phi = activations.resolve(text)
    assert str(phi) == expected
    assert activations.resolve(str(phi)) == phi
    assert activations.resolve(phi) is phi


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("rellu", ValueError, "unknown activation 'rellu': did you mean 'relu'[?] One of: linear,"),
        ("GELU!", ValueError, "activation must be a name"),
        (None, TypeError, "activation must be a string or an ActivationFunction, got None"),
        ("tanh(1)", ValueError, "activation must be called as 'tanh', got 'tanh"),
        ("elu(1, 2)", ValueError, "activation must be called as 'elu.alpha=1.0.', got"),
        ("elu(slope=1)", ValueError, "activation must be called as 'elu.alpha=1.0.', got"),
        ("elu(1, alpha=1)", ValueError, "activation must be called as 'elu.alpha=1.0.', got"),
        ("elu(inf)", ValueError, "activation 'elu.inf.': alpha must be a finite number, got inf"),
        ("elu('a')", ValueError, "activation .*: alpha must be a number, got 'a'"),
        ("celu(alpha=0)", ValueError, "alpha of celu must not be 0"),
    ],
)
def test_errors(spec, error, message):
    with pytest.raises(error, match=message):
        activations.resolve(spec)


def test_errors_of_the_class():
    with pytest.raises(ValueError, match="unknown activation 'softmax'"):
        activations.ActivationFunction("softmax")
    with pytest.raises(ValueError, match="tanh has no parameter, got 2"):
        activations.ActivationFunction("tanh", 2)
