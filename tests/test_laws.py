"""The laws of the numbers drawn: moments, Kolmogorov-Smirnov and tails against SciPy's."""

import numpy as np
import pytest
from scipy import stats

import varprop as vp

COUNT = 10_000_000
# A statistic of a fixed seed fails with probability under 1e-6 if the law is right: 4.9 sigma, and
# sqrt(n) D = 2.69 for Kolmogorov and Smirnov.
SIGMAS, KOLMOGOROV = 4.9, 2.69

STD_CUT = 0.87962566103423978
N = 400  # fan_in of the scaled laws
LAWS = {
    "normal": stats.norm(),
    "normal(std=0.02, mean=1)": stats.norm(1, 0.02),
    "uniform": stats.uniform(),
    "uniform(low=-2, high=5)": stats.uniform(-2, 7),
    "truncated_normal": stats.truncnorm(-2, 2),
    "truncated_normal(low=-1, high=3)": stats.truncnorm(-1, 3),
    "truncated_normal(low=6, high=8)": stats.truncnorm(6, 8),
    "truncated_normal(low=0, high=inf)": stats.truncnorm(0, np.inf),
    "he_normal": stats.truncnorm(-2, 2, scale=np.sqrt(2 / N) / STD_CUT),
    "glorot_uniform": stats.uniform(-np.sqrt(3 / N), 2 * np.sqrt(3 / N)),
    "kaiming_normal": stats.norm(0, np.sqrt(2 / N)),
    "torch_linear": stats.uniform(-np.sqrt(1 / N), 2 * np.sqrt(1 / N)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("init", LAWS)
def test_moments_and_distribution(init, dtype):
    law = LAWS[init]
    # Square for the scaled laws (glorot's fan_avg is N too); as many numbers in all.
    draws = np.concatenate(
        [
            vp.weights((N, N), init, seed=1, name="laws", trial=t, dtype=dtype).ravel()
            for t in range(COUNT // N**2 + 1)
        ]
    )[:COUNT]
    m = vp.Moments()
    m.update(draws)
    mean, var, _, excess = (float(x) for x in law.stats("mvsk"))
    if "6" in init:  # SciPy's moments lose their digits in the far tail
        mean, var, excess = quadrature_moments(law, 6, 8)
    assert m.mean == pytest.approx(mean, abs=SIGMAS * np.sqrt(var / COUNT))
    assert m.var == pytest.approx(var, rel=SIGMAS * np.sqrt((excess + 2) / COUNT))
    # The variance of a light-tailed sample's kurtosis is at most about a normal's, 24 / n.
    slack = SIGMAS * np.sqrt((24 if "6" not in init else 2000) / COUNT)
    assert m.kurtosis == pytest.approx(excess + 3, abs=slack)
    low, high = law.support()
    assert low <= m.min
    assert m.max <= high
    draws.sort()
    cdf = law.cdf(draws)
    steps = np.arange(COUNT + 1) / COUNT
    distance = max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1]))
    assert np.sqrt(COUNT) * distance < KOLMOGOROV


def quadrature_moments(law, low, high):
    x = np.linspace(low, high, 200_001)
    density = np.exp(-0.5 * (x * x - low * low))
    density /= np.trapezoid(density, x)
    mean = np.trapezoid(x * density, x)
    var, fourth = (np.trapezoid((x - mean) ** k * density, x) for k in (2, 4))
    return mean, var, fourth / var**2 - 3


def test_pairs_of_normals_are_independent():
    # A Box-Muller pair shares its radius and angle: rows 2k and 2k + 1.
    w = vp.weights((2000, 1000), "normal", seed=3).astype(np.float64)
    x, y = w[::2].ravel(), w[1::2].ravel()
    angle, radius = np.arctan2(y, x), 0.5 * (x * x + y * y)
    bound = KOLMOGOROV / np.sqrt(x.size)
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).statistic < bound
    assert stats.kstest(radius, stats.expon().cdf).statistic < bound
    table = np.histogram2d(x, y, bins=stats.norm.ppf(np.linspace(0, 1, 41)))[0]
    assert stats.chisquare(table.ravel()).pvalue > 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_truncated_normal_stays_inside(dtype):
    for std in (1.0, 0.3, 1e-3, 17.0, 1e-20):
        w = vp.weights((3000, 1000), f"truncated_normal(std={std}, low={-2 * std}, high={2 * std})",
                       dtype=dtype)  # fmt: skip
        assert np.abs(w).max() <= 2 * std


def tails(dtype, trials):
    """Count |z| > 4, 5, 6 and the extremes over trials of 10^7 normals."""
    counts, largest, moments = np.zeros(3, int), 0.0, vp.Moments()
    buffer = np.empty(COUNT, dtype)
    for trial in range(trials):
        vp.weights((COUNT,), "normal", seed=2, name="tails", trial=trial, dtype=dtype, out=buffer)
        moments.update(buffer)
        size = np.abs(buffer, out=buffer)
        far = size[size > 4]
        counts += [far.size, np.sum(far > 5), np.sum(far > 6)]
        largest = max(largest, float(far.max()))
    return counts, largest, moments


def check_tails(dtype, trials):
    counts, largest, moments = tails(dtype, trials)
    n = COUNT * trials
    for sigma, count in zip((4, 5, 6), counts, strict=True):
        expected = n * 2 * stats.norm.sf(sigma)
        print(f"{dtype}: |z| > {sigma}: {count}, expected {expected:.1f}")
        # Two-sided Poisson probability of a count as far off: over 1e-6.
        low, high = stats.poisson.ppf([5e-7, 1 - 5e-7], expected)
        assert low <= count <= high
    print(f"largest {largest:.3f}, mean {moments.mean:.2e}, var - 1 {moments.var - 1:.2e}, "
          f"kurtosis - 3 {moments.kurtosis - 3:.2e}")  # fmt: skip
    assert abs(moments.mean) < SIGMAS / np.sqrt(n)
    assert abs(moments.var - 1) < SIGMAS * np.sqrt(2 / n)
    assert abs(moments.kurtosis - 3) < SIGMAS * np.sqrt(24 / n)
    return largest


def test_tails_of_10_to_the_7():
    check_tails("float32", 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tails_of_10_to_the_9(dtype):
    assert check_tails(dtype, 100) > 5.8


@pytest.mark.slow
def test_truncated_normal_stays_inside_on_10_to_the_9():
    buffer = np.empty((10_000, 10_000), np.float32)
    bound = 2 * np.sqrt(2 / 10_000) / STD_CUT
    for trial in range(10):
        vp.weights((10_000, 10_000), "he_normal", trial=trial, out=buffer)
        assert max(buffer.max(), -buffer.min()) <= bound
