"""Which layer of varprop each kind of PyTorch's modules is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from varprop import _layer
from varprop._laws import Constant, Law
from varprop._laws_whole import Given
from varprop._layer import Layer, Shape
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
    RMSNorm,
    Scale,
)
from varprop.torch import modules
from varprop.torch._convert import activations

LawOf = Callable[[str], Law | None]  # of a parameter's name within its module
Reader = Callable[[Any, Shape, LawOf], Layer]


def _linear(module: nn.Linear, shape: Shape, law: LawOf) -> Layer:
    _features(shape, module.in_features)
    return Dense(module.out_features, weight=_weight(law), bias=law("bias"))


def _conv(module: nn.Conv2d, shape: Shape, law: LawOf) -> Layer:
    _channels(shape, module.in_channels)
    _only("dilation", module.dilation, (1, 1))
    _only("padding_mode", module.padding_mode, "zeros")
    padding = "same" if isinstance(module, modules.SameConv2d) else module.padding
    return Conv2d(
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        padding,  # type: ignore[arg-type]
        weight=_weight(law),
        bias=law("bias"),
        groups=module.groups,
    )


def _bias(module: modules.Bias, shape: Shape, law: LawOf) -> Layer:
    _last(shape, len(module.bias))
    found = law("bias")
    assert found is not None
    return Bias(found)


def _flatten(module: nn.Flatten, shape: Shape, _law: LawOf) -> Layer:
    axes = len(shape) + 1
    _only("start_dim", module.start_dim % axes, 1)
    _only("end_dim", module.end_dim % axes, axes - 1)
    return Flatten(channels_first=True)


def _avg_pool(module: nn.AvgPool2d, shape: Shape, _law: LawOf) -> Layer:
    _layer.image(shape)
    if module.padding not in (0, (0, 0)):
        raise ValueError(f"padding must be 0, got {module.padding!r}")
    _only("ceil_mode", module.ceil_mode, False)
    _only("divisor_override", module.divisor_override, None)
    return AvgPool2d(module.kernel_size, module.stride)


def _adaptive_pool(module: nn.AdaptiveAvgPool2d, shape: Shape, _law: LawOf) -> Layer:
    sides, wanted = _layer.image(shape)[:2], module.output_size
    places = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    counts = [size if count is None else count for size, count in zip(sides, places, strict=True)]
    for size, count in zip(sides, counts, strict=True):
        if size % count:
            raise ValueError(
                f"output_size must divide the image, {_layer.written(sides)}, got {wanted!r}"
            )
    height, width = (size // count for size, count in zip(sides, counts, strict=True))
    return AvgPool2d((height, width))


def _layer_norm(module: nn.LayerNorm, shape: Shape, law: LawOf) -> Layer:
    _normalized_shape(module.normalized_shape, shape)
    _plain(law)
    return LayerNorm(module.eps)


def _rms_norm(module: Any, shape: Shape, law: LawOf) -> Layer:
    _normalized_shape(module.normalized_shape, shape)
    _plain(law)
    eps = module.eps
    if eps is None:  # that of what it is called with: as is simulated by default
        eps = torch.finfo(torch.float32).eps
    return RMSNorm(eps)


def _channel_norm(module: modules.LayerNorm | modules.RMSNorm, shape: Shape, law: LawOf) -> Layer:
    _last(shape, len(module.weight))
    _plain(law)
    layer = LayerNorm if isinstance(module, modules.LayerNorm) else RMSNorm
    return layer(module.eps)


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape, law: LawOf) -> Layer:
    check = _features if isinstance(module, nn.BatchNorm1d) else _channels
    check(shape, module.num_features)
    _plain(law)
    return BatchNorm(module.eps)


READERS: dict[type[nn.Module], Reader] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    modules.SameConv2d: _conv,
    nn.Identity: lambda *_: Scale(1.0),
    nn.Flatten: _flatten,
    nn.Dropout: lambda module, *_: Dropout(module.p),
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.LayerNorm: _layer_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    modules.Bias: _bias,
    modules.Scale: lambda module, *_: Scale(module.factor),
    modules.LayerNorm: _channel_norm,
    modules.RMSNorm: _channel_norm,
    modules.Flatten: lambda *_: Flatten(),
    modules.GlobalAvgPool: lambda *_: GlobalAvgPool(),
}
"""Of each kind of module its layer, from what enters and the laws of its parameters."""

if hasattr(nn, "RMSNorm"):  # since torch 2.4
    READERS[nn.RMSNorm] = _rms_norm


def _activation(kind: type[nn.Module]) -> Reader:
    return lambda module, *_: Activation(activations.of_module(module, kind))


READERS.update({kind: _activation(kind) for kind in activations.TYPES})

CONTAINERS: tuple[type[nn.Module], ...] = (modules.Residual, nn.Sequential)


def kind_of(module: nn.Module) -> type[nn.Module]:
    """Return of which kind a module is: its class, or the one whose ``forward`` it has.

    Raises
    ------
    ValueError
        varprop has no layer that does the same.
    """
    kinds = (*READERS, *CONTAINERS)
    kind = next((one for one in type(module).__mro__ if one in kinds), None)
    if kind is None:
        known = ", ".join(sorted({one.__name__ for one in kinds}))
        raise ValueError(
            f"varprop has no such layer; profile takes any module. from_module takes: {known}"
        )
    if "forward" in vars(module) or type(module).forward is not kind.forward:
        raise ValueError(f"it is a {kind.__name__} with a forward of its own")
    if kind not in CONTAINERS:
        own = [*module._modules, *(name for name in module._parameters if name not in _PARAMETERS)]
        if own:
            raise ValueError(f"a {kind.__name__} must have a weight and a bias alone, got {own[0]}")
        if any(nn.parameter.is_lazy(one) for one in module.parameters()):
            raise ValueError("it is lazy: call the module on an input first")
    return kind


_PARAMETERS = ("weight", "bias")

Leaf = tuple[str, nn.Module, type[nn.Module]]  # qualified name, module, kind


def leaves(module: nn.Module, name: str = "") -> Iterator[Leaf]:
    """Yield all modules that are not containers, in order of execution."""
    try:
        kind = kind_of(module)
    except ValueError as error:
        raise named(module, name, error) from None
    if kind not in CONTAINERS:
        yield name, module, kind
        return
    if not module._modules:
        raise named(module, name, ValueError("it must not be empty"))
    for part, child in module._modules.items():
        assert child is not None
        yield from leaves(child, f"{name}.{part}" if name else part)


def named(module: nn.Module, name: str, error: Exception) -> ValueError:
    """Return an error that says of which module it is."""
    where = f"module {name!r} ({type(module).__name__})" if name else type(module).__name__
    return ValueError(f"{where}: {error}")


# --- checks -------------------------------------------------------------------------------------


def _only(argument: str, value: object, wanted: object) -> None:
    if value != wanted:
        raise ValueError(f"{argument} must be {wanted!r}, got {value!r}")


def _features(shape: Shape, wanted: int) -> None:
    if len(shape) == 3:
        raise ValueError("needs features, got an image: a Flatten before it makes some")
    _last(shape, wanted)


def _channels(shape: Shape, wanted: int) -> None:
    if len(shape) != 3:
        raise ValueError(f"needs an image (channels, height, width), got {shape[0]} features")
    _last(shape, wanted)


def _last(shape: Shape, wanted: int) -> None:
    if shape[-1] != wanted:
        what = "channels" if len(shape) == 3 else "features"
        raise ValueError(f"needs {wanted} {what}, got {shape[-1]}")


def _normalized_shape(wanted: tuple[int, ...], shape: Shape) -> None:
    if len(shape) != 1 or len(wanted) != 1:
        raise ValueError(
            f"normalized_shape must be (features,) of features, got {tuple(wanted)} of "
            f"{len(shape)} axes: over an image's channels, varprop.torch.modules has norms"
        )
    _last(shape, wanted[0])


def _weight(law: LawOf) -> Law:
    found = law("weight")
    assert found is not None
    return found


def _plain(law: LawOf) -> None:
    """Raise the error of a norm that multiplies or adds, which those of varprop do not."""
    for part, wanted in (("weight", 1.0), ("bias", 0.0)):
        found = law(part)
        if found is None or found == Constant(wanted):
            continue
        if not (isinstance(found, Given) and (found.array == wanted).all()):
            raise ValueError(f"{part} of a norm must be {wanted:g}, got {found}")
