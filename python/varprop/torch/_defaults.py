"""PyTorch's own default laws, of the parameters of its standard layers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from varprop._laws import Constant, Law, Normal, Uniform, VarianceScaling
from varprop.torch._names import Parameter, Place

_ZEROS, _ONES = Constant(0.0), Constant(1.0)
_LINEAR = VarianceScaling(1.0 / 3.0, "fan_in", "uniform")
_XAVIER_UNIFORM = VarianceScaling(1.0, "fan_avg", "uniform")
_XAVIER_NORMAL = VarianceScaling(1.0, "fan_avg", "untruncated_normal")

Classes = tuple[type[nn.Module], ...]
Default = Callable[[nn.Module, str], Law]  # of the owner, and of its name for the parameter


def _of_linear(owner: nn.Module, attribute: str) -> Law:
    if attribute == "weight":
        return _LINEAR
    if not isinstance(owner, _ConvNd):
        return _over_root(_size(owner, "in_features"))
    # What torch takes for fan_in. The weight is not asked: parametrized, it is computed.
    inputs = owner.out_channels if owner.transposed else owner.in_channels
    return _over_root(inputs // owner.groups * math.prod(owner.kernel_size))


def _of_bilinear(owner: nn.Module, _attribute: str) -> Law:
    return _over_root(_size(owner, "in1_features"))


def _of_recurrent(owner: nn.Module, _attribute: str) -> Law:
    return _over_root(_size(owner, "hidden_size"))


def _of_norm(_owner: nn.Module, attribute: str) -> Law:
    return _ONES if attribute == "weight" else _ZEROS


def _of_embedding(_owner: nn.Module, _attribute: str) -> Law:
    return Normal(1.0)


def _of_prelu(owner: nn.Module, _attribute: str) -> Law:
    return Constant(float(owner.init))  # type: ignore[arg-type]


def _of_attention(_owner: nn.Module, attribute: str) -> Law:
    if attribute in ("bias_k", "bias_v"):
        return _XAVIER_NORMAL
    return _ZEROS if attribute == "in_proj_bias" else _XAVIER_UNIFORM


def _over_root(size: int) -> Law:
    """Return the law between +-1 / sqrt(size), zeros where nothing comes in."""
    bound = 1.0 / math.sqrt(size) if size else 0.0
    return Uniform(-bound, bound) if bound else _ZEROS


def _size(owner: nn.Module, attribute: str) -> int:
    return int(getattr(owner, attribute))


_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, *filter(None, [getattr(nn, "RMSNorm", None)]))

_ATTENTION = (nn.MultiheadAttention,), "_reset_parameters"

# Of classes the parameters, and their law: it holds as long as the method that draws them is the
# class's own.
_DEFAULTS: list[tuple[Classes, str, str, Default]] = [
    ((nn.Linear, _ConvNd), "reset_parameters", "weight|bias", _of_linear),
    ((nn.Bilinear,), "reset_parameters", "weight|bias", _of_bilinear),
    (
        (nn.RNNBase, nn.RNNCellBase),
        "reset_parameters",
        "(weight|bias)_[ih]h.*|weight_hr_.*",
        _of_recurrent,
    ),
    (_NORMS, "reset_parameters", "weight|bias", _of_norm),
    ((nn.Embedding, nn.EmbeddingBag), "reset_parameters", "weight", _of_embedding),
    ((nn.PReLU,), "reset_parameters", "weight", _of_prelu),
    (*_ATTENTION, "(in|q|k|v)_proj_weight|in_proj_bias|bias_[kv]", _of_attention),
]


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a normalization: torch's, or one that is called so."""
    return isinstance(module, _NORMS) or "norm" in type(module).__name__.lower()


def defaults(parameter: Parameter) -> list[Law]:
    """Return the laws that torch may have drawn a parameter from.

    None where it is not one of torch's layers', several where it is tied: one for each place.
    """
    found = (_default(place, parameter.tensor.dim()) for place in parameter.places)
    return list(dict.fromkeys(law for law in found if law is not None))


def _default(place: Place, dimensions: int) -> Law | None:
    if dimensions > 1 and any(
        _draws(module, (nn.Transformer,), "_reset_parameters") for module in place.lineage
    ):
        return _XAVIER_UNIFORM
    owner, *around = reversed(place.lineage)
    if around and place.attribute == "bias" and _draws(around[0], *_ATTENTION):
        return _ZEROS  # of its out_proj
    for classes, method, attributes, law in _DEFAULTS:
        if re.fullmatch(attributes, place.attribute) and _draws(owner, classes, method):
            return law(owner, place.attribute)
    return None


def _draws(module: nn.Module, classes: Classes, method: str) -> bool:
    """Return whether a module is of a class and draws its parameters by that class's method."""
    own = getattr(type(module), method, None)
    return any(isinstance(module, kind) and own is getattr(kind, method) for kind in classes)
