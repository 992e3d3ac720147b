"""The core's activations and derivatives against NumPy in float64, over the whole range."""

import numpy as np
import pytest

from varprop import _core, activations

TOLERANCES = {"float32": (2e-6, 1e-7), "float64": (1e-13, 1e-13)}  # relative, or absolute
PARAMETERS = (
    "leaky_relu(slope=0.2)",
    "leaky_relu(slope=-1.5)",
    "elu(alpha=0.3)",
    "celu(alpha=2.5)",
)


def grid(dtype):
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(-80, np.log(1e4), 100_000))
    special = [0.0, -0.0, 1, -1, 3, -3, 6, -6, 1e4, -1e4, 88, -88, 104, -104, 1e-30, -1e-30]
    parts = [sizes, -sizes, np.linspace(-20, 20, 100_001), rng.uniform(-1e4, 1e4, 50_000), special]
    return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("derivative", [False, True], ids=["value", "derivative"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", activations.NAMES + PARAMETERS)
def test_agrees_with_numpy(name, dtype, derivative):
    function = activations.resolve(name)
    x = grid(dtype)
    with np.errstate(under="ignore"):
        exact = (function.derivative if derivative else function.value)(x.astype(np.float64))
    y = x.copy()
    _core.activate(y, activations.NAMES.index(function.name), function.parameter, derivative)
    relative, absolute = TOLERANCES[dtype]
    error = np.abs(y - exact)
    wrong = ~((error <= absolute) | (error <= relative * np.abs(exact)))
    assert not wrong.any(), list(zip(x[wrong], y[wrong], exact[wrong], strict=True))[:3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", activations.NAMES)
def test_stays_finite_to_the_ends_of_the_range(name, dtype):
    function = activations.resolve(name)
    largest = np.sqrt(np.finfo(dtype).max) / 8  # its square is finite
    x = np.array([largest, -largest, 1e4, -1e4, 700, -700], dtype=dtype)
    for derivative in (False, True):
        y = x.copy()
        _core.activate(y, activations.NAMES.index(function.name), function.parameter, derivative)
        assert np.isfinite(y).all(), (name, derivative, y)


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "softsign", "elu", "selu", "gelu", "silu"])
def test_tiny_numbers_keep_their_digits(name):
    # A vanishing signal must vanish at the right rate: phi(x) / x tends to phi'(0).
    function = activations.resolve(name)
    x = np.array([1e-30, -1e-30, 1e-20, -1e-12], np.float32)
    y = x.copy()
    _core.activate(y, activations.NAMES.index(function.name), function.parameter, False)
    slope = float(function.derivative(0.0)) if name not in ("elu", "selu") else None
    exact = function.value(x.astype(np.float64)) if slope is None else slope * x
    np.testing.assert_allclose(y, exact, rtol=1e-6)
