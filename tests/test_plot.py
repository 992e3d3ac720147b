"""The picture shows the numbers of the run, whatever their range."""

import io
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import varprop as vp
from varprop import reference
from varprop._extras import require

KINDS = ("variance", "histograms", "saturation", "weight_gradients")
ALL = ("histogram", "saturation")


def texts(figure):
    """Yield all that is written, numbers outside the axes' view left out."""
    yield figure._suptitle
    for legend in figure.legends:
        yield from legend.get_texts()
    for axes in figure.axes:
        yield axes.title
        for axis in (axes.xaxis, axes.yaxis):
            yield from (axis.label, axis.get_offset_text())
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if low <= tick.get_loc() <= high and tick.label1.get_visible():
                    yield tick.label1


def legible(figure):
    """Draw it, and hold that all it says is inside and no two texts overlap."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [(t, t.get_window_extent(canvas.get_renderer())) for t in texts(figure) if t.get_text()]
    whole = figure.bbox.padded(1)
    for text, box in boxes:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
    for (one, box), (other, its) in combinations(boxes, 2):
        if one.get_rotation() % 90 == 0 and other.get_rotation() % 90 == 0:
            assert not box.overlaps(its), (one, other)


def legend(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def drawn(figure):
    """Return the lines and the bands' vertical ends of the upper and the lower axes."""
    legible(figure)
    assert len(figure.axes) == 2
    lines = [axes.lines[0].get_ydata() for axes in figure.axes]
    bands = [
        [collection.get_paths()[0].vertices[:, 1] for collection in axes.collections]
        for axes in figure.axes
    ]
    return lines, bands


@pytest.mark.parametrize("signal", ["activations", "preactivations"])
def test_lines_and_bands_are_the_statistics(signal):
    run = vp.simulate(vp.mlp([20] * 31, "tanh"), inputs=5, trials=80)
    figure = run.plot(signal)
    (variance, mean), ((spread,), _) = drawn(figure)
    statistics = getattr(run, signal)
    np.testing.assert_allclose(variance, statistics.var, rtol=1e-12)
    np.testing.assert_allclose(mean, statistics.mean, rtol=1e-12)
    ordered = np.sort(statistics.per_trial.var, axis=0)  # the 2nd and 78th hold 77 of 80
    assert spread.min() == pytest.approx(ordered[1].min(), rel=1e-12)
    assert spread.max() == pytest.approx(ordered[77].max(), rel=1e-12)
    upper, lower = figure.axes
    assert upper.get_yscale() == "log"
    assert signal in upper.get_ylabel().replace("pre-", "pre")
    assert lower.get_ylabel() == "mean"
    assert legend(figure) == ["central 95% of 80 trials", "all trials pooled", "median trial"]
    for axes, name in ((upper, "var"), (lower, "mean")):
        median = np.median(getattr(statistics.per_trial, name), axis=0)
        np.testing.assert_allclose(axes.lines[1].get_ydata(), median, rtol=1e-12)
        assert axes.lines[1].get_linestyle() == "--"
    assert upper.get_title() == str(run.verdict).partition(" (")[0]
    assert "30 dense layers" in figure._suptitle.get_text()


def test_one_trial_has_no_band():
    run = vp.simulate(vp.mlp([20, 20, 20]), inputs=5, trials=1)
    figure = run.plot()
    _, bands = drawn(figure)
    assert bands == [[], []]
    assert figure.legends == []
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["dense1", "dense2"]


@pytest.mark.parametrize("weight", ["normal(std=30)", "normal(std=0.0001)"])
def test_beyond_the_range_of_floats(weight):
    run = vp.simulate(vp.mlp([20] * 201, weight=weight), inputs=5, trials=3)
    figure = run.plot()
    (variance, mean), _ = drawn(figure)
    assert abs(variance[-1]) > 400
    np.testing.assert_allclose(variance, run.activations.log10_var)
    assert figure.axes[0].get_ylabel().startswith("log10")
    assert figure.axes[1].get_ylabel() == "mean / std"
    assert np.all(np.abs(mean) < 5)


@pytest.mark.parametrize("weight", ["zeros", "he_normal"])
def test_dead_layers(weight):
    run = vp.simulate(vp.mlp([2] * 31, "relu", weight), inputs=3, trials=4)
    assert run.activations.var[-1] == 0
    drawn(run.plot())


def test_values_out_of_range():
    run = vp.simulate(vp.mlp([4] * 4), inputs=3, trials=4)
    run.observed["activations"]["mean"][1, 1:] = np.inf
    run.observed["activations"]["variance"][1, 1:] = np.nan
    drawn(run.plot())


def test_values_out_of_range_are_said():
    run = vp.simulate(vp.mlp([4] * 30), inputs=3, trials=20)
    run.out_of_range = [("dense25", 1), ("dense23", 4), ("dense23", 7)]
    figure = run.plot()
    title = "out of the range of float32 from dense23 on, in 3 of 20 trials"
    assert figure.axes[0].get_title().endswith(f" over 29 layers\n{title}")
    drawn(figure)


def test_names_are_not_formulas():
    net = vp.Network(3, [vp.Dense(3, name=r"$\frac$"), vp.Dense(3, name="a_b^c")])
    drawn(vp.simulate(net, inputs=3, trials=2).plot())


def test_fragile_is_said():
    run = vp.simulate(vp.mlp([30] * 21, "relu", "he_normal"), inputs=5, trials=100)
    assert run.verdict.details["forward"].fragile
    assert run.plot().axes[0].get_title().endswith(" over 20 layers, but fragile")


def test_small_differences_look_small():
    run = vp.simulate(vp.mlp([200] * 6, weight="orthogonal"), inputs=20, trials=3)
    upper, lower = run.plot().axes
    low, high = upper.get_ylim()
    assert low <= run.activations.var.min() / 9
    assert high == pytest.approx(100 * low)
    assert lower.get_ylim() == pytest.approx((-0.1, 0.1), rel=0.1)
    assert np.all(np.abs(lower.lines[0].get_ydata()) < 0.05)


def both_ways(loss="gaussian", activation="tanh", weight="lecun_normal", trials=2, **options):
    """Return a run, and what NumPy finds of it: forward and back, by trial and layer."""
    net = vp.mlp([40, 50, 30, 20], activation, weight)
    run = vp.simulate(
        net, 30, trials=trials, dtype="float64", backward=True, loss=loss, statistics=ALL, **options
    )
    ways = [
        (
            list(reference.chain(net, 30, trial=trial, dtype="float64")),
            list(reference.backward(net, 30, loss, trial=trial, dtype="float64"))[::-1],
        )
        for trial in range(trials)
    ]
    return run, [way[0] for way in ways], [way[1] for way in ways]


def test_the_way_back_is_beside_the_way_forward():
    run, forward, back = both_ways("softmax_cross_entropy", trials=3)
    figure = run.plot()
    legible(figure)
    variance, gradients, mean, weight_gradients = figure.axes
    for axes, way, signal, statistic in (
        (variance, forward, "activations", np.var),
        (mean, forward, "activations", np.mean),
        (gradients, back, "preactivations", np.var),
        (weight_gradients, back, "weights", np.var),
    ):
        layers = [np.array([getattr(trial[i], signal) for trial in way]) for i in range(3)]
        pooled = [statistic(values) for values in layers]
        median = [np.median([statistic(values) for values in trials]) for trials in layers]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), pooled, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(axes.lines[1].get_ydata(), median, rtol=1e-9, atol=1e-15)
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "linear", "log"]
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure.axes] == [
        "variance of the activations",
        "variance of the gradients by the pre-activations",
        "mean",
        "variance of the weight gradients",
    ]
    assert variance.get_title().startswith("forward: stable, x 0.")
    # The whole gradient of an example, whatever the widths.
    squares = [[np.sum(layer.preactivations**2) for layer in trial] for trial in back]
    factor = 10 ** np.mean([np.log10(first / last) for first, _, last in squares])
    assert gradients.get_title() == f"backward: stable, x {factor:.2g} over 3 layers"
    assert [axes.get_xlabel() for axes in (mean, weight_gradients)] == ["layer", "layer"]
    assert legend(figure) == ["central 95% of 3 trials", "all trials pooled", "median trial"]


def test_gradients_of_weights_and_biases():
    run, _, back = both_ways("mse", trials=3)
    figure = run.plot(kind="weight_gradients")
    legible(figure)
    for axes, name in zip(figure.axes, ("weight", "bias"), strict=True):
        assert axes.get_ylabel() == f"variance of the {name} gradients"
        attribute = {"weight": "weights", "bias": "bias"}[name]
        pooled = [np.var([getattr(trial[i], attribute) for trial in back]) for i in range(3)]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), pooled, rtol=1e-9)
        low, high = axes.get_ylim()
        assert high / low >= 99.9


def test_saturation():
    statistics = ("saturation(threshold=0.3)",)
    net = vp.mlp([30] * 6, "relu6", "normal(std=0.7)", output_activation="tanh")
    run = vp.simulate(net, 20, trials=6, dtype="float64", statistics=statistics)
    slopes = [
        [
            layer.activation.derivative(made.preactivations)
            for layer, made in zip(
                net.layers, reference.chain(net, 20, trial=trial, dtype="float64"), strict=True
            )
        ]
        for trial in range(6)
    ]
    saturated = np.mean(np.abs(slopes) < 0.3, axis=(2, 3))
    zero = np.mean(np.array(slopes) == 0, axis=(2, 3))
    dead = np.mean((np.array(slopes) == 0).all(axis=2), axis=2)
    figure = run.plot(kind="saturation")
    legible(figure)
    (axes,) = figure.axes
    for line, shares in zip(axes.lines, (saturated, zero, dead), strict=True):
        np.testing.assert_allclose(line.get_ydata(), shares.mean(axis=0))
    ends = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((saturated.min(), saturated.max()))
    assert legend(figure) == [
        "central 95% of 6 trials",
        "saturated: |phi'| < 0.3",
        "zero slope: phi' = 0",
        "dead units: in the whole batch",
    ]
    assert len({(line.get_linestyle(), line.get_marker()) for line in axes.lines}) == 3
    assert axes.get_ylabel() == "share of activations\n(dead: of units)"


def test_little_saturation_looks_little():
    run = vp.simulate(vp.mlp([50] * 6, "tanh", "normal(std=0.02)"), 20, statistics="saturation")
    (axes,) = run.plot(kind="saturation").axes
    assert axes.get_ylim() == pytest.approx((-0.003, 0.1))


def edges_of(x, first):
    """Return the edges of the bins that have these centres, from the first one on."""
    edges = [first]
    for centre in x:
        edges.append(2 * centre - edges[-1])
    return np.array(edges)


@pytest.mark.parametrize("weight", ["lecun_normal", "normal(std=1.5)"])
@pytest.mark.parametrize("activation", ["tanh", "hard_tanh", "sigmoid"])
def test_histograms_of_bounded_activations_hold_every_number(activation, weight):
    run, forward, _ = both_ways(activation=activation, weight=weight)
    figure = run.plot(kind="histograms")
    legible(figure)
    low = 0 if activation in ("sigmoid", "hard_sigmoid") else -1
    for i, line in enumerate(figure.axes[0].lines):
        x, density = line.get_data()
        assert (*x[:2], *x[-2:]) == (low, low, 1, 1)
        assert density[0] == density[-1] == 0
        edges = edges_of(x[2:-2], low)
        assert edges[-1] == 1
        values = np.concatenate([trial[i].activations for trial in forward]).clip(low, 1)
        counted, _ = np.histogram(values, edges)
        np.testing.assert_allclose(density[2:-2] * np.diff(edges) * values.size, counted)
        assert counted.sum() == values.size


def test_histograms_of_gradients():
    run, _, back = both_ways()
    axes = run.plot(kind="histograms").axes[1]
    assert axes.get_xlabel() == "gradient by the pre-activation"
    assert axes.get_ylabel() == "density"
    ranges = []
    for i, line in enumerate(axes.lines):
        x, density = line.get_data()
        edges = edges_of(x, -(2.0 ** (6 + run.gradients.observed["exponent"][i])))
        assert -edges[0] == edges[-1]
        assert np.all(np.diff(edges) > 0)
        values = np.array([trial[i].preactivations for trial in back])
        counted, _ = np.histogram(values, edges)
        np.testing.assert_allclose(density * np.diff(edges) * values.size, counted)
        assert counted.sum() == values.size
        middle = np.diff(edges)[np.abs(x) < values.std()]
        assert 12 < len(middle) <= 25  # smooth, and not noise
        assert not any(line.get_xdata() == 0) or middle.max() == 2 * middle.min()
        ranges.append(np.quantile(np.abs(values), 0.99))
    assert max(ranges) < axes.get_xlim()[1] < 2 * max(ranges)


def test_zeros_are_not_drawn_and_said():
    run, forward, back = both_ways(activation="relu", weight="he_normal", trials=3)
    figure = run.plot(kind="histograms")
    legible(figure)
    for axes, way, signal in zip(
        figure.axes, (forward, back), ("activations", "preactivations"), strict=True
    ):
        zeros = []
        for i, line in enumerate(axes.lines):
            values = np.array([getattr(trial[i], signal) for trial in way])
            zeros.append(np.mean(values == 0))
            x, density = line.get_data()
            size = np.sqrt(np.mean(values[values != 0] ** 2))
            near = density[(x > -size / 3) & (x < size / 3) & (density > 0)]
            there = np.mean((np.abs(values) < size / 3) & (values != 0))
            there /= size / 3 * (2 if values.min() < 0 else 1)
            np.testing.assert_allclose(np.mean(near), there, rtol=0.15)
        title = f"not drawn: {min(zeros):.0%} to {max(zeros):.0%} at or close to zero"
        assert axes.get_title() == title
        assert axes.get_yscale() == "linear"
    assert figure.axes[0].lines[0].get_xdata()[0] == 0


@pytest.mark.parametrize("weight", ["normal(std=1)", "normal(std=0.001)", "normal(std=1e-30)"])
def test_layers_far_apart_have_units_of_their_own(weight):
    run = vp.simulate(vp.mlp([50] * 101, weight=weight), 20, statistics="histogram", trials=3)
    figure = run.plot("preactivations", kind="histograms")
    legible(figure)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "pre-activation / root mean square of its layer"
    assert legend(figure) == [f"dense{i}" for i in (1, 21, 41, 60, 80, 100)]
    for line in axes.lines:
        x, density = line.get_data()
        for power in (0, 2):
            y = density * x**power
            area = np.sum((y[1:] + y[:-1]) / 2 * np.diff(x))
            assert area == pytest.approx(1, abs=0.05)


def test_layers_not_far_apart_share_their_unit():
    for depth, label in ((6, "activation"), (18, "activation / root mean square of its layer")):
        net = vp.mlp([100] * (depth + 1), "tanh", "torch_linear")
        run = vp.simulate(net, 20, trials=2, statistics="histogram")
        assert run.plot(kind="histograms").axes[0].get_xlabel() == label


def test_one_wide_layer_does_not_hide_the_others():
    net = vp.mlp([100] * 5 + [2], "tanh", output_activation="linear")
    run = vp.simulate(net, 50, backward=True, statistics="histogram")
    axes = run.plot(kind="histograms").axes[1]
    wide = run.gradients.percentile(99.5)
    assert wide[-1] > 1.8 * wide[-2]
    assert wide[-2] < axes.get_xlim()[1] < wide[-1]


def test_sharp_peaks_are_on_a_logarithmic_axis():
    run = vp.simulate(vp.mlp([20] * 201, "relu", "he_normal"), 10, statistics="histogram")
    figure = run.plot(kind="histograms")
    legible(figure)
    assert figure.axes[0].get_yscale() == "log"
    assert len(figure.axes[0].lines) == len(legend(figure)) == 6
    ends = vp.mlp([50] * 4, "relu6", "normal(std=0.5)")  # as peaked, at zero and at six
    run = vp.simulate(ends, 10, statistics="histogram")
    assert run.plot(kind="histograms").axes[0].get_yscale() == "linear"


def test_histograms_are_told_apart_in_grey():
    run, _, _ = both_ways()
    net = vp.mlp([20] * 9, "tanh")
    run = vp.simulate(net, 20, backward=True, statistics="histogram")
    for axes in run.plot(kind="histograms").axes:
        assert len({line.get_linestyle() + str(line._dash_pattern) for line in axes.lines}) == 6
        luminance = [np.dot(to_rgb(line.get_color()), (0.3, 0.59, 0.11)) for line in axes.lines]
        assert np.all(np.diff(luminance) > 0)
        assert max(luminance) < 0.7  # on white


NETWORKS = {
    "one layer": vp.mlp([5, 5], "gelu"),
    "two layers": vp.mlp([30, 30, 30], "selu", "lecun_normal"),
    "twelve layers": vp.mlp([20] * 13, "sigmoid"),
    "deep": vp.mlp([10] * 301, "relu", "he_normal"),
    "exploding": vp.mlp([20] * 101, weight="normal(std=1)"),
    "beyond floats": vp.mlp([20] * 201, weight="normal(std=30)"),
    "dying": vp.mlp([2] * 31, "relu", "he_normal"),
    "dead": vp.mlp([4] * 6, "relu", "zeros"),
    "constant": vp.mlp([4] * 4, "tanh", "zeros", "ones"),
    "out of range": vp.mlp([30] * 9, "squared_relu", "normal(std=1)"),
    "partly out of range": vp.mlp([3] * 12, "squared_relu", "normal(std=1.2)"),
    "long names": vp.Network(
        5,
        [
            vp.Dense(5, "tanh", name=name)
            for name in (r"$\frac$", "_hidden", *(f"block{i}_projection_of_keys" for i in range(8)))
        ],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_picture_of_every_network(name):
    run = vp.simulate(NETWORKS[name], 10, trials=5, backward=True, statistics=ALL)
    assert len(run.out_of_range) == {"out of range": 5, "partly out of range": 3}.get(name, 0)
    for kind in KINDS:
        legible(run.plot(kind=kind))


def test_every_picture_of_one_trial():
    run = vp.simulate(vp.mlp([20] * 4, "tanh"), 10, trials=1, backward=True, statistics=ALL)
    for kind in KINDS:
        figure = run.plot(kind=kind)
        legible(figure)
        assert not any(axes.collections for axes in figure.axes)
        assert len(legend(figure)) == {"histograms": 3, "saturation": 3}.get(kind, 0)
    legible(run.plot("preactivations", kind="histograms"))


def test_names_are_not_formulas_in_the_legend_either():
    run = vp.simulate(NETWORKS["long names"], 10, statistics="histogram")
    assert legend(run.plot(kind="histograms"))[:2] == [r"$\frac$", "block0..f_keys"]


def test_draws_into_a_figure():
    figure = Figure()
    assert vp.simulate(vp.mlp([4] * 4), inputs=3).plot(figure=figure) is figure


def test_draws_into_parts_of_a_figure():
    run, _, _ = both_ways()
    figure = Figure((9, 8))
    upper, lower = figure.subfigures(2, 1)
    assert run.plot(kind="histograms", figure=upper) is upper
    run.plot(figure=lower)
    assert (len(upper.axes), len(lower.axes)) == (2, 4)
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "histogram"}, "unknown kind 'histogram': did you mean 'histograms'"),
        ({"signal": "gradients"}, "unknown signal 'gradients'"),
        (
            {"signal": "preactivations", "kind": "saturation"},
            "signal must be 'activations' for kind 'saturation', got 'preactivations'",
        ),
        ({"kind": "histograms"}, 'not collected of this signal: simulate with .*"histogram"'),
        ({"kind": "saturation"}, 'not collected of this signal: simulate with .*"saturation"'),
        ({"kind": "weight_gradients"}, "not collected: simulate with backward=True"),
    ],
)
def test_what_cannot_be_drawn(arguments, message):
    figure = Figure()
    with pytest.raises(ValueError, match=message):
        vp.simulate(vp.mlp([4] * 4), inputs=3).plot(**arguments, figure=figure)
    assert figure.get_children() == [figure.patch]


def test_unknown_signal():
    with pytest.raises(ValueError, match="unknown signal 'activation': did you mean 'activations'"):
        vp.simulate(vp.mlp([4] * 4), inputs=3).plot("activation")


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = vp.simulate(vp.mlp([4] * 4), inputs=3)
    with pytest.raises(ImportError, match=r'extra "plot": pip install "varprop\[plot\]", or pip'):
        run.plot()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'"varprop\[dataframe\]"'):
        run.to_dataframe()


def test_a_broken_extra_keeps_its_own_message(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        require("broken_extra", "plot")
