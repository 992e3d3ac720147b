"""Expectations over Gaussians against mpmath at 30 digits, and closed forms."""

import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest

import varprop as vp
from varprop import activations, theory
from varprop.theory._kernels import kernel

Q, C = mp.mpf("1.3"), mp.mpf("0.6")


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def elu(x, alpha=1):
    return x if x > 0 else alpha * mp.expm1(x)


def clip(x, low, high):
    return min(max(x, low), high)


ALPHA = mp.mpf("1.6732632423543772848170429916717")
SCALE = mp.mpf("1.0507009873554804934193349852946")

# Each function anew, and where it bends.
FUNCTIONS = {
    "linear": (lambda x: x, ()),
    "relu": (lambda x: max(x, mp.mpf(0)), (0,)),
    "leaky_relu": (lambda x: x if x > 0 else x * mp.mpf(0.01), (0,)),
    "elu": (elu, (0,)),
    "selu": (lambda x: SCALE * elu(x, ALPHA), (0,)),
    "celu": (elu, (0,)),
    "gelu": (lambda x: x * mp.ncdf(x), ()),
    "gelu_tanh": (
        lambda x: x * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x * x * x))) / 2,
        (),
    ),
    "silu": (lambda x: x * sigmoid(x), ()),
    "mish": (lambda x: x * (1 - 2 / (1 + (1 + mp.exp(x)) ** 2)), ()),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), ()),
    "softsign": (lambda x: x / (1 + abs(x)), (0,)),
    "tanh": (mp.tanh, ()),
    "hard_tanh": (lambda x: clip(x, mp.mpf(-1), mp.mpf(1)), (-1, 1)),
    "sigmoid": (sigmoid, ()),
    "hard_sigmoid": (lambda x: clip(x + 3, mp.mpf(0), mp.mpf(6)) / 6, (-3, 3)),
    "erf": (mp.erf, ()),
    "sin": (mp.sin, ()),
    "relu6": (lambda x: clip(x, mp.mpf(0), mp.mpf(6)), (0, 6)),
    "squared_relu": (lambda x: max(x, mp.mpf(0)) ** 2, (0,)),
}
PANELS = [-9, -6, -3, -1.5, 0, 1.5, 3, 6, 9]  # beyond, there is 10^-18 of a Gaussian


def rule(count):
    """Return Gauss and Legendre's points and weights at the working precision."""
    points = [mp.findroot(lambda x: mp.legendre(count, x), x) for x in _guess(count)]
    slopes = [count * mp.legendre(count - 1, x) / (1 - x * x) for x in points]
    return [(x, 2 / ((1 - x * x) * s * s)) for x, s in zip(points, slopes, strict=True)]


def _guess(count):
    return np.polynomial.legendre.leggauss(count)[0].tolist()


def gaussian_points(points, kinks):
    """Return points and weights of a standard normal, cut at kinks."""
    edges = sorted({*map(mp.mpf, PANELS), *(k for k in kinks if abs(k) < 9)})
    return [
        ((a + b + (b - a) * x) / 2, w * (b - a) / 2 * mp.npdf((a + b + (b - a) * x) / 2))
        for a, b in pairwise(edges)
        for x, w in points
    ]


@pytest.fixture(scope="module", autouse=True)
def digits():
    with mp.workdps(30):
        yield


@pytest.fixture(scope="module")
def coarse():
    return rule(16)


@pytest.fixture(scope="module")
def fine():
    return rule(32)


def test_every_activation_is_here():
    assert tuple(FUNCTIONS) == activations.NAMES


def slope(f, x):
    """Return f'(x) to some 20 digits, from one side of any kink that is not next to x."""
    h = mp.mpf(10) ** -9
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_gaussian(name, fine):
    f, kinks = FUNCTIONS[name]
    root = mp.sqrt(Q)
    points = gaussian_points(fine, [k / root for k in kinks])
    phi = kernel(name)
    exact = mp.fsum(w * f(root * z) ** 2 for z, w in points)
    assert float(phi.square(float(Q))) == pytest.approx(float(exact), rel=1e-14)
    exact = mp.fsum(w * f(root * z) for z, w in points)
    assert float(phi.mean(float(Q))) == pytest.approx(float(exact), rel=1e-14, abs=1e-16)
    slopes = [slope(f, root * z) for z, w in points]
    exact = mp.fsum(w * s * s for s, (_, w) in zip(slopes, points, strict=True))
    assert float(phi.slope_square(float(Q))) == pytest.approx(float(exact), rel=1e-14)
    exact = mp.fsum(w * z * f(root * z) * s for s, (z, w) in zip(slopes, points, strict=True))
    assert float(phi.growth(float(Q))) == pytest.approx(float(exact / root), rel=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_gaussians(name, coarse):
    f, kinks = FUNCTIONS[name]
    root, rest = mp.sqrt(Q), mp.sqrt(1 - C * C)
    exact = mp.mpf(0)
    for z, w in gaussian_points(coarse, [k / root for k in kinks]):
        # One Gaussian has the kinks of f where the other does not.
        inner = gaussian_points(coarse, [(k / root - C * z) / rest for k in kinks])
        exact += w * f(root * z) * mp.fsum(v * f(root * (C * z + rest * y)) for y, v in inner)
    found = kernel(name).product((float(Q), float(Q)), float(C), (0.0, 0.0))
    assert found == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("c", [-1.0, -0.999, -0.5, 0.0, 0.3, 0.9999, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.3)", "linear", "erf"])
def test_closed_forms_are_the_quadrature(name, c):
    phi = activations.resolve(name)
    closed = kernel(phi)
    v, kinks = (0.7, 2.0), (0.0,)
    for f, form in ((phi.value, closed.product), (phi.derivative, closed.slope_product)):
        value, error = theory.expectation2(f, f, v, c, kinks=kinks)
        assert form(v, c, (0.0, 0.0)) == pytest.approx(value, rel=1e-10, abs=1e-10)
        assert error < 1e-9
    for q in (1e-12, 0.7, 1e6):
        value, error = theory.expectation(lambda u: phi.value(u) ** 2, q, kinks=kinks)
        assert float(closed.square(q)) == pytest.approx(value, rel=1e-13)
        assert error <= 1e-12 * value


@pytest.mark.parametrize("c", [-1.0, -0.8, 0.0, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("q", [(1e-6, 1e-6), (0.5, 4.0), (100.0, 100.0), (0.0, 2.0), (0.0, 0.0)])
def test_two_sines(q, c):
    means = (0.3, -1.2)
    value, error = theory.expectation2(np.sin, np.sin, q, c, means)
    half, shared = (q[0] + q[1]) / 2, c * math.sqrt(q[0] * q[1])
    exact = 0.5 * math.cos(means[0] - means[1]) * math.exp(shared - half)
    exact -= 0.5 * math.cos(means[0] + means[1]) * math.exp(-shared - half)
    assert value == pytest.approx(exact, rel=1e-11, abs=1e-13)
    assert error < 1e-11


def test_arrays_means_and_large_moments():
    q = np.array([[0.0], [1.0], [4.0]])
    mean = np.array([-1.0, 0.0, 2.0, 30.0])
    found = theory.expectation(lambda u: u**4, q, mean)
    exact = mean**4 + 6 * mean**2 * q + 3 * q**2
    np.testing.assert_allclose(found.value, exact, rtol=1e-13)
    assert found.error.shape == (3, 4)
    assert theory.expectation(np.exp, 100.0).value == pytest.approx(math.exp(50), rel=1e-12)


def test_jumps_are_found_by_halving():
    value, error = theory.expectation(lambda u: u > 0.7123, 2.0)
    assert value == pytest.approx(0.5 * math.erfc(0.7123 / 2), abs=1e-12)
    assert error < 1e-12
    value, error = theory.expectation2(np.abs, np.abs, 1.0, 0.5)
    assert value == pytest.approx(2 / math.pi * (math.sqrt(0.75) + 0.5 * math.asin(0.5)), abs=1e-11)
    assert error < 1e-10


def test_a_saturated_function():
    # tanh of a Gaussian of std 10^6 is its sign, but near 0: E tanh^2 = 1 - 2 p(0) / std.
    value = float(kernel("tanh").square(1e12))
    assert 1 - value == pytest.approx(2 / math.sqrt(2 * math.pi) * 1e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    # FACTS of the project: E phi(z)^2 of a standard normal.
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
def test_reference_moments(name, value):
    assert float(kernel(name).square(1.0)) == pytest.approx(value, abs=5.1e-8)


def test_callables_are_the_named_functions():
    def bent(x):
        return np.maximum(x, 0.0)

    v, c, m = (1.0, 2.0), 0.5, (0.0, 0.0)
    own = kernel(bent)
    assert own.product(v, c, m) == pytest.approx(kernel("relu").product(v, c, m), rel=1e-10)
    assert float(own.slope_square(1.0)) == pytest.approx(0.5, rel=1e-8)
    exact = kernel(vp.Elementwise(np.tanh, lambda x: np.cosh(x) ** -2.0))
    differences = kernel(vp.Elementwise(np.tanh))
    for phi, rel in ((exact, 1e-13), (differences, 1e-9)):
        for moment in ("slope_square", "growth"):
            wanted = getattr(kernel("tanh"), moment)(1.5)
            assert getattr(phi, moment)(1.5) == pytest.approx(wanted, rel=rel)


def test_errors():
    with pytest.raises(ValueError, match=r"^q must be a finite number >= 0, got -1\.0$"):
        theory.expectation(np.sin, -1.0)
    with pytest.raises(ValueError, match=r"^c must be a finite number .*, got 1\.5$"):
        theory.expectation2(np.sin, np.sin, 1.0, 1.5)
    with pytest.raises(ValueError, match=r"^the expectation is not finite in float64$"):
        theory.expectation(lambda u: np.exp(u**2), 1.0)
    with pytest.raises(TypeError, match=r"^activation must be a string, an ActivationFunction or"):
        theory.fixed_points(3, 1.0)
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        theory.critical("tanhh")


def test_of_what_is_no_function():
    with pytest.raises(TypeError, match="f must be callable, got 'tanh'"):
        theory.expectation("tanh")
    with pytest.raises(ValueError, match="not finite"):  # and no warning
        theory.expectation(lambda u: np.exp(u * u))
