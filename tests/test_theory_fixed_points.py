"""Fixed points and the edge of chaos, against published numbers, closed forms and iteration."""

import math
import subprocess
import sys

import numpy as np
import pytest

import varprop as vp
from varprop import activations, theory
from varprop.theory._kernels import kernel

TANH = [
    # sigma_w with sigma_b = .3: q, chi_1, c, xi_q, xi_c
    (1.3, 0.607046791909, 0.939807428682, 1.0, 1.33766764, 16.10817274),
    (2.5, 4.079123875282, 1.585224765006, 0.122103747306, 0.68834146, 5.10891899),
    (4.0, 12.604149497844, 2.367261035546, 0.029695921580, 0.49029475, 3.63935102),
]


@pytest.mark.parametrize(("sigma_w", "q", "chi_1", "c", "xi_q", "xi_c"), TANH)
def test_tanh(sigma_w, q, chi_1, c, xi_q, xi_c):
    found = theory.fixed_points("tanh", sigma_w, 0.3)
    assert (found.activation, found.sigma_w, found.sigma_b) == ("tanh", sigma_w, 0.3)
    for value, exact in ((found.q, q), (found.chi_1, chi_1), (found.c, c)):
        assert value == pytest.approx(exact, abs=6e-13)
    assert found.xi_q == pytest.approx(xi_q, abs=6e-9)
    assert found.xi_c == pytest.approx(xi_c, abs=6e-9)
    assert found.phase == ("ordered" if chi_1 < 1 else "chaotic")


@pytest.mark.parametrize(
    "name", ["tanh", "erf", "sin", "elu", "gelu", "softsign", "sigmoid", "relu"]
)
def test_depth_scales_are_those_of_the_iteration(name):
    """The maps themselves, repeated from nearby, close in by the factor exp(-1/xi) a layer."""
    phi, w, b = kernel(name), 1.3, 0.2
    found = theory.fixed_points(name, w, b)
    off, factors = 1e-4 * found.q, []
    for _ in range(2):
        q = w**2 * float(phi.square(found.q + off)) + b**2
        factors.append((q - found.q) / off)
        off = -off
    assert np.mean(factors) == pytest.approx(math.exp(-1 / found.xi_q), rel=1e-6)
    if found.c < 1:
        both = (found.q, found.q)
        c = [
            (w**2 * phi.product(both, found.c + off, (0, 0)) + b**2) / found.q
            for off in (1e-4, -1e-4)
        ]
        assert (c[0] - c[1]) / 2e-4 == pytest.approx(math.exp(-1 / found.xi_c), rel=1e-6)
        assert np.mean(c) == pytest.approx(found.c, abs=1e-7)
    else:
        assert found.xi_c == pytest.approx(-1 / math.log(found.chi_1))


def test_selu():
    """Mean 0 and variance 1 stay (Klambauer et al. 2017)."""
    found = theory.fixed_points("selu", 1.0)
    assert found.q == pytest.approx(1.0, abs=1e-13)
    assert float(kernel("selu").mean(1.0)) == pytest.approx(0.0, abs=1e-15)
    assert found.chi_1 == pytest.approx(1.0715749924558, abs=6e-14)


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b", "start", "q"),
    [
        ("relu", math.sqrt(2), 0.0, 3.0, 3.0),  # every q stays
        ("relu", 1.0, 0.5, 1.0, 0.5),  # q' = q / 2 + 1/4
        ("relu", 1.0, 2000.0, 1.0, 8e6),
        ("relu", 1.5, 0.0, 1.0, math.inf),
        ("relu", math.sqrt(2), 0.1, 1.0, math.inf),
        ("leaky_relu(0.5)", 1.0, 0.0, 1.0, 0.0),
        ("linear", 0.6, 0.8, 1.0, 1.0),
        ("tanh", 1.0, 0.0, 1.0, 0.0),  # as 1 / depth
        ("hard_tanh", 1.0, 0.0, 1.0, 0.0),  # slower than any power
        ("tanh", 0.5, 0.0, 1.0, 0.0),
        ("tanh", 0.5, 1e-8, 1.0, 1e-16 / 0.75),
        # q' = 3/2 sigma_w^2 q^2: between 0 and infinity there is a point that repels.
        ("squared_relu", 0.5, 0.0, 2.66, 0.0),
        ("squared_relu", 0.5, 0.0, 2.67, math.inf),
        ("gelu", 1.8, 0.0, 0.01, 0.0),
    ],
)
def test_where_q_ends(name, sigma_w, sigma_b, start, q):
    found = theory.fixed_points(name, sigma_w, sigma_b, start=start)
    assert found.unbounded == math.isinf(q)
    assert found.q == pytest.approx(0.0 if math.isinf(q) else q, rel=1e-13)
    if q == 0.0:
        assert found.c == 1.0
        assert found.chi_1 == pytest.approx(
            sigma_w**2 * activations.resolve(name).derivative([1e-9, -1e-9]).dot([0.5, 0.5]) ** 2
            if name != "leaky_relu(0.5)"
            else 0.625,
            abs=1e-6,
        )
    if math.isinf(q):
        assert np.isnan([found.c, found.xi_q, found.xi_c]).all()
        assert found.phase == "unbounded"


def test_a_point_that_only_one_side_comes_to():
    """q' touches q from below at q = 1: from above that is where it ends, from below it falls."""

    def square(q):  # q' = q - (q - 1)^2 / 10 near 1
        return q - 0.1 * (q - 1) ** 2 * np.exp(-((q - 1) ** 2))

    class Touching:
        homogeneous = False

        def square(self, q, _mean=0.0):
            return np.asarray(square(np.asarray(q, float)) * (np.asarray(q) > 0))

    from varprop.theory._length_map import LengthMap

    length = LengthMap(Touching(), 1.0, 0.0)
    assert length.limit(2.0) == pytest.approx(1.0, abs=1e-6)
    assert length.limit(1.0) == 1.0
    assert length.limit(0.5) < 1e-9


# --- the edge of chaos --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("b", "w", "q"),
    [
        (0.05, 1.76095463960674, 0.57004788164076),
        (0.01, 1.42420529048860, None),
        (0.2, 2.28515247372019, None),
    ],
)
def test_edge_of_tanh(b, w, q):
    edge = theory.critical("tanh", math.sqrt(b))
    assert edge.sigma_w**2 == pytest.approx(w, abs=6e-15)
    if q is not None:
        assert edge.q == pytest.approx(q, abs=6e-15)


@pytest.mark.parametrize("sigma_b", [0.0, 1e-3, 0.1, 1.0, 30.0])
def test_edge_of_erf_has_a_closed_form(sigma_b):
    edge = theory.critical("erf", sigma_b)
    assert edge.sigma_w**2 == pytest.approx(math.pi / 4 * math.sqrt(1 + 4 * edge.q), rel=1e-14)
    # and q = sigma_w^2 (2 / pi) asin(2q / (1 + 2q)) + sigma_b^2
    square = 2 / math.pi * math.asin(2 * edge.q / (1 + 2 * edge.q))
    assert edge.q == pytest.approx(edge.sigma_w**2 * square + sigma_b**2, rel=1e-12)


def test_edges_of_tiny_and_huge_biases():
    assert theory.critical("tanh", 1e-6).sigma_w == pytest.approx(1.0, abs=1e-4)
    for name in ("tanh", "erf", "hard_sigmoid"):  # which add at most sigma_w^2
        edge = theory.critical(name, 1000.0)
        assert 1e6 < edge.q < 1e6 + edge.sigma_w**2
    with pytest.raises(theory.NoCriticalPoint):
        theory.critical(vp.Elementwise(np.ones_like, np.zeros_like), 0.1)


def test_a_map_that_is_flat_to_rounding():
    """hard_tanh is the identity but for 10^-15 of a Gaussian: q rests where that takes 10^-16."""
    found = theory.fixed_points("hard_tanh", 1.0, 1e-8)
    lost = found.q - float(kernel("hard_tanh").square(found.q))
    assert 0.01 < found.q < 0.02
    assert lost == pytest.approx(1e-16, abs=1e-17)


@pytest.mark.parametrize("sigma_b", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("name", activations.NAMES)
def test_edge_is_a_stable_fixed_point(name, sigma_b):
    try:
        edge = theory.critical(name, sigma_b)
    except theory.NoCriticalPoint:
        assert (name, sigma_b) in WITHOUT
        return
    assert (name, sigma_b) not in WITHOUT
    found = theory.fixed_points(name, edge.sigma_w, sigma_b)
    assert found.q == pytest.approx(edge.q, rel=1e-11)
    assert found.chi_1 == pytest.approx(1.0, abs=1e-12)
    assert found.phase == "critical"
    assert found.c == 1.0
    assert found.xi_c > 1e8
    # Past the edge two inputs part, before it they meet.
    beyond = theory.fixed_points(name, 1.05 * edge.sigma_w, sigma_b, start=max(edge.q, 1.0))
    before = theory.fixed_points(name, 0.95 * edge.sigma_w, sigma_b, start=max(edge.q, 1.0))
    assert before.phase == "ordered"
    assert beyond.phase in ("chaotic", "unbounded")


# Slopes that grow with q, so that where chi_1 = 1 lengths run away; or lines, which biases shift.
WITHOUT = {
    *((name, b) for name in ("linear", "relu", "leaky_relu") for b in (0.05, 0.3, 1.0)),
    *((name, b) for name in ("gelu", "gelu_tanh", "silu", "mish") for b in (0.0, 0.05, 0.3)),
    *((name, b) for name in ("softplus", "squared_relu") for b in (0.0, 0.05, 0.3, 1.0)),
}


def test_relu_has_one_edge():
    edge = theory.critical("relu")
    assert (edge.sigma_w, edge.q) == (pytest.approx(math.sqrt(2), rel=1e-15), 1.0)
    for name in ("relu", "linear"):
        message = rf"^{name} has no edge of chaos at sigma_b = 0\.1$"
        with pytest.raises(theory.NoCriticalPoint, match=message):
            theory.critical(name, 0.1)
    assert issubclass(theory.NoCriticalPoint, ValueError)


def test_callables():
    edge = theory.critical(np.tanh, math.sqrt(0.05))
    assert edge.activation == "tanh"
    assert edge.sigma_w**2 == pytest.approx(1.76095463960674, rel=1e-9)
    exact = vp.Elementwise(np.tanh, lambda x: np.cosh(x) ** -2.0)
    assert theory.critical(exact, math.sqrt(0.05)).q == pytest.approx(0.57004788164076, rel=1e-12)
    assert theory.critical(abs) == theory.CriticalPoint("abs", 0.0, pytest.approx(1.0), 1.0)
    found = theory.fixed_points(lambda x: np.maximum(x, 0), 1.0, 0.5)
    assert (found.q, found.chi_1) == pytest.approx((0.5, 0.5))
    bent = theory.critical(lambda x: np.where(x > 0, x, 0.3 * np.sin(x)))
    assert (bent.sigma_w**2, bent.q) == pytest.approx((2 / 1.09, 0.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tanh", -1.0), "sigma_w must be a finite number >= 0"),
        (("tanh", 1.0, float("nan")), "sigma_b must be a finite number >= 0"),
        (("tanhh", 1.0), "unknown activation 'tanhh': did you mean 'tanh'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.fixed_points(*arguments)


def test_start_is_positive():
    with pytest.raises(ValueError, match=r"^start must be greater than 0"):
        theory.fixed_points("tanh", 1.0, start=0.0)


def test_without_scipy_the_extra_is_named():
    code = """\
import sys
sys.modules["scipy"] = None
import varprop
try:
    varprop.theory
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "varprop[scipy]"' in run.stdout


def test_imported_when_asked_for():
    code = "import sys, varprop; a = 'scipy' in sys.modules; varprop.theory; print(a)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_what_is_printed():
    text = str(theory.fixed_points("tanh", 1.3, 0.3))
    assert text.splitlines()[0] == "tanh, sigma_w = 1.3, sigma_b = 0.3: ordered"
    assert "q = 0.607047, c = 1, chi_1 = 0.939807" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "unbounded" in str(theory.fixed_points("relu", 2.0, 0.1))
