"""Activation functions as PyTorch's modules, both ways."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from varprop.activations import ActivationFunction
from varprop.torch import modules

# Of each function its module, of the parameter where there is one.
_MADE: dict[str, Callable[[float], nn.Module]] = {
    "linear": lambda _: nn.Identity(),
    "relu": lambda _: nn.ReLU(),
    "leaky_relu": lambda slope: nn.LeakyReLU(slope),
    "elu": lambda alpha: nn.ELU(alpha),
    "selu": lambda _: nn.SELU(),
    "celu": lambda alpha: nn.CELU(alpha),
    "gelu": lambda _: nn.GELU(),
    "gelu_tanh": lambda _: nn.GELU("tanh"),
    "silu": lambda _: nn.SiLU(),
    "mish": lambda _: nn.Mish(),
    "softplus": lambda _: nn.Softplus(),
    "softsign": lambda _: nn.Softsign(),
    "tanh": lambda _: nn.Tanh(),
    "hard_tanh": lambda _: nn.Hardtanh(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "hard_sigmoid": lambda _: nn.Hardsigmoid(),
    "erf": lambda _: modules.Erf(),
    "sin": lambda _: modules.Sin(),
    "relu6": lambda _: nn.ReLU6(),
    "squared_relu": lambda _: modules.SquaredReLU(),
}

_PLAIN: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.SELU: "selu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Softsign: "softsign",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hard_sigmoid",
    nn.ReLU6: "relu6",
    modules.Erf: "erf",
    modules.Sin: "sin",
    modules.SquaredReLU: "squared_relu",
}
_CLIPS: dict[tuple[object, object], str] = {(-1, 1): "hard_tanh", (0, 6): "relu6"}

TYPES = (*_PLAIN, nn.LeakyReLU, nn.ELU, nn.CELU, nn.GELU, nn.Softplus, nn.Hardtanh)
"""Modules that :func:`of_module` takes."""


def to_module(function: ActivationFunction) -> nn.Module:
    """Return the module that computes a function."""
    return _MADE[function.name](function.parameter)


def of_module(module: nn.Module, kind: type[nn.Module]) -> ActivationFunction:
    """Return the function that a module of one of `TYPES` computes.

    Raises
    ------
    ValueError
        varprop has none with the module's arguments.
    """
    match module:
        case nn.LeakyReLU():
            return ActivationFunction("leaky_relu", module.negative_slope)
        case nn.ELU():
            return ActivationFunction("elu", module.alpha)
        case nn.CELU():
            return ActivationFunction("celu", module.alpha)
        case nn.GELU():
            return ActivationFunction("gelu_tanh" if module.approximate == "tanh" else "gelu")
        case nn.Softplus():
            if (module.beta, module.threshold) != (1, 20):
                raise ValueError(f"beta must be 1 and threshold 20, got {module.extra_repr()}")
            return ActivationFunction("softplus")
    if kind is nn.Hardtanh:
        bounds = (module.min_val, module.max_val)
        if bounds not in _CLIPS:
            raise ValueError(f"bounds must be -1 and 1, or 0 and 6, got {module.extra_repr()}")
        return ActivationFunction(_CLIPS[bounds])
    return ActivationFunction(_PLAIN[kind])
