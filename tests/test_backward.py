"""Going back: the same bits however it is done, closed forms, the ends of the range, errors."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import digamma, polygamma

import varprop as vp
from varprop import reference

ALL = (
    "moments",
    "extremes",
    "kurtosis",
    "histogram",
    "correlation",
    "saturation",
    "gradient_correlation",
)
SIGNALS = ("gradients", "weight_gradients", "bias_gradients", "input_gradients")
NETS = {
    "narrow": (vp.mlp([5, 16, 3], "gelu"), "gaussian"),
    "chain": (vp.mlp([100] * 12, "relu", "he_normal"), "softmax_cross_entropy"),
    "linear": (vp.mlp([70] * 11, bias="normal"), "mse"),
    "wide": (vp.mlp([64, 520, 1000, 10], "sigmoid", bias="normal(std=0.1)"), "bce"),
    "tall": (vp.mlp([3, 70, 70], "tanh", "orthogonal"), "gaussian"),
    "given": (
        vp.Network(9, [vp.Dense(20, "tanh", np.eye(9, 20), np.arange(20.0)), vp.Dense(3)]),
        "mse",
    ),
}


def bits(run):
    return {
        f"{signal}.{name}": array.tobytes()
        for signal, observed in run.observed.items()
        for name, array in observed.items()
    }


def least_memory(net, batch, **options):
    with pytest.raises(ValueError, match="memory must be at least") as error:
        vp.simulate(net, batch, memory=1, **options)
    return int(str(error.value).split("at least ")[1].split()[0])


# --- the same bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_threads_splits_and_memory_change_no_bit(name, dtype):
    net, loss = NETS[name]
    batch = 1003 if name == "tall" else 130
    options = {
        "seed": 3,
        "dtype": dtype,
        "statistics": ALL,
        "backward": True,
        "loss": loss,
    }
    whole = vp.simulate(net, batch, trials=5, threads=1, **options)
    for threads in (1, 2, 3, 8):
        run = vp.simulate(net, batch, trials=5, threads=threads, **options)
        assert bits(run) == bits(whole)
        least = least_memory(net, batch, trials=5, threads=threads, **options)
        for memory in (least, f"{1.3 * least / 1e6} MB", 2 * least):
            run = vp.simulate(net, batch, trials=5, threads=threads, memory=memory, **options)
            assert bits(run) == bits(whole)
    for cut in (1, 3):
        first = vp.simulate(net, batch, trials=cut, **options)
        second = vp.simulate(net, batch, trials=5 - cut, first_trial=cut, **options)
        assert bits(vp.concat([first, second])) == bits(whole)


def test_what_is_collected_changes_no_moment():
    net = NETS["chain"][0]
    plain = vp.simulate(net, 90, trials=2)
    full = vp.simulate(net, 90, trials=2, statistics=ALL, backward=True)
    back = vp.simulate(net, 90, trials=2, backward=True)
    for name, array in bits(plain).items():
        assert bits(full)[name] == bits(back)[name] == array
    for name, array in bits(back).items():
        assert bits(full)[name] == array


@pytest.mark.parametrize("places", [1, 2, 3, 5, 20])
def test_few_layers_kept(places):
    # Every number of places takes another way back through 41 layers.
    net = vp.mlp([40] * 42, "tanh")
    whole = vp.simulate(net, 30, trials=1, threads=1, backward=True)
    least = least_memory(net, 30, trials=1, threads=1, backward=True)
    memory = least + (places - 1) * 30 * 48 * 4 * 10 // 9 + 10
    run = vp.simulate(net, 30, trials=1, threads=1, backward=True, memory=memory)
    assert bits(run) == bits(whole)


# --- against NumPy ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "first"), [(name, 0) for name in NETS] + [("chain", 4)])
def test_agrees_with_the_reference(name, first):
    net, loss = NETS[name]
    options = {"trials": 2, "first_trial": first, "seed": 5, "dtype": "float64", "backward": True}
    asked = ("histogram", "correlation", "saturation(threshold=0.3)", "gradient_correlation")
    run = vp.simulate(net, 70, loss=loss, statistics=(*asked, "kurtosis", "extremes"), **options)
    exact = reference.simulate(net, 70, loss=loss, statistics=asked, **options)
    for signal, expected in exact.items():
        found = getattr(run, signal).per_trial
        size = np.sqrt(expected["variance"] + expected["mean"] ** 2)
        np.testing.assert_array_equal(found.count[0], expected["count"])
        np.testing.assert_allclose(found.mean / size, expected["mean"] / size, atol=1e-11)
        np.testing.assert_allclose(found.var, expected["variance"], rtol=1e-10)
        for field, key in (("min", "minimum"), ("max", "maximum")):
            np.testing.assert_allclose(getattr(found, field), expected[key], rtol=1e-9)
        for key in ("correlation", "saturation", "zero_slope", "dead"):
            assert (key in run.observed[signal]) == (key in expected)
            if key in expected:
                np.testing.assert_allclose(getattr(found, key), expected[key], atol=1e-12)
        assert (run.observed[signal]["histogram"].sum(axis=2) == found.count).all()


def test_histogram_against_the_numbers():
    net = vp.mlp([30, 60, 40], "tanh", bias="normal(std=0.3)")
    run = vp.simulate(net, 50, trials=2, statistics="histogram", backward=True)
    for trial in range(2):
        back = list(
            reference.backward(net, 50, trial=trial, dtype="float32")
        )  # from the last layer to the first
        for layer, gradients in enumerate(back[::-1]):
            for signal, values in (
                ("gradients", gradients.preactivations),
                ("weight_gradients", gradients.weights),
            ):
                counts, edges = getattr(run, signal).per_trial.histogram()
                expected, _ = np.histogram(values, edges[trial, layer])
                # float32 moves a few numbers over an edge.
                moved = np.abs(counts[trial, layer] - expected).sum()
                assert moved < 0.01 * values.size
                for q in (2, 50, 98):
                    found = getattr(run, signal).per_trial.percentile(q)[trial, layer]
                    exact = np.percentile(values, q)
                    assert found == pytest.approx(exact, abs=0.07 * values.std())


@pytest.mark.parametrize("loss", ["mse", "softmax_cross_entropy"])
def test_losses_of_outputs_far_from_one(loss):
    for std in (1e-3, 1.0, 30.0):
        net = vp.mlp([50] * 31, weight=vp.Normal(std))
        run = vp.simulate(net, 40, trials=1, backward=True, loss=loss)
        exact = reference.simulate(net, 40, trials=1, backward=True, loss=loss)
        for signal in SIGNALS:
            size = exact[signal]["variance"][0] + exact[signal]["mean"][0] ** 2
            found = getattr(run, signal).per_trial.log10_second_moment[0]
            np.testing.assert_allclose(found, np.log10(size), atol=2e-3)


# --- closed forms -------------------------------------------------------------------------------


def test_linear_chain_both_ways():
    # FACTS: of one row, the logarithm of the squared norm moves by psi(n/2) + ln(2/n) a layer, with
    # variance psi'(n/2); the cotangent's own norm does the same.
    n, depth, trials = 100, 30, 3000
    net = vp.mlp([n] * (depth + 1), weight="normal(std=0.1)")
    run = vp.simulate(net, 1, trials=trials, backward=True)
    forward = run.preactivations.per_trial.log10_second_moment * math.log(10)
    backward = run.gradients.per_trial.log10_second_moment[:, ::-1] * math.log(10)
    drift, spread = digamma(n / 2) + math.log(2 / n), math.sqrt(polygamma(1, n / 2))
    for logs, start in ((forward, 2), (backward, 1)):  # factors behind the first entry
        for layer in (0, depth // 2, depth - 1):
            factors = start + layer
            error = logs[:, layer].mean() - factors * drift
            assert abs(error) < 5 * spread * math.sqrt(factors / trials)  # 6e-7
            ratio = logs[:, layer].var(ddof=1) / (factors * spread**2)
            assert abs(ratio - 1) < 5 * math.sqrt(2 / trials)
    # A weight gradient is x delta^T: its squared norm is the product of theirs.
    product = (
        run.activations.per_trial.log10_second_moment[:, :-1]
        + run.gradients.per_trial.log10_second_moment[:, 1:]
    )
    found = run.weight_gradients.per_trial.log10_second_moment[:, 1:]
    np.testing.assert_allclose(found, product, atol=1e-5)


def test_orthogonal_weights_keep_every_gradient():
    net = vp.mlp([96] * 8, weight="orthogonal")
    run = vp.simulate(net, 20, trials=2, backward=True)
    found = run.gradients.per_trial.second_moment
    np.testing.assert_allclose(found, np.broadcast_to(found[:, -1:], found.shape), rtol=1e-5)


def test_weight_gradients_of_a_linear_network_are_level():
    # Glorot and Bengio (2010), equation 14: the same for all layers whatever their scale, in the
    # mean over trials; here the product of |x|^2 and |delta|^2, each a product of independent
    # factors of mean n sigma^2.
    n = 400
    net = vp.mlp([n] * 6, weight=vp.Normal(0.5 / math.sqrt(n)))
    run = vp.simulate(net, 50, trials=200, backward=True)
    logs = run.weight_gradients.per_trial.log10_second_moment.mean(axis=0)
    assert np.ptp(logs) < 0.01
    assert np.diff(run.gradients.log10_second_moment) == pytest.approx(
        np.full(4, math.log10(4)), abs=0.02
    )


def test_intervals_cover():
    # Over 200 runs, the 95% interval of a known mean covers it in 90 to 99% (binomial: outside of
    # that range with probability 2e-3).
    n, depth = 100, 10
    net = vp.mlp([n] * (depth + 1), weight="normal(std=0.1)")
    drift = (digamma(n / 2) + math.log(2 / n)) / math.log(10)
    covered = np.zeros(2)
    for seed in range(200):
        run = vp.simulate(net, 1, trials=20, seed=seed, backward=True)
        for which, (signal, layer) in enumerate(((run.activations, -1), (run.gradients, 0))):
            low, high = signal.interval("log10_second_moment")
            exact = drift * (depth + 1 - which)
            covered[which] += low[layer] < exact < high[layer]
    assert (covered >= 180).all()
    assert (covered <= 198).all()


# --- the ends of the range ----------------------------------------------------------------------


def test_a_thousand_layers():
    net = vp.mlp([100] * 1001, "relu", "he_normal")
    run = vp.simulate(net, 30, trials=2, backward=True)
    for signal in ("activations", *SIGNALS):
        assert np.isfinite(getattr(run, signal).log10_second_moment).all()
    for std in (1e-30, 1e30):
        run = vp.simulate(vp.mlp([50] * 60, weight=vp.Normal(std)), 5, trials=1, backward=True)
        for signal in ("activations", *SIGNALS):
            assert np.isfinite(getattr(run, signal).log10_second_moment).all()
        assert not run.out_of_range


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slopes_close_to_nothing(dtype):
    # sigmoid'(60) = 8.8e-27: the squares of such gradients leave the range of float32.
    net = vp.mlp([50] * 5, "sigmoid", "normal(std=0.01)", bias=60.0)
    run = vp.simulate(net, 20, trials=1, backward=True, statistics="histogram", dtype=dtype)
    exact = reference.simulate(net, 20, backward=True, dtype=dtype)
    for signal in SIGNALS:
        size = exact[signal]["variance"][0] + exact[signal]["mean"][0] ** 2
        found = getattr(run, signal).per_trial
        np.testing.assert_allclose(found.log10_second_moment[0], np.log10(size), atol=1e-4)
        counts = run.observed[signal]["histogram"]
        assert (counts.sum(axis=2) == found.count).all()
        assert (counts[..., 257] < 0.1 * found.count).all()  # not lost near zero


def test_dead_networks_have_zero_gradients():
    net = vp.mlp([20] * 4, "relu", "normal(std=0.01)", bias=-5.0)
    run = vp.simulate(net, 10, trials=2, backward=True, statistics="saturation")
    assert (run.gradients.log10_second_moment == -np.inf).all()
    assert (run.weight_gradients.log10_second_moment == -np.inf).all()
    assert (run.activations.dead == 1).all()
    assert not run.out_of_range


def test_nothing_is_said_of_gradients_past_the_range():
    net = vp.mlp([50] * 5, "squared_relu", "normal(std=1e8)")
    run = vp.simulate(net, 10, trials=2, backward=True, statistics=ALL)
    for signal in SIGNALS:
        assert np.isnan(getattr(run, signal).per_trial.log10_second_moment).all()
        assert not run.observed[signal]["histogram"].any()
    assert run.out_of_range == [("dense2", 0), ("dense2", 1)]


# --- adding trials ------------------------------------------------------------------------------


def test_trials_are_added_until_the_intervals_are_narrow():
    net = vp.mlp([100] * 6, "tanh")
    run = vp.simulate(net, 20, trials="auto", precision=0.01, backward=True)
    assert run.trials > 10
    for signal in (run.activations, run.gradients):
        low, high = signal.interval("log10_second_moment")
        assert (high - low <= 0.01).all()
    assert bits(run) == bits(vp.simulate(net, 20, trials=run.trials, backward=True))


def test_stopping_short_is_said():
    net = vp.mlp([20] * 6, "tanh")
    with pytest.warns(UserWarning, match="stopped after max_trials=40: the widest interval is 0"):
        run = vp.simulate(net, 20, trials="auto", precision=1e-4, max_trials=40)
    assert run.trials == 40


# --- errors and interruption --------------------------------------------------------------------

LABELS = np.arange(5) % 10


@pytest.mark.parametrize(
    ("loss", "targets", "error", "message"),
    [
        ("hinge", None, ValueError, "unknown loss 'hinge'. One of: gaussian, mse"),
        ("bce", None, ValueError, "needs a sigmoid as the last activation, got 'linear'"),
        ("gaussian", LABELS, ValueError, "targets must be None"),
        ("mse", LABELS, ValueError, r"shape \(5, 10\) for loss 'mse', got \(5,\)"),
        ("mse", np.full((5, 10), np.nan), ValueError, "finite"),
        ("mse", [["a"] * 10] * 5, TypeError, "real numbers"),
        ("softmax_cross_entropy", LABELS[:4], ValueError, r"\(5,\) or \(5, 10\)"),
        ("softmax_cross_entropy", LABELS + 6, ValueError, "labels from 0 to 9, got 10"),
        ("softmax_cross_entropy", LABELS - 1, ValueError, "labels from 0 to 9, got -1"),
        ("softmax_cross_entropy", LABELS + 0.5, TypeError, "integer labels"),
        ("softmax_cross_entropy", np.full((5, 10), 1.5), ValueError, "between 0 and 1"),
    ],
)
def test_bad_losses_and_targets(loss, targets, error, message):
    with pytest.raises(error, match=message):
        vp.simulate(vp.mlp([4, 10]), 5, backward=True, loss=loss, targets=targets)


def test_a_softmax_of_one_output_has_no_gradient():
    with pytest.raises(ValueError, match="needs at least 2 outputs, got 1"):
        vp.simulate(vp.mlp([4, 1]), 5, backward=True, loss="softmax_cross_entropy")


def test_too_little_memory_says_what_is_enough():
    with pytest.raises(ValueError, match=r"; from [\d.]+ [kM]B on it costs little time$"):
        vp.simulate(vp.mlp([40] * 200), 30, trials=1, backward=True, memory="1 kb")


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_stops_within_half_a_second(threads, interrupted_after):
    work = f"vp.simulate(vp.mlp([2000] * 9, 'tanh'), 2000, trials=90, threads={threads}, "
    assert interrupted_after(work + "backward=True)") < 0.5


@pytest.mark.slow
def test_peak_memory():
    # Depth 1000, width 1000, batch 500: all pre-activations would take 2 GB.
    code = """
import resource, varprop as vp
net = vp.mlp([1000] * 1001, "tanh", "glorot_normal")
run = vp.simulate(net, 500, trials=1, backward=True, memory="500MB")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # kB on Linux
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert int(run.stdout) < 500e6  # the interpreter included
