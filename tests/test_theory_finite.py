"""Laws of finite widths: known numbers, SciPy's laws, simulations."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

import varprop as vp
from varprop import theory
from varprop.theory import finite


def test_a_linear_layer_of_100():
    law = finite.linear([7, 100])
    assert law.mean_log == pytest.approx([-0.010033332], abs=6e-10)
    assert law.var_log == pytest.approx([0.020201333], abs=6e-10)
    assert law.mean_square == pytest.approx([1.02], rel=1e-15)
    assert law.alive == [1.0]


@pytest.mark.parametrize("n", [1, 2, 5, 30, 400])
def test_a_linear_layer_is_chi_squared(n):
    law = finite.linear([3, n], sigma_w=1.5)
    chi = stats.chi2(n, scale=2.25 / n)
    logarithm = stats.loggamma(n / 2)  # ln of chi-squared / 2
    assert law.mean_log[0] == pytest.approx(logarithm.mean() + math.log(4.5 / n), rel=1e-9)
    assert law.var_log[0] == pytest.approx(logarithm.var(), rel=1e-9)
    assert law.mean[0] == pytest.approx(chi.mean())
    assert law.mean_square[0] == pytest.approx(chi.moment(2))


@pytest.mark.parametrize("n", [1, 2, 5, 30, 400, 100_000])
def test_a_relu_layer_is_a_mixture(n):
    law = finite.relu([3, n])
    k = np.arange(1, n + 1)
    share = stats.binom.pmf(k, n, 0.5)
    alive = 1 - 0.5**n
    assert law.alive[0] == pytest.approx(alive, rel=1e-15)
    assert share.sum() == pytest.approx(alive, rel=1e-9)
    if n <= 400:
        means = np.array([stats.loggamma(j / 2).mean() for j in k]) + math.log(4 / n)
        variances = np.array([stats.loggamma(j / 2).var() for j in k])
        mean = share @ means / alive
        assert law.mean_log[0] == pytest.approx(mean, rel=1e-9)
        exact = share @ (variances + (means - mean) ** 2) / alive
        assert law.var_log[0] == pytest.approx(exact, rel=1e-9)
    else:  # to first order in 1/n, E ln = -5 / (2n) and Var ln = 5 / n
        assert law.mean_log[0] * n == pytest.approx(-2.5, rel=1e-3)
        assert law.var_log[0] * n == pytest.approx(5, rel=1e-3)
    assert law.mean[0] == pytest.approx(share @ (2 * k / n), rel=1e-9)
    assert law.mean_square[0] == pytest.approx(share @ (4 * k * (k + 2.0) / n**2), rel=1e-9)


def test_layers_multiply():
    sizes = [9, 5, 8, 3]
    for law in (finite.linear, finite.relu):
        whole = law(sizes, 1.3)
        layers = [law([4, n], 1.3) for n in sizes[1:]]
        for name in ("mean_log", "var_log"):
            each = [getattr(layer, name)[0] for layer in layers]
            np.testing.assert_allclose(getattr(whole, name), np.cumsum(each), rtol=1e-13)
        for name in ("mean", "mean_square", "alive"):
            each = [getattr(layer, name)[0] for layer in layers]
            np.testing.assert_allclose(getattr(whole, name), np.cumprod(each), rtol=1e-13)
        assert whole.widths == (5, 8, 3)
    n = np.array([5, 8, 3])
    np.testing.assert_allclose(finite.linear(sizes).mean_square, np.cumprod(1 + 2 / n))


@pytest.mark.parametrize(("activation", "sigma_w"), [("linear", 1.0), ("relu", 2**0.5)])
def test_simulated_chains(activation, sigma_w):
    """2000 trials of one input, 20 layers of 20 to 40: five standard errors fail once in 10^6."""
    sizes = [10, *[20, 40] * 10]
    widths = pairwise(sizes)
    law = {"linear": finite.linear, "relu": finite.relu}[activation](sizes, sigma_w)
    layers = [vp.Dense(n, activation, vp.Normal(sigma_w / m**0.5), None) for m, n in widths]
    trials = 2000
    inputs = np.ones((1, 10))
    run = vp.simulate(vp.Network(10, layers), inputs, trials=trials, seed=11)
    found = run.activations.per_trial.log10_second_moment * math.log(10)
    off = np.abs(found.mean(axis=0) - law.mean_log)
    assert (off < 5 * np.sqrt(law.var_log / trials)).all()
    fourth = ((found - found.mean(axis=0)) ** 4).mean(axis=0)
    error = np.sqrt((fourth - law.var_log**2) / trials)
    assert (np.abs(found.var(axis=0) - law.var_log) < 5 * error).all()


def test_relus_that_die():
    """Layers of 4 units kill one signal in 16 each; five standard errors fail once in 10^5."""
    law = finite.relu([4] * 21)
    trials = 4000
    net = vp.mlp([4] * 21, "relu", "he_normal", None)
    run = vp.simulate(net, 1, trials=trials, seed=2)
    alive = (run.activations.per_trial.second_moment > 0).mean(axis=0)
    assert law.alive[-1] == pytest.approx((15 / 16) ** 20)
    error = np.sqrt(law.alive * (1 - law.alive) / trials)
    assert (np.abs(alive - law.alive) < 5 * error).all()


@pytest.mark.parametrize(
    ("sizes", "sigma_w", "message"),
    [
        ([4], 1.0, r"^sizes must hold the inputs and at least one layer, got \(4,\)$"),
        ([4, 0], 1.0, r"^sizes\[1\] must be an integer >= 1, got 0$"),
        ([4, 4], 0.0, r"^sigma_w must be greater than 0, got 0\.0$"),
        ([4, 4], -1.0, r"^sigma_w must be a finite number >= 0, got -1\.0$"),
    ],
)
@pytest.mark.parametrize("law", [finite.linear, finite.relu])
def test_errors(law, sizes, sigma_w, message):
    with pytest.raises(ValueError, match=message):
        law(sizes, sigma_w)


def test_the_public_names():
    for name in theory.__all__:
        assert getattr(theory, name).__doc__, name


@pytest.mark.parametrize("n", [1, 2, 20, 400])
def test_quantiles_of_one_layer(n):
    p = (0.001, 0.025, 0.5, 0.9, 0.999)
    found = [finite.linear([3, n], 1.5).quantile(q)[0] for q in p]
    np.testing.assert_allclose(found, np.log(stats.chi2(n, scale=2.25 / n).ppf(p)), atol=1e-6)
    k = np.arange(1, n + 1)
    share = stats.binom.pmf(k, n, 0.5) / (1 - 0.5**n)
    for q in p:
        x = finite.relu([3, n]).quantile(q)[0]
        assert share @ stats.chi2(k).cdf(math.exp(x) * n / 2) == pytest.approx(q, abs=1e-6)


def test_quantiles_of_chains():
    """Shares under the quantile, of 4000 draws; 4.5 binomial deviations fail once in 10^4."""
    for activation, law in (("linear", finite.linear), ("relu", finite.relu)):
        sizes = [8, *[12, 20] * 6]
        sigma_w = {"linear": 1.0, "relu": 2**0.5}[activation]
        layers = [
            vp.Dense(n, activation, vp.Normal(sigma_w / m**0.5), None) for m, n in pairwise(sizes)
        ]
        run = vp.simulate(vp.Network(8, layers), np.ones((1, 8)), trials=4000, seed=6)
        logs = run.activations.per_trial.log10_second_moment * math.log(10)
        for p in (0.025, 0.5, 0.975):
            quantile = law(sizes).quantile(p)
            share = (logs < quantile).mean(axis=0)
            alive = law(sizes).alive
            wanted = alive * p + 1 - alive
            assert (np.abs(share - wanted) < 4.5 * math.sqrt(p * (1 - p) / 4000)).all()
    with pytest.raises(ValueError, match=r"^p must be between 0 and 1, got 1\.0$"):
        finite.linear([2, 2]).quantile(1.0)
