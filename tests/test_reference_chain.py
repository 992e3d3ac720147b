"""The reference's simulations against a plain chain, the seed document, and exact growth rates;
what it observes of a layer against NumPy and SciPy.

Statistical tests have fixed seeds; with others, a right implementation would fail with
probability 1e-4 a test.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats
from scipy.spatial import distance

from varprop import reference
from varprop.network import Dense, Network, mlp


def test_simulation_is_the_chain_of_its_weights():
    layers = [
        Dense(30, "tanh", "glorot_uniform", bias="normal(std=0.3)", name="first"),
        Dense(20, "leaky_relu(slope=0.2)", "he_normal", bias=None),
        Dense(10, bias="ones"),
    ]
    net = Network(40, layers)
    options = {"seed": 5, "dtype": "float64"}
    run = reference.simulate(net, 50, trials=2, first_trial=3, **options)
    assert run["activations"]["count"].tolist() == [1500, 1000, 500]
    for row, trial in enumerate((3, 4)):

        def drawn(shape, init, name, trial=trial):
            return reference.weights(shape, init, name=name, trial=trial, **options)

        x = drawn((50, 40), "normal", "input")
        y1 = x @ drawn((40, 30), "glorot_uniform", "first.weight")
        y1 = y1 + drawn((30,), "normal(std=0.3)", "first.bias")
        y2 = np.tanh(y1) @ drawn((30, 20), "he_normal", "dense2.weight")
        x2 = np.where(y2 > 0, y2, 0.2 * y2)
        y3 = x2 @ drawn((20, 10), "lecun_normal", "dense3.weight") + 1
        for kind, arrays in (
            ("preactivations", (y1, y2, y3)),
            ("activations", (np.tanh(y1), x2, y3)),
        ):
            for layer, a in enumerate(arrays):
                seen = {name: run[kind][name][row, layer] for name in run[kind] if name != "count"}
                expected = {
                    "exponent": 0,
                    "mean": np.mean(a),
                    "variance": np.var(a),
                    "minimum": np.min(a),
                    "maximum": np.max(a),
                    "m3": stats.moment(a, 3, axis=None),
                    "m4": stats.moment(a, 4, axis=None),
                }
                assert seen == pytest.approx(expected, rel=1e-11, abs=1e-13)


def test_simulation_on_given_inputs():
    net = mlp([3, 2], weight=np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), bias=None)
    run = reference.simulate(net, [[1.0, 2.0, 3.0], [0.0, 0.0, 2.0]], trials=2)
    assert run["preactivations"]["mean"].tolist() == [[13 / 4]] * 2
    assert run["preactivations"]["maximum"].tolist() == [[5.0]] * 2


def test_the_seed_documents_chains():
    # 100 linear layers of 100 units: it prints sqrt of the mean over layers of var(X).
    def std(weight, seed):
        run = reference.simulate(mlp([100] * 101, weight=weight), 500, seed=seed)
        return math.sqrt(run["preactivations"]["variance"].mean())

    # It got 8.42e98 and 1.0215; 150 such chains on NumPy's own generator gave 10^98.58 to 10^99.41
    # and 0.64 to 1.54.
    assert 98.3 < math.log10(std("normal", 1)) < 99.6
    assert 0.5 < std("normal(std=0.1)", 1) < 2.0
    # One layer of 1000 inputs and one unit: std(X W) is about sqrt(1000).
    run = reference.simulate(mlp([1000, 1], weight="normal"), 100, seed=1)
    assert run["preactivations"]["variance"][0, 0] == pytest.approx(1000, rel=0.35)


def test_growth_of_a_linear_chain_is_exact_at_finite_width():
    # log |x|^2 of one example grows by log(chi2_n / n) a layer: digamma(n/2) + log(2/n) each.
    width, depth, trials = 20, 30, 60
    net = mlp([width] * (depth + 1), weight=f"normal(std={width**-0.5})", bias=None)
    run = reference.simulate(net, 1, trials=trials, seed=2)["preactivations"]
    log = np.log(run["variance"] + run["mean"] ** 2)
    steps = np.diff(log, axis=1)  # independent of each other and over trials
    mean = special.digamma(width / 2) + math.log(2 / width)
    var = special.polygamma(1, width / 2)
    assert abs(steps.mean() - mean) < 4.42 * math.sqrt(var / steps.size)
    ratio = stats.chi2(width, scale=1 / width).cdf
    assert stats.kstest(np.exp(steps).ravel(), ratio).pvalue > 1e-4


# --- what is observed of a layer ----------------------------------------------------------------


def test_histogram_is_numpys():
    rng = np.random.default_rng(0)
    sizes = 10.0 ** rng.uniform(-5, 3, 100_000)
    values = rng.choice([-1, 1], sizes.size) * sizes
    edges = reference.histogram_edges()
    assert edges.shape == (516,)
    counts = reference.histogram(values.reshape(100, -1))
    assert counts.tolist() == np.histogram(values, edges)[0].tolist()
    assert counts.sum() == values.size
    assert counts.all()


def test_histogram_has_16_bins_an_octave():
    edges = reference.histogram_edges()
    positive = edges[258:515]
    assert (edges[0], edges[1], edges[-2], edges[-1]) == (-np.inf, -64, 64, np.inf)
    assert np.array_equal(edges, -edges[::-1])
    assert np.array_equal(positive[::16], 2.0 ** np.arange(-10, 7))
    for low, high in zip(positive[:-1:16], positive[16::16], strict=True):
        parts = positive[(positive >= low) & (positive <= high)]
        assert np.array_equal(parts, np.linspace(low, high, 17))


@pytest.mark.parametrize(
    ("value", "bin_"),
    [
        (0.0, 257),
        (-0.0, 257),
        (1e-300, 257),
        (2.0**-10, 258),
        (np.nextafter(2.0**-10, 0), 257),
        (1.0, 258 + 160),
        (np.nextafter(1.0, 0), 258 + 159),
        (1.0625, 258 + 161),
        (np.nextafter(64.0, 0), 513),
        (64.0, 514),
        (np.inf, 514),
    ],
)
def test_histogram_at_the_edges_of_its_bins(value, bin_):
    assert reference.histogram(value).nonzero()[0].tolist() == [bin_]
    assert reference.histogram(-value).nonzero()[0].tolist() == [514 - bin_]


def test_correlation_is_the_mean_cosine_of_pairs():
    x = np.random.default_rng(0).normal(size=(9, 5)) + 0.3
    cosines = 1 - distance.pdist(x, "cosine")
    assert reference.correlation(x) == pytest.approx(cosines.mean(), rel=1e-12)
    with_zeros = np.insert(x, [0, 4, 9], 0.0, axis=0)
    assert reference.correlation(with_zeros) == pytest.approx(cosines.mean(), rel=1e-12)
    assert reference.correlation(np.outer([1, 2, 5], x[0])) == pytest.approx(1)
    assert reference.correlation(np.outer([1, -1], x[0])) == pytest.approx(-1)
    assert math.isnan(reference.correlation(x[:1]))
    assert math.isnan(reference.correlation(with_zeros[:2]))


def test_shares_of_saturated_and_dead_units():
    slopes = np.array([[0.0, 0.0, 0.0999, -1.0], [0.0, 0.1, 1.0, -0.0999], [0.0, 1.0, 1.0, 1.0]])
    assert reference.saturation(slopes) == {
        "saturation": 6 / 12,
        "zero_slope": 4 / 12,
        "dead": 1 / 4,
    }
    assert reference.saturation(slopes, 0.5)["saturation"] == 7 / 12


def test_simulation_observes_what_is_asked_for():
    net = mlp([20, 30, 10], "tanh", "normal(std=0.4)")
    asked = ("moments", "histogram", "correlation", "saturation(threshold=0.3)")
    run = reference.simulate(net, 40, trials=2, statistics=asked)
    for trial in range(2):
        for i, layer in enumerate(reference.chain(net, 40, trial=trial)):
            y, x = layer.preactivations, layer.activations
            for signal, values in (("preactivations", y), ("activations", x)):
                found = run[signal]
                assert np.array_equal(found["histogram"][trial, i], reference.histogram(values))
                assert found["correlation"][trial, i] == reference.correlation(values)
            # 1 - tanh^2 < 0.3 where |y| > artanh(sqrt(0.7))
            share = np.mean(np.abs(y) > math.atanh(math.sqrt(0.7)))
            assert run["activations"]["saturation"][trial, i] == share
    assert run["activations"]["dead"].tolist() == [[0, 0], [0, 0]]
    assert "saturation" not in run["preactivations"]
    plain = reference.simulate(net, 40, trials=2)
    assert plain["activations"].keys() == reference.moments(np.ones(3)).keys()
