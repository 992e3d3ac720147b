"""Singular values of Jacobians: against derivatives taken otherwise, closed forms, each other."""

import math
import sys

import mpmath
import numpy as np
import pytest

import varprop as vp
from varprop import _jacobian, _memory

EPS = np.finfo(float).eps
SMOOTH = (
    "linear",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softplus",
    "tanh",
    "sigmoid",
    "erf",
    "sin",
)
DEEP = ["linear", "tanh", "leaky_relu(slope=0.5)", "relu"]


def parameters(net, trial=0, **options):
    """Return the weights and biases of :func:`simulate`, in float64."""
    run = vp.simulate(net, 1, trials=1, first_trial=trial, **options)
    layers = range(len(net.layers))
    biases = (run.bias(layer) for layer in layers)
    return (
        [run.weights(layer).astype(float) for layer in layers],
        [0.0 if bias is None else bias.astype(float) for bias in biases],
    )


def rows(net, count, trial=0, **options):
    return vp.simulate(net, count, trials=1, first_trial=trial, **options).inputs().astype(float)


def value(net, weights, biases, x):
    for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
        x = layer.activation.value(x @ weight + bias)
    return x


def factors(net, weights, biases, x):
    """Return diag(phi'(y)) W^T of every layer at one input."""
    found = []
    for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
        y = x @ weight + bias
        found.append(layer.activation.derivative(y)[:, np.newaxis] * weight.T)
        x = layer.activation.value(y)
    return found


def singular_values(net, weights, biases, x):
    """Return those of the product, plainly."""
    product = np.eye(net.inputs)
    for factor in factors(net, weights, biases, x):
        product = factor @ product
    return np.linalg.svd(product, compute_uv=False)


@pytest.mark.parametrize("activation", SMOOTH)
def test_finite_differences(activation):
    net = vp.mlp([7, 12, 9, 5], activation, "glorot_normal", "normal(std=0.3)")
    weights, biases = parameters(net, seed=3)
    (x,) = rows(net, 1, seed=3)
    step = 1e-5 * np.eye(net.inputs)
    both = (value(net, weights, biases, x + sign * step) for sign in (1, -1))
    differences = (next(both) - next(both)) / 2e-5
    found = vp.jacobian(net, seed=3).singular_values[0, 0]
    np.testing.assert_allclose(
        found, np.linalg.svd(differences, compute_uv=False), atol=1e-8 * found[0], rtol=0
    )


@pytest.mark.parametrize("activation", vp.activations.NAMES)
@pytest.mark.parametrize("sizes", [[6, 11, 8], [9, 12, 4]])
def test_automatic_differentiation(activation, sizes):
    torch = pytest.importorskip("torch")
    from test_gradients_torch import FUNCTIONS

    net = vp.mlp(sizes, activation, "he_normal", "normal(std=0.5)")
    weights, biases = parameters(net)

    def outputs(x):
        for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
            y = x @ torch.tensor(weight) + torch.tensor(bias)
            x = FUNCTIONS[layer.activation.name](y, layer.activation.parameter)
        return x

    found = vp.jacobian(net, inputs=3).singular_values[0]
    for x, ours in zip(rows(net, 3), found, strict=True):
        matrix = torch.autograd.functional.jacobian(outputs, torch.tensor(x)).numpy()
        norms = [np.linalg.norm(factor, 2) for factor in factors(net, weights, biases, x)]
        norms.extend(np.linalg.norm(weight, 2) for weight in weights)  # before phi'
        tolerance = 4 * EPS * sum(sizes) * math.prod(max(norm, 1) for norm in norms)
        theirs = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("sizes", [[8, 8, 8], [5, 9, 13], [13, 9, 5], [10, 3, 10], [4], [1, 6, 1]])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_shapes_and_every_layer(sizes, activation):
    sizes = [*sizes, 7]
    net = vp.mlp(sizes, activation, "he_normal", "normal(std=0.1)")
    whole = vp.jacobian(net, inputs=4, trials=2, first_trial=5, seed=2)
    each = vp.jacobian(net, inputs=4, trials=2, first_trial=5, seed=2, layers="all")
    assert whole.singular_values.shape == (2, 4, min(sizes[0], 7))
    assert list(each.singular_values) == list(net.layer_names)
    for turn in range(2):
        weights, biases = parameters(net, 5 + turn, seed=2)
        for i, x in enumerate(rows(net, 4, 5 + turn, seed=2)):
            expected = singular_values(net, weights, biases, x)
            found = whole.singular_values[turn, i]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
            layers = each.singular_values.values(), factors(net, weights, biases, x)
            for found, factor in zip(*layers, strict=True):
                expected = np.linalg.svd(factor, compute_uv=False)
                np.testing.assert_allclose(found[turn, i], expected, rtol=0, atol=1e-13)


def test_trials_and_inputs_are_those_asked_for(monkeypatch):
    net = vp.mlp([6, 20, 8], "tanh", "glorot_uniform")
    whole = vp.jacobian(net, inputs=5, trials=3, dtype="float64").singular_values
    last = vp.jacobian(net, inputs=5, trials=1, first_trial=2, dtype="float64").singular_values
    assert np.array_equal(whole[2:], last)
    data = rows(net, 5, dtype="float64")
    given = vp.jacobian(net, inputs=data, trials=1, dtype="float64").singular_values
    assert np.array_equal(given, whole[:1])
    monkeypatch.setattr(_jacobian, "STACKED", 1)  # each input on its own
    monkeypatch.setattr(_jacobian, "KEPT", 0)  # weights drawn again and again
    alone = vp.jacobian(net, inputs=5, trials=3, dtype="float64").singular_values
    np.testing.assert_allclose(alone, whole, rtol=1e-13)


def test_progress_ends_at_one():
    seen = []
    vp.jacobian(vp.mlp([4, 4, 4]), inputs=2, trials=3, layers="all", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


# Closed forms.


@pytest.mark.parametrize("method", ["svd", "extreme"])
def test_orthogonal_linear_networks(method):
    net = vp.mlp([120] * 31, weight="orthogonal")
    found = vp.jacobian(net, trials=2, method=method, dtype="float64")
    np.testing.assert_allclose(found.singular_values, 1, rtol=1e-13)
    np.testing.assert_allclose(found.condition_number, 1, rtol=1e-13)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_products_of_gaussian_matrices(layers):
    limit = (layers + 1) ** (layers + 1) / layers**layers
    largest = []
    for width in (50, 200, 800):
        net = vp.mlp(
            [width] * (layers + 1), weight="variance_scaling(1, 'fan_in', 'untruncated_normal')"
        )
        found = vp.jacobian(net, trials=6, method="extreme", count=(1, 0))
        largest.append(np.mean(found.max**2) / limit)
    # The edge lies below its limit by a multiple of n^(-2/3), and spreads by less over trials.
    assert largest == sorted(largest)
    assert 0.96 < largest[-1] < 1.0


@pytest.mark.parametrize(
    ("weight", "gain"), [("glorot_uniform", 1.0), ("glorot_normal", 1.0), ("torch_linear", 3**-0.5)]
)
def test_mean_singular_value_of_linear_layers(weight, gain):
    means = vp.jacobian(vp.mlp([500] * 4, weight=weight), layers="all").mean
    # Traces of functions of a matrix of width n spread by O(1/n): here 0.002.
    np.testing.assert_allclose(list(means.values()), 8 / (3 * math.pi) * gain, rtol=0.01)


# Zeros, and singular values far apart.


def test_dead_units_give_exact_zeros():
    net = vp.mlp([20] * 9, "relu", "he_normal")
    found = vp.jacobian(net, inputs=3)
    weights, biases = parameters(net)
    for x, ours in zip(rows(net, 3), found.singular_values[0], strict=True):
        alive = [np.count_nonzero(f.any(axis=1)) for f in factors(net, weights, biases, x)]
        assert np.count_nonzero(ours) == min(alive) < 20
        plain = singular_values(net, weights, biases, x)
        np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-13 * plain[0])
    assert np.isinf(found.condition_number).all()
    assert np.isneginf(found.log10_singular_values[found.singular_values == 0]).all()
    extreme = vp.jacobian(net, inputs=3, method="extreme", count=2).singular_values
    np.testing.assert_allclose(extreme[..., :2], found.singular_values[..., :2])
    assert not extreme[..., 2:].any()


@pytest.mark.parametrize("method", ["svd", "extreme"])
@pytest.mark.parametrize("width", [9, 90])
def test_networks_that_pass_nothing_on(method, width):
    nothing = [vp.mlp([width] * 3, "relu", "constant(-1)"), vp.mlp([width] * 3, weight="zeros")]
    for net in nothing:
        found = vp.jacobian(net, np.ones((1, width)), method=method)
        assert not found.singular_values.any()
        assert np.isnan(found.condition_number).all()
    narrow = vp.jacobian(vp.mlp([width, 4, width]), method=method)
    assert np.count_nonzero(narrow.singular_values) == (4 if method == "svd" else 1)


def test_rows_of_zeros():
    net = vp.mlp([6] * 41, "relu", "identity")  # the dead inputs are zeros from the first layer on
    x = np.array([[3.0, -1.0, 2.0, -5.0, 1.0, 4.0]])
    np.testing.assert_array_equal(vp.jacobian(net, x).singular_values[0, 0], [1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("activation", DEEP)
@pytest.mark.parametrize("sizes", [[12] * 61, [8, *[12] * 40, 10], [10, *[12] * 40, 8]])
def test_every_digit_of_deep_networks(activation, sizes):
    net = vp.mlp(sizes, activation, "he_normal")
    weights, biases = parameters(net)
    (x,) = rows(net, 1)
    with mpmath.workdps(250):
        product = mpmath.eye(sizes[0])
        for factor in factors(net, weights, biases, x):
            product = mpmath.matrix(factor.tolist()) * product
        exact = mpmath.svd_r(
            product if product.rows >= product.cols else product.T, compute_uv=False
        )
        exact = sorted(float(mpmath.log10(s)) if s > 1e-200 else -math.inf for s in exact)[::-1]
    found = vp.jacobian(net).log10_singular_values[0, 0]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9)
    if activation in ("linear", "tanh") and len(set(sizes)) == 1:
        assert found[0] - found[-1] > 40  # a plain product has no digit right past 16
    ends = vp.jacobian(net, method="extreme").log10_singular_values[0, 0]
    np.testing.assert_allclose(ends, found[[0, -1]], rtol=1e-12)


def test_determinants_of_very_deep_networks():
    net = vp.mlp([60] * 401, weight="normal(std=1)")
    found = vp.jacobian(net)
    logs = found.log10_singular_values[0, 0]
    determinant = sum(np.linalg.slogdet(weight)[1] for weight in parameters(net)[0])
    assert logs.sum() == pytest.approx(determinant / math.log(10), rel=1e-12)
    assert np.all(np.diff(logs) <= 0)
    assert logs[0] > 330  # beyond the range of float64
    assert logs[0] - logs[-1] > 400
    assert np.isinf(found.max).all()
    assert np.isinf(found.condition_number).all()
    ends = vp.jacobian(net, method="extreme", count=2).log10_singular_values[0, 0]
    np.testing.assert_allclose(ends, logs[[0, 1, -2, -1]], rtol=1e-12)
    larger = vp.jacobian(vp.mlp([60] * 401, weight="normal(std=1024)")).log10_singular_values
    np.testing.assert_allclose(larger[0, 0], logs + 400 * math.log10(1024), rtol=1e-12)


def test_signals_beyond_the_range_of_float64():
    layers = [vp.Dense(20, "relu", "normal(std=8)") for _ in range(500)]
    relu = vp.jacobian(vp.Network(20, layers))
    slopes = vp.jacobian(vp.mlp([20] * 501, "relu", "normal(std=1)"))
    expected = slopes.log10_singular_values + 500 * math.log10(8)
    np.testing.assert_allclose(relu.log10_singular_values, expected, rtol=1e-12)
    bounded = vp.jacobian(vp.Network(20, [*layers, vp.Dense(20, "tanh")]), inputs=2)
    assert np.isnan(bounded.singular_values).all()
    assert "2 of 2 left the range of float64" in str(bounded)
    assert "nan" in str(bounded)


# The other methods against the full SVD.


@pytest.mark.parametrize("sizes", [[90, 120, 100], [100, 120, 90], [80] * 7, [150, 80, 200]])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_extreme(sizes, activation):
    net = vp.mlp(sizes, activation, "glorot_normal", "normal(std=0.1)")
    full = vp.jacobian(net, inputs=2, trials=2).singular_values
    for count, expected in (
        (1, full[..., [0, -1]]),
        (3, full[..., [0, 1, 2, -3, -2, -1]]),
        ((2, 0), full[..., :2]),
        ((0, 2), full[..., -2:]),
    ):
        found = vp.jacobian(net, inputs=2, trials=2, method="extreme", count=count)
        np.testing.assert_allclose(found.singular_values, expected, rtol=1e-8)
    assert found.min.shape == (2, 2)
    with pytest.raises(ValueError, match="no largest: method 'extreme' gives singular values, sma"):
        _ = found.max
    again = vp.jacobian(net, inputs=2, trials=2, method="extreme", count=count)
    assert np.array_equal(found.singular_values, again.singular_values)


def test_extreme_says_what_it_cannot_tell():
    net = vp.mlp([100, 100], weight=np.diag(np.logspace(0, -20, 100)))
    largest = vp.jacobian(net, method="extreme", count=(40, 0)).singular_values[0, 0]
    seen = np.logspace(0, -20, 100)[:40]
    resolved = ~np.isnan(largest)
    assert np.array_equal(resolved, seen > 1e-4)
    np.testing.assert_allclose(largest[resolved], seen[resolved], rtol=1e-6)  # of float32 draws
    smallest = vp.jacobian(net, method="extreme", count=(0, 40)).singular_values[0, 0]
    np.testing.assert_allclose(smallest, np.logspace(0, -20, 100)[60:], rtol=1e-6)


def test_extreme_of_a_singular_matrix():
    weight = np.random.default_rng(0).normal(size=(100, 100))
    weight[:, 3] = 0
    found = vp.jacobian(vp.mlp([100, 100], weight=weight), method="extreme").singular_values
    assert found[0, 0, 1] < 1e-14 * found[0, 0, 0]


@pytest.mark.parametrize("sizes", [[40, 60, 30], [30, 60, 40]])
@pytest.mark.parametrize("layers", ["end_to_end", "all"])
def test_moments(sizes, layers):
    net = vp.mlp(sizes, "tanh", "glorot_uniform")
    full = vp.jacobian(net, inputs=3, trials=2, layers=layers)
    found = vp.jacobian(net, inputs=3, trials=2, layers=layers, method="moments", probes=100)
    whole = layers == "end_to_end"
    by_layer = {"": full.singular_values} if whole else full.singular_values
    for name, values in by_layer.items():
        estimates, errors = (
            part if whole else part[name] for part in (found.moments, found.moments_error)
        )
        outputs = sizes[-1] if whole else net.layers[net.index(name)].width
        exact = np.stack([(values ** (2 * k)).sum(-1) / outputs for k in range(1, 5)], axis=-1)
        scores = (estimates - exact) / errors
        assert estimates.shape == (2, 3, 4)
        # 24 numbers each, of nearly normal law: beyond 5 once in 10^5 such tests.
        assert np.abs(scores).max() < 5
        assert 0.4 < np.sqrt(np.mean(scores**2)) < 1.8
        logarithms = found.log10_moments if whole else found.log10_moments[name]
        np.testing.assert_allclose(10**logarithms, estimates, rtol=1e-12)


def test_moments_of_one_output_are_exact():
    net = vp.mlp([30, 20, 1], "tanh")
    (value,) = vp.jacobian(net).singular_values[0, 0]
    found = vp.jacobian(net, method="moments", order=3, probes=2)
    np.testing.assert_allclose(found.moments[0, 0], value ** np.array([2, 4, 6]), rtol=1e-13)
    np.testing.assert_allclose(found.moments_error, 0, atol=1e-15)


def test_moments_of_deep_networks_and_of_nothing():
    net = vp.mlp([30] * 501, weight="normal(std=2)")
    largest = vp.jacobian(net, method="extreme", count=(1, 0)).log10_singular_values[0, 0, 0]
    found = vp.jacobian(net, method="moments").log10_moments[0, 0]
    powers = 2 * largest * np.arange(1, 5) - math.log10(30)  # the largest one dwarfs the others
    np.testing.assert_allclose(found, powers, rtol=0, atol=0.5)
    nothing = vp.jacobian(vp.mlp([30] * 3, weight="zeros"), method="moments")
    assert not nothing.moments.any()
    assert "nan" in str(nothing)


# Bad input: an error before any work.


@pytest.fixture
def no_work(monkeypatch):
    def work(*_):
        raise AssertionError("work has begun")

    monkeypatch.setattr(_jacobian, "_Draws", work)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "every"}, "unknown layers 'every'. One of: end_to_end, all"),
        ({"method": "extremes"}, "unknown method 'extremes': did you mean 'extreme'?"),
        ({"inputs": 0}, "inputs must be an integer >= 1, got 0"),
        ({"inputs": np.ones((2, 3))}, r"inputs must have shape \(batch, 6000\), got \(2, 3\)"),
        ({"trials": 0}, "trials must be an integer >= 1"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"first_trial": 2**63}, "first_trial"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"order": 0}, "order must be an integer >= 1"),
        ({"probes": 1}, "probes must be an integer >= 2"),
        ({"method": "extreme", "count": 0}, "count must be 1 to 5500"),
        ({"method": "extreme", "count": (5501, 0)}, "count must be 1 to 5500"),
        ({"method": "extreme", "count": (1, 2, 3)}, "count must be an integer or a pair"),
        ({}, "up to 5000 singular values, that of end_to_end has 5500: use method='extreme' or m"),
        ({"layers": "all"}, "that of dense2 has 5500: use method='extreme' or method='moments'"),
    ],
)
def test_bad_input(options, message):
    net = vp.mlp([6000, 10, 5500], "tanh") if "layers" not in options else vp.mlp([6000, 5500] * 2)
    if options.get("layers") == "all":
        net = vp.Network(10, [vp.Dense(6000), vp.Dense(5500)])
    with pytest.raises(ValueError, match=message):
        vp.jacobian(net, **options)


@pytest.mark.usefixtures("no_work")
def test_too_large_for_the_machine(monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 10**8)
    net = vp.mlp([4000, 4000])
    message = "method 'svd' needs about .*: use method='extreme' or method='moments'"
    with pytest.raises(ValueError, match=message):
        vp.jacobian(net)
    with pytest.raises(MemoryError, match="method 'extreme' needs about"):
        vp.jacobian(net, method="extreme")
    with pytest.raises(TypeError, match="net must be a Network, got str"):
        vp.jacobian("net")


def test_missing_scipy(monkeypatch, no_work):
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(ImportError, match=r"varprop\[scipy\]"):
        vp.jacobian(vp.mlp([4, 4]), method="extreme")


# Summary, report, picture.


def test_summary():
    net = vp.mlp([10, 20, 8], "tanh")
    found = vp.jacobian(net, inputs=3, trials=2)
    values = found.singular_values
    np.testing.assert_allclose(found.mean, values.mean(-1), rtol=1e-14)
    np.testing.assert_array_equal(found.max, values[..., 0])
    np.testing.assert_array_equal(found.min, values[..., -1])
    np.testing.assert_allclose(found.condition_number, values[..., 0] / values[..., -1], rtol=1e-14)
    np.testing.assert_allclose(10**found.log10_singular_values, values, rtol=1e-13)
    counts, edges = found.histogram(7)
    np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])
    assert (counts.sum(), edges[0], edges[-1]) == (48, values.min(), values.max())
    counts, edges = found.histogram(7, log10=True)
    assert counts.sum() == 48
    assert edges[-1] == pytest.approx(np.log10(values.max()))
    with pytest.raises(ValueError, match="no moments: method 'svd' gives singular values, largest"):
        _ = found.moments
    with pytest.raises(ValueError, match="no histogram: method 'moments' gives moments"):
        vp.jacobian(net, method="moments").plot()
    deep = vp.jacobian(vp.mlp([20] * 401, weight="normal(std=1)"))
    assert deep.mean[0, 0] == pytest.approx(deep.singular_values[0, 0, 0] / 20, rel=0.01)


def test_histogram_of_equals_and_of_nothing():
    counts, edges = vp.jacobian(vp.mlp([9, 9], weight="identity")).histogram(5)
    assert counts.tolist() == [0, 0, 9, 0, 0]
    assert edges[0] < 1 < edges[-1]
    nothing = vp.jacobian(vp.mlp([9, 9], weight="zeros"))
    assert nothing.histogram(5)[0].sum() == 9
    assert nothing.histogram(5, log10=True)[0].sum() == 0
    nothing.plot()


def test_report():
    layers = [vp.Dense(3, weight=np.diag([4.0, 2.0, 1.0])), vp.Dense(3, "relu", "identity")]
    found = vp.jacobian(vp.Network(3, layers), np.array([[1.0, 1.0, -1.0]]), layers="all")
    assert str(found).splitlines()[-3:] == [
        "layer   number  zeros    mean  smallest  largest  condition",
        "dense1       3      0   2.333         1        4          4",
        "dense2       3      1  0.6667         0        1        inf",
    ]
    assert repr(found) == "Jacobian(all, method svd, trials 0 to 0, 1 input)"
    several = vp.jacobian(vp.mlp([5, 5]), inputs=2, trials=3)
    assert str(several).splitlines()[-1] == "geometric means over 6 Jacobians"


@pytest.mark.parametrize("method", ["svd", "extreme", "moments"])
@pytest.mark.parametrize("layers", ["end_to_end", "all"])
def test_reports_are_80_columns_wide(method, layers):
    names = ["a" * 70 + str(i) for i in range(30)]
    long = vp.Network(4, [vp.Dense(4, "tanh", "normal(std=0.333333)", name=name) for name in names])
    for net in (long, vp.mlp([4] * 2001, "linear", "normal(std=1e4)"), vp.mlp([4, 4])):
        text = str(vp.jacobian(net, 2, method=method, layers=layers))
        assert max(map(len, text.splitlines())) <= 80
        assert len(text.splitlines()) < 120


def lines_of(figure):
    figure.draw_without_rendering()
    (axes,) = figure.axes
    return axes, [patch.get_data() for patch in axes.patches]


def test_plot():
    net = vp.mlp([30, 40, 20], "tanh")
    axes, (curve,) = lines_of(vp.jacobian(net).plot(bins=9))
    counts, edges = vp.jacobian(net).histogram(9)
    np.testing.assert_allclose(curve.values, counts / 20)
    np.testing.assert_array_equal(curve.edges, edges)
    assert axes.get_xlabel() == "singular value"
    assert axes.get_ylabel() == "share of singular values"
    assert axes.get_legend() is None
    figure = vp.jacobian(net, layers="all").plot()
    axes, curves = lines_of(figure)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dense1", "dense2"]
    assert [patch.get_linestyle() for patch in axes.patches] == ["-", "--"]
    assert "each layer" in figure.get_suptitle()
    assert len({tuple(curve.edges) for curve in curves}) == 1
    many, curves = lines_of(vp.jacobian(vp.mlp([9] * 13), layers="all").plot())
    assert len(curves) == 12
    assert [t.get_text() for t in many.get_legend().get_texts()] == ["dense1", "dense12"]


def test_plot_of_a_wide_range():
    axes, (curve,) = lines_of(vp.jacobian(vp.mlp([20] * 9, "relu", "he_normal")).plot())
    assert axes.get_xlabel().startswith("singular value")
    found = vp.jacobian(vp.mlp([20] * 601, "leaky_relu", "normal(std=1)"))
    axes, (curve,) = lines_of(found.plot())
    assert axes.get_xlabel() == "log10 singular value"
    assert curve.edges[-1] == found.log10_singular_values.max()


def test_missing_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"varprop\[plot\]"):
        vp.jacobian(vp.mlp([4, 4])).plot()
