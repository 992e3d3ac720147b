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
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message or None):
        build()
