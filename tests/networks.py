"""Networks that have every kind of layer between them, for tests of one subject or another."""

from __future__ import annotations

import numpy as np

import varprop as vp
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
    "branch of zeros": (
        20,
        [
            dense(30, "relu"),
            vp.Residual([vp.LayerNorm(), dense(30), vp.Dense(30, weight="zeros")]),
            vp.Residual([dense(30), vp.Residual([dense(30), vp.Scale(1e-30)], 0.0)]),
            dense(5),
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
    "channels first": (
        (5, 7, 20),
        [
            conv(3, 3),
            vp.Sequential([conv(6, 3, padding=(0, 1)), vp.Flatten(channels_first=True)]),
            vp.Sequential([vp.Sequential([dense(70)]), vp.Residual([vp.Sequential([dense(70)])])]),
        ],
    ),
    "flat images": ((9, 8, 3), [vp.Flatten(channels_first=True), vp.LayerNorm(), dense(5)]),
    "elementwise": (
        (4, 4, 3),
        [dense(6), vp.Elementwise(cube), conv(2, 3), vp.Flatten(), vp.Elementwise(np.sin, np.cos)],
    ),
}


def network(name: str) -> vp.Network:
    inputs, layers = NETWORKS[name]
    return vp.Network(inputs, layers)


def flat(run: vp.Run) -> list[bytes]:
    """Return the bits of all that was observed."""
    return [
        np.ascontiguousarray(values).tobytes()
        for observed in run.observed.values()
        for _, values in sorted(observed.items())
    ]
