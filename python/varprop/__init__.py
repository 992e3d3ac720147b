"""varprop tells whether a deep network's signal survives its own random initialization.

The public names; ``varprop.reference`` states the same computations in plain NumPy,
``varprop.theory`` says what infinitely wide networks do, and ``varprop.datasets`` draws images.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from varprop._compare import compare
from varprop._comparison import Comparison
from varprop._concat import concat
from varprop._config import show_config
from varprop._core import __version__
from varprop._files import load
from varprop._gain import recommended_gain
from varprop._gain_table import GainTable, gain_table
from varprop._jacobian import Jacobian, jacobian
from varprop._keys import STREAM_VERSION
from varprop._mean_field import mean_field_mlp
from varprop._moments import Moments
from varprop._rescale import rescale
from varprop._simulate import simulate
from varprop._sweep import PointError, open_sweep, sweep
from varprop._tune import TunedNetwork, TuneReport, tune
from varprop._weights import weights
from varprop.activations import ActivationFunction
from varprop.initializers import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    Identity,
    Law,
    Normal,
    Orthogonal,
    Scaled,
    Sparse,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    fans,
    gain,
)
from varprop.layers import (
    Activation,
    AvgPool2d,
    BatchNorm,
    Bias,
    Conv2d,
    Dense,
    Dropout,
    Elementwise,
    Flatten,
    GlobalAvgPool,
    Layer,
    LayerNorm,
    Residual,
    RMSNorm,
    Scale,
    Sequential,
)
from varprop.network import Network, mlp
from varprop.run import Run, UnhealthySignal, Verdict

if TYPE_CHECKING:
    from varprop import activations, datasets, initializers, reference, theory
    from varprop import jax as jax
    from varprop import keras as keras
    from varprop import torch as torch

__all__ = [
    "STREAM_VERSION",
    "Activation",
    "ActivationFunction",
    "AvgPool2d",
    "BatchNorm",
    "Bias",
    "Comparison",
    "Constant",
    "Conv2d",
    "DeltaOrthogonal",
    "Dense",
    "Dirac",
    "Dropout",
    "Elementwise",
    "Flatten",
    "GainTable",
    "GlobalAvgPool",
    "Identity",
    "Jacobian",
    "Law",
    "Layer",
    "LayerNorm",
    "Moments",
    "Network",
    "Normal",
    "Orthogonal",
    "PointError",
    "RMSNorm",
    "Residual",
    "Run",
    "Scale",
    "Scaled",
    "Sequential",
    "Sparse",
    "TruncatedNormal",
    "TuneReport",
    "TunedNetwork",
    "UnhealthySignal",
    "Uniform",
    "VarianceScaling",
    "Verdict",
    "__version__",
    "activations",
    "compare",
    "concat",
    "datasets",
    "fans",
    "gain",
    "gain_table",
    "initializers",
    "jacobian",
    "load",
    "mean_field_mlp",
    "mlp",
    "open_sweep",
    "recommended_gain",
    "reference",
    "rescale",
    "show_config",
    "simulate",
    "sweep",
    "theory",
    "tune",
    "weights",
]


def __getattr__(name: str) -> object:  # imported when asked for; the frameworks may be missing
    if name in ("datasets", "jax", "keras", "reference", "theory", "torch"):
        return import_module(f"varprop.{name}")
    raise AttributeError(f"module 'varprop' has no attribute {name!r}")
