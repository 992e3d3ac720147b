"""The spectrum of deep Jacobians: published numbers, laws of one matrix, SVDs of wide products."""

import math

import numpy as np
import pytest
from scipy import integrate

import varprop as vp
from varprop.theory import jacobian_spectrum

N = 800
KINDS = [(a, w) for a in ("linear", "relu") for w in ("gaussian", "orthogonal")]


def test_largest_singular_values():
    squares = [jacobian_spectrum(depth).edges[1] for depth in (1, 2, 3)]
    assert squares == pytest.approx([4, 6.75, 9.48148], abs=4e-6)
    for depth in (1, 5, 200):
        exact = (depth + 1) * math.log(depth + 1) - depth * math.log(depth)
        found = jacobian_spectrum(depth, gain=1.5).edges
        assert found[0] == 0.0
        assert found[1] == pytest.approx(1.5 ** (2 * depth) * math.exp(exact), rel=1e-12)


def test_mean_singular_values():
    assert jacobian_spectrum(1).mean_singular_value == pytest.approx(0.848826, abs=5e-7)
    found = jacobian_spectrum(1, gain=3**-0.5).mean_singular_value
    assert found == pytest.approx(0.490070, abs=5e-7)
    found = jacobian_spectrum(9, weight="orthogonal", gain=2.0).mean_singular_value
    assert found == pytest.approx(2**9)


def test_moments_of_fuss_and_catalan():
    for depth, known in ((1, [1, 1, 2, 5, 14, 42]), (2, [1, 1, 3, 12, 55, 273])):
        spectrum = jacobian_spectrum(depth)
        assert [spectrum.moment(k) for k in range(6)] == pytest.approx(known, rel=1e-14)
        assert spectrum.moment(3 + 1e-9) == pytest.approx(known[3], rel=1e-7)  # the other formula
    assert jacobian_spectrum(7).moment(2) == pytest.approx(8)


def test_one_gaussian_matrix_half_of_whose_rows_are_zero():
    """Marchenko and Pastur's law of aspect ratio 1/2, by its own formula."""
    spectrum = jacobian_spectrum(1, "relu", gain=3.0)
    low, high = (9 * (1 + sign * 0.5**0.5) ** 2 for sign in (-1, 1))
    assert spectrum.edges == pytest.approx((low, high), rel=1e-13)
    x = np.linspace(low, high, 50)[1:-1]
    known = np.sqrt((high - x) * (x - low)) / (2 * math.pi * 9 * x)
    np.testing.assert_allclose(spectrum.density(x), known, rtol=1e-4)
    for power in (0.5, 1.0, 2.5):
        exact = integrate.quad(
            lambda x, m: x ** (m - 1) * math.sqrt((high - x) * (x - low)) / (2 * math.pi * 9),
            low,
            high,
            args=(power,),
        )[0]
        assert spectrum.moment(power) == pytest.approx(exact, rel=1e-6)


def test_two_projections():
    """Free projections of half the space: the arcsine law on (0, 1), and as many zeros."""
    spectrum = jacobian_spectrum(2, "relu", "orthogonal")
    assert (*spectrum.edges, spectrum.zeros) == (0.0, 1.0, 0.5)
    x = np.array([0.1, 0.5, 0.99])
    np.testing.assert_allclose(spectrum.density(x), 0.5 / (math.pi * np.sqrt(x * (1 - x))))
    central = [math.comb(2 * k, k) / 4**k / 2 for k in (1, 2, 7)]
    assert [spectrum.moment(k) for k in (1, 2, 7)] == pytest.approx(central, rel=1e-14)
    assert spectrum.moment(7 + 1e-9) == pytest.approx(central[2], rel=1e-7)
    assert jacobian_spectrum(1, "relu", "orthogonal", gain=3.0).edges == pytest.approx((9.0, 9.0))


@pytest.mark.parametrize(("weight", "by_depth"), [("gaussian", 2), ("orthogonal", 1)])
def test_variance_behind_relus(weight, by_depth):
    """With He's gain, L (mu_2 / mu_1^2 - 1 - s_1): Pennington et al. 2018, equation 22."""
    for depth in (1, 4, 60):
        spectrum = jacobian_spectrum(depth, "relu", weight, gain=2**0.5)
        assert spectrum.moment(1) == pytest.approx(1.0)
        assert spectrum.moment(2) - 1.0 == pytest.approx(by_depth * depth)


@pytest.mark.parametrize(("activation", "weight"), KINDS)
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_density_has_the_moments(activation, weight, depth):
    spectrum = jacobian_spectrum(depth, activation, weight, gain=1.2)
    if (activation, weight) == ("linear", "orthogonal"):
        with pytest.raises(ValueError, match=r"^no density: all that are not 0 are"):
            spectrum.density(1.0)
        return
    top = spectrum.edges[1]
    angle = (np.arange(20_000) + 0.5) * (0.5 * math.pi / 20_000)
    power = depth + 1  # x = top sin^(2 power) levels what is singular at 0
    x = top * np.sin(angle) ** (2 * power)
    steps = 2 * power * x / np.tan(angle) * (angle[1] - angle[0])
    share = spectrum.density(x) * steps
    assert share.sum() == pytest.approx(1 - spectrum.zeros, abs=2e-3)
    for k in (0.5, 1, 2, 3):
        assert (share * x**k).sum() == pytest.approx(spectrum.moment(k), rel=1e-3), k
    assert spectrum.moment(2 + 1e-9) == pytest.approx(spectrum.moment(2), rel=2e-6)
    assert (spectrum.density([-1.0, 0.0, 1.01 * top]) == 0.0).all()


@pytest.mark.parametrize(("activation", "weight"), KINDS)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_products_of_wide_matrices(activation, weight, depth):
    """The means are some 1/n off their limits; edges n^(-2/3), depth times and more."""
    rng = np.random.default_rng(7)
    product = np.eye(N)
    for _ in range(depth):
        matrix = rng.normal(size=(N, N)) / math.sqrt(N)
        if weight == "orthogonal":
            matrix = np.linalg.qr(matrix)[0]
        product = 1.3 * matrix @ product
        if activation == "relu":
            product *= rng.permutation(N)[:, None] < N // 2
    squares = np.linalg.svd(product, compute_uv=False) ** 2
    spectrum = jacobian_spectrum(depth, activation, weight, gain=1.3)
    low, high = spectrum.edges
    assert squares.max() == pytest.approx(high, rel=0.08)
    alive = squares > 1e-12
    assert 1 - alive.mean() == pytest.approx(spectrum.zeros, abs=0.01 * (depth - 0.5))
    assert squares[alive].min() == pytest.approx(low, abs=0.01 * high)
    for power, within in ((0.5, 0.01), (1, 0.02), (2, 0.05)):
        assert np.mean(squares**power) == pytest.approx(spectrum.moment(power), rel=within), power
    if low < high:
        middle = np.median(squares[alive])
        x = np.linspace(low, middle, 200_001)[1:]
        above = np.linspace(middle, high, 20_001)
        share = spectrum.density(above).sum() * (above[1] - above[0])
        assert share == pytest.approx((1 - spectrum.zeros) / 2, abs=0.01)
        assert (spectrum.density(x) > 0).all()


def test_the_jacobian_of_a_network():
    """A wide ReLU network with He's weights, whose slopes depend on its weights."""
    net = vp.mlp([600] * 4, "relu", vp.Normal((2 / 600) ** 0.5), None)
    found = vp.jacobian(net, 1, trials=2, seed=3, dtype="float64").singular_values.ravel()
    spectrum = jacobian_spectrum(3, "relu", gain=2**0.5)
    assert np.mean(found**2) == pytest.approx(1.0, rel=0.1)
    assert np.mean(found) == pytest.approx(spectrum.mean_singular_value, rel=0.03)
    assert np.max(found) ** 2 == pytest.approx(spectrum.edges[1], rel=0.15)


def test_errors():
    with pytest.raises(ValueError, match=r"^depth must be an integer >= 1, got 0$"):
        jacobian_spectrum(0)
    with pytest.raises(ValueError, match=r"^unknown activation 'tanh'"):
        jacobian_spectrum(1, "tanh")
    with pytest.raises(ValueError, match=r"^unknown weight 'orthogonl': did you mean 'orthogonal'"):
        jacobian_spectrum(1, weight="orthogonl")
    with pytest.raises(ValueError, match=r"^gain must be a finite number >= 0, got -1"):
        jacobian_spectrum(1, gain=-1.0)
    with pytest.raises(ValueError, match=r"^power must be more than -0\.5, got -0\.5$"):
        jacobian_spectrum(1).moment(-0.5)
    with pytest.raises(ValueError, match=r"^power must be at least 0, got -1$"):
        jacobian_spectrum(1, "relu").moment(-1)


def test_beyond_the_range_of_floats():
    assert jacobian_spectrum(500, gain=10.0).edges == (0.0, math.inf)
    assert jacobian_spectrum(5, gain=0.0).edges == (0.0, 0.0)
