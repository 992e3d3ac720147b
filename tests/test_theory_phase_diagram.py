"""Phase diagrams: the grid is that of single fixed points, the series that of quadrature."""

import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from varprop import activations, theory
from varprop.theory import _hermite
from varprop.theory._kernels import kernel

FIELDS = ("q", "chi_1", "c", "xi_q", "xi_c")


@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "elu", "erf", "relu", "silu", "sin"])
def test_the_grid_is_that_of_fixed_points(name):
    weights, biases = [0.4, 1.45, 2.5], [0.0, 0.3]
    found = theory.phase_diagram(name, weights, biases)
    assert found.activation == name
    for i, b in enumerate(biases):
        for j, w in enumerate(weights):
            one = theory.fixed_points(name, w, b)
            for field in FIELDS:
                value = getattr(found, field)
                assert value.shape == (2, 3)
                exact = pytest.approx(getattr(one, field), rel=1e-9, nan_ok=True)
                assert value[i, j] == exact, (field, w, b)
            assert found.phase[i, j] == one.phase


def test_tanh_has_its_edge():
    edge = theory.critical("tanh", 0.3).sigma_w
    found = theory.phase_diagram("tanh", np.linspace(0.5, 1.5, 3) * edge, 0.3)
    assert found.phase.tolist() == [["ordered", "critical", "chaotic"]]
    assert found.c[0, 0] == found.c[0, 1] == 1 > found.c[0, 2]
    assert found.xi_c[0, 1] > 1e9


@pytest.mark.parametrize("q", [0.1, 3.0])
@pytest.mark.parametrize("name", activations.NAMES)
def test_the_series_is_the_expectation(name, q):
    phi, c = kernel(name), 0.6
    squares = _hermite.coefficients(phi, q, 60)
    powers = c ** np.arange(60.0)
    # What is left out is less than the rest of E phi^2 times c^60.
    rest = float(phi.square(q)) - squares.sum()
    found, exact = squares @ powers, phi.product((q, q), c, (0.0, 0.0))
    assert -1e-13 <= (exact - found) / exact <= (rest * c**60 + 1e-13) / exact
    slope = squares[1:] @ (np.arange(1.0, 60) * powers[:-1]) / q
    exact = phi.slope_product((q, q), c, (0.0, 0.0))
    assert slope == pytest.approx(exact, rel=1e-9)


def test_coefficients_of_sine_and_relu():
    # exp(-q) sinh(q c); and (1 + pi c / 2 + c^2 / 2 + c^4 / 24 + ...) / (2 pi)
    n = np.arange(20)
    exact = [math.exp(-2) * 2.0**k / math.factorial(k) * (k % 2) for k in n]
    np.testing.assert_allclose(_hermite.coefficients(kernel("sin"), 2.0, 20), exact, atol=1e-15)
    exact = np.array([1, math.pi / 2, 1 / 2, 0, 1 / 24]) / (2 * math.pi)
    np.testing.assert_allclose(_hermite.coefficients(kernel("relu"), 1.0, 5), exact, atol=1e-15)


def test_high_coefficients_keep_their_digits():
    # sin(sqrt(q) z) at q = 400: the weight lies about n = q.
    squares = _hermite.coefficients(kernel("sin"), 400.0, 1000)
    n = np.arange(1000)
    logarithm = -400 + n * math.log(400) - np.array([math.lgamma(k + 1) for k in n])
    np.testing.assert_allclose(squares, np.exp(logarithm) * (n % 2), atol=1e-12)


def test_a_kink_by_the_edge_is_left_to_quadrature():
    edge = theory.critical("relu6", 0.5)
    w = 1.002 * edge.sigma_w
    found, one = theory.phase_diagram("relu6", [w], [0.5]), theory.fixed_points("relu6", w, 0.5)
    assert 0.999 < one.c < 1
    assert found.c[0, 0] == pytest.approx(one.c, rel=1e-12)
    assert found.xi_c[0, 0] == pytest.approx(one.xi_c, rel=1e-6)


# --- pictures -----------------------------------------------------------------------------------


def drawn(found, figure=None):
    figure = found.plot(figure)
    FigureCanvasAgg(figure.figure).draw()
    maps = [axes for axes in figure.axes if axes.get_xlabel() == "sigma_w"]
    assert len(maps) == 2
    for axes in maps:
        assert axes.get_title()
    assert maps[0].get_ylabel() == "sigma_b"
    return maps, figure.get_suptitle()


def test_plot():
    weights, biases = np.linspace(0.5, 3, 6), np.linspace(0, 1, 4)
    found = theory.phase_diagram("tanh", weights, biases)
    (left, right), heading = drawn(found)
    assert heading == "tanh, line: edge of chaos, χ₁ = 1"
    np.testing.assert_array_equal(left.collections[0].get_array(), found.c)
    np.testing.assert_array_equal(right.collections[0].get_array(), np.minimum(found.xi_c, 1e4))
    (path,) = left.collections[1].get_paths()
    # The grid's chi_1 is taken as straight from pair to pair, half a unit apart.
    for w, b in path.vertices:
        assert w == pytest.approx(theory.critical("tanh", b).sigma_w, abs=0.1)


def test_plot_of_one_row_without_a_line():
    _, heading = drawn(theory.phase_diagram("tanh", [0.5, 2.0], 0.1))
    assert heading == "tanh"


def test_plot_says_where_q_is_unbounded():
    found = theory.phase_diagram("silu", [0.5, 1.0, 3.0], [0.0, 0.5])
    figure = Figure(figsize=(10, 5))
    (left, _), heading = drawn(found, figure.subfigures(1, 2)[0])
    assert heading == "silu, grey: q grows without bound"
    assert left.collections[0].get_array().mask.tolist() == [[False, False, True]] * 2
    # Of an edge all along, xi_c is infinite; the colours end at 10^4 layers.
    drawn(theory.phase_diagram("relu", [2**0.5], [0.0]))
    drawn(theory.phase_diagram("relu", [3.0], [0.0, 1.0]))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], r"^sigma_w must be a sequence of numbers, got shape \(0,\)$"),
        ([[1.0]], r"^sigma_w must be a sequence of numbers, got shape \(1, 1\)$"),
        ([1.0, 1.0], r"^sigma_w must ascend, got \[1\.0, 1\.0\]$"),
        ([-1.0, 1.0], r"^sigma_w\[0\] must be a finite number >= 0, got -1\.0$"),
    ],
)
def test_errors(weights, message):
    with pytest.raises(ValueError, match=message):
        theory.phase_diagram("tanh", weights, [0.0])
