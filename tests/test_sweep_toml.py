"""Sweeps in TOML: grids, networks with a point's values in them, errors that name the key."""

import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import varprop as vp
from varprop._sweep.template import Template

DOCS = Path(__file__).parents[1] / "docs" / "sweeps.md"

CHAIN = """\
[grid]
sigma_w = [0.5, 1.5]
[network]
width = 30
depth = 4
"""


def law(sigma_w, fan_in):
    return f"normal(std={sigma_w / math.sqrt(fan_in)!r})"


def draws(net):
    """Return what is drawn of a network: shapes, laws and their scales, activations."""
    return [
        (step.name, shape, str(step.layer.activation), weight.distribution, weight.std, bias.std)
        for step, shape, op in zip(net.steps, net.shapes, net.operations, strict=True)
        for weight, bias in [(op.weight.draw, op.bias.draw)]
    ]


# --- the network of mean field theory -----------------------------------------------------------


def test_mean_field_mlp():
    net = vp.mean_field_mlp(64, 3, "erf", 1.5, 0.2, inputs=16)
    biases = "normal(std=0.2)"
    byhand = [vp.Dense(64, "erf", law(1.5, 16), biases)]
    byhand += [vp.Dense(64, "erf", law(1.5, 64), biases)] * 2
    assert draws(net) == draws(vp.Network(16, byhand))
    plain = vp.mean_field_mlp(64, 2)
    assert draws(plain) == draws(vp.mlp([64] * 3, "tanh", law(1, 64), "normal(std=0)"))


def test_mean_field_mlp_has_the_second_moments_of_theory():
    net = vp.mean_field_mlp(500, 3, "linear", 1.5, 0.3)
    inputs = np.random.default_rng(0).choice([-1.0, 1.0], (4, 500))  # of mean square 1
    found = vp.simulate(net, inputs, trials=40, seed=3).preactivations.second_moment
    expected = [1.0]
    for _ in range(3):
        expected.append(1.5**2 * expected[-1] + 0.3**2)
    # Each mean is over 40 x 500 units: a relative standard error of 1% a layer; so 5 of them.
    assert found == pytest.approx(expected[1:], rel=0.08)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width must be an integer >= 1, got 0"),
        ({"depth": 2.5}, "depth must be an integer, got 2.5"),
        ({"sigma_w": -1}, "sigma_w must be a finite number >= 0, got -1"),
        ({"sigma_b": "x"}, "sigma_b must be a number, got 'x'"),
        ({"activation": "tanhh"}, "unknown activation 'tanhh': did you mean 'tanh'"),
        ({"inputs": 0}, "inputs must be an integer >= 1, got 0"),
    ],
)
def test_errors_of_mean_field_mlp(arguments, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        vp.mean_field_mlp(**{"width": 5, "depth": 2} | arguments)


# --- grids --------------------------------------------------------------------------------------


def axis(text):
    return Template(CHAIN.replace("[0.5, 1.5]", text)).grid["sigma_w"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[3, 1, 2.5]", [3, 1, 2.5]),
        ("{start = 0.5, stop = 3.0, count = 40}", np.linspace(0.5, 3.0, 40).tolist()),
        ("{start = 1, stop = 0.0, count = 3}", [1.0, 0.5, 0.0]),
        ("{start = 10, stop = 100, count = 4}", [10, 40, 70, 100]),
        ("{start = 16, stop = 1024, count = 7, log = true}", [16, 32, 64, 128, 256, 512, 1024]),
        ("{start = 1, stop = 2, count = 3}", [1.0, 1.5, 2.0]),
        ("{start = 16.0, stop = 64.0, count = 3, log = true}", [16.0, 32.0, 64.0]),
        ("{start = -1, stop = 1, count = 3, log = false}", [-1, 0, 1]),
    ],
)
def test_values_of_a_grid(text, values):
    found = axis(text)
    assert found == pytest.approx(values, rel=1e-15)
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "grid['sigma_w'] must have at least one value"),
        ("[1.0, 1]", "grid['sigma_w'] must have each value once, got 1.0 again"),
        ("[nan]", "grid['sigma_w'][0] must be finite"),
        ("[1, [2]]", "grid.sigma_w[1] must be a number or a text, got [2]"),
        ("[1979-05-27]", "grid.sigma_w[0] must be a number or a text"),
        ("1.5", "grid.sigma_w must be a list of values, or a range such as {start = 0.5,"),
        ("{start = 1, stop = 2}", "grid.sigma_w.count is missing"),
        ("{start = 1, stop = 2, num = 3}", "unknown key of grid.sigma_w 'num'"),
        ("{start = 1, stop = 2, count = 1}", "grid.sigma_w.count must be an integer >= 2"),
        ("{start = 1, stop = 2, count = 9999999}", "grid.sigma_w.count must be at most 1000000"),
        ("{start = 1, stop = 2, count = 2.5}", "grid.sigma_w.count must be an integer"),
        ("{start = 1, stop = inf, count = 3}", "grid.sigma_w.stop must be a finite number"),
        ("{start = '1', stop = 2, count = 3}", "grid.sigma_w.start must be a number, got '1'"),
        ("{start = 0, stop = 2, count = 3, log = true}", "start and stop above 0"),
        ("{start = 1, stop = 2, count = 3, log = 1}", "grid.sigma_w.log must be True or False"),
        ("{start = 1, stop = 1, count = 3}", "grid['sigma_w'] must have each value once"),
        ("{start = -1e308, stop = 1e308, count = 3}", "grid['sigma_w'][0] must be finite"),
    ],
)
def test_errors_of_a_grid(text, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        axis(text)


# --- chains -------------------------------------------------------------------------------------


def test_a_chain_is_the_network_of_mean_field_theory():
    template = Template(CHAIN)
    assert template.grid == {"sigma_w": [0.5, 1.5]}
    assert template.settings == {}
    assert template(sigma_w=1.5) == vp.mean_field_mlp(30, 4, "tanh", 1.5)


def test_the_grid_stands_for_what_the_chain_says():
    template = Template("""
        inputs = 7
        quantities = "var"
        [grid]
        width = [3, 5]
        depth = [2, 1]
        activation = ["relu", "leaky_relu(slope=0.2)"]
        sigma_b = [0.1]
        weight = ["he_normal", "orthogonal"]
        [network]
        inputs = 4
        width = 99
        activation = "tanh"
    """)
    assert template.settings == {"inputs": 7, "quantities": "var"}
    point = {"width": 5, "depth": 2, "activation": "relu", "sigma_b": 0.1, "weight": "he_normal"}
    assert template(**point) == vp.mlp([4, 5, 5], "relu", "he_normal", "normal(std=0.1)")


def test_a_chain_of_any_laws():
    template = Template("""
        grid.gain = [0.30000000000000004]
        network = {width = 3, depth = 1, weight = "xavier_normal(gain={gain})", bias = "none"}
    """)
    assert template(gain=0.1 + 0.2) == vp.mlp([3, 3], "tanh", f"xavier_normal({0.1 + 0.2})", None)


# --- any networks -------------------------------------------------------------------------------

LAYERS = """\
trials = 3
seed = 5
backward = true
errors = "record"

[grid]
width = [4, 6]
blocks = [1, 3]
scale = [0.1, 0.30000000000000004]
activation = ["relu", "tanh"]

[network]
inputs = [8, 8, 3]

[[network.layers]]
kind = "conv"
name = "stem_{width}"
channels = "{width}"
kernel = [3, 3]
activation = "{activation}"
weight = "normal(std={scale}, mean=0)"

[[network.layers]]
kind = "residual"
name = "block"
repeat = "{blocks}"
branch_scale = "{scale}"

[[network.layers.layers]]
kind = "layernorm"

[[network.layers.layers]]
kind = "conv"
repeat = 2
channels = "{width}"
kernel = 1

[[network.layers]]
kind = "flatten"

[[network.layers]]
width = 5
repeat = 2
"""


def residual(width, scale, name):
    layers = [vp.LayerNorm(), vp.Conv2d(width, 1), vp.Conv2d(width, 1)]
    return vp.Residual(layers, scale, name=name)


def test_any_network():
    template = Template(LAYERS)
    assert template.settings == {"trials": 3, "seed": 5, "backward": True, "errors": "record"}
    found = template(width=6, blocks=3, scale=0.1 + 0.2, activation="relu")
    weight = vp.Normal(0.1 + 0.2, 0)
    stem = vp.Conv2d(6, 3, activation="relu", weight=weight, name="stem_6")
    blocks = [residual(6, 0.1 + 0.2, f"block{i}") for i in (1, 2, 3)]
    assert found == vp.Network((8, 8, 3), [stem, *blocks, vp.Flatten(), vp.Dense(5), vp.Dense(5)])
    assert found.layer_names[-2:] == ("dense1", "dense2")
    assert len(template(width=4, blocks=1, scale=0.1, activation="tanh").layers) == 5


def test_layers_that_are_repeated_no_time():
    text = "grid.depth = [0, 2]\n[network]\ninputs = 4\n[[network.layers]]\n"
    text += 'width = 4\nrepeat = "{depth}"\n[[network.layers]]\nwidth = 2\n'
    assert Template(text)(depth=0) == vp.Network(4, [vp.Dense(2)])
    assert Template(text)(depth=2) == vp.Network(4, [vp.Dense(4), vp.Dense(4), vp.Dense(2)])


def test_it_travels():
    template = Template(LAYERS)
    copy = pickle.loads(pickle.dumps(template))
    point = {"width": 6, "blocks": 2, "scale": 0.1, "activation": "tanh"}
    assert copy(**point) == template(**point)
    assert copy.grid == template.grid
    assert str(copy) == LAYERS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials", "trails", "unknown key 'trails': did you mean 'trials'?"),
        ("[grid]", "[gird]", "unknown key 'gird': did you mean 'grid'?"),
        ("[network]", "[grid.a]\n[net]", "unknown key 'net': did you mean 'network'?"),
        ("[grid]", "[grid]\nnetwork = 3", "grid.network must be a list of values"),
        ('"{width}"\nkernel = 1', '"{widht}"\nkernel = 1', "'widht': did you mean 'width'?"),
        ('"stem_{width}"', '"stem_{}"', "name of the grid in network.layers[0].name ''"),
        ('"{activation}"', '"relu"', 'grid.activation is not used: network must have a "{activ'),
        ("inputs = [8, 8, 3]", "", "network.inputs is missing"),
        ("inputs = [8, 8, 3]", "input = 4", "unknown key of network 'input'"),
        ("scale = [", "layer = [", "grid must not have the name 'layer'"),
        ("scale = [", "'a b' = [", "grid must have names that an argument can have, got 'a b'"),
        ("[grid]", "grid = 5\n[other]", "unknown key 'other'"),
    ],
)
def test_errors_before_a_point_is_chosen(old, new, message):
    assert old in LAYERS
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        Template(LAYERS.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "sigma_w",
            "sigmaw",
            "unknown argument of network in grid 'sigmaw': did you mean 'sigma_w'",
        ),
        ("depth = 4", "", "network.depth is missing"),
        ("depth = 4", "deep = 4", "unknown key of network 'deep': did you mean 'depth'?"),
        (
            "depth = 4",
            'depth = 4\nweight = "zeros"',
            "network must have sigma_w or weight, not both",
        ),
        ("depth = 4", 'depth = 4\nsigma_b = 0\nbias = "ones"', "must have sigma_b or bias"),
        ("[network]", "[grid2]", "unknown key 'grid2': did you mean 'grid'?"),
        ("[network]\nwidth = 30\ndepth = 4\n", "", "network is missing"),
    ],
)
def test_errors_of_a_chain(old, new, message):
    assert old in CHAIN
    with pytest.raises(ValueError, match=re.escape(message)):
        Template(CHAIN.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"{blocks}"', -1, "network.layers[1].repeat must be an integer >= 0, got -1"),
        ('"{blocks}"', '"{scale}"', "network.layers[1].repeat must be an integer, got 0.1"),
        ("kernel = 1\n", "kernel = 0\n", "network.layers[1].layers[1].kernel must be an integer"),
        ('"{activation}"', '"{activation}u"', "unknown network.layers[0].activation 'reluu'"),
        ('"{activation}"', '"{width}"', "network.layers[0].activation must be a string"),
        ("[8, 8, 3]", "[8, 8]", "network: inputs must be an integer or (height"),
        ('kind = "flatten"', 'kind = "globalavgpool"\nrepeat = 2', "network: layer 'globalavgpool"),
        ("width = 5", "widht = 5", "unknown key of network.layers[3] 'widht'"),
        ("repeat = 2\nchannels", "layers = 5\nchannels", "unknown key of network.layers[1].layers"),
    ],
)
def test_errors_of_a_point(old, new, message):
    assert old in LAYERS
    text = LAYERS.replace(old, str(new))
    used = "width", "blocks", "scale", "activation"
    text += "".join(f'# "{{{name}}}"\n' for name in used)
    point = {"width": 4, "blocks": 2, "scale": 0.1, "activation": "relu"}
    extra = [name for name in used if f"{{{name}}}" not in text.partition("# ")[0]]
    for name in extra:  # which would be an error of its own
        text = re.sub(rf"(?m)^{name} = .*\n", "", text, count=1)
        del point[name]
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        Template(text)(**point)


def test_networks_that_no_memory_holds():
    text = LAYERS.replace("repeat = 2", "repeat = 1000")
    with pytest.raises(MemoryError, match=r"network\.layers.*: a network of \d+ layers needs"):
        Template(text.replace('"{blocks}"', "1000000000").replace("blocks = [1, 3]", ""))(
            width=4, scale=0.1, activation="relu"
        )
    with pytest.raises(MemoryError, match="a network of 2000000000 layers needs about"):
        Template(CHAIN.replace("depth = 4", "depth = 2000000000"))(sigma_w=1.0)


# --- files --------------------------------------------------------------------------------------


def test_files(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_bytes(b"\xef\xbb\xbf" + CHAIN.replace("\n", "\r\n").encode())
    assert Template.load(path)(sigma_w=0.5) == vp.mean_field_mlp(30, 4, sigma_w=0.5)


def test_inputs_of_a_file_beside_it(tmp_path):
    rows = np.random.default_rng(0).normal(size=(4, 30))
    np.save(tmp_path / "rows.npy", rows)
    path = tmp_path / "sweep.toml"
    path.write_text(f'inputs = "rows.npy"\n{CHAIN}')
    assert np.array_equal(Template.load(path).settings["inputs"], rows)
    path.write_text(f'inputs = "rows.txt"\n{CHAIN}')
    with pytest.raises(ValueError, match=r"inputs must end in \.npy, \.npz, \.csv, got "):
        Template.load(path)
    path.write_text(f'inputs = "none.csv"\n{CHAIN}')
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.csv"):
        Template.load(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[grid", "sweep.toml: "),
        (b"# \xff", "sweep.toml: 'utf-8' codec"),
        (b"#" * 10_000_001, "sweep.toml: a file must have at most 10000000 bytes"),
        (b"grid = " + b"[" * 100_000, "sweep.toml: brackets are nested too deep"),
        (b"[[network" + b".layers" * 5000 + b"]]\n[grid]\na = [1]", "nested"),
        (CHAIN.replace("width", "widht").encode(), "sweep.toml: unknown key of network 'widht'"),
    ],
)
def test_errors_of_files(tmp_path, data, message):
    path = tmp_path / "sweep.toml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Template.load(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL))
def test_the_files_in_the_docs(text):
    template = Template(text)
    first = {name: values[0] for name, values in template.grid.items()}
    last = {name: values[-1] for name, values in template.grid.items()}
    assert template(**first) != template(**last)
