"""Statistics against plain NumPy on the same numbers, and against SciPy's intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from varprop._histogram import EDGES
from varprop.run import Statistics

TRIALS, LAYERS, COUNT = 7, 4, 500


def numbers(seed=0):
    """Return skewed numbers of different means and sizes, shape (trials, layers, count)."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-2, 2, (TRIALS, LAYERS, 1))
    return size * (rng.gamma(2.0, size=(TRIALS, LAYERS, COUNT)) - rng.uniform(0, 4))


def observed(values, exponent=0):
    """Return what a simulation would observe of values whose scale 2**exponent is kept apart."""
    exponent = np.broadcast_to(np.asarray(exponent, np.int64), values.shape[:2]).copy()
    values = np.ldexp(values, -exponent[..., None])
    mean = values.mean(axis=-1)
    off = values - mean[..., None]
    counts = [[np.histogram(x, EDGES)[0] for x in layers] for layers in values]
    return {
        "count": np.full(values.shape[1], values.shape[2], np.int64),
        "mean": mean,
        "variance": (off**2).mean(axis=-1),
        "exponent": exponent,
        "minimum": values.min(axis=-1),
        "maximum": values.max(axis=-1),
        "m3": (off**3).mean(axis=-1),
        "m4": (off**4).mean(axis=-1),
        "histogram": np.array(counts, np.int64),
    }


def expected(values):
    """Return the statistics over the last axis by their definitions."""
    mean, var = values.mean(axis=-1), values.var(axis=-1)
    return {
        "mean": mean,
        "var": var,
        "std": np.sqrt(var),
        "second_moment": (values**2).mean(axis=-1),
        "log10_var": np.log10(var),
        "log10_second_moment": np.log10((values**2).mean(axis=-1)),
        "min": values.min(axis=-1),
        "max": values.max(axis=-1),
        "kurtosis": ((values - mean[..., None]) ** 4).mean(axis=-1) / var**2,
    }


def pooled(values):
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1)


@pytest.mark.parametrize("exponent", [0, 3, -5, np.arange(28).reshape(7, 4) - 11])
def test_statistics_are_those_of_all_numbers(exponent):
    values = numbers()
    statistics = Statistics(observed(values, exponent))
    for name, value in expected(pooled(values)).items():
        np.testing.assert_allclose(getattr(statistics, name), value, rtol=1e-11, atol=1e-13)
    for name, value in expected(values).items():
        np.testing.assert_allclose(
            getattr(statistics.per_trial, name), value, rtol=1e-11, atol=1e-13
        )
    assert statistics.count.tolist() == [TRIALS * COUNT] * LAYERS
    assert statistics.per_trial.count.tolist() == [[COUNT] * LAYERS] * TRIALS
    assert statistics.count.dtype == np.int64


def test_one_trial_is_its_own_pool():
    statistics = Statistics(observed(numbers()[:1], 5))
    for name in ("mean", "var", "log10_second_moment", "kurtosis", "min"):
        assert np.array_equal(getattr(statistics, name), getattr(statistics.per_trial, name)[0])


def test_small_variance_around_a_mean():
    values = 0.5 + 1e-3 * np.random.default_rng(0).normal(size=(5, 1, 1000))
    np.testing.assert_allclose(
        Statistics(observed(values)).var, pooled(values).var(axis=-1), rtol=1e-9
    )


@pytest.mark.parametrize("exponent", [1330, -1330, 10**9])
def test_far_beyond_float64(exponent):
    values = numbers()
    raw = observed(values)
    raw["exponent"] += exponent
    statistics = Statistics(raw)
    shift = 2 * exponent * math.log10(2)
    for fields, value in ((statistics, pooled(values)), (statistics.per_trial, values)):
        second = np.log10((value**2).mean(axis=-1)) + shift
        np.testing.assert_allclose(fields.log10_second_moment, second, rtol=1e-14)
        assert np.all(fields.var == (np.inf if exponent > 0 else 0))
        assert np.all(np.abs(fields.mean) == (np.inf if exponent > 0 else 0))
    low, high = statistics.interval("log10_second_moment")
    assert np.all(np.isfinite(low) & (low < high))
    np.testing.assert_allclose(statistics.kurtosis, expected(pooled(values))["kurtosis"])


def test_trials_of_very_different_scales():
    values = numbers()
    raw = observed(values)
    raw["exponent"][2] += 5000  # this one is all there is
    statistics = Statistics(raw)
    np.testing.assert_allclose(
        statistics.log10_second_moment,
        np.log10((values[2] ** 2).mean(axis=-1) / TRIALS) + 10000 * math.log10(2),
        rtol=1e-14,
    )


def test_dead_trials_have_no_scale():
    values = numbers()
    values[3:] = 0
    raw = observed(values)
    raw["exponent"][:3] = -4000  # the living are far smaller than the scale that the dead kept
    second = (pooled(values) ** 2).mean(axis=-1)
    np.testing.assert_allclose(
        Statistics(raw).log10_second_moment, np.log10(second) - 8000 * math.log10(2), rtol=1e-14
    )


def test_zeros():
    statistics = Statistics(observed(np.zeros((3, 2, 10))))
    assert statistics.log10_second_moment.tolist() == [-math.inf] * 2
    assert statistics.var.tolist() == statistics.mean.tolist() == [0, 0]
    assert np.all(np.isnan(statistics.kurtosis))
    assert np.all(np.isnan(statistics.interval("var")))


def test_numbers_out_of_range_stay_visible():
    raw = observed(numbers())
    raw["mean"][1, 2:], raw["variance"][1, 2:] = (np.inf, np.nan), np.nan
    statistics = Statistics(raw)
    assert np.isfinite(statistics.var).tolist() == [True, True, False, False]
    assert np.isnan(statistics.interval("mean")[0]).tolist() == [False, False, True, True]


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_intervals_are_those_of_scipy(level):
    values = numbers()
    statistics = Statistics(observed(values, 2))
    for name, value in expected(values).items():
        logarithmic = name in ("var", "std", "second_moment")
        sample = np.log(value) if logarithmic else value
        ends = stats.t.interval(
            level, TRIALS - 1, sample.mean(axis=0), stats.sem(sample, axis=0, ddof=1)
        )
        ends = np.exp(ends) if logarithmic else ends
        np.testing.assert_allclose(statistics.interval(name, level), ends, rtol=1e-8)


def test_intervals_cover():
    """95% intervals of the mean of normals: 2000 of them; 5 sigma of the binomial is 2.4%."""
    values = np.random.default_rng(1).normal(size=(5, 2000, 3))
    low, high = Statistics(observed(values)).interval("mean")
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(0.95, abs=0.024)


def test_interval_of_one_trial_is_unknown():
    assert np.all(np.isnan(Statistics(observed(numbers()[:1])).interval("var")))


def test_interval_arguments():
    statistics = Statistics(observed(numbers()))
    with pytest.raises(ValueError, match="unknown statistic 'kurtosi': did you mean 'kurtosis'"):
        statistics.interval("kurtosi")
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match=f"level must be between 0 and 1, got {level}"):
            statistics.interval("var", level)


@pytest.mark.parametrize("exponent", [0, 3, np.arange(28).reshape(7, 4) % 7 - 3])
def test_percentiles_are_those_of_the_numbers(exponent):
    values = numbers()
    # Scaled as a simulation does, to sizes around one; of trials pooled the largest decides.
    exponent = np.asarray(exponent) + np.frexp(values.std(axis=-1))[1]
    statistics = Statistics(observed(values, exponent))
    least = np.ldexp(1.0, exponent - 10)
    for q, name in ((2, "p02"), (50, "p50"), (98, "p98"), (75, None)):
        for fields, raw, zero in (
            (statistics, pooled(values), least.max(axis=0)),
            (statistics.per_trial, values, least),
        ):
            exact = np.percentile(raw, q, axis=-1)
            found = fields.percentile(q)
            assert np.all(np.abs(found - exact) <= np.abs(exact) / 16 + zero)
            assert name is None or np.array_equal(getattr(fields, name), found)


@pytest.mark.parametrize(("q", "error"), [(-1, ValueError), (101, ValueError), ("x", TypeError)])
def test_percentile_must_be_a_percentage(q, error):
    with pytest.raises(error, match="q must be a"):
        Statistics(observed(numbers())).percentile(q)


def test_histograms_have_true_edges():
    values = numbers()
    statistics = Statistics(observed(values, np.frexp(values.std(axis=-1))[1]))
    for fields, raw in ((statistics, pooled(values)), (statistics.per_trial, values)):
        counts, edges = fields.histogram()
        assert counts.shape == (*raw.shape[:-1], 515)
        assert edges.shape == (*raw.shape[:-1], 516)
        for where in np.ndindex(raw.shape[:-1]):
            assert np.array_equal(counts[where], np.histogram(raw[where], edges[where])[0])
        assert np.all(np.isinf(edges[..., [0, -1]]))


def shares(seed=0):
    keys = ("correlation", "saturation", "zero_slope", "dead")
    values = np.random.default_rng(seed).uniform(size=(4, TRIALS, LAYERS))
    return dict(zip(keys, values, strict=True))


def test_shares_are_averaged_over_trials():
    statistics = Statistics({**observed(numbers()), **shares()})
    for name, values in shares().items():
        np.testing.assert_allclose(getattr(statistics, name), values.mean(axis=0), rtol=1e-14)
        assert np.array_equal(getattr(statistics.per_trial, name), values)
        ends = stats.t.interval(
            0.9, TRIALS - 1, values.mean(axis=0), stats.sem(values, axis=0, ddof=1)
        )
        np.testing.assert_allclose(statistics.interval(name, 0.9), ends, rtol=1e-9)


def test_undefined_correlations_stay_visible():
    raw = {**observed(numbers()), **shares()}
    raw["correlation"][3, 1] = np.nan
    statistics = Statistics(raw)
    assert np.isnan(statistics.correlation).tolist() == [False, True, False, False]
    assert np.isnan(statistics.interval("correlation")[0]).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("min", r'simulate with statistics=\("moments", "extremes"\)$'),
        ("p98", r'statistics=\("moments", "histogram"\)$'),
        ("histogram", r'statistics=\("moments", "histogram"\)$'),
        ("dead", r'statistics=\("moments", "saturation"\) for activations$'),
        ("correlation", r'"correlation"\) for preactivations and activations, or statistics='),
        ("correlation", r'"gradient_correlation"\) for gradients$'),
    ],
)
def test_what_was_not_collected_says_how(name, message):
    raw = {key: observed(numbers())[key] for key in ("count", "mean", "variance", "exponent")}
    for fields in (Statistics(raw), Statistics(raw).per_trial):
        with pytest.raises(ValueError, match="^not collected of this signal: .*" + message):
            fields.histogram() if name == "histogram" else getattr(fields, name)
    if name != "histogram":
        with pytest.raises(ValueError, match="not collected"):
            Statistics(raw).interval(name)
