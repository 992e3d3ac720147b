"""Networks in TOML: the same when read again, errors that name the key, on the command line."""

import numpy as np
import pytest
from typer.testing import CliRunner

import varprop as vp
from varprop.cli import app

TEXT = """\
inputs = [64, 96, 3]

[[layers]]
kind = "conv"
name = "stem"
channels = 20
kernel = [3, 3]
stride = [2, 2]
padding = "same"
activation = "relu"
weight = "he_normal"
bias = "none"
groups = 1

[[layers]]
kind = "residual"
branch_scale = 0.1
skip_scale = 1.0

[[layers.layers]]
kind = "layernorm"
eps = 1e-05

[[layers.layers]]
kind = "residual"
branch_scale = 1.0
skip_scale = 1.0

[[layers.layers.layers]]
kind = "dense"
width = 20
activation = "leaky_relu(slope=0.2)"
weight = "normal(std=0.1)"
bias = "zeros"

[[layers]]
kind = "globalavgpool"

[[layers]]
kind = "scale"
factor = 3.0
"""


def network():
    inner = vp.Residual([vp.Dense(20, "leaky_relu(0.2)", "normal(std=0.1)")])
    return vp.Network(
        (64, 96, 3),
        [
            vp.Conv2d(20, 3, 2, activation="relu", weight="he_normal", bias=None, name="stem"),
            vp.Residual([vp.LayerNorm(), inner], branch_scale=0.1),
            vp.GlobalAvgPool(),
            vp.Scale(3),
        ],
    )


def read(tmp_path, text):
    path = tmp_path / "net.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return vp.Network.from_toml(path)


def test_what_is_written(tmp_path):
    net = network()
    assert net.to_toml() == TEXT
    assert net.to_toml(tmp_path / "net.toml") == TEXT
    assert (tmp_path / "net.toml").read_text() == TEXT
    assert vp.Network.from_toml(str(tmp_path / "net.toml")) == net
    assert [path.name for path in tmp_path.iterdir()] == ["net.toml"]


def test_every_kind_is_read_again(tmp_path):
    layers = [
        vp.Conv2d(4, (3, 2), (2, 1), 1, "celu(alpha=2.0)", "variance_scaling(3)", "ones", 2),
        vp.Sequential([vp.Conv2d(4, 1, padding=(0, 2)), vp.Sequential([vp.LayerNorm()])], "0"),
        vp.AvgPool2d((1, 2), 1),
        vp.BatchNorm(1e-12),
        vp.RMSNorm(0),
        vp.Flatten(),
        vp.Flatten(channels_first=True),
        vp.Dropout(1 / 3),
        vp.Bias("truncated_normal(low=-inf)"),
        vp.Activation("silu"),
        vp.Residual([vp.Scale(1e300)], -1e-300, 0),
        vp.Dense(7, weight="sparse(0.1)", name='"quoted\\" é \x7f\n 🦉'),
    ]
    net = vp.Network((5, 6, 4), layers)
    assert read(tmp_path, net.to_toml()) == net


def test_short_files(tmp_path):
    text = b"""\xef\xbb\xbf# a chain\r
inputs = 8\r
[[layers]]\r
width = 5 # of kind dense, as all without one\r
weight = 0.5\r
[[layers]]\r
kind = "bias"\r
law = [1, 2, 3.5, 4, 5]\r
"""
    expected = [vp.Dense(5, weight=0.5), vp.Bias(np.array([1, 2, 3.5, 4, 5]))]
    assert read(tmp_path, text) == vp.Network(8, expected)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (vp.Dense(2, weight=np.eye(2), name="first"), "layer 'first': weight is a given array"),
        (vp.Residual([vp.Bias(np.ones(2))]), r"layer 'residual1\.bias1': bias is a given array"),
        (vp.Elementwise(np.tanh), "layer 'elementwise1' holds a function"),
    ],
)
def test_what_cannot_be_written(tmp_path, layer, message):
    with pytest.raises(ValueError, match=message):
        vp.Network(2, [layer]).to_toml(tmp_path / "net.toml")
    assert not list(tmp_path.iterdir())


def layer(*lines):
    return "\n".join(('inputs = 8\n[[layers]]\nkind = "scale"\nfactor = 1\n[[layers]]', *lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            layer('kind = "dense"', "width = 0"),
            r"layers\[1\]\.width must be an integer >= 1, got 0",
        ),
        (layer("width = 2.5"), r"layers\[1\]\.width must be an integer, got 2.5"),
        (layer('width = "5"'), r"layers\[1\]\.width must be an integer, got '5'"),
        (layer("width = 99999999999999999999"), r"layers\[1\]\.width must be under 2\*\*31"),
        (layer("widht = 5"), r"unknown key of layers\[1\] 'widht': did you mean 'width'\?"),
        (layer('kind = "dense"'), r"layers\[1\]\.width is missing: a dense layer needs it"),
        (layer('kind = "dens"'), r"unknown layers\[1\]\.kind 'dens': did you mean 'dense'\?"),
        (layer("kind = 5"), r"unknown layers\[1\]\.kind 5"),
        (layer('kind = "elementwise"'), r"layers\[1\]\.kind must not be 'elementwise'"),
        (layer("width = 5", 'weight = "he_norml"'), r"unknown layers\[1\]\.weight 'he_norml'"),
        (layer("width = 5", "weight = true"), r"layers\[1\]\.weight must be a name"),
        (layer("width = 5", "weight = [[1, 2], [3]]"), r"layers\[1\]\.weight: "),
        (layer("width = 5", "weight = 1979-05-27"), r"layers\[1\]\.weight must be a name"),
        (layer("width = 5", 'activation = "rellu"'), r"unknown layers\[1\]\.activation 'rellu'"),
        (layer("width = 5", "activation = 5"), r"layers\[1\]\.activation must be a string"),
        (layer("width = 5", 'name = "a.b"'), r"layers\[1\]\.name must be a non-empty string"),
        (layer("width = 5", "name = 5"), r"layers\[1\]\.name must be a non-empty string"),
        (layer("width = 5", 'name = "scale1"'), "unique, got 'scale1'"),
        (layer("width = 5", 'bias = "he_normal"'), r"layers\[1\] \(dense1\): he_normal needs"),
        (layer('kind = "scale"', "factor = nan"), r"layers\[1\]\.factor must be a finite number"),
        (layer('kind = "dropout"', "rate = 1"), r"layers\[1\]\.rate must be .* under 1, got 1"),
        (
            layer('kind = "conv"', "channels = 3", "kernel = [1, 2, 3]"),
            r"layers\[1\]\.kernel must be an integer or a pair",
        ),
        (
            layer('kind = "conv"', "channels = 3", "kernel = [1, 0]"),
            r"layers\[1\]\.kernel\[1\] must be an integer >= 1, got 0",
        ),
        (
            layer('kind = "conv"', "channels = 3", "kernel = 1", "groups = 2"),
            r"layers\[1\]: groups must divide 3 channels out, got 2",
        ),
        (
            layer('kind = "conv"', "channels = 3", "kernel = 1"),
            r"layers\[1\] \(conv1\): needs an image",
        ),
        (layer('kind = "residual"'), r"layers\[1\]\.layers is missing"),
        (layer('kind = "residual"', "layers = 5"), r"layers\[1\]\.layers must be a list of layers"),
        (layer('kind = "residual"', "layers = []"), r"layers\[1\]: layers must not be empty"),
        (
            layer('kind = "residual"', "layers = [5]"),
            r"layers\[1\]\.layers\[0\] must be a table of kind and arguments, got 5",
        ),
        (
            layer('kind = "residual"', "[[layers.layers]]", "width = 0"),
            r"layers\[1\]\.layers\[0\]\.width must be",
        ),
        (
            layer('kind = "residual"', "[[layers.layers]]", "width = 5"),
            r"layers\[1\] \(residual1\): the branch must end .* 8, got 5",
        ),
        (
            layer('kind = "residual"', "[[layers.layers]]", "width = 8", 'weight = "dirac"'),
            r"layers\[1\]\.layers\[0\] \(residual1\.dense1\): dirac needs",
        ),
        ("inputs = 0\n[[layers]]\nwidth = 1", "inputs must be an integer >= 1, got 0"),
        ('inputs = "8"\n[[layers]]\nwidth = 1', "inputs must be an integer, got '8'"),
        ("inputs = [8, 8]\n[[layers]]\nwidth = 1", r"inputs must be .* got \[8, 8\]"),
        ("inputs = 8", "layers is missing"),
        ("[[layers]]\nwidth = 5", "inputs is missing"),
        ("inputs = 8\nlayers = []", "layers must not be empty"),
        ("inputs = 8\nlayers = 5", "layers must be a list of layers, got 5"),
        ("inputs = 8\n[layers]\nwidth = 5", "layers must be a list of layers"),
        ("input = 8\n[[layers]]\nwidth = 5", "unknown key 'input': did you mean 'inputs'"),
        ("inputs = ", "Invalid value"),
        (b"inputs = 8 # \xff", "utf-8"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, text)
    assert "net.toml" in str(caught.value)


def test_huge_files(tmp_path):
    with pytest.raises(ValueError, match="at most 10000000 bytes"):
        read(tmp_path, "inputs = 8 " + "#" * 10_000_000)
    with pytest.raises(ValueError, match=r"net\.toml: ") as caught:
        read(tmp_path, "inputs = " + "[" * 100_000)
    assert len(str(caught.value)) < 500


def test_nesting_is_limited(tmp_path):
    def nested(depth):
        text = "inputs = 8\n"
        for level in range(depth):
            text += f'[[layers{".layers" * level}]]\nkind = "residual"\n'
        return text + f'[[layers{".layers" * depth}]]\nkind = "flatten"\n'

    assert len(read(tmp_path, nested(20)).steps) == 21
    for depth in (21, 100):
        with pytest.raises(ValueError, match=r"(layers\[0\]\.){20}layers.* at most 20 deep"):
            read(tmp_path, nested(depth))


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        vp.Network.from_toml(tmp_path / "net.toml")
    with pytest.raises(FileNotFoundError, match="no such directory"):
        network().to_toml(tmp_path / "none" / "net.toml")


# --- on the command line ------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_dry_run_prints_the_summary(tmp_path):
    path = tmp_path / "net.toml"
    network().to_toml(path)
    found = run("simulate", path, "--dry-run", "--batch", 7)
    assert found.exit_code == 0, found.output
    assert str(network().summary(7)) in found.stdout
    found = run("simulate", "--dry-run", "--sizes", "5,4")
    assert str(vp.mlp([5, 4]).summary(100)) in found.stdout


def test_images_from_a_file(tmp_path):
    network().to_toml(tmp_path / "net.toml")
    np.save(tmp_path / "images.npy", np.zeros((3, 64, 96, 3)))
    images = ("--input", tmp_path / "images.npy")
    found = run("simulate", tmp_path / "net.toml", "--dry-run", *images)
    assert str(network().summary(3)) in found.stdout
    found = run("simulate", "--dry-run", *images)
    assert found.exit_code == 2
    assert "give a NET.TOML" in found.output


@pytest.mark.parametrize(
    "option", [("--depth", 5), ("--weight", "lecun_normal"), ("--last", "relu")]
)
def test_a_file_or_options(tmp_path, option):
    network().to_toml(tmp_path / "net.toml")
    found = run("simulate", tmp_path / "net.toml", *option, "--dry-run")
    assert found.exit_code == 2
    assert f"give a file or {option[0]}, not both" in found.output


def test_errors_are_one_line(tmp_path):
    (tmp_path / "net.toml").write_text("inputs = 8\n[[layers]]\nwidth = 0\n")
    found = run("simulate", tmp_path / "net.toml", "--dry-run")
    assert found.exit_code == 1
    assert "layers[0].width must be an integer >= 1, got 0" in found.output
    assert len(found.output.splitlines()) == 1
