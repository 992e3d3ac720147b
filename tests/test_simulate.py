"""Simulation: against NumPy on the same weights, exact splits, range, errors, interruption."""

import numpy as np
import pytest

import varprop as vp
from varprop import activations, reference


def numpy_chain(net, run, trial):
    """Pre-activations and activations of every layer in float64 on the run's own weights."""
    x = run.inputs(trial).astype(np.float64)
    layers = []
    for i, layer in enumerate(net.layers):
        bias = run.bias(i, trial)
        y = x @ run.weights(i, trial).astype(np.float64) + (0 if bias is None else bias)
        x = layer.activation.value(y)
        layers.append((y, x))
    return layers


def product_tolerance(net, dtype):
    """Relative error of a layer's size: epsilon times the depth times the root of the sums' length.

    A sum of n terms is wrong by about sqrt(n) epsilon of its terms' root sum of squares, and each
    layer passes the errors of those before it on.
    """
    longest = max(shape[0] for shape in net.shapes)
    return np.finfo(dtype).eps * np.sqrt(longest) * len(net.layers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", activations.NAMES)
def test_every_activation_agrees_with_numpy(name, dtype):
    net = vp.mlp([30, 100, 77, 10], name, "glorot_normal", bias="normal(std=0.2)")
    run = vp.simulate(
        net, 137, trials=2, seed=1, dtype=dtype, statistics=("moments", "extremes", "kurtosis")
    )
    tolerance = 20 * product_tolerance(net, dtype)
    for t in range(2):
        for i, arrays in enumerate(numpy_chain(net, run, t)):
            for statistics, x in zip((run.preactivations, run.activations), arrays, strict=True):
                found, size = statistics.per_trial, np.sqrt(np.mean(x**2))
                deviation = x - x.mean()
                assert found.mean[t, i] == pytest.approx(x.mean(), abs=tolerance * size)
                assert found.var[t, i] == pytest.approx(x.var(), rel=tolerance)
                assert found.second_moment[t, i] == pytest.approx(size**2, rel=tolerance)
                kurtosis = np.mean(deviation**4) / x.var() ** 2
                assert found.kurtosis[t, i] == pytest.approx(kurtosis, rel=10 * tolerance)
                assert found.min[t, i] == pytest.approx(x.min(), abs=tolerance * size * 10)
                assert found.max[t, i] == pytest.approx(x.max(), abs=tolerance * size * 10)


@pytest.mark.parametrize("init", ["orthogonal", "sparse(0.5, std=0.3)", "identity(gain=0.9)"])
def test_laws_formed_whole(init):
    net = vp.mlp([40] * 6, "tanh", init)
    for threads in (1, 2):
        run = vp.simulate(net, 25, trials=3, seed=4, threads=threads)
        for t in range(3):
            exact = [x.var() for _, x in numpy_chain(net, run, t)]
            np.testing.assert_allclose(run.activations.per_trial.var[t], exact, rtol=1e-5)


def test_given_weights_and_inputs():
    rng = np.random.default_rng(0)
    w, b, data = rng.normal(size=(7, 3)), rng.normal(size=3), rng.normal(size=(50, 7))
    net = vp.Network(7, [vp.Dense(3, "relu", weight=w, bias=b, name="only")])
    run = vp.simulate(net, data, trials=2, dtype="float64")
    y = data @ w + b
    assert run.layer_names == ("only",)
    np.testing.assert_allclose(run.preactivations.mean, [y.mean()], rtol=1e-13)
    np.testing.assert_allclose(run.activations.var, [np.maximum(y, 0).var()], rtol=1e-13)
    assert np.array_equal(run.inputs(1), data)


def test_agrees_with_the_reference_simulation():
    net = vp.Network(
        20,
        [
            vp.Dense(33, "leaky_relu(slope=0.3)", "he_uniform", None, name="a"),
            vp.Dense(65, "gelu", "truncated_normal(low=-1, high=3)", "uniform(-1, 1)"),
            vp.Dense(4),
        ],
    )
    run = vp.simulate(net, 70, trials=3, first_trial=5, seed=11, dtype="float64")
    exact = reference.simulate(net, 70, trials=3, first_trial=5, seed=11, dtype="float64")
    assert net.layer_names == ("a", "dense2", "dense3")
    for kind in ("preactivations", "activations"):
        found = getattr(run, kind).per_trial
        np.testing.assert_allclose(found.mean, exact[kind]["mean"], atol=1e-12)
        np.testing.assert_allclose(found.var, exact[kind]["variance"], rtol=1e-12)


def bits(run):
    return [
        array.tobytes()
        for observed in run.observed.values()
        for _, array in sorted(observed.items())
    ]


NETS = {
    "small": vp.mlp([5, 16, 3], "gelu"),
    "chain": vp.mlp([100] * 8, weight="normal(std=0.1)"),
    "wide": vp.mlp([64, 520, 1000, 10], "relu", bias="normal(std=0.1)"),
    "tall": vp.mlp([3, 70, 70], "tanh"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_threads_and_splits_change_no_bit(name, dtype):
    net, batch = NETS[name], 1003 if name == "tall" else 130
    options = {"seed": 3, "dtype": dtype, "statistics": ("extremes", "kurtosis")}
    whole = vp.simulate(net, batch, trials=7, threads=1, **options)
    for threads in (2, 3, 8):
        assert bits(vp.simulate(net, batch, trials=7, threads=threads, **options)) == bits(whole)
    for cut in (1, 5):
        first = vp.simulate(net, batch, trials=cut, threads=2, **options)
        second = vp.simulate(net, batch, trials=7 - cut, first_trial=cut, **options)
        joined = vp.concat([first, second])
        assert bits(joined) == bits(whole)
        assert joined.activations.var.tobytes() == whole.activations.var.tobytes()
        assert joined.preactivations.kurtosis.tobytes() == whole.preactivations.kurtosis.tobytes()


def test_too_little_memory_is_said(monkeypatch):
    from varprop import _memory

    net = NETS["wide"]
    whole = vp.simulate(net, 130, trials=5, threads=2)
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(_memory, "available", lambda: 2_300_000)
    assert bits(vp.simulate(net, 130, trials=5, threads=2)) == bits(whole)
    monkeypatch.setattr(_memory, "available", lambda: 1000)
    with pytest.raises(MemoryError, match=r"a run of 130 rows and 5 trials needs about .* MB"):
        vp.simulate(net, 130, trials=5)


# --- the seed's first document ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exploding_chain_of_the_seed(dtype):
    net = vp.mlp([100] * 101, weight="normal")
    run = vp.simulate(net, 500, trials=20, dtype=dtype)
    _, std = run.depth_average()
    # The document's single draw found 8.42e98; E log10 |x|^2 falls by .00436 a layer (FACTS.md),
    # with a standard deviation of .06 a layer and draw over all of the depth.
    assert np.log10(std) == pytest.approx(98.9, abs=0.6)
    assert not run.out_of_range
    for t in range(2):
        exact = [np.log10(np.mean(y**2)) for y, _ in numpy_chain(net, run, t)]
        found = run.preactivations.per_trial.log10_second_moment[t]
        np.testing.assert_allclose(found, exact, atol=20 * product_tolerance(net, dtype))


def test_scaled_chain_of_the_seed():
    net = vp.mlp([100] * 101, weight="normal(std=0.1)")
    mean, std = vp.simulate(net, 500, trials=50).depth_average()
    assert abs(mean) < 0.01
    assert std == pytest.approx(1.0, abs=0.1)  # one draw of the document: 1.0215


def test_root_of_fan_in_of_the_seed():
    run = vp.simulate(vp.mlp([1000, 1], weight="normal"), 100, trials=100)
    assert run.preactivations.std[0] == pytest.approx(np.sqrt(1000), rel=0.05)


def test_depth_2000_unscaled_is_finite():
    run = vp.simulate(vp.mlp([100] * 2001, weight="normal"), 10, trials=2)
    log = run.preactivations.log10_second_moment
    assert np.isfinite(log).all()
    # psi(50) + ln 2 = ln 100 - .010033 a layer; its spread over 2000 layers is 2.8 in log10.
    assert log[-1] == pytest.approx(2000 * (2 - 0.0100333 / np.log(10)) + 0, abs=15)
    assert np.isinf(run.preactivations.var[-1])


@pytest.mark.parametrize("std", [1e-12, 1e9])
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu(slope=0.1)"])
def test_homogeneous_networks_scale_exactly(activation, std):
    # Powers of two change no digit: 2^-40 and 2^30 shift log2 of the second moment exactly.
    power = round(np.log2(std))
    plain = vp.simulate(vp.mlp([50] * 61, activation, "normal(std=0.25)"), 20, trials=2)
    scaled = vp.simulate(vp.mlp([50] * 61, activation, vp.Normal(0.25 * 2.0**power)), 20, trials=2)
    shift = 2 * power * np.arange(1, 61) * np.log10(2)
    np.testing.assert_allclose(
        scaled.activations.per_trial.log10_second_moment,
        plain.activations.per_trial.log10_second_moment + shift,
        rtol=1e-13,
    )
    assert not scaled.out_of_range


def test_biases_stay_in_proportion_when_the_signal_is_rescaled():
    net = vp.mlp([60] * 40, "relu", "normal(std=0.5)", bias="normal(std=100)")
    run = vp.simulate(net, 20, trials=1)
    exact = [np.mean(x**2) for _, x in numpy_chain(net, run, 0)]
    np.testing.assert_allclose(run.activations.per_trial.second_moment[0], exact, rtol=1e-4)


def test_tiny_variance_around_a_mean():
    # A sigmoid of nearly constant inputs: variance 1e-6 and less around a mean near 0.5.
    net = vp.mlp([100, 200, 200], "sigmoid", "normal(std=0.0004)", bias=0.1)
    run = vp.simulate(net, 300, trials=1)
    for i, (y, x) in enumerate(numpy_chain(net, run, 0)):
        assert x.var() < 2e-6 < 0.1 < x.mean()
        # A float32 near 0.5 is right to 3e-8: that bounds what any moments of them can say.
        noise = 2.0**-25 / np.sqrt(3)
        slack = 2 * noise / x.std() / np.sqrt(x.size) * 5 + (noise / x.std()) ** 2 + 1e-6
        assert run.activations.per_trial.var[0, i] == pytest.approx(x.var(), rel=slack)
        assert run.preactivations.per_trial.mean[0, i] == pytest.approx(y.mean(), rel=1e-6)


def test_leaving_the_range_is_said():
    run = vp.simulate(vp.mlp([50] * 4, "squared_relu", "normal(std=1e8)"), 10, trials=2)
    # 1e8 sqrt(50), squared: 5e17; then 5e17 1e8 sqrt(50), squared: 1e53, past float32's 3e38.
    assert run.out_of_range == [("dense2", 0), ("dense2", 1)]
    assert "dense2" in str(run)
    tiny = vp.simulate(vp.mlp([50] * 8, "tanh", "normal(std=1e-9)"), 10, trials=1)
    assert tiny.out_of_range == [("dense5", 0)]
    fine = vp.simulate(vp.mlp([50] * 4, "tanh", "normal(std=1e25)"), 10, trials=1)
    assert fine.out_of_range == []
    assert np.isfinite(fine.preactivations.log10_second_moment).all()


@pytest.mark.parametrize("activation", ["relu", "elu", "softplus", "gelu", "squared_relu", "mish"])
def test_nothing_is_said_of_layers_past_the_range(activation):
    net = vp.mlp([50] * 9, activation, "normal(std=1e6)")
    overflowing = [vp.Dense(50, "squared_relu", "normal(std=1e9)", name=name) for name in "ab"]
    chain = vp.Network(50, [*overflowing, *net.layers[2:]])
    for threads in (1, 2):
        run = vp.simulate(
            chain, 500, trials=3, threads=threads, statistics=("kurtosis", "extremes")
        )
        (name, _), *_ = run.out_of_range
        bad = run.layer_names.index(name)
        for found in (run.preactivations, run.activations):
            for statistic in ("mean", "var", "log10_second_moment", "kurtosis", "min"):
                assert np.isnan(getattr(found.per_trial, statistic)[:, bad + 1 :]).all()
                assert np.isfinite(getattr(found.per_trial, statistic)[:, :bad]).all()


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("size", [1e-39, 1e38])
@pytest.mark.parametrize("init", ["lecun_normal", "normal(std=10)", "normal(std=1e-30)"])
def test_inputs_at_the_ends_of_the_range(init, size, activation):
    data = np.full((10, 50), size, np.float32)
    run = vp.simulate(vp.mlp([50] * 4, activation, init), data, trials=1)
    assert not run.out_of_range
    exact = [np.log10(np.mean(x**2)) for _, x in numpy_chain(run.network, run, 0)]
    np.testing.assert_allclose(run.activations.log10_second_moment, exact, atol=1e-4)


def test_zero_signal():
    run = vp.simulate(vp.mlp([10] * 4, "relu", "zeros"), 5, trials=2)
    assert (run.activations.log10_second_moment == -np.inf).all()
    assert not run.out_of_range


# --- real data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["torch_linear", "glorot_uniform"])
def test_digits_through_glorots_network(init):
    from sklearn.datasets import load_digits

    digits = load_digits().data / 16 - 0.5
    net = vp.mlp([64, *[1000] * 5, 10], "tanh", init)
    run = vp.simulate(net, digits, trials=2, seed=1)
    for t in range(2):
        exact = [x.var() for _, x in numpy_chain(net, run, t)]
        np.testing.assert_allclose(run.activations.per_trial.var[t], exact, rtol=1e-5)
    shrink = run.activations.var[4] / run.activations.var[0]
    # Standard: variance falls to about 1/3 a layer; normalized: it nearly holds (Glorot 2010).
    assert shrink < 0.05 if init == "torch_linear" else shrink > 0.4


# --- errors and interruption --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": "mlp"}, TypeError, "net must be a Network"),
        ({"inputs": 0}, ValueError, "inputs"),
        ({"inputs": np.zeros((3, 9))}, ValueError, r"shape \(batch, 10\), got \(3, 9\)"),
        ({"inputs": np.zeros(10)}, ValueError, "shape"),
        ({"inputs": np.zeros((0, 10))}, ValueError, "shape"),
        ({"inputs": np.full((2, 10), np.nan)}, ValueError, "nan at row 0, column 0"),
        ({"inputs": np.full((2, 10), 1e300)}, ValueError, "finite in float32"),
        ({"inputs": [["a"] * 10]}, TypeError, "real numbers"),
        ({"trials": 0}, ValueError, "trials"),
        ({"trials": 1.5}, TypeError, "trials"),
        ({"first_trial": -1}, ValueError, "first_trial"),
        ({"seed": -1}, ValueError, "seed"),
        ({"dtype": "float16"}, ValueError, "dtype"),
        ({"net": vp.mlp([10, 10], weight="normal(std=1e-50)")}, ValueError, "range of float32"),
        ({"net": vp.mlp([10, 10], bias="normal(std=1e39)")}, ValueError, "'dense1': bias"),
        ({"trials": 10**12}, MemoryError, "trials needs about"),
        ({"threads": 0}, ValueError, "threads"),
        ({"statistics": ("moment",)}, ValueError, "did you mean 'moments'"),
        ({"statistics": "correlation", "inputs": 1}, ValueError, "at least 2 rows, got 1"),
        ({"statistics": "gradient_correlation"}, ValueError, "needs backward=True"),
        ({"loss": "mse"}, ValueError, "need backward=True"),
        ({"backward": "no"}, TypeError, "backward must be True or False, got 'no'"),
        ({"memory": "many"}, ValueError, "'500MB', got 'many'"),
        (
            {"memory": "1kB"},
            ValueError,
            r"memory must be at least \d+ bytes for .*got 1 kB",
        ),
        ({"trials": "all"}, ValueError, "trials must be an integer or 'auto', got 'all'"),
        ({"trials": "auto", "precision": 0}, ValueError, "precision must be greater than 0"),
        ({"trials": "auto", "max_trials": 1}, ValueError, "max_trials"),
    ],
)
def test_bad_arguments(arguments, error, message):
    arguments = {"net": vp.mlp([10, 10]), "inputs": 5, **arguments}
    with pytest.raises(error, match=message):
        vp.simulate(arguments.pop("net"), arguments.pop("inputs"), **arguments)


def test_progress_is_reported_and_may_raise():
    net = vp.mlp([500] * 30, "relu")
    seen = []
    vp.simulate(net, 500, trials=4, progress=seen.append)
    assert seen == sorted(seen)
    assert all(0 <= done <= 1 for done in seen)
    assert seen

    def fail(_done):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        vp.simulate(net, 500, trials=50, progress=fail)
    vp.simulate(net, 5, trials=1)  # and the core is usable afterwards


@pytest.mark.parametrize("trials", [1, 1000])
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_stops_within_half_a_second(threads, trials, interrupted_after):
    work = f"vp.simulate(vp.mlp([2000] * 300, 'tanh'), 2000, trials={trials}, threads={threads})"
    assert interrupted_after(work) < 0.5
