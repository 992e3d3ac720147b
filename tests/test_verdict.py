"""The verdict against hand-made factors, SciPy's intervals and closed forms of random chains."""

import math
import pickle

import numpy as np
import pytest
from scipy import special, stats

import varprop as vp
from varprop.run import Run


def observed(logarithms):
    """Return what is observed of signals with these log10 second moments, (trials, layers)."""
    logarithms = np.asarray(logarithms, float)
    living = np.isfinite(logarithms)
    binary = np.where(living, logarithms, 0) / (2 * math.log10(2))
    exponent = np.floor(binary).astype(np.int64)
    root = np.where(living, 2 ** (binary - exponent), np.where(logarithms < 0, 0, np.nan))
    return {
        "count": np.full(logarithms.shape[1], 100),
        "mean": np.where(np.isposinf(logarithms), np.inf, 0.6 * root),
        "variance": 0.64 * root**2,
        "exponent": exponent,
    }


def run_of(forward, backward=None):
    """Return a run whose activations, and gradients, have these log10 second moments."""
    trials, layers = np.shape(forward)
    signals = {"preactivations": forward, "activations": forward}
    if backward is not None:
        signals |= dict.fromkeys(("gradients", "weight_gradients", "bias_gradients"), backward)
        signals["input_gradients"] = np.zeros((trials, 1))
    return Run(
        vp.mlp([4] * (layers + 1)),
        inputs=25,
        seed=0,
        trials=trials,
        first_trial=0,
        dtype="float32",
        statistics=("moments",),
        observed={signal: observed(values) for signal, values in signals.items()},
        loss=None if backward is None else "gaussian",
    )


def paths(factors, layers=5, start=3.0):
    """Return logarithms that come from `start` and end these many decades away."""
    return start + np.outer(factors, np.linspace(0, 1, layers))


def spread_out(trials=40, mean=0.3, std=0.4, seed=0):
    return np.random.default_rng(seed).normal(mean, std, trials)


@pytest.mark.parametrize(
    ("factor", "word"),
    [
        *((-1.01, "vanishing"), (-0.99, "stable"), (0, "stable"), (0.99, "stable")),
        *((1.01, "exploding"), (1e6, "exploding"), (-1e6, "vanishing")),
    ],
)
def test_words(factor, word):
    run = run_of(paths([factor] * 3), paths([-factor] * 3))
    assert (run.verdict.forward, run.verdict.backward) == (word, word)
    assert run_of(paths([factor] * 3)).verdict.backward is None
    towards_the_inputs = run_of(paths([0] * 3), paths([factor] * 3)).verdict
    opposite = {"vanishing": "exploding", "exploding": "vanishing"}
    assert towards_the_inputs.forward == "stable"
    assert towards_the_inputs.backward == opposite.get(word, word)


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_the_numbers_behind_a_word(name):
    factors, layers = spread_out(), 8
    other = paths(np.full(40, 5.0), layers)
    wanted = paths(factors, layers) if name == "forward" else paths(factors, layers)[:, ::-1]
    run = run_of(*((wanted, other) if name == "forward" else (other, wanted)))
    found = run.verdict.details[name]
    assert found.log10_factor == pytest.approx(factors.mean(), rel=1e-12)
    ends = stats.t.interval(0.95, 39, factors.mean(), stats.sem(factors))
    assert found.interval == pytest.approx(ends, rel=1e-9)
    assert found.log10_growth == pytest.approx(factors.mean() / 7, rel=1e-12)
    assert found.growth == pytest.approx(10 ** (factors.mean() / 7), rel=1e-12)
    assert found.log10_growth_interval == pytest.approx(np.divide(ends, 7), rel=1e-9)
    assert found.growth_interval == pytest.approx(10 ** np.divide(ends, 7), rel=1e-9)
    assert found.spread == pytest.approx(np.std(factors, ddof=1), rel=1e-12)
    assert found.failing == pytest.approx(np.mean(np.abs(factors) > 1), rel=1e-12)
    assert found.layers == layers


def test_level_and_factor_may_be_others():
    factors = spread_out()
    verdict = vp.Verdict.of(run_of(paths(factors)), max_factor=1.5, level=0.8)
    assert verdict.forward == "exploding"
    found = verdict.details["forward"]
    assert found.interval == pytest.approx(
        stats.t.interval(0.8, 39, factors.mean(), stats.sem(factors)), rel=1e-9
    )
    assert found.failing == np.mean(np.abs(factors) > math.log10(1.5))
    assert (verdict.max_factor, verdict.level) == (1.5, 0.8)


def test_fragile_where_a_twentieth_fails():
    for others, fragile in ((19, True), (20, False)):
        run = run_of(paths([*[0.0] * others, 1.5]), paths([0.0] * (others + 1)))
        forward, backward = run.verdict.details.values()
        assert (forward.word, forward.fragile) == ("stable", fragile)
        assert forward.failing == pytest.approx(1 / (others + 1))
        assert (backward.fragile, backward.failing) == (False, 0)
        assert ("but fragile: 5% of single trials" in str(run)) is fragile
    exploding = run_of(paths([3.0, 5.0])).verdict.details["forward"]
    assert (exploding.fragile, exploding.failing) == (False, 1)


def test_dead_signals_vanish():
    zero = np.full((4, 3), -np.inf)
    for forward in (zero, np.hstack([np.zeros((4, 2)), zero[:, :1]]), zero[:, :1]):
        run = run_of(forward, zero[:, : forward.shape[1]])
        assert (run.verdict.forward, run.verdict.backward) == ("vanishing", "vanishing")
        found = run.verdict.details["forward"]
        assert (found.log10_factor, found.failing, found.growth) == (-math.inf, 1, 0)
        assert np.all(np.isnan(found.interval))
        assert "forward: vanishing, exactly zero after" in str(run)
        with pytest.raises(vp.UnhealthySignal, match="forward vanishing, backward vanishing"):
            run.assert_healthy()


def test_a_few_dead_trials_fail_and_leave_the_mean_to_the_others():
    factors = np.append(spread_out(), [-np.inf] * 3)
    logarithms = np.zeros((43, 2))
    logarithms[:, 1] = factors
    found = run_of(logarithms).verdict.details["forward"]
    assert (found.word, found.fragile) == ("stable", True)
    assert found.log10_factor == pytest.approx(factors[:40].mean(), rel=1e-12)
    assert found.spread == pytest.approx(np.std(factors[:40], ddof=1), rel=1e-12)
    assert found.failing == pytest.approx((np.sum(np.abs(factors[:40]) > 1) + 3) / 43)
    logarithms[:23, 1] = -np.inf  # more than half
    assert run_of(logarithms).verdict.forward == "vanishing"


@pytest.mark.parametrize("lost", [np.nan, np.inf])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_what_leaves_the_range_explodes_and_hides_the_gradients(lost, layers):
    forward, backward = np.zeros((4, layers)), np.full((4, layers), np.nan)
    forward[:, layers // 2 :] = lost
    run = run_of(forward, backward)
    assert run.verdict.forward == "exploding"
    assert run.verdict.details["forward"].log10_factor == math.inf
    assert run.verdict.backward is None
    assert "forward: exploding, out of range within" in str(run)
    assert "backward: unknown" in str(run)
    with pytest.raises(vp.UnhealthySignal, match=r"^forward exploding: "):
        run.assert_healthy()


def test_gradients_are_judged_by_the_trials_that_are_known():
    backward = paths([-2.0, -2.5, -3.0, 0.0])
    backward[3] = np.nan
    found = run_of(paths([0.0] * 4), backward).verdict.details["backward"]
    assert found.word == "exploding"
    assert found.log10_factor == pytest.approx(2.5)
    assert found.failing == 1


def test_one_trial_has_no_interval():
    for factor, word in ((0.5, "stable"), (2, "exploding")):
        found = run_of(paths([factor])).verdict.details["forward"]
        assert found.word == word
        assert np.all(np.isnan([*found.interval, *found.growth_interval, found.spread]))
        assert found.growth == pytest.approx(10 ** (factor / 4))
        assert not found.fragile
    run_of(paths([0.9])).assert_healthy()
    with pytest.raises(vp.UnhealthySignal, match=r"^forward exploding: beyond a factor of 10\n"):
        run_of(paths([2])).assert_healthy()


def test_one_layer_changes_nothing():
    run = run_of([[3.0], [-9.0]], [[3.0], [100.0]])
    run.assert_healthy(max_factor=1)
    for direction in run.verdict.details.values():
        assert (direction.word, direction.log10_factor, direction.growth) == ("stable", 0, 1)
    assert (
        str(run.verdict) == "forward: stable, x 1 over 1 layer\nbackward: stable, x 1 over 1 layer"
    )


def test_far_beyond_the_floats():
    found = run_of(paths([1e5, 1.1e5]), paths([1e5, 1.2e5])).verdict
    assert found.details["forward"].log10_factor == pytest.approx(1.05e5)
    assert found.details["forward"].growth == math.inf
    assert found.details["backward"].growth == 0
    assert "forward: exploding, x 1.0e+105000 over 5 layers" in str(found)
    assert "backward: vanishing, x 1.0e-110000 over 5 layers" in str(found)


def test_healthy_unless_the_interval_lies_outside():
    factors = spread_out(mean=1.05, std=0.3)
    low, high = stats.t.interval(0.95, 39, factors.mean(), stats.sem(factors))
    assert low < 1 < high
    run = run_of(paths(factors), paths(factors))
    assert run.verdict.forward == "exploding"
    run.assert_healthy()  # it may yet be stable
    with pytest.raises(vp.UnhealthySignal, match="forward exploding, backward vanishing"):
        run.assert_healthy(level=0.01)
    run.assert_healthy(max_factor=10 ** (low + 1e-6))
    with pytest.raises(vp.UnhealthySignal, match=r"beyond a factor of 9\.02367, at level 0\.95"):
        run.assert_healthy(max_factor=10 ** (low - 1e-6))


def test_the_error_brings_the_table():
    run = run_of(paths([0.0] * 3), paths([7.0] * 3))
    with pytest.raises(vp.UnhealthySignal) as caught:
        run.assert_healthy(max_factor=100)
    lines = str(caught.value).splitlines()
    assert lines[0] == "backward vanishing: beyond a factor of 100, at level 0.95"
    assert str(caught.value).endswith(run.table())
    assert lines[3].startswith("backward: vanishing, x 1.0e-7 over 5 layers")
    assert isinstance(caught.value, AssertionError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (vp.UnhealthySignal, str(caught.value))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_factor": 0.5}, ValueError, "max_factor must be a finite number >= 1, got 0.5"),
        ({"max_factor": math.nan}, ValueError, "max_factor must be"),
        ({"max_factor": "10"}, TypeError, "max_factor must be a number, got '10'"),
        ({"level": 1}, ValueError, "level must be between 0 and 1, got 1"),
        ({"level": "0.9"}, TypeError, "level must be a number"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        run_of(paths([0.0])).assert_healthy(**arguments)


@pytest.mark.parametrize(
    ("factors", "layers", "line"),
    [
        ([0.1] * 2, 100, "forward: stable, x 1.3 over 100 layers (x 1.0023 a layer"),
        ([197.5, 198.5], 100, "forward: exploding, x 1.0e+198 over 100 layers (x 100.0 a layer"),
        ([-1.9, -2.1], 21, "forward: vanishing, x 0.01 over 21 layers (x 0.79 a layer"),
        (
            [-0.004, 0.004],
            11,
            "forward: stable, x 1 over 11 layers (x 1.000 a layer, 0.988 to 1.012)",
        ),
        ([2.0], 3, "forward: exploding, x 100 over 3 layers (x 10.0000 a layer)"),
    ],
)
def test_plain_words(factors, layers, line):
    text = str(run_of(paths(factors, layers)).verdict)
    assert text.startswith(line)


def test_words_fit_the_page_and_stand_on_top():
    for factors in ([3e3, 3.1e3], [-3e5, -3.1e5], [0.9, -2], [0, 1e-9], [1e-3] * 3):
        run = run_of(paths(factors, 999), paths(factors, 999))
        verdict = str(run.verdict)
        assert max(map(len, verdict.splitlines())) <= 80, verdict
        assert str(run).startswith(f"{verdict}\n\n999 dense layers")
        assert run._repr_html_().startswith(f"<p>{verdict.splitlines()[0]}")


def test_linear_chains_lose_what_theory_says():
    """A layer of Gaussian weights adds psi(n/2) + ln(2/n) to ln |x|^2, with variance psi'(n/2).

    So it does going back. Five standard errors: a failure by chance has a probability under 10^-5
    for each number.
    """
    n, layers, trials = 50, 41, 400
    net = vp.mlp([n] * (layers + 1), weight=f"normal(std={n**-0.5})")
    run = vp.simulate(net, inputs=1, trials=trials, backward=True)
    growth = (special.digamma(n / 2) + math.log(2 / n)) / math.log(10)
    spread = math.sqrt((layers - 1) * special.polygamma(1, n / 2)) / math.log(10)
    for name in ("forward", "backward"):
        found = run.verdict.details[name]
        error = spread / (layers - 1) / trials**0.5
        assert found.log10_growth == pytest.approx(growth, abs=5 * error)
        assert found.spread == pytest.approx(spread, rel=5 / math.sqrt(2 * trials))
        normal = stats.norm((layers - 1) * growth, spread)
        failing = normal.cdf(-1) + normal.sf(1)
        assert found.failing == pytest.approx(failing, abs=5 * math.sqrt(failing / trials) + 0.01)
        assert found.fragile == (found.failing >= 0.05)


def test_an_interval_across_the_bound_is_said():
    # 100 relu layers of width 100 lose 1.07 decades in the typical trial, +- .13 over 200 trials.
    run = vp.simulate(vp.mlp([100] * 101, "relu", "he_normal"), inputs=20, trials=100)
    low, high = run.verdict.details["forward"].interval
    assert low < -1 < high
    text = str(run.verdict)
    assert f"but uncertain: the 95% interval is x {10**low:.2g} to {10**high:.2g}" in text
    assert repr(run.verdict).startswith("Verdict(forward='")
    run.assert_healthy()
    assert "uncertain" not in str(vp.simulate(vp.mlp([100] * 3), inputs=20, trials=100).verdict)


def test_resolution_is_no_matter_of_the_verdict():
    """A pool divides gradients by its window's size: that says nothing of the layers around it."""
    conv = vp.Conv2d(32, 3, activation="relu", weight="he_normal")
    stages = [conv, conv, vp.AvgPool2d(2), conv, conv, vp.GlobalAvgPool(), vp.Dense(10)]
    net = vp.Network((16, 16, 32), stages)
    run = vp.simulate(net, 4, trials=4, backward=True)
    assert run.verdict.stages == 3
    assert "changes of resolution left out" in str(run)
    for name, signal in (("forward", run.activations), ("backward", run.gradients)):
        logs = signal.per_trial.log10_second_moment
        if name == "backward":  # the whole gradient of an example
            logs = logs + np.log10(net.sizes["gradients"])
        steps = [(0, 1), (2, 4), (5, 6)]
        factor = sum(logs[:, last] - logs[:, first] for first, last in steps).mean()
        factor = factor if name == "forward" else -factor
        assert run.verdict.details[name].log10_factor == pytest.approx(factor)
        assert run.verdict.details[name].layers == 5
    whole = run.gradients.per_trial.log10_second_moment
    assert (whole[:, 0] - whole[:, -1]).mean() < -3  # which would be called vanishing
    assert run.verdict.backward != "vanishing"
    # Where resolution changes at every step there is nothing else to compare.
    net = vp.Network((8, 8, 3), [vp.AvgPool2d(2), vp.AvgPool2d(2), vp.Flatten()])
    assert vp.simulate(net, 4, trials=2).verdict.details["forward"].layers == 3


def test_gradients_of_layers_of_different_widths():
    """Glorot and Bengio's networks: the normalized initialization keeps both signals."""
    words = {}
    for law in ("torch_linear", "glorot_uniform"):
        net = vp.mlp([64, *[300] * 5, 10], "tanh", law, output_activation="linear")
        verdict = vp.simulate(net, 100, trials=10, backward=True).verdict
        words[law] = verdict.forward, verdict.backward
        logs = verdict.details["backward"].log10_factor
        # Ten outputs' gradients spread over 300 units, each of which has less.
        run = vp.simulate(net, 100, trials=10, backward=True)
        moments = run.gradients.per_trial.log10_second_moment
        assert logs == pytest.approx((moments[:, 0] - moments[:, -1]).mean() + np.log10(300 / 10))
    assert words == {
        "torch_linear": ("vanishing", "vanishing"),
        "glorot_uniform": ("stable", "stable"),
    }
