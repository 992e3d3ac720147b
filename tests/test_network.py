"""Networks: names, shapes, round trips, errors before any work."""

import numpy as np
import pytest

import varprop as vp


def test_mlp_puts_the_activation_after_every_layer():
    net = vp.mlp([4, 5, 6, 2], "tanh", "glorot_uniform", output_activation="sigmoid")
    assert [layer.activation.name for layer in net.layers] == ["tanh", "tanh", "sigmoid"]
    assert net.shapes == ((4, 5), (5, 6), (6, 2))
    assert net.layer_names == ("dense1", "dense2", "dense3")


def test_names_count_in_order_of_execution():
    net = vp.Network(3, [vp.Dense(4), vp.Dense(4, name="middle"), vp.Dense(4)])
    assert net.layer_names == ("dense1", "middle", "dense3")
    assert net.index("middle") == net.index(1) == net.index(-2) == 1


def test_repr_is_short():
    assert repr(vp.mlp([64, *[1000] * 5, 10])) == "<Network: 6 dense layers, 64 -> 1000 x 5 -> 10>"


def test_repr_of_a_mixed_network():
    block = vp.Residual([vp.LayerNorm(), vp.Conv2d(4, 3)])
    net = vp.Network((6, 8, 3), [vp.Conv2d(4, 3), block, block, vp.Flatten(), vp.Dense(5)])
    assert repr(net) == (
        "<Network: 9 layers, 6 x 8 x 3 -> 5: 3 conv, 2 layernorm, 2 residual, 1 flatten, 1 dense>"
    )


def test_steps_are_flat_and_in_order_of_execution():
    inner = vp.Residual([vp.Scale(2.0)], name="inner")
    net = vp.Network(
        (4, 4, 3),
        [
            vp.Residual([inner, vp.Conv2d(5, 3), vp.Conv2d(3, 1, name="out")]),
            vp.Residual([vp.LayerNorm()]),
            vp.Flatten(),
        ],
    )
    assert [(s.name, s.kind, s.input_shape, s.output_shape, s.skip) for s in net.steps] == [
        ("residual1.inner.scale1", "scale", (4, 4, 3), (4, 4, 3), None),
        ("residual1.inner", "residual", (4, 4, 3), (4, 4, 3), -1),
        ("residual1.conv1", "conv", (4, 4, 3), (4, 4, 5), None),
        ("residual1.out", "conv", (4, 4, 5), (4, 4, 3), None),
        ("residual1", "residual", (4, 4, 3), (4, 4, 3), -1),
        ("residual2.layernorm1", "layernorm", (4, 4, 3), (4, 4, 3), None),
        ("residual2", "residual", (4, 4, 3), (4, 4, 3), 4),
        ("flatten1", "flatten", (4, 4, 3), (48,), None),
    ]
    assert net.layer_names == tuple(step.name for step in net.steps)
    assert [layer.name for layer in net.layers] == ["residual1", "residual2", "flatten1"]
    assert (net.inputs, net.input_shape, net.output_shape) == ((4, 4, 3), (4, 4, 3), (48,))
    assert net.index("residual1.out") == net.index(-5) == 3
    assert net.shapes == ((3, 3, 3, 5), (1, 1, 5, 3))
    assert net.weight_names == net.bias_names == ("residual1.conv1", "residual1.out")
    assert net.names("weight_gradients") == net.weight_names
    assert net.names("input_gradients") == ("input",)
    assert net.names("activations") == net.layer_names


def test_names_of_layers_count_by_kind_in_their_container():
    block = vp.Residual([vp.Dense(3), vp.LayerNorm(), vp.Dense(3)])
    net = vp.Network(3, [vp.Dense(3), block, vp.Dense(3), block])
    assert net.layer_names == (
        "dense1",
        *("residual1.dense1", "residual1.layernorm1", "residual1.dense2", "residual1"),
        "dense2",
        *("residual2.dense1", "residual2.layernorm1", "residual2.dense2", "residual2"),
    )


def test_biases_and_weights_are_of_some_layers():
    net = vp.Network(3, [vp.Dense(3, bias=None), vp.Scale(1.0), vp.Bias("ones"), vp.Dense(2)])
    assert net.weight_names == ("dense1", "dense2")
    assert net.bias_names == ("dense1", "bias1", "dense2")
    assert [step.bias_shape for step in net.steps] == [(3,), None, (3,), (2,)]
    assert [step.weight_shape for step in net.steps] == [(3, 3), None, None, (3, 2)]
    assert net.steps[0].law("bias") is None
    assert str(net.steps[2].law("bias")) == "ones"


def test_dict_round_trip_of_nested_layers():
    net = vp.Network(
        (6, 8, 3),
        [
            vp.Conv2d(4, (3, 2), (2, 1), 1, "gelu", "he_normal", None, name="stem"),
            vp.Conv2d(4, 3, weight=np.ones((3, 3, 4, 4)), groups=1),
            vp.Residual([vp.BatchNorm(0.1), vp.Residual([vp.Dropout(0.2)])], 0.5, 0.25),
            vp.AvgPool2d(2, 1),
            vp.RMSNorm(),
            vp.GlobalAvgPool(),
            vp.Flatten(),
            vp.Bias(np.arange(4.0)),
            vp.Scale(3.0),
            vp.Activation("elu(alpha=0.5)"),
            vp.LayerNorm(),
        ],
    )
    record = net.to_dict()
    assert record["inputs"] == [6, 8, 3]
    assert record["layers"][2]["layers"][1]["layers"] == [
        {"kind": "dropout", "name": "dropout1", "rate": 0.2}
    ]
    assert vp.Network.from_dict(record) == net


def test_old_records_of_dense_networks_are_read():
    entry = {"name": "first", "width": 5, "activation": "tanh", "weight": "ones", "bias": None}
    record = {"inputs": 3, "layers": [{"kind": "dense", **entry}, entry | {"name": None}]}
    net = vp.Network.from_dict(record)
    assert net == vp.Network(
        3, [vp.Dense(5, "tanh", "ones", None, name) for name in ("first", None)]
    )


def test_functions_cannot_be_written():
    net = vp.Network(3, [vp.Residual([vp.Elementwise(np.tanh)])])
    for write in (net.to_dict, net.to_toml):
        with pytest.raises(ValueError, match=r"layer 'residual1\.elementwise1' holds a function"):
            write()


def test_jacobians_are_of_dense_chains():
    net = vp.Network(3, [vp.Dense(3), vp.Residual([vp.LayerNorm()])])
    with pytest.raises(ValueError, match=r"dense layers only, got 'residual1\.layernorm1' \(layer"):
        vp.jacobian(net)
    with pytest.raises(ValueError, match=r"inputs of shape \(features,\), got \(2, 2, 3\)"):
        vp.jacobian(vp.Network((2, 2, 3), [vp.Dense(3)]))


def test_dict_round_trip():
    given = np.arange(20.0).reshape(4, 5)
    net = vp.Network(
        4,
        [
            vp.Dense(5, "leaky_relu(slope=0.2)", given, None, "first"),
            vp.Dense(6, "tanh", "kaiming_normal(nonlinearity='relu')", "uniform(-1, 1)"),
        ],
    )
    again = vp.Network.from_dict(net.to_dict())
    assert again == net
    assert vp.Network.from_dict(vp.mlp([4, 5]).to_dict()) != net


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: vp.mlp([5]), ValueError, "sizes"),
        (lambda: vp.mlp([5, 0]), ValueError, r"sizes\[1\] must be an integer >= 1, got 0"),
        (lambda: vp.mlp([5, 2.0]), TypeError, r"sizes\[1\]"),
        (lambda: vp.mlp([0, 5]), ValueError, r"sizes\[0\]"),
        (lambda: vp.Dense(0), ValueError, "width"),
        (lambda: vp.Dense(2**31), ValueError, "width"),
        (lambda: vp.Dense(5, "rellu"), ValueError, "did you mean 'relu'"),
        (lambda: vp.Dense(5, weight="he_norml"), ValueError, "unknown weight"),
        (lambda: vp.Dense(5, weight="normal(std=-1)"), ValueError, "weight .*std"),
        (lambda: vp.Dense(5, bias="he_normals"), ValueError, "unknown bias"),
        (lambda: vp.Dense(5, name="a.b"), ValueError, "name"),
        (lambda: vp.Dense(5, name=""), ValueError, "name"),
        (lambda: vp.Network(5, []), ValueError, "layers must not be empty"),
        (lambda: vp.Network(5, [5]), TypeError, r"layers\[0\]"),
        (lambda: vp.Network(5, vp.Dense(5)), TypeError, "layers must be a list"),
        (lambda: vp.mlp(100), TypeError, "sizes must be a tuple of integers"),
        (lambda: vp.Network(0, [vp.Dense(5)]), ValueError, "inputs"),
        (
            lambda: vp.Network(5, [vp.Dense(5, name="x"), vp.Dense(5, name="x")]),
            ValueError,
            "unique, got 'x'",
        ),
        (lambda: vp.Network(5, [vp.Dense(5, bias="he_normal")]), ValueError, "layer 'dense1'"),
        (lambda: vp.Network(5, [vp.Dense(4, weight=np.eye(5))]), ValueError, "layer 'dense1'"),
        (lambda: vp.mlp([5, 5]).index("dense2"), ValueError, "unknown layer"),
        (lambda: vp.mlp([5, 5]).index(1), ValueError, "layer"),
        (lambda: vp.Network.from_dict({"inputs": 3, "layers": [{"kind": "conv"}]}), ValueError, ""),
        (lambda: vp.Network((4, 5), [vp.Scale(1)]), ValueError, r"inputs must be .* got \(4, 5\)"),
        (lambda: vp.Network((4, 5, 0), [vp.Scale(1)]), ValueError, r"inputs\[2\] must be"),
        (lambda: vp.Network((4, 5, 0.5), [vp.Scale(1)]), TypeError, r"inputs\[2\] must be"),
        (lambda: vp.Network((2**20, 2**20, 1), [vp.Scale(1)]), ValueError, r"under 2\*\*31"),
        (lambda: vp.Network("abc", [vp.Scale(1)]), TypeError, "inputs must be an integer"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message or None):
        build()


def test_sequentials_add_names_and_no_step():
    head = vp.Sequential([vp.Dense(4, "relu"), vp.Residual([vp.Sequential([vp.Dense(4)])])], "head")
    net = vp.Network(3, [head, vp.Sequential([vp.Sequential([vp.Dense(2)], "0")])])
    assert net.layer_names == (
        "head.dense1",
        "head.residual1.sequential1.dense1",
        "head.residual1",
        "sequential2.0.dense1",
    )
    assert [(step.depth, step.skip) for step in net.steps] == [
        (0, None),
        (1, None),
        (0, 0),
        (0, None),
    ]
    assert vp.Network.from_dict(net.to_dict()) == net
    assert repr(net) == "<Network: 4 layers, 3 -> 2: 3 dense, 1 residual>"
    flat = vp.Network(3, [vp.Dense(4, "relu"), vp.Residual([vp.Dense(4)]), vp.Dense(2)])
    for one, other in zip(net.steps, flat.steps, strict=True):
        assert (one.kind, one.input_shape, one.skip) == (other.kind, other.input_shape, other.skip)


def test_layers_in_sequentials_count_in_every_room():
    """As the same chain without them, but for the names, and so the draws."""

    def both(layers):
        named = [layer.renamed(f"l{i}") for i, layer in enumerate(layers)]
        halves = vp.Sequential(named[:2], "a"), vp.Sequential(named[2:], "b")
        return vp.Network(50, named), vp.Network(50, halves)

    plain, nested = both([vp.Dense(60, "tanh", "normal(std=0.3)") for _ in range(4)])
    assert nested.summary().parameters == plain.summary().parameters
    one, other = (vp.theory.propagate(net) for net in (plain, nested))
    np.testing.assert_array_equal(one.activations.second_moment, other.activations.second_moment)
    tuned = [vp.tune(net, method="theory") for net in (plain, nested)]
    laws = [[step.law("weight") for step in net.steps] for net in tuned]
    assert laws[0] == laws[1]
    assert tuned[1].layer_names == nested.layer_names
    runs = [vp.simulate(net, trials=3, backward=True) for net in (plain, nested)]
    assert len({run.verdict.details["forward"].layers for run in runs}) == 1
    larger = vp.rescale(nested, {"b.l3": 2.0})
    assert larger.layer_names[-3:] == ("b.l3", "b.l3_scale", "b.l3_activation")
