"""Layers: shapes, parameters, what the core is told of them, errors in the words of the user."""

import pickle

import numpy as np
import pytest

import varprop as vp
from varprop import activations
from varprop.network import Operation

EVERY = {
    "dense": vp.Dense(3, "tanh"),
    "conv": vp.Conv2d(4, (3, 2), (2, 1), 1, "relu", groups=2),
    "scale": vp.Scale(2),
    "activation": vp.Activation("leaky_relu(0.2)"),
    "bias": vp.Bias("normal(std=0.1)"),
    "residual": vp.Residual([vp.Scale(2), vp.Residual([vp.Dense(3)])], 0.5, skip_scale=2),
    "sequential": vp.Sequential([vp.Scale(2), vp.Sequential([vp.Dense(3)], name="head")]),
    "layernorm": vp.LayerNorm(),
    "rmsnorm": vp.RMSNorm(1e-3),
    "batchnorm": vp.BatchNorm(),
    "avgpool": vp.AvgPool2d((2, 3), 1),
    "globalavgpool": vp.GlobalAvgPool(),
    "flatten": vp.Flatten(channels_first=True),
    "dropout": vp.Dropout(0.5),
    "elementwise": vp.Elementwise(np.tanh, np.cos),
}


@pytest.mark.parametrize("kind", EVERY)
def test_every_layer(kind):
    layer = EVERY[kind]
    assert isinstance(layer, vp.Layer)
    assert layer.kind == kind
    assert layer.name is None
    named = layer.renamed("x")
    assert (named.name, layer.name) == ("x", None)
    assert named == type(layer)(**{k: getattr(named, k) for k in named.checks})
    assert named != layer
    assert hash(named) == hash(layer.renamed("x"))
    assert pickle.loads(pickle.dumps(layer)) == layer
    with pytest.raises(AttributeError):
        layer.name = "y"
    if kind != "elementwise":
        record = layer.to_dict()
        assert list(record)[:2] == ["kind", "name"]
        assert record["kind"] == kind


@pytest.mark.parametrize(
    ("layer", "entering", "leaving"),
    [
        (vp.Dense(5), (3,), (5,)),
        (vp.Dense(5), (4, 6, 3), (4, 6, 5)),
        (vp.Conv2d(7, 3), (4, 6, 3), (4, 6, 7)),
        (vp.Conv2d(7, (3, 5), padding="valid"), (4, 6, 3), (2, 2, 7)),
        (vp.Conv2d(7, 3, stride=2), (5, 6, 3), (3, 3, 7)),
        (vp.Conv2d(7, 3, stride=(1, 4), padding=2), (5, 6, 3), (7, 2, 7)),
        (vp.Conv2d(7, 3, padding=(0, 2)), (5, 6, 3), (3, 8, 7)),
        (vp.Conv2d(7, 1, stride=9), (5, 6, 3), (1, 1, 7)),
        (vp.AvgPool2d(2), (5, 6, 3), (2, 3, 3)),
        (vp.AvgPool2d((2, 3), (1, 2)), (5, 6, 3), (4, 2, 3)),
        (vp.GlobalAvgPool(), (5, 6, 3), (3,)),
        (vp.Flatten(), (5, 6, 3), (90,)),
        (vp.Flatten(), (5,), (5,)),
        (vp.Flatten(channels_first=True), (5, 6, 3), (90,)),
        (vp.Residual([vp.Conv2d(9, 3), vp.Dense(3)]), (5, 6, 3), (5, 6, 3)),
        (vp.Sequential([vp.Conv2d(9, 3), vp.Flatten(), vp.Dense(3)]), (5, 6, 3), (3,)),
        *((vp.Bias("ones"), shape, shape) for shape in ((5,), (5, 6, 3))),
        *((vp.LayerNorm(), shape, shape) for shape in ((5,), (5, 6, 3))),
    ],
)
def test_shapes(layer, entering, leaving):
    assert layer.output_shape(entering) == leaving
    assert (
        vp.Network(entering[0] if len(entering) == 1 else entering, [layer]).output_shape == leaving
    )


def test_parameters_and_fans():
    layer = vp.Conv2d(20, (3, 5), weight="he_normal", groups=2, bias="normal")
    parameters = layer.parameters((8, 8, 6))
    assert {part: shape for part, (_, shape) in parameters.items()} == {
        "weight": (3, 5, 3, 20),
        "bias": (20,),
    }
    law, shape = parameters["weight"]
    assert law.compile(shape).rms == pytest.approx((2 / 45) ** 0.5)  # fan_in 3 x 5 x 3
    assert vp.Conv2d(20, 3, bias=None).parameters((8, 8, 6)).keys() == {"weight"}
    assert vp.Dense(4).parameters((8, 8, 6))["weight"][1] == (6, 4)
    assert vp.Bias("ones").parameters((8, 8, 6))["bias"][1] == (6,)
    assert vp.Dropout(0.5).parameters((6,)) == {}


def test_a_text_none_is_no_bias():
    assert vp.Dense(3, bias="none") == vp.Dense(3, bias=None)
    assert vp.Conv2d(3, 1, bias="none") == vp.Conv2d(3, 1, bias=None)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: vp.Conv2d(0, 3), ValueError, "channels must be an integer >= 1, got 0"),
        (lambda: vp.Conv2d(3, 0), ValueError, "kernel must be an integer >= 1, got 0"),
        (lambda: vp.Conv2d(3, (3, 0)), ValueError, r"kernel\[1\] must be an integer >= 1, got 0"),
        (lambda: vp.Conv2d(3, (3, 3, 3)), ValueError, "kernel must be an integer or a pair"),
        (lambda: vp.Conv2d(3, 2.5), TypeError, "kernel must be an integer, got 2.5"),
        (lambda: vp.Conv2d(3, 3, stride=0), ValueError, "stride"),
        (
            lambda: vp.Conv2d(3, 3, padding="sane"),
            ValueError,
            "padding 'sane': did you mean 'same'",
        ),
        (
            lambda: vp.Conv2d(3, 3, padding=-1),
            ValueError,
            "padding must be an integer >= 0, got -1",
        ),
        (lambda: vp.Conv2d(3, 3, padding=(1, 1, 1)), ValueError, "padding must have two integers"),
        (lambda: vp.Conv2d(3, 3, padding=(1, -1)), ValueError, r"padding\[1\] must be an integer"),
        (lambda: vp.Conv2d(3, 3, padding=1.0), TypeError, "padding must be an integer, got 1.0"),
        (lambda: vp.Flatten(channels_first=1), TypeError, "channels_first must be True or False"),
        (lambda: vp.Sequential([]), ValueError, "layers must not be empty"),
        (lambda: vp.Conv2d(3, 3, padding=2**31), ValueError, r"padding must be under 2\*\*31"),
        (lambda: vp.Conv2d(3, 3, activation="rely"), ValueError, "did you mean 'relu'"),
        (lambda: vp.Conv2d(3, 3, weight="he"), ValueError, "unknown weight 'he'"),
        (lambda: vp.Conv2d(3, 3, groups=2), ValueError, "groups must divide 3 channels out, got 2"),
        (lambda: vp.AvgPool2d(0), ValueError, "size"),
        (lambda: vp.AvgPool2d(2, 0), ValueError, "stride"),
        (lambda: vp.Scale("2"), TypeError, "factor must be a number, got '2'"),
        (lambda: vp.Scale(float("inf")), ValueError, "factor must be a finite number"),
        (lambda: vp.Activation(np.tanh), TypeError, "function must be a string"),
        (lambda: vp.Bias("normals"), ValueError, "unknown law 'normals'"),
        (lambda: vp.Bias(None), TypeError, "law must be a name"),
        (lambda: vp.LayerNorm(-1e-5), ValueError, "eps must be a finite number >= 0"),
        (lambda: vp.BatchNorm(None), TypeError, "eps"),
        (lambda: vp.Dropout(1), ValueError, "rate must be at least 0 and under 1, got 1"),
        (lambda: vp.Dropout(-0.1), ValueError, "rate"),
        (lambda: vp.Elementwise("tanh"), TypeError, "function must be a function, got 'tanh'"),
        (lambda: vp.Elementwise(np.tanh, 1), TypeError, "derivative must be a function"),
        (lambda: vp.Elementwise(np.tanh).to_dict(), ValueError, "holds a function"),
        (lambda: vp.Residual([]), ValueError, "layers must not be empty"),
        (lambda: vp.Residual(vp.Dense(3)), TypeError, "layers must be a list of layers"),
        (lambda: vp.Residual([3]), TypeError, r"layers\[0\] must be a layer, got 3"),
        (lambda: vp.Residual([vp.Dense(3)], "1"), TypeError, "branch_scale must be a number"),
        (lambda: vp.Residual([vp.Dense(3)], skip_scale=np.nan), ValueError, "skip_scale"),
        (
            lambda: vp.Residual([vp.Scale(1, name="a"), vp.Scale(2, name="a")]),
            ValueError,
            "unique, got 'a'",
        ),
        (lambda: nested(21), ValueError, "layers must be nested at most 20 deep, got 21"),
        (
            lambda: vp.Sequential([nested(20)]),
            ValueError,
            "layers must be nested at most 20 deep, got 21",
        ),
        *(
            (
                lambda layer=layer: layer.renamed("a.b"),
                ValueError,
                "name must be a non-empty string",
            )
            for layer in EVERY.values()
        ),
    ],
)
def test_arguments_that_do_not_fit(build, error, message):
    with pytest.raises(error, match=message):
        build()


def nested(depth):
    layer = vp.Scale(1.0)
    for _ in range(depth):
        layer = vp.Residual([layer])
    return layer


@pytest.mark.parametrize(
    ("inputs", "layers", "message"),
    [
        (
            8,
            [vp.Residual([vp.Dense(8), vp.Dense(7)])],
            "layer 'residual1': the branch must end with the shape it starts with, 8, got 7",
        ),
        (
            (4, 4, 3),
            [vp.Residual([vp.Scale(1), vp.Residual([vp.Conv2d(3, 3, padding="valid")])])],
            r"layer 'residual1\.residual1': the branch .* 4 x 4 x 3, got 2 x 2 x 3",
        ),
        (
            (4, 5, 3),
            [vp.Conv2d(2, 7, padding=1)],
            "layer 'conv1': kernel 7 x 7 is larger than the padded image, 6 x 7",
        ),
        (
            (4, 5, 3),
            [vp.Scale(1.0), vp.Conv2d(2, (1, 6), padding="valid", name="wide")],
            "layer 'wide': kernel 1 x 6 is larger than the padded image, 4 x 5",
        ),
        (
            (4, 5, 3),
            [vp.Conv2d(4, 3, groups=2)],
            "layer 'conv1': groups must divide 3 channels in, got 2",
        ),
        (8, [vp.Conv2d(4, 3)], r"layer 'conv1': needs an image \(height, width, channels\), got 8"),
        (8, [vp.Dense(7), vp.AvgPool2d(2)], "layer 'avgpool1': needs an image .* got 7 features"),
        (8, [vp.GlobalAvgPool()], "layer 'globalavgpool1': needs an image"),
        (
            (2, 5, 3),
            [vp.AvgPool2d(3)],
            "layer 'avgpool1': size 3 x 3 is larger than the image, 2 x 5",
        ),
        ((4, 4, 3), [vp.Conv2d(5, 3, weight=np.ones((3, 3, 3, 4)))], "layer 'conv1': given array"),
        ((4, 4, 3), [vp.Conv2d(2, 3, weight="delta_orthogonal")], "layer 'conv1': delta_orth"),
        ((4, 4, 3), [vp.Conv2d(5, 3, bias="he_normal")], "layer 'conv1': he_normal needs"),
        ((4, 4, 3), [vp.Bias(np.ones(4))], "layer 'bias1': given array"),
        ((4000, 4000, 1), [vp.Conv2d(1000, 1)], r"layer 'conv1': must have under 2\*\*31 outputs"),
        (8, [vp.Residual([vp.Dense(8, weight="dirac")])], r"layer 'residual1\.dense1': dirac"),
        (
            8,
            [vp.Residual([vp.Sequential([vp.Conv2d(3, 3)], name="in")])],
            r"layer 'residual1\.in\.conv1': needs an image",
        ),
    ],
)
def test_layers_that_do_not_fit(inputs, layers, message):
    with pytest.raises(ValueError, match=message):
        vp.Network(inputs, layers)


# --- for the core -------------------------------------------------------------------------------


def operations(inputs, *layers):
    return vp.Network(inputs, layers).operations


def test_plain_operations_have_the_defaults():
    (found,) = operations(5, vp.Scale(1.0))
    assert found == Operation("map", (1, 1, 5), (1, 1, 5))
    assert found.window == (1, 1, 1, 1, 0, 0)
    assert (found.factor, found.skip, found.skip_scale, found.groups) == (1.0, -2, 1.0, 1)
    assert found.weight.source == found.bias.source == "absent"
    assert activations.NAMES[found.activation] == "linear"


def test_what_the_core_is_told():
    leaky = vp.Activation("leaky_relu(slope=0.2)")
    net = vp.Network(
        (6, 8, 3),
        [
            vp.Conv2d(4, (3, 2), (2, 1), activation="tanh", bias=np.arange(4.0)),
            vp.Residual([vp.BatchNorm(1e-3), leaky, vp.Dropout(0.25)], 0.5, 2.0),
            vp.AvgPool2d((3, 2), (1, 2)),
            vp.Dense(6, "relu", weight="orthogonal", bias="normal"),
            vp.Bias("normal(std=0.1)"),
            vp.Residual([vp.Residual([vp.RMSNorm()])]),
            vp.GlobalAvgPool(),
            vp.Flatten(),
            vp.LayerNorm(),
            vp.Scale(-3.0),
            vp.Elementwise(np.sin),
        ],
    )
    ops = dict(zip(net.layer_names, net.operations, strict=True))
    kinds = {
        "conv1": "conv",
        "residual1.batchnorm1": "batchnorm",
        "residual1.activation1": "map",
        "residual1.dropout1": "dropout",
        "residual1": "join",
        "avgpool1": "pool",
        "dense1": "dense",
        "bias1": "bias",
        "residual2.residual1.rmsnorm1": "rmsnorm",
        "residual2.residual1": "join",
        "residual2": "join",
        "globalavgpool1": "pool",
        "flatten1": "flatten",
        "layernorm1": "layernorm",
        "scale1": "map",
        "elementwise1": "elementwise",
    }
    assert {name: op.kind for name, op in ops.items()} == kinds
    conv = ops["conv1"]
    assert (conv.inputs, conv.outputs) == ((6, 8, 3), (3, 8, 4))
    assert conv.window == (3, 2, 2, 1, 0, 0)  # one row and one column of zeros, behind
    assert (conv.weight.source, conv.bias.source) == ("drawn", "given")
    assert conv.bias.rms == pytest.approx((14 / 4) ** 0.5)
    assert not conv.homogeneous
    assert activations.NAMES[conv.activation] == "tanh"
    norm, leaky, dropout, join = (ops[name] for name in list(ops)[1:5])
    assert (norm.factor, norm.homogeneous) == (1e-3, False)
    assert (leaky.parameter, leaky.homogeneous) == (0.2, True)
    assert (dropout.factor, dropout.weight.source, dropout.homogeneous) == (0.25, "drawn", True)
    assert dropout.weight.draw == vp.Uniform(-1.0, 1.0).compile((1, 1))
    assert (join.factor, join.skip_scale, join.skip) == (0.5, 2.0, 0)
    assert join.inputs == join.outputs == (3, 8, 4)
    assert ops["avgpool1"].window == (3, 2, 1, 2, 0, 0)
    assert (ops["avgpool1"].outputs, ops["globalavgpool1"].outputs) == ((1, 4, 4), (1, 1, 6))
    assert ops["dense1"].inputs == (1, 4, 4)
    assert (ops["dense1"].weight.source, ops["dense1"].bias.source) == ("formed", "drawn")
    assert ops["bias1"].bias.rms == pytest.approx(0.1)
    assert ops["residual2.residual1"].skip == ops["residual2"].skip == net.index("bias1")
    assert ops["globalavgpool1"].window[:2] == (1, 4)
    assert ops["flatten1"].outputs == (1, 1, 6)
    assert ops["scale1"].factor == -3.0
    assert [name for name, op in ops.items() if not op.homogeneous] == [
        *("conv1", "residual1.batchnorm1", "residual2.residual1.rmsnorm1"),
        *("layernorm1", "elementwise1"),
    ]
    assert net.given.keys() == {1}
    assert np.array_equal(net.given[1], np.arange(4.0))
    assert net.parameter_names[6] == "residual1.dropout1.mask"
    assert len(net.parameter_names) == 2 * len(net.steps)


def test_padding_of_the_core():
    (op,) = operations((7, 10, 1), vp.Conv2d(1, (4, 5), (2, 3)))
    # 7 rows at stride 2: 4 places, 6 + 4 - 7 = 3 zeros, 1 before; 10 columns: 4, 9 + 5 - 10 = 4.
    assert op.outputs == (4, 4, 1)
    assert op.window == (4, 5, 2, 3, 1, 2)
    (op,) = operations((7, 10, 2), vp.Conv2d(4, 3, padding=2, groups=2))
    assert (op.window, op.groups) == ((3, 3, 1, 1, 2, 2), 2)
