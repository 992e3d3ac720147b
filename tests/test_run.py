"""Runs: what they hold, how they are joined and reported."""

import json
import math

import numpy as np
import pytest

import varprop as vp

NET = vp.Network(
    6,
    [
        vp.Dense(5, "relu", weight="he_normal", bias="normal(std=0.1)", name="first"),
        vp.Dense(4, "tanh", weight="orthogonal", bias=None),
        vp.Dense(3, weight=np.arange(12.0).reshape(4, 3)),
    ],
)
FORWARD = ("preactivations", "activations")
BACKWARD = ("gradients", "weight_gradients", "bias_gradients", "input_gradients")
EVERYTHING = ("extremes", "kurtosis", "histogram", "correlation", "saturation")


def simulated(**changes):
    options = {"inputs": 8, "trials": 6, "seed": 3, "statistics": EVERYTHING}
    return vp.simulate(changes.pop("net", NET), **{**options, **changes})


def there_and_back(**changes):
    statistics = (*EVERYTHING, "gradient_correlation")
    return simulated(**{"backward": True, "statistics": statistics, **changes})


def signals(run):
    return [getattr(run, signal) for signal in run.observed]


def assert_same(one, other):
    """Assert that two runs agree to the bit."""
    assert str(one) == str(other)
    assert one.settings().keys() == other.settings().keys()
    for ours, theirs in zip(signals(one), signals(other), strict=True):
        for mine, yours in ((ours, theirs), (ours.per_trial, theirs.per_trial)):
            assert mine.observed.keys() == yours.observed.keys()
            for key, value in mine.observed.items():
                assert value.dtype == yours.observed[key].dtype
                assert np.array_equal(value, yours.observed[key], equal_nan=True), key


def test_a_run_can_be_recomputed_from_its_parts():
    run = simulated(first_trial=2)
    for trial in range(2, 8):
        x = run.inputs(trial).astype(np.float64)
        assert x.shape == (8, 6)
        for position, layer in enumerate(run.network.layers):
            y = x @ run.weights(position, trial)
            bias = run.bias(layer.name, trial)
            assert (bias is None) == (position == 1)
            y += 0 if bias is None else bias
            x = layer.activation.value(y)
            for statistics, value in zip(signals(run), (y, x), strict=True):
                fields = statistics.per_trial
                where = trial - 2, position
                np.testing.assert_allclose(fields.mean[where], value.mean(), atol=1e-5)
                np.testing.assert_allclose(fields.var[where], value.var(), rtol=1e-4)
                np.testing.assert_allclose(fields.max[where], value.max(), rtol=1e-4, atol=1e-5)
                assert fields.count[where] == value.size


def test_weights_are_those_of_varprop_weights():
    run = simulated(dtype="float64")
    draw = vp.weights((6, 5), "he_normal", seed=3, name="first.weight", trial=4, dtype="float64")
    assert np.array_equal(run.weights("first", 4), draw)
    assert np.array_equal(run.weights(2), np.arange(12.0).reshape(4, 3))
    assert np.array_equal(run.inputs(), run.inputs(0))


def test_given_inputs_are_returned():
    rows = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    assert np.array_equal(simulated(inputs=rows).inputs(5), rows)


def test_unknown_layers_and_trials():
    run = simulated(first_trial=2)
    with pytest.raises(ValueError, match="unknown layer 'frist': did you mean 'first'"):
        run.weights("frist")
    for method in (run.weights, run.bias):
        with pytest.raises(ValueError, match="trial must be one of the run's, 2 to 7, got 8"):
            method("first", 8)
        with pytest.raises(TypeError, match="trial must be an integer"):
            method(1, 2.5)
    for inputs in (8, np.ones((8, 6))):
        with pytest.raises(ValueError, match="2 to 7, got 0"):
            simulated(first_trial=2, inputs=inputs).inputs(0)


def test_statistics_not_asked_for():
    run = simulated(statistics=("moments", "extremes"))
    assert np.all(run.activations.min <= run.activations.mean)
    with pytest.raises(ValueError, match=r'statistics=\("moments", "kurtosis"\)'):
        run.activations.kurtosis  # noqa: B018
    with pytest.raises(ValueError, match=r'statistics=\("moments", "kurtosis"\)'):
        run.activations.interval("kurtosis")
    with pytest.raises(ValueError, match=r'statistics=\("moments", "extremes"\)'):
        simulated(statistics="kurtosis").preactivations.per_trial.max  # noqa: B018


def test_nothing_is_computed_before_it_is_asked_for():
    assert not {*FORWARD, *BACKWARD, "verdict"} & vars(there_and_back()).keys()


def test_six_signals():
    run = there_and_back()
    assert tuple(run.observed) == (*FORWARD, *BACKWARD)
    sizes = {"weight_gradients": [30, 20, 12], "bias_gradients": [5, 4, 3]}
    for signal in run.observed:
        statistics = getattr(run, signal)
        layers = 1 if signal == "input_gradients" else 3
        assert statistics.var.shape == (layers,)
        assert statistics.per_trial.p98.shape == (6, layers)
        counts, _ = statistics.per_trial.histogram()
        assert np.array_equal(counts.sum(axis=-1), statistics.per_trial.count)
        numbers = sizes.get(signal, [8 * 6] if layers == 1 else [8 * 5, 8 * 4, 8 * 3])
        assert statistics.per_trial.count[0].tolist() == numbers


def test_gradients_need_a_backward_pass():
    assert simulated().loss is None
    for signal in BACKWARD:
        with pytest.raises(ValueError, match="not collected: simulate with backward=True"):
            getattr(simulated(), signal)


def test_statistics_belong_to_signals():
    run = there_and_back(statistics=("correlation", "saturation"))
    assert run.activations.saturation.shape == run.preactivations.correlation.shape == (3,)
    for signal, name in (
        *(("preactivations", "saturation"), ("gradients", "correlation")),
        *(("weight_gradients", "correlation"), ("gradients", "dead")),
    ):
        with pytest.raises(ValueError, match="not collected"):
            getattr(getattr(run, signal), name)


def test_cotangents_are_drawn_by_their_name():
    run = there_and_back(first_trial=2, dtype="float64")
    named = {"seed": 3, "name": "cotangent", "trial": 4, "dtype": "float64"}
    assert np.array_equal(run.cotangent(4), vp.weights((8, 3), "normal", **named))
    assert np.array_equal(run.cotangent(), run.cotangent(2))
    with pytest.raises(ValueError, match="mse or softmax_cross_entropy or bce, it was gaussian"):
        run.targets()
    with pytest.raises(ValueError, match="2 to 7, got 8"):
        run.cotangent(8)
    for method in (simulated().targets, simulated().cotangent):
        with pytest.raises(ValueError, match="it was None"):
            method()


@pytest.mark.parametrize(
    ("loss", "last", "law"),
    [
        ("mse", "linear", "normal"),
        ("softmax_cross_entropy", "linear", "uniform(-1, 1)"),
        ("bce", "sigmoid", "uniform(-1, 1)"),
    ],
)
def test_targets_are_drawn_or_given(loss, last, law):
    net = vp.mlp([6, 5, 4], "tanh", output_activation=last)
    run = there_and_back(net=net, loss=loss)
    labels = loss == "softmax_cross_entropy"
    u = vp.weights((8,) if labels else (8, 4), law, seed=3, name="targets", trial=2)
    u = u.astype(np.float64)
    expected = {
        "mse": u,
        "softmax_cross_entropy": np.floor((u + 1) / 2 * 4),
        "bce": np.where(u > 0, 1, 0),
    }[loss]
    assert np.array_equal(run.targets(2), expected)
    assert run.targets(2).dtype == ("int64" if labels else "float32")
    with pytest.raises(ValueError, match=f"must have been gaussian, it was {loss}"):
        run.cotangent()
    given = there_and_back(net=net, loss=loss, targets=run.targets(2))
    assert np.array_equal(given.targets(5), run.targets(2))
    assert np.array_equal(given.given_targets, run.targets(2))
    where = 2, slice(None)
    for signal in BACKWARD:
        both = (getattr(r, signal).per_trial.log10_second_moment[where] for r in (run, given))
        assert np.array_equal(*both)


def test_depth_average():
    run = simulated()
    mean, std = run.depth_average()
    assert mean == pytest.approx(run.preactivations.mean.mean(), rel=1e-12)
    assert std == pytest.approx(math.sqrt(run.preactivations.var.mean()), rel=1e-12)


def test_depth_average_where_the_variance_overflows():
    run = vp.simulate(vp.mlp([64] * 301, weight="normal"), inputs=4, trials=2)
    assert np.isinf(run.preactivations.var[-1])
    last = run.preactivations.log10_var[-1] / 2
    assert math.log10(run.depth_average()[1]) == pytest.approx(last - math.log10(300) / 2, abs=0.01)


@pytest.mark.parametrize("cuts", [[5], [1, 2, 3, 4, 5], [2, 5]])
def test_split_trials_give_the_whole_run_to_the_bit(cuts):
    starts, ends = [10, *(10 + cut for cut in cuts)], [*(10 + cut for cut in cuts), 16]
    parts = [
        simulated(first_trial=start, trials=end - start)
        for start, end in zip(starts, ends, strict=True)
    ]
    assert_same(vp.concat(parts), simulated(first_trial=10))


def test_split_trials_of_both_directions_give_the_whole_run_to_the_bit():
    options = {"loss": "softmax_cross_entropy", "targets": np.arange(8) % 3}
    parts = [there_and_back(first_trial=t, trials=n, **options) for t, n in ((0, 1), (1, 5))]
    joined, whole = vp.concat(parts), there_and_back(**options)
    assert_same(joined, whole)
    assert joined.verdict == whole.verdict
    assert (joined.loss, joined.precision) == ("softmax_cross_entropy", None)
    assert np.array_equal(joined.targets(5), np.arange(8) % 3)


def test_concat_keeps_a_common_precision():
    parts = [simulated(trials=2), simulated(first_trial=2)]
    for precision, joined in (((0.1, 0.1), 0.1), ((0.1, None), None), ((0.1, 0.2), None)):
        for part, wanted in zip(parts, precision, strict=True):
            part.precision = wanted
        assert vp.concat(parts).precision == joined


def test_concat_joins_what_left_the_range():
    parts = [simulated(trials=2), simulated(trials=3, first_trial=2)]
    parts[0].out_of_range, parts[1].out_of_range = [("first", 1)], [("dense2", 4)]
    assert vp.concat(iter(parts)).out_of_range == [("first", 1), ("dense2", 4)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "one seed, got 3 in runs.0. and 4 in runs.1."),
        ({"dtype": "float64"}, "one dtype"),
        ({"statistics": ("moments",)}, "one statistics"),
        ({"inputs": 9}, "one batch"),
        ({"inputs": np.ones((8, 6))}, "the same inputs"),
        ({"net": vp.mlp([6, 5])}, "one network"),
        ({"first_trial": 7}, "start with trial 6, got 7"),
        ({"first_trial": 0}, "start with trial 6, got 0"),
        ({"backward": True}, "one loss, got None in runs.0. and 'gaussian' in runs.1."),
    ],
)
def test_concat_says_what_differs(changes, message):
    with pytest.raises(ValueError, match=message):
        vp.concat([simulated(), simulated(**{"first_trial": 6, **changes})])


def test_concat_says_that_targets_differ():
    options = {"loss": "mse", "targets": np.zeros((8, 3))}
    first = there_and_back(**options)
    for targets in (None, np.eye(8, 3)):
        with pytest.raises(ValueError, match=r"the same targets, those of runs\[1\] differ"):
            vp.concat([first, there_and_back(first_trial=6, **{**options, "targets": targets})])


def test_concat_of_nothing():
    with pytest.raises(ValueError, match="at least one run"):
        vp.concat([])


def test_concat_of_something_else():
    with pytest.raises(TypeError, match=r"runs\[1\] must be a Run, got str"):
        vp.concat([simulated(), "run.npz"])
    with pytest.raises(ValueError, match="one network") as caught:
        vp.concat([simulated(), simulated(net=vp.mlp([6] * 500), first_trial=6)])
    assert len(str(caught.value)) < 80


def lines_of(run, **options):
    text = run.table(**options) if options else str(run)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80, text
    assert text.isascii()
    return lines


def test_report_of_a_deep_network():
    run = vp.simulate(vp.mlp([10] * 101, weight="normal(std=0.1)"), inputs=5, trials=3)
    lines = lines_of(run)
    assert lines[0].startswith("forward: vanishing, x ")
    lines = lines[lines.index("") + 1 :]
    assert lines[0] == "100 dense layers, 10 -> 10, linear, weight normal(std=0.1), bias zeros"
    assert lines[1] == "inputs 5 x 10 standard normal, 3 trials, seed 0, float32"
    shown = [line.split()[0] for line in lines[5 : lines.index("", 4)]]
    names = [f"dense{number}" for number in range(1, 101)]
    assert shown == [*names[:10], "...", *names[-10:]]
    assert [line.split()[0] for line in lines_of(run, every=1)[2:]] == names
    assert [line.split()[0] for line in lines_of(run, every=30)[2:]] == [
        *("dense30", "dense60", "dense90", "dense100")
    ]
    with pytest.raises(ValueError, match="every"):
        run.table(every=0)


def test_report_shows_the_statistics():
    run = simulated(statistics="moments")
    row = lines_of(run, every=1)[3].split()
    after, low, high = run.activations, *run.activations.interval("log10_second_moment")
    typical = after.per_trial.log10_second_moment.mean(axis=0)
    before = run.preactivations
    shown = [before.mean, before.std, after.mean, after.var, typical, (high - low) / 2]
    assert row[0] == "dense2"
    np.testing.assert_allclose([float(x) for x in row[1:]], [x[1] for x in shown], atol=5.1e-5)
    one = lines_of(simulated(trials=1, statistics="moments"), every=1)[3].split()
    assert len(one) == 6


@pytest.mark.parametrize("trials", [1, 6])
@pytest.mark.parametrize("saturation", [None, "saturation(threshold=0.5)"])
def test_report_shows_both_directions(trials, saturation):
    run = there_and_back(trials=trials, statistics=saturation or "moments")
    lines = lines_of(run)
    assert [line.split()[0] for line in lines[:2]] == ["forward:", "backward:"]
    settings = f"inputs 8 x 6 standard normal, {trials} trial{'s' * (trials > 1)}, seed 3, float32"
    assert f"{settings}, loss gaussian" in lines
    head = lines.index(next(line for line in lines if line.startswith("layer")))
    signals = run.activations, run.gradients, run.weight_gradients
    shown = [run.activations.var]
    if saturation:
        shown.append(run.activations.saturation)
        assert "sat.: share with |phi'| < 0.5" in lines
    for statistics in signals:
        shown.append(statistics.per_trial.log10_second_moment.mean(axis=0))
        if trials > 1:
            shown.append(np.diff(statistics.interval("log10_second_moment"), axis=0)[0] / 2)
    for layer, line in enumerate(lines[head + 1 : head + 4]):
        row = [float(number) for number in line.split()[1:]]
        np.testing.assert_allclose(row, [x[layer] for x in shown], atol=5.1e-5, rtol=0.006)


def test_report_of_a_run_that_went_forward_shows_saturation():
    run = simulated(statistics="saturation")
    row = lines_of(run, every=1)[3].split()
    assert float(row[5]) == pytest.approx(run.activations.saturation[1], abs=5.1e-5)
    assert "sat.: share with |phi'| < 0.1" in lines_of(run)


def test_report_says_where_it_stopped_short():
    run = there_and_back(statistics="moments")
    widths = {
        f"{signal} of {layer}": high - low
        for signal in ("activations", "gradients")
        for layer, low, high in zip(
            run.layer_names, *getattr(run, signal).interval("log10_second_moment"), strict=True
        )
    }
    widest = max(widths, key=widths.get)
    note = f"interval of the {widest} is {widths[widest]:.2g} wide"
    for precision, said in ((None, False), (widths[widest], False), (0.99 * widths[widest], True)):
        run.precision = precision
        assert (note in str(run)) is said
        assert ("short of precision" in str(run)) is said
    lines_of(run)
    dead = vp.simulate(vp.mlp([4] * 3, weight="zeros"), inputs=3, trials=4)
    dead.precision = 0.1
    assert "interval of the activations of dense2 is unknown" in str(dead)


@pytest.mark.parametrize("exponent", [0, 40, -40, 1300, -1300, 10**4])
def test_report_fits_whatever_the_numbers(exponent):
    for run in (simulated(), there_and_back(), there_and_back(trials=1)):
        for number, observed in enumerate(run.observed.values()):
            observed["exponent"] += exponent * (-1) ** number
        lines_of(run)
    run = simulated(statistics="moments")
    run.observed["preactivations"]["exponent"] += exponent
    run.observed["activations"]["exponent"] += exponent
    run.observed["activations"]["mean"][:, 1] *= -1
    row = lines_of(run, every=1)[-2].split()
    power = round(run.activations.log10_var[1] - 0.5)
    assert exponent < 1000 or f"e+{power}" in row[4]


def test_report_of_awkward_runs():
    net = vp.Network(
        3,
        [
            vp.Dense(4, "relu", weight="variance_scaling(scale=1.7, mode='fan_avg')", bias=None),
            vp.Dense(4, "leaky_relu(slope=0.123)", name="a <name> that is far too long to show"),
            vp.Dense(2, weight="zeros"),
        ],
    )
    backward = {"backward": True, "loss": "mse", "targets": np.ones((5, 2))}
    back = vp.simulate(net, np.ones((5, 3)), trials=2, first_trial=7, **backward)
    assert "loss mse, targets given" in "\n".join(lines_of(back))
    run = vp.simulate(net, np.ones((5, 3)), trials=2, first_trial=7)
    run.out_of_range = [("dense1", trial) for trial in range(7, 12)]
    text = "\n".join(lines_of(run))
    for words in (
        "3 -> 4 x 2 -> 2",
        "relu then leaky_relu(slope=0.123) then linear",
        "bias none then zeros x 2",
        "inputs 5 x 3 given, 2 trials (7 to 8)",
        "out of the range of float32: dense1 in trial 7, dense1 in trial 8",
        "and 2 more: run.out_of_range",
        "show",
        "-inf",
        "forward: vanishing, underflow to zero within 3 layers",
    ):
        assert words in text, text
    html = run._repr_html_()
    assert "a &lt;name&gt; that" in html
    assert "<script" not in html
    assert html.count("<tr>") == 5
    assert html.startswith(
        "<p>forward: vanishing, underflow to zero within 3 layers<br>to mend it: "
    )
    assert html.endswith("run.out_of_range</p>")
    assert back._repr_html_().count("<th") == 4 + 9  # one of z


@pytest.mark.parametrize("weight", ["normal", "normal(std=0.001)"])
def test_names_stay_readable_beside_wide_numbers(weight):
    run = vp.simulate(vp.mlp([5] * 2001, weight=weight), inputs=5, trials=3)
    lines_of(run)
    shown = [line.split()[0] for line in lines_of(run, every=None)[2:]]
    names = [f"dense{number}" for number in range(1, 2001)]
    assert shown == [*names[:10], "...", *names[-10:]]


@pytest.mark.parametrize(
    ("form", "start"), [("a_long_name_of_the_layer_{}", ".."), ("{}_is_the_layer_of_this", "")]
)
def test_cut_names_stay_unique(form, start):
    layers = [vp.Dense(3, name=form.format(number)) for number in range(1, 13)]
    run = vp.simulate(vp.Network(3, layers), inputs=5, trials=3)
    for exponent in (0, 10**4):
        run.observed["activations"]["exponent"] += exponent
        run.observed["preactivations"]["exponent"] += exponent
        shown = [line.split()[0] for line in lines_of(run, every=1)[2:]]
    assert len(set(shown)) == 12
    assert all(name.startswith(start or str(n)) for n, name in enumerate(shown, 1))


def test_headings_break_between_words():
    law = "variance_scaling(scale=2.0000000000000004, mode='fan_avg', distribution='uniform')"
    layers = [vp.Dense(3, weight=law), vp.Dense(3, weight="normal"), vp.Dense(3, weight=law)]
    net = vp.Network(3, layers)
    text = "\n".join(lines_of(vp.simulate(net, inputs=5, trials=2)))
    assert text.count("scale=2.0000000000000004") == 2


def test_repr_is_short():
    run = simulated(first_trial=2)
    assert repr(run) == "Run(3 layers, trials 2 to 7, seed 3, float32)"
    assert repr(run.activations) == "Statistics(3 layers, 6 trials)"
    assert repr(run.activations.per_trial) == "Fields(3 layers, 6 trials)"


def test_to_dict_is_plain():
    net = vp.mlp([6, 5, 4], "tanh")
    record = json.loads(json.dumps(simulated(net=net).to_dict()))
    run = simulated(net=net)
    assert record["activations"]["kurtosis"] == run.activations.kurtosis.tolist()
    assert record["layer_names"] == ["dense1", "dense2"]
    assert (record["inputs"], record["trials"], record["dtype"]) == (8, 6, "float32")
    assert vp.Network.from_dict(record["network"]) == net
    assert "min" not in simulated(statistics="moments").to_dict()["activations"]
    assert (record["loss"], record["targets"], record["precision"]) == (None, None, None)
    run = there_and_back(net=net, statistics=("histogram", "gradient_correlation"))
    record = json.loads(json.dumps(run.to_dict()))
    assert record["loss"] == "gaussian"
    assert record["statistics"] == ["moments", "histogram", "gradient_correlation"]
    assert record["gradients"]["correlation"] == run.gradients.correlation.tolist()
    assert record["input_gradients"]["p98"] == run.input_gradients.p98.tolist()
    assert "correlation" not in record["weight_gradients"].keys() | record["activations"].keys()


def test_to_dataframe():
    run = simulated()
    frame = run.to_dataframe()
    assert list(frame["layer"]) == [*run.layer_names, *run.layer_names]
    after = frame[frame["signal"] == "activations"]
    for field in ("mean", "var", "count", "min", "kurtosis", "log10_second_moment", "p98", "dead"):
        assert np.array_equal(after[field], getattr(run.activations, field))


def test_to_dataframe_of_both_directions():
    run = there_and_back()
    frame = run.to_dataframe().set_index(["signal", "layer"])
    assert len(frame) == 5 * 3 + 1
    assert list(frame.loc["input_gradients"].index) == ["input"]
    for signal in run.observed:
        rows = frame.loc[signal]
        assert np.array_equal(rows["var"], getattr(run, signal).var)
        assert rows["dead"].isna().all() == (signal != "activations")
        assert rows["correlation"].isna().all() == (signal not in (*FORWARD, "gradients"))
