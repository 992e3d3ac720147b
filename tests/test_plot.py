"""The picture shows the numbers of the run, whatever their range."""

import io
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import varprop as vp
from varprop._extras import require


def drawn(figure):
    """Return the lines and the bands' vertical ends of the upper and the lower axes."""
    figure.savefig(io.BytesIO(), format="png")
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
    texts = [text.get_text() for text in upper.get_legend().get_texts()]
    assert texts == ["central 95% of 80 trials", "all trials pooled", "median trial"]
    for axes, name in ((upper, "var"), (lower, "mean")):
        median = np.median(getattr(statistics.per_trial, name), axis=0)
        np.testing.assert_allclose(axes.lines[1].get_ydata(), median, rtol=1e-12)
        assert axes.lines[1].get_linestyle() == "--"
    assert upper.get_title() == ""
    assert "30 dense layers" in figure.get_suptitle()


def test_one_trial_has_no_band():
    run = vp.simulate(vp.mlp([20, 20, 20]), inputs=5, trials=1)
    figure = run.plot()
    _, bands = drawn(figure)
    assert bands == [[], []]
    assert figure.axes[0].get_legend() is None
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
    assert figure.axes[0].get_title() == title
    drawn(figure)


def test_names_are_not_formulas():
    net = vp.Network(3, [vp.Dense(3, name=r"$\frac$"), vp.Dense(3, name="a_b^c")])
    drawn(vp.simulate(net, inputs=3, trials=2).plot())


def test_draws_into_a_figure():
    figure = Figure()
    assert vp.simulate(vp.mlp([4] * 4), inputs=3).plot(figure=figure) is figure


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
