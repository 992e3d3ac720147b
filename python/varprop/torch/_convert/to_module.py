"""A network as a Sequential of PyTorch's modules, with the weights of one trial."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from varprop import _spec
from varprop._compile import Step
from varprop._layer import Layer
from varprop._weights import weights
from varprop.layers import (
    Activation,
    AvgPool2d,
    BatchNorm,
    Bias,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LayerNorm,
    Residual,
    RMSNorm,
    Scale,
    Sequential,
)
from varprop.network import Network
from varprop.torch import modules
from varprop.torch._convert import activations

__all__ = ["to_module"]

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_TAKEN = {*dir(nn.Sequential()), "input_shape", "branch_scale", "skip_scale"}


def to_module(
    network: Network, seed: int = 0, trial: int = 0, *, dtype: torch.dtype | None = None
) -> nn.Sequential:
    """Return a network as PyTorch's modules, with the weights that a simulation has in one trial.

    It computes what ``simulate(network, seed=seed)`` does in that trial, of images permuted to
    (batch, channels, height, width). Layers keep their names; the activation of a dense layer or a
    convolution "dense1" is a module of its own, "dense1_tanh". What torch has no module of is one
    of :mod:`varprop.torch.modules`.

    Parameters
    ----------
    network : Network
    seed, trial : int
        As of :func:`varprop.weights`.
    dtype : torch.dtype, optional
        float32, the default, or float64.

    Returns
    -------
    Sequential
        In training mode, with the shape of an input as attribute `input_shape`. Masks of Dropout
        are torch's own draws.

    Raises
    ------
    ValueError
        A layer holds a function of Python's (Elementwise), or has a name that a Sequential cannot
        have for a module.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([64, 100, 10], "tanh")
    >>> module = vp.torch.to_module(net, seed=1, trial=5)
    >>> [name for name, _ in module.named_children()]
    ['dense1', 'dense1_tanh', 'dense2', 'dense2_tanh']
    >>> weight = vp.weights((64, 100), "lecun_normal", seed=1, name="dense1.weight", trial=5)
    >>> bool((module.dense1.weight.detach().numpy() == weight.T).all())
    True
    """
    if not isinstance(network, Network):
        raise TypeError(f"network must be a Network, got {type(network).__name__}")
    dtype = torch.float32 if dtype is None else dtype
    if dtype not in _DTYPES:
        raise _spec.unknown("dtype", dtype, map(str, _DTYPES))
    for step in network.steps:
        if step.kind == "elementwise":
            raise ValueError(f"layer {step.name!r} holds a function, which is no torch module")
    made = _Maker(network, dtype, seed, trial).container(network.layers, "")
    sequential = nn.Sequential(OrderedDict(made))
    *places, channels = network.input_shape
    sequential.input_shape = (channels, *places)  # type: ignore[assignment]
    return sequential


# Of each normalization its module, by whether it is of an image.
_NORMS: dict[tuple[type[Layer], bool], Any] = {
    (BatchNorm, False): nn.BatchNorm1d,
    (BatchNorm, True): nn.BatchNorm2d,
    (LayerNorm, False): nn.LayerNorm,
    (LayerNorm, True): modules.LayerNorm,
    (RMSNorm, False): getattr(nn, "RMSNorm", modules.RMSNorm),  # since torch 2.4
    (RMSNorm, True): modules.RMSNorm,
}


class _Maker:
    """Modules from layers, and their parameters drawn."""

    def __init__(self, network: Network, dtype: torch.dtype, seed: int, trial: int) -> None:
        self.steps = {step.name: step for step in network.steps}
        self.dtype, self.seed, self.trial = dtype, seed, trial

    def container(self, layers: Iterable[Layer], within: str) -> dict[str, nn.Module]:
        """Return the modules of layers by their names in their container."""
        layers = tuple(layers)
        taken = {str(layer.name) for layer in layers}
        made: dict[str, nn.Module] = {}
        for layer in layers:
            name = str(layer.name)
            if name in _TAKEN:
                raise ValueError(
                    f"layer {within + name!r} must have another name: {name!r} is an attribute of "
                    "torch's Sequential"
                )
            made[name] = self._module(layer, f"{within}{name}")
            phi = layer.activation if isinstance(layer, (Dense, Conv2d)) else None
            if phi is not None and phi.name != "linear":
                made[_free(f"{name}_{phi.name}", taken)] = activations.to_module(phi)
        return made

    def _module(self, layer: Layer, name: str) -> nn.Module:
        """Return the module of a layer, an activation at its end left out."""
        match layer:
            case Sequential():
                return nn.Sequential(OrderedDict(self.container(layer.layers, f"{name}.")))
            case Residual():
                branch = self.container(layer.layers, f"{name}.")
                return modules.Residual(branch, layer.branch_scale, layer.skip_scale)
        step = self.steps[name]
        *places, size = step.input_shape
        match layer:
            case Dense():
                bias = layer.bias is not None
                if places:
                    return self._filled(step, nn.Conv2d, size, layer.width, 1, bias=bias)
                return self._filled(step, nn.Linear, size, layer.width, bias=bias)
            case Conv2d():
                return self._convolution(step, layer, size)
            case Bias():
                return self._filled(step, modules.Bias, size)
            case Activation():
                return activations.to_module(layer.function)
            case Scale():
                return modules.Scale(layer.factor)
            case Dropout():
                return nn.Dropout(layer.rate)
            case AvgPool2d():
                return nn.AvgPool2d(layer.size, layer.stride)
            case GlobalAvgPool():
                return modules.GlobalAvgPool()
            case Flatten():
                return modules.Flatten() if places and not layer.channels_first else nn.Flatten()
            case BatchNorm() | LayerNorm() | RMSNorm():
                kind = _NORMS[type(layer), bool(places)]
                norm: nn.Module = kind(size, eps=layer.eps, dtype=self.dtype)
                return norm
        raise TypeError(f"layer {name!r} must be one of varprop's, got {layer!r}")

    def _convolution(self, step: Step, layer: Conv2d, channels: int) -> nn.Module:
        # torch's "same" takes no strides, and warns of even kernels.
        plain = layer.stride == (1, 1) and all(size % 2 for size in layer.kernel)
        same = layer.padding == "same" and not plain
        return self._filled(
            step,
            modules.SameConv2d if same else nn.Conv2d,
            channels,
            layer.channels,
            layer.kernel,
            layer.stride,
            0 if same else layer.padding,
            groups=layer.groups,
            bias=layer.bias is not None,
        )

    def _filled(self, step: Step, kind: type[nn.Module], *args: Any, **options: Any) -> nn.Module:
        """Return a module whose parameters are drawn where they lie."""
        module = kind(*args, **options, dtype=self.dtype, device="meta").to_empty(device="cpu")
        for part, (law, shape) in step.layer.parameters(step.input_shape).items():
            weights(
                shape,
                law,
                seed=self.seed,
                name=f"{step.name}.{part}",
                trial=self.trial,
                dtype=_DTYPES[self.dtype],
                out=_ours(getattr(module, part).detach().numpy(), len(shape)),
            )
        return module


def _ours(numbers: NDArray[Any], axes: int) -> NDArray[Any]:
    """Return torch's memory as an array of our axes: (out, in, *kernel) as (*kernel, in, out)."""
    if numbers.ndim == 1:
        return numbers
    turned = np.moveaxis(numbers, (1, 0), (-2, -1))
    return turned if numbers.ndim == axes else turned[0, 0]


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no other module has."""
    number, chosen = 1, name
    while chosen in taken:
        number, chosen = number + 1, f"{name}{number + 1}"
    taken.add(chosen)
    return chosen
