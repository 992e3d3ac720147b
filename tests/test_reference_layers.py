"""The reference's layers by their definitions, by central differences, and in simulations."""

import math

import numpy as np
import pytest

import varprop as vp
from varprop import reference

# --- definitions --------------------------------------------------------------------------------


def convolved_in_loops(x, w, layer):
    """Return the convolution of one image by its definition, number by number."""
    height, width, _ = x.shape
    kernel_height, kernel_width, depth, channels = w.shape
    places = layer.output_shape(x.shape)
    window = layer.window(x.shape)
    y = np.zeros(places)
    for row, column, out in np.ndindex(*places):
        first = out // (channels // layer.groups) * depth  # of the channels in of its group
        for i, j, c in np.ndindex(kernel_height, kernel_width, depth):
            r = row * layer.stride[0] + i - window.top
            q = column * layer.stride[1] + j - window.left
            if 0 <= r < height and 0 <= q < width:
                y[row, column, out] += x[r, q, first + c] * w[i, j, c, out]
    return y


@pytest.mark.parametrize(
    "layer",
    [
        vp.Conv2d(4, 3),
        vp.Conv2d(4, (2, 3), padding="valid"),
        vp.Conv2d(4, (3, 4), stride=(2, 3)),
        vp.Conv2d(4, 5, stride=2, padding=2, groups=2),
        vp.Conv2d(4, 1, stride=4, padding=1, groups=4),
    ],
    ids=str,
)
def test_convolution_by_its_definition(layer):
    net = vp.Network((6, 7, 4), [layer])
    (made,) = reference.chain(net, 3, dtype="float64")
    for x, y in zip(made.inputs, made.preactivations, strict=True):
        np.testing.assert_allclose(y, convolved_in_loops(x, made.weights, layer), atol=1e-13)


def test_a_kernel_of_the_images_size_is_a_dense_layer():
    w = np.random.default_rng(0).normal(size=(4, 5, 3, 6))
    images = np.random.default_rng(1).normal(size=(2, 4, 5, 3))
    conv = vp.Network((4, 5, 3), [vp.Conv2d(6, (4, 5), padding="valid", weight=w)])
    dense = vp.Network((4, 5, 3), [vp.Flatten(), vp.Dense(6, weight=w.reshape(60, 6))])
    (one,) = reference.chain(conv, images)
    *_, other = reference.chain(dense, images)
    np.testing.assert_allclose(one.activations.reshape(2, 6), other.activations, rtol=1e-12)


def test_delta_orthogonal_convolutions_keep_every_size():
    # An orthogonal matrix at the centre: the sum of squares of every position stays (Xiao 2018).
    net = vp.Network((5, 4, 6), [vp.Conv2d(6, 3, weight="delta_orthogonal") for _ in range(20)])
    *_, last = reference.chain(net, 2)
    (first, *_) = reference.chain(net, 2)
    sizes = [np.linalg.norm(x, axis=-1) for x in (first.inputs, last.activations)]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=1e-12)


def test_means_over_windows():
    x = np.arange(48.0).reshape(1, 4, 6, 2)
    (made,) = reference.chain(vp.Network((4, 6, 2), [vp.AvgPool2d((2, 3), (1, 3))]), x)
    expected = [[[x[0, r : r + 2, c : c + 3].mean((0, 1)) for c in (0, 3)] for r in range(3)]]
    np.testing.assert_allclose(made.activations, expected, rtol=1e-15)
    (made,) = reference.chain(vp.Network((4, 6, 2), [vp.GlobalAvgPool()]), x)
    assert made.activations.tolist() == [[23.0, 24.0]]


def test_flatten_is_in_the_order_height_width_channels():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    (made,) = reference.chain(vp.Network((2, 3, 4), [vp.Flatten()]), x)
    assert made.activations.tolist() == [list(range(24))]
    net = vp.Network((2, 3, 4), [vp.Flatten(channels_first=True)])
    (made,) = reference.chain(net, x)
    assert made.activations.tolist() == [[4 * p + c for c in range(4) for p in range(6)]]


@pytest.mark.parametrize("shape", [(8,), (4, 3, 8)])
def test_what_normalizations_leave(shape):
    layers = [vp.LayerNorm(0), vp.RMSNorm(0), vp.BatchNorm(0)]
    images = 3 + 2 * np.random.default_rng(0).normal(size=(50, *shape))
    made = [next(reference.chain(vp.Network(shape_of(shape), [x]), images)) for x in layers]
    layer, rms, batch = (one.activations for one in made)
    np.testing.assert_allclose(layer.mean(-1), 0, atol=1e-14)
    np.testing.assert_allclose(layer.var(-1), 1, rtol=1e-13)
    np.testing.assert_allclose((rms**2).mean(-1), 1, rtol=1e-13)
    every = tuple(range(len(shape)))
    np.testing.assert_allclose(batch.mean(every), 0, atol=1e-13)
    np.testing.assert_allclose(batch.var(every), 1, rtol=1e-13)
    for one in made:
        assert one.preactivations is one.inputs
        assert one.weights is None


def shape_of(shape):
    return shape if len(shape) == 3 else shape[0]


def test_eps_is_added_to_the_variance():
    (made,) = reference.chain(vp.Network(2, [vp.LayerNorm(eps=3.0)]), [[1.0, 3.0]])
    assert made.activations.tolist() == [[-0.5, 0.5]]
    (made,) = reference.chain(vp.Network(2, [vp.RMSNorm(eps=4.0)]), [[4.0, -4.0]])
    np.testing.assert_allclose(made.activations, [[4 / 20**0.5, -4 / 20**0.5]], rtol=1e-15)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.9])
def test_dropout_keeps_its_share(rate):
    # A binomial share of 200_000: 5 standard deviations, improbable to 6e-7.
    net = vp.Network((10, 20, 10), [vp.Dropout(rate)])
    (made,) = reference.chain(net, 100, seed=4)
    kept = made.activations != 0
    assert abs(kept.mean() - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / kept.size)
    np.testing.assert_allclose(made.activations[kept], made.inputs[kept] / (1 - rate), rtol=1e-15)
    (other,) = reference.chain(net, 100, seed=4, trial=1)
    assert rate == 0 or not np.array_equal(other.activations != 0, kept)


def test_residuals_add_their_skips():
    layers = [vp.Residual([vp.Scale(2.0), vp.Residual([vp.Scale(3.0)], skip_scale=5.0)], 7.0, 11.0)]
    net = vp.Network(1, layers)
    made = dict(zip(net.layer_names, reference.chain(net, [[1.0]]), strict=True))
    assert {name: layer.activations.item() for name, layer in made.items()} == {
        "residual1.scale1": 2,
        "residual1.residual1.scale1": 6,
        "residual1.residual1": 5 * 2 + 6,
        "residual1": 11 + 7 * 16,
    }
    assert made["residual1"].inputs.item() == 16
    back = dict(zip(net.layer_names[::-1], reference.backward(net, [[1.0]]), strict=True))
    one = reference.cotangent(net, 1).item()
    by = {name: (g.preactivations.item() / one, g.inputs.item() / one) for name, g in back.items()}
    expected = {
        "residual1": (1, 7),
        "residual1.residual1": (7, 7),
        "residual1.residual1.scale1": (7, 7 * 3 + 7 * 5),
        "residual1.scale1": (56, 11 + 2 * 56),
    }
    for name, (before, entered) in expected.items():
        assert by[name] == pytest.approx((before, entered), rel=1e-14)


# --- central differences ------------------------------------------------------------------------


def cube(x):
    return x**3 / (1 + x**2)


CASES = {
    "dense": (4, lambda w, b: vp.Dense(3, "tanh", w, b), (4, 3), (3,)),
    "dense on an image": ((2, 3, 4), lambda w, b: vp.Dense(3, "tanh", w, b), (4, 3), (3,)),
    "conv": (
        (4, 3, 2),
        lambda w, b: vp.Conv2d(4, (3, 2), (2, 1), "same", "tanh", w, b, groups=2),
        (3, 2, 1, 4),
        (4,),
    ),
    "bias": ((2, 2, 3), lambda _, b: vp.Bias(b), None, (3,)),
    "scale": (3, lambda _, __: vp.Scale(-2.5), None, None),
    "activation": (3, lambda _, __: vp.Activation("mish"), None, None),
    "residual": (
        3,
        lambda w, b: vp.Residual([vp.LayerNorm(), vp.Dense(3, "tanh", w, b)], 0.5, 0.7),
        (3, 3),
        (3,),
    ),
    "layernorm": (4, lambda _, __: vp.LayerNorm(0.1), None, None),
    "rmsnorm": ((2, 2, 3), lambda _, __: vp.RMSNorm(0.1), None, None),
    "batchnorm": ((2, 2, 3), lambda _, __: vp.BatchNorm(0.1), None, None),
    "avgpool": ((3, 4, 2), lambda _, __: vp.AvgPool2d(2, 1), None, None),
    "globalavgpool": ((3, 4, 2), lambda _, __: vp.GlobalAvgPool(), None, None),
    "flatten": ((3, 2, 2), lambda _, __: vp.Flatten(), None, None),
    "flatten, channels first": (
        (3, 2, 2),
        lambda _, __: vp.Flatten(channels_first=True),
        None,
        None,
    ),
    "sequential": (
        3,
        lambda w, b: vp.Sequential([vp.Sequential([vp.Dense(3, "tanh", w, b)]), vp.Scale(0.5)]),
        (3, 3),
        (3,),
    ),
    "dropout": ((3, 2, 2), lambda _, __: vp.Dropout(0.3), None, None),
    "elementwise": (3, lambda _, __: vp.Elementwise(cube), None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_central_differences(case):
    shape, build, *shapes = CASES[case]
    rng = np.random.default_rng(2)
    size = shape if isinstance(shape, tuple) else (shape,)
    arrays = {"inputs": rng.normal(size=(3, *size))}
    arrays |= {
        part: rng.normal(size=tensor)
        for part, tensor in zip(("weights", "bias"), shapes, strict=True)
        if tensor is not None
    }

    def network(arrays):  # and a tanh behind: gradients that are not the cotangent itself
        layer = build(arrays.get("weights"), arrays.get("bias"))
        return vp.Network(shape, [layer, vp.Activation("tanh")])

    net = network(arrays)
    cotangent = reference.cotangent(net, 3)

    def cost(arrays):
        *_, last = reference.chain(network(arrays), arrays["inputs"])
        return np.sum(last.activations * cotangent)

    layers = list(reference.backward(net, arrays["inputs"]))
    found = {"inputs": layers[-1].inputs}
    for layer in layers:  # of the branch of a residual, those of its dense layer
        found |= {
            part: getattr(layer, part)
            for part in ("weights", "bias")
            if getattr(layer, part) is not None
        }
    assert found.keys() == arrays.keys()
    step = 1e-5
    for name, gradient in found.items():
        assert gradient.shape == arrays[name].shape
        for where in np.ndindex(gradient.shape):
            sides = []
            for sign in (1, -1):
                moved = arrays[name].copy()
                moved[where] += sign * step
                sides.append(cost({**arrays, name: moved}))
            # The step's square and the rounding of the cost over the step: 1e-9 at most.
            exact = (sides[0] - sides[1]) / (2 * step)
            assert gradient[where] == pytest.approx(exact, rel=1e-7, abs=1e-8), (name, where)


@pytest.mark.parametrize("x", [0.0, 1e-3, 0.7, -30.0, 1e5])
def test_slopes_by_differences(x):
    exact = (x**4 + 3 * x**2) / (1 + x**2) ** 2
    assert vp.Elementwise(cube).slope([x]).item() == pytest.approx(exact, rel=1e-8, abs=1e-9)
    assert vp.Elementwise(cube, np.cos).slope([x]).item() == math.cos(x)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (vp.Elementwise(lambda x: x[0]), r"function must return shape \(2, 3\), got \(3,\)"),
        (vp.Elementwise(lambda x: x.sum()), r"function must return shape \(2, 3\), got \(\)"),
        (vp.Elementwise(lambda x: np.where(x > 1, np.nan, x)), "got nan of 4.0"),
        (vp.Elementwise(lambda x: x * 1j), "function must return real numbers, got dtype complex"),
        (vp.Elementwise(lambda _: ["a"]), "function must return real numbers, got dtype <U1"),
        (vp.Elementwise(np.sin, lambda x: x.T), r"derivative must return shape \(2, 3\)"),
        (vp.Elementwise(np.sin, lambda x: x * np.nan), "derivative must return numbers, got nan"),
    ],
)
def test_functions_that_do_not_fit(layer, message):
    net = vp.Network(3, [vp.Residual([layer])])
    data = [[4.0, 0.5, 0.0], [-1.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match=r"layer 'residual1\.elementwise1': .*" + message):
        list(reference.backward(net, data))


def test_functions_may_write_into_what_they_get():
    def negated(x):
        x *= -1
        return x

    (made,) = reference.chain(vp.Network(2, [vp.Elementwise(negated)]), [[1.0, 2.0]])
    assert made.inputs.tolist() == [[1, 2]]
    assert made.activations.tolist() == [[-1, -2]]


# --- simulations --------------------------------------------------------------------------------


def mixed():
    return vp.Network(
        (6, 5, 3),
        [
            vp.Conv2d(4, 3, activation="relu", bias="normal"),
            vp.Residual([vp.BatchNorm(), vp.Conv2d(4, 3, bias=None), vp.Dropout(0.5)]),
            vp.Bias("normal"),
            vp.Activation("relu6"),
            vp.Flatten(),
            vp.Dense(2, weight="he_normal"),
        ],
    )


def test_simulation_has_an_entry_of_every_layer():
    net, asked = mixed(), ("histogram", "correlation", "gradient_correlation", "saturation")
    run = reference.simulate(net, 7, trials=2, backward=True, statistics=asked, first_trial=1)
    assert net.layer_names == (
        *("conv1", "residual1.batchnorm1", "residual1.conv1", "residual1.dropout1", "residual1"),
        *("bias1", "activation1", "flatten1", "dense1"),
    )
    assert run["activations"]["count"].tolist() == [7 * 120] * 8 + [14]
    assert run["weight_gradients"]["count"].tolist() == [108, 144, 240]
    assert run["bias_gradients"]["count"].tolist() == [4, 4, 4, 2]
    assert run["input_gradients"]["count"].tolist() == [7 * 90]
    for row, trial in enumerate((1, 2)):
        made = list(reference.chain(net, 7, trial=trial))
        back = list(reference.backward(net, 7, trial=trial))[::-1]
        arrays = {
            "preactivations": [layer.preactivations for layer in made],
            "activations": [layer.activations for layer in made],
            "gradients": [layer.preactivations for layer in back],
            "weight_gradients": [back[i].weights for i in (0, 2, 8)],
            "bias_gradients": [back[i].bias for i in (0, 2, 5, 8)],
            "input_gradients": [back[0].inputs],
        }
        assert run.keys() == arrays.keys()
        for signal, expected in arrays.items():
            for i, array in enumerate(expected):
                assert run[signal]["mean"][row, i] == array.mean()
                assert run[signal]["histogram"][row, i].sum() == array.size
                if signal in ("preactivations", "activations", "gradients"):
                    flat = array.reshape(7, -1)
                    assert run[signal]["correlation"][row, i] == reference.correlation(flat)
        for i, step in enumerate(net.steps):
            phi = step.activation
            slopes = np.ones((7, 4)) if phi is None else phi.derivative(made[i].preactivations)
            found = {key: run["activations"][key][row, i] for key in reference.saturation(slopes)}
            assert found == reference.saturation(slopes)


def test_dead_units_of_an_image_are_channels():
    slopes = np.ones((2, 3, 3, 4))
    slopes[..., 1] = 0
    slopes[0, 0, 0, 2] = 0
    assert reference.saturation(slopes)["dead"] == 1 / 4


def test_networks_without_weights():
    net = vp.Network(5, [vp.Scale(2.0), vp.Activation("tanh")])
    run = reference.simulate(net, 3, trials=2, backward=True, statistics=("histogram",))
    assert run["weight_gradients"]["mean"].shape == (2, 0)
    assert run["bias_gradients"]["histogram"].shape == (2, 0, 515)
    assert run["bias_gradients"]["count"].shape == (0,)


def test_losses_that_do_not_fit():
    image = vp.Network((4, 4, 3), [vp.Conv2d(2, 3)])
    with pytest.raises(ValueError, match=r"needs outputs of shape \(width,\), got \(4, 4, 2\)"):
        next(reference.backward(image, 2, "softmax_cross_entropy"))
    with pytest.raises(ValueError, match="'bce' needs a sigmoid at the end, got 'scale1'"):
        next(reference.backward(vp.Network(3, [vp.Scale(1.0)]), 2, "bce"))
