"""Runs of mixed networks: reports, pictures, files. Their numbers are the reference's."""

import json

import matplotlib as mpl
import numpy as np
import pytest

import varprop as vp
from varprop import _loss, reference

mpl.use("agg")

STATISTICS = ("moments", "extremes", "kurtosis", "histogram", "correlation", "saturation")


def network(last="linear"):
    return vp.Network(
        (6, 5, 3),
        [
            vp.Conv2d(4, 3, activation="relu", name="stem"),
            vp.Residual([vp.LayerNorm(), vp.Dense(4, bias=None), vp.Dropout(0.5)]),
            vp.Bias("normal"),
            vp.GlobalAvgPool(),
            vp.Dense(2, last, weight="he_normal"),
        ],
    )


NAMES = (
    *("stem", "residual1.layernorm1", "residual1.dense1", "residual1.dropout1", "residual1"),
    *("bias1", "globalavgpool1", "dense1"),
)
WEIGHTS = ("stem", "residual1.dense1", "dense1")


def simulated(net=None, inputs=7, trials=3, **options):
    """Return a run as the core would make it, of what the reference observed."""
    net = net or network()
    options = {"backward": True, "loss": "mse", "statistics": STATISTICS, **options}
    observed = reference.simulate(net, inputs, trials=trials, seed=5, **options)
    return vp.Run(
        net,
        inputs=inputs,
        seed=5,
        trials=trials,
        first_trial=0,
        dtype="float32",
        statistics=options["statistics"],
        observed=observed,
        loss=options["loss"] if options["backward"] else None,
    )


def test_signals_know_their_layers():
    run = simulated()
    assert run.layer_names == NAMES == run.activations.layer_names == run.gradients.layer_names
    assert run.weight_gradients.layer_names == WEIGHTS
    assert run.bias_gradients.layer_names == ("stem", "residual1.dense1", "bias1", "dense1")
    assert run.input_gradients.layer_names == ("input",)
    assert run.weight_gradients.var.shape == (3,)
    assert run.bias_gradients.per_trial.var.shape == (3, 4)
    # Outside of branches five layers, of which the last have another number of positions.
    assert run.verdict.details["forward"].layers == 4


def test_tables_leave_empty_what_is_not_there():
    run = simulated()
    rows = [line.split()[1:] for line in run.table().splitlines()[2:]]
    assert [len(row) for row in rows] == [8 if name in WEIGHTS else 6 for name in NAMES]
    logs = run.weight_gradients.per_trial.log10_second_moment.mean(axis=0)
    assert [float(row[-2]) for row in rows if len(row) == 8] == logs.round(4).tolist()
    assert max(map(len, str(run).splitlines())) <= 80
    assert run._repr_html_().count("<tr>") == 2 + len(NAMES)


def test_the_network_in_words():
    text = " ".join(str(simulated()).split())
    for words in (
        "8 layers (1 conv, 1 layernorm, 2 dense, 1 dropout, 1 residual, 1 bias, 1 globalavgpool)",
        "6 x 5 x 3 -> 6 x 5 x 4 -> 4 -> 2,",
        "relu then linear x 2",
        "weight lecun_normal x 2 then he_normal",
        "bias zeros then none then normal then zeros",
        "inputs 7 x 6 x 5 x 3 standard normal",
    ):
        assert words in text
    net = vp.Network(3, [vp.Scale(2.0), vp.Elementwise(np.tanh), vp.Elementwise(np.sin, np.cos)])
    text = str(simulated(net))
    assert "weight" not in text
    assert "slopes by central differences: elementwise1\n" in text + "\n"
    assert "differences" not in str(
        simulated(net, backward=False, loss="gaussian", statistics=("moments",))
    )


@pytest.mark.parametrize("kind", ["variance", "histograms", "saturation", "weight_gradients"])
def test_pictures(kind):
    run = simulated()
    figure = run.plot(kind=kind)
    figure.canvas.draw()
    if kind == "weight_gradients":
        places = [axes.lines[0].get_xdata().tolist() for axes in figure.axes]
        assert places == [[1, 3, 8], [1, 3, 6, 8]]
        assert figure.axes[0].lines[0].get_ydata() == pytest.approx(run.weight_gradients.var)
        assert figure.axes[0].get_xlim() == pytest.approx((0.65, 8.35))
    simulated(vp.Network(3, [vp.Scale(1.0), vp.Activation("relu")])).plot(kind=kind).canvas.draw()


def test_weights_and_biases():
    run = simulated()
    drawn = {"seed": 5, "trial": 2}
    for name, shape in (("stem", (3, 3, 3, 4)), ("residual1.dense1", (4, 4))):
        found = run.weights(name, trial=2)
        assert np.array_equal(
            found, vp.weights(shape, "lecun_normal", name=f"{name}.weight", **drawn)
        )
    made = list(reference.chain(run.network, 7, **drawn))
    np.testing.assert_allclose(run.inputs(2), made[0].inputs, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        run.targets(2), reference.targets(run.network, 7, "mse", **drawn), rtol=1e-6, atol=1e-7
    )
    assert run.bias("residual1.dense1") is None
    assert run.bias("stem").tolist() == [0, 0, 0, 0]
    assert np.array_equal(run.bias(5, 2), vp.weights((4,), "normal", name="bias1.bias", **drawn))
    with pytest.raises(
        ValueError, match=r"'residual1\.dropout1' \(dropout\) has no weights: stem, .* have some"
    ):
        run.weights("residual1.dropout1")
    with pytest.raises(ValueError, match=r"layer 'globalavgpool1' .* has no biases: stem, resid"):
        run.bias(6)
    with pytest.raises(ValueError, match="no layers have some"):
        simulated(vp.Network(3, [vp.Scale(1.0)])).weights(0)


@pytest.mark.parametrize("suffix", ["json", "npz"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("net", [network(), vp.Network((6, 5, 3), [vp.Scale(2.0)])])
def test_files(tmp_path, suffix, given, net):
    images = np.random.default_rng(0).normal(size=(7, 6, 5, 3)).astype(np.float32)
    run = simulated(net, images if given else 7)
    run.save(tmp_path / f"run.{suffix}")
    again = vp.load(tmp_path / f"run.{suffix}")
    assert again.network == run.network
    assert np.array_equal(again.inputs(), run.inputs())
    assert str(again) == str(run)
    for signal, observed in run.observed.items():
        for key, values in observed.items():
            assert np.array_equal(again.observed[signal][key], values, equal_nan=True)
    whole = vp.concat([run])
    assert str(whole) == str(run)


def test_damaged_files(tmp_path):
    path = tmp_path / "run.json"
    simulated().save(path)
    record = json.loads(path.read_text())
    for change, message in (
        (lambda r: [row.pop() for row in r["weight_gradients"]["mean"]], "mean must be"),
        (lambda r: r["network"].update(inputs=[6, 5]), "inputs must be an integer or"),
        (lambda r: r["network"]["layers"][1].update(layers=[]), "layers must not be empty"),
        (lambda r: r["network"]["layers"][1]["layers"][1].update(width=3), "must end with"),
    ):
        damaged = json.loads(json.dumps(record))
        change(damaged)
        path.write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=message):
            vp.load(path)


def test_functions_cannot_be_saved(tmp_path):
    run = simulated(vp.Network(3, [vp.Elementwise(np.tanh)]))
    with pytest.raises(ValueError, match="layer 'elementwise1' holds a function"):
        run.save(tmp_path / "run.json")
    assert not list(tmp_path.iterdir())


def test_tables_and_dictionaries():
    run = simulated()
    frame = run.to_dataframe()
    assert list(frame[frame.signal == "weight_gradients"]["layer"]) == list(WEIGHTS)
    record = json.loads(json.dumps(run.to_dict()))
    assert record["layer_names"] == list(NAMES)
    assert record["weight_gradients"]["layer_names"] == list(WEIGHTS)
    assert "layer_names" not in record["activations"]
    assert len(record["bias_gradients"]["var"]) == 4


# --- losses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "loss", "message"),
    [
        ([vp.Conv2d(2, 3)], "softmax_cross_entropy", r"shape \(width,\), got \(4, 4, 2\): Flatten"),
        ([vp.Flatten(), vp.Dense(1)], "softmax_cross_entropy", "at least 2 outputs, got 1"),
        ([vp.Activation("sigmoid"), vp.Flatten()], "bce", "sigmoid as the last .* 'flatten1'"),
        ([vp.Activation("tanh")], "bce", "needs a sigmoid as the last activation, got 'tanh'"),
    ],
)
def test_losses_that_do_not_fit(layers, loss, message):
    with pytest.raises(ValueError, match=message):
        _loss.check(vp.Network((4, 4, 3), layers), loss)


@pytest.mark.parametrize("loss", ["gaussian", "mse", "bce"])
def test_targets_of_images(loss):
    net = vp.Network((4, 5, 3), [vp.Conv2d(2, 3), vp.Activation("sigmoid")])
    assert _loss.check(net, loss) == loss
    drawn = _loss.drawn(net, loss, 3, seed=1, trial=2, dtype="float64")
    assert drawn.shape == (3, 4, 5, 2)
    exact = (
        reference.cotangent(net, 3, seed=1, trial=2, dtype="float64")
        if loss == "gaussian"
        else reference.targets(net, 3, loss, seed=1, trial=2, dtype="float64")
    )
    np.testing.assert_allclose(drawn, exact, rtol=1e-12)
    if loss != "gaussian":
        assert _loss.check_targets(net, loss, np.ones((3, 4, 5, 2)), 3, "float32").shape[1:] == (
            4,
            5,
            2,
        )
        with pytest.raises(ValueError, match=r"must have shape \(3, 4, 5, 2\) .* got \(3, 40\)"):
            _loss.check_targets(net, loss, np.ones((3, 40)), 3, "float32")
