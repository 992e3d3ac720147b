r"""The functions of ``torch.nn.init``, reproducible: its names, defaults and return values.

Each fills a tensor in place by the law of its name, as :func:`varprop.torch.fill_` does, and
returns it. The numbers depend on `seed`, `name`, the shape and the dtype, and on nothing else:
give every tensor a name of its own. Where nothing is random both are taken and have no effect.

Fans are those of torch's shapes, (out, in, \*kernel). Tensors without elements, or on the meta
device, stay as they are, as in torch. What torch refuses is a ValueError here.

Examples
--------
>>> import torch
>>> from varprop.torch import init
>>> weight = init.kaiming_normal_(torch.empty(512, 256, 3, 3), seed=1, name="conv1.weight")
>>> round(float(weight.std()), 4), round((2 / (256 * 9)) ** 0.5, 4)
(0.0295, 0.0295)
"""

from __future__ import annotations

from torch import Tensor, no_grad

from varprop import _spec
from varprop._fans import gain as recommended
from varprop._laws import Law
from varprop.initializers import LAWS
from varprop.torch._initialize import fill_

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return torch's gain of a nonlinearity: :func:`varprop.gain`."""
    return recommended(nonlinearity, None if param is None else _number("param", param))


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, *, seed: int, name: str = ""
) -> Tensor:
    """Fill with the uniform law between `a` and `b`."""
    return fill_(tensor, _between(a, b, "uniform", a, b), seed=seed, name=name)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, *, seed: int, name: str = ""
) -> Tensor:
    """Fill with the normal law of `std` around `mean`."""
    return fill_(tensor, _law("normal", std, mean), seed=seed, name=name)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    *,
    seed: int,
    name: str = "",
) -> Tensor:
    """Fill with the normal law of `std` around `mean`, given that it falls between `a` and `b`."""
    return fill_(tensor, _between(a, b, "trunc_normal", mean, std, a, b), seed=seed, name=name)


def constant_(tensor: Tensor, val: float, *, seed: int = 0, name: str = "") -> Tensor:  # noqa: ARG001
    """Fill with `val`; of any dtype, as torch's own."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor, *, seed: int = 0, name: str = "") -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0, seed=seed, name=name)


def zeros_(tensor: Tensor, *, seed: int = 0, name: str = "") -> Tensor:
    """Fill with 0."""
    return constant_(tensor, 0.0, seed=seed, name=name)


def eye_(tensor: Tensor, *, seed: int = 0, name: str = "") -> Tensor:
    """Fill a matrix with 1 on its diagonal, 0 elsewhere."""
    _require(tensor, tensor.dim() == 2, "2")
    return fill_(tensor, _law("eye"), seed=seed, name=name)


def dirac_(tensor: Tensor, groups: int = 1, *, seed: int = 0, name: str = "") -> Tensor:
    """Fill a convolution's weight so that it copies channels, in each of its groups."""
    _require(tensor, 3 <= tensor.dim() <= 5, "3 to 5")
    groups = _spec.integer("groups", groups, least=1)
    if tensor.shape[0] % groups:
        raise ValueError(f"groups must divide the {tensor.shape[0]} outputs, got {groups}")
    return fill_(tensor, _law("dirac", groups), seed=seed, name=name)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, *, seed: int, name: str = "") -> Tensor:
    """Fill with the uniform law of std `gain` sqrt(2 / (fan_in + fan_out)) (Glorot 2010)."""
    _require(tensor, tensor.dim() >= 2, "2 or more")
    return fill_(tensor, _law("xavier_uniform", gain), seed=seed, name=name)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, *, seed: int, name: str = "") -> Tensor:
    """Fill with the normal law of std `gain` sqrt(2 / (fan_in + fan_out)) (Glorot 2010)."""
    _require(tensor, tensor.dim() >= 2, "2 or more")
    return fill_(tensor, _law("xavier_normal", gain), seed=seed, name=name)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int,
    name: str = "",
) -> Tensor:
    """Fill with the uniform law of std gain / sqrt(fan) (He et al. 2015)."""
    law = _kaiming(tensor, "kaiming_uniform", a, mode, nonlinearity)
    return fill_(tensor, law, seed=seed, name=name)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int,
    name: str = "",
) -> Tensor:
    """Fill with the normal law of std gain / sqrt(fan) (He et al. 2015)."""
    law = _kaiming(tensor, "kaiming_normal", a, mode, nonlinearity)
    return fill_(tensor, law, seed=seed, name=name)


def orthogonal_(tensor: Tensor, gain: float = 1, *, seed: int, name: str = "") -> Tensor:
    """Fill with orthonormal rows or columns times `gain`; all axes but the first are one."""
    _require(tensor, tensor.dim() >= 2, "2 or more")
    return fill_(tensor, _law("orthogonal", gain), seed=seed, name=name)


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, *, seed: int, name: str = ""
) -> Tensor:
    """Fill a matrix with normals of `std`, and a share `sparsity` of each column with 0."""
    _require(tensor, tensor.dim() == 2, "2")
    return fill_(tensor, _law("sparse", sparsity, std), seed=seed, name=name)


def _law(name: str, *arguments: object) -> Law:
    entry = LAWS[name]
    assert not isinstance(entry, Law)
    return entry(*arguments)


def _between(a: float, b: float, name: str, *arguments: float) -> Law:
    if a > b:
        raise ValueError(f"a must be at most b, got {a!r} and {b!r}")
    return _law("constant", a) if a == b else _law(name, *arguments)


def _number(argument: str, value: float) -> float:
    try:
        return _spec.real(argument, value)
    except TypeError as error:
        raise ValueError(str(error)) from None  # as torch's


def _kaiming(tensor: Tensor, name: str, a: float, mode: str, nonlinearity: str) -> Law:
    _require(tensor, tensor.dim() >= 2 or tensor.numel() == 0, "2 or more")
    return _law(name, _number("a", a), mode.lower(), nonlinearity)


def _require(tensor: Tensor, fits: bool, need: str) -> None:
    if not fits:
        raise ValueError(f"tensor must have {need} dimensions, got shape {tuple(tensor.shape)}")
