"""Every kind of layer in the core: against the NumPy reference, and to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import varprop as vp
from varprop import _simulate, reference
from varprop.layers import Layer

STATISTICS = ("kurtosis", "histogram", "correlation", "saturation", "gradient_correlation")
BIAS = "normal(std=0.1)"


def dense(width: int, activation: str = "tanh") -> vp.Dense:
    return vp.Dense(width, activation, "glorot_uniform", BIAS)


def conv(channels: int, kernel: int | tuple[int, int], **options: object) -> vp.Conv2d:
    settings = {"activation": "tanh", "weight": "glorot_normal", "bias": BIAS, **options}
    return vp.Conv2d(channels, kernel, **settings)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.3, shape)


def cube(x: np.ndarray) -> np.ndarray:
    return x**3 + x


NETWORKS: dict[str, tuple[int | tuple[int, int, int], list[Layer]]] = {
    "pointwise": (20, [dense(30), vp.Scale(-0.5), vp.Activation("relu"), vp.Bias(BIAS), dense(7)]),
    "zero bias": (20, [dense(70), vp.Bias("zeros"), vp.Scale(0.0), dense(3)]),
    "residual": (20, [dense(30), vp.Residual([dense(16), dense(30, "linear")], 0.3, 0.9)]),
    "nested": (
        20,
        [
            vp.Residual([vp.LayerNorm(), dense(20), vp.Residual([vp.RMSNorm(), dense(20)])]),
            vp.Residual([vp.Residual([dense(20), dense(20)]), vp.Activation("relu")]),
            dense(3),
        ],
    ),
    "norms": (100, [vp.LayerNorm(), dense(70), vp.BatchNorm(), dense(70, "relu"), vp.RMSNorm()]),
    "dropout": (20, [dense(90), vp.Dropout(0.3), dense(4)]),
    "conv": (
        (7, 9, 3),
        [
            conv(70, 3, stride=2),
            conv(4, (2, 3), padding="valid"),
            conv(3, 3, padding=2, stride=(1, 2)),
        ],
    ),
    "narrow conv": (
        (7, 6, 17),
        [
            conv(40, 3),
            conv(1, 3),
            dense(16),
            conv(3, (2, 4), stride=(2, 1)),
            dense(40),
            conv(8, 3, padding=2, stride=(1, 2)),
            dense(17, "linear"),
            conv(1, (3, 2), padding="valid", bias=None),
        ],
    ),
    "narrow conv of given weights": (
        (5, 6, 16),
        [
            conv(3, (1, 3), weight=numbers(1, 3, 16, 3), bias=numbers(3)),
            dense(40, "relu"),
            conv(2, 2, weight="orthogonal", bias=numbers(2), stride=2),
            dense(16),
            conv(1, 1, padding=1, weight=numbers(1, 1, 16, 1)),
        ],
    ),
    "wide conv": (
        (5, 6, 3),
        [
            conv(200, 3),
            conv(3, 1, activation="linear"),
            conv(70, (2, 3), weight=numbers(2, 3, 3, 70), bias=numbers(70), stride=2),
        ],
    ),
    "depthwise": (
        (6, 5, 17),
        [
            conv(17, 3, groups=17, stride=(2, 1)),
            conv(17, (2, 4), groups=17, weight=numbers(2, 4, 1, 17), padding=2, stride=2),
            dense(70),
            conv(70, 3, groups=70, bias=None),
        ],
    ),
    "groups": (
        (6, 5, 8),
        [conv(12, 3, groups=4), conv(130, 3, groups=2), conv(130, 3, groups=130), conv(2, 1)],
    ),
    "pools": (
        (8, 8, 3),
        [conv(6, 3), vp.AvgPool2d(2), conv(6, 3), vp.AvgPool2d(3, 1), vp.GlobalAvgPool(), dense(5)],
    ),
    "image": (
        (8, 8, 3),
        [
            conv(6, 3),
            vp.BatchNorm(),
            vp.Residual([conv(6, 3), vp.LayerNorm(), conv(6, 3, activation="linear")], 0.5),
            vp.Dropout(0.2),
            dense(4),
            vp.Flatten(),
            dense(5),
        ],
    ),
    "elementwise": (
        (4, 4, 3),
        [dense(6), vp.Elementwise(cube), conv(2, 3), vp.Flatten(), vp.Elementwise(np.sin, np.cos)],
    ),
}


def network(name: str) -> vp.Network:
    inputs, layers = NETWORKS[name]
    return vp.Network(inputs, layers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_the_reference(name: str, dtype: str) -> None:
    net = network(name)
    options = {"trials": 2, "backward": True, "dtype": dtype, "statistics": STATISTICS, "seed": 5}
    run = vp.simulate(net, 10, **options)
    wanted = reference.simulate(net, 10, **options)
    # Elementwise without a derivative is a difference of float64's, in the reference too, at
    # numbers that differ in the last digit.
    tolerance = 2e-4 if dtype == "float32" else 1e-10
    for signal, observed in run.observed.items():
        expected = wanted[signal]
        size = np.sqrt(expected["variance"] + expected["mean"] ** 2)
        for key, power in (("mean", 1), ("variance", 2), ("m3", 3), ("m4", 4)):
            found = np.ldexp(observed[key], power * observed["exponent"])
            # m4 is that of the numbers around their mean, never far above their size.
            most = np.maximum(np.abs(expected[key]), size**power)
            error = np.abs(found - expected[key]) / np.where(most == 0, 1, most)
            assert np.max(error, initial=0) < tolerance, (signal, key)
        if "correlation" in observed:
            np.testing.assert_allclose(
                observed["correlation"], expected["correlation"], atol=tolerance, err_msg=signal
            )
    for share in ("zero_slope", "dead"):
        np.testing.assert_allclose(
            run.observed["activations"][share], wanted["activations"][share], atol=1e-12
        )


def flat(run: vp.Run) -> list[bytes]:
    return [
        np.ascontiguousarray(values).tobytes()
        for observed in run.observed.values()
        for values in observed.values()
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_and_what_is_kept_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(name)
    options = {"trials": 3, "backward": True, "statistics": STATISTICS}
    expected = flat(vp.simulate(net, 60, threads=1, **options))
    for threads in (2, 3):
        assert flat(vp.simulate(net, 60, threads=threads, **options)) == expected
    for kept in range(1, len(net.steps)):
        monkeypatch.setattr(
            _simulate, "_plan", lambda core, *_, kept=kept: (False, max(kept, core.fewest_kept))
        )
        assert flat(vp.simulate(net, 60, threads=2, **options)) == expected


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("layer", ["narrow", "wide", "depthwise"])
def test_images_given_as_arrays(layer: str, channels: int) -> None:
    """Their rows are next to each other, without room between or after them."""
    images = numbers(3, 4, 5, channels)
    width = {"narrow": 2, "wide": 70, "depthwise": channels}[layer]
    groups = channels if layer == "depthwise" else 1
    net = vp.Network(images.shape[1:], [conv(width, 3, groups=groups)])
    options = {"trials": 2, "backward": True, "dtype": "float64", "seed": 5}
    run = vp.simulate(net, images, **options)
    wanted = reference.simulate(net, images, **options)
    for signal in ("preactivations", "gradients", "weight_gradients", "input_gradients"):
        observed = run.observed[signal]
        for key, power in (("mean", 1), ("variance", 2)):
            found = np.ldexp(observed[key], power * observed["exponent"])
            np.testing.assert_allclose(found, wanted[signal][key], rtol=1e-9, atol=1e-12)


def test_functions_that_fail_are_named() -> None:
    net = vp.Network(5, [vp.Dense(4), vp.Elementwise(lambda x: x[:1])])
    with pytest.raises(ValueError, match=r"layer 'elementwise1': function must return shape"):
        vp.simulate(net, 3, trials=1)
    net = vp.Network(5, [vp.Elementwise(np.exp, np.log)])
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="derivative must return"):
        vp.simulate(net, 3, trials=1, backward=True)


def test_deep_residual_growth_does_not_overflow() -> None:
    """Without a norm the second moment doubles with every block: 2^2000 is no float."""
    blocks = [vp.Residual([vp.Dense(30, weight="lecun_normal")]) for _ in range(2000)]
    run = vp.simulate(vp.Network(30, blocks), 20, trials=2, backward=True)
    growth = np.diff(run.activations.log10_second_moment[1::2]).mean()
    assert abs(growth - np.log10(2)) < 0.02
    assert np.isfinite(run.gradients.log10_second_moment).all()
