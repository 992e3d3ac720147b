"""Filling the parameters of a module in place: by laws of the user's, or by torch's own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from varprop import _spec
from varprop._laws import Law
from varprop._layer import LawLike
from varprop._threads import thread_count
from varprop._weights import _trial
from varprop.initializers import resolve
from varprop.torch import _door, _shards
from varprop.torch._names import Parameter, modules, parameters
from varprop.torch._rules import Laws, assign

Module = TypeVar("Module", bound=nn.Module)


def init_(
    module: Module,
    law: Laws,
    *,
    seed: int,
    trial: int = 0,
    region: _shards.Regions | None = None,
    device: torch.device | str | None = None,
    threads: int | None = None,
) -> Module:
    """Fill the parameters of a module in place, the same bits on every machine.

    A parameter's numbers depend on the seed, its qualified name, the trial, its position, law and
    dtype, and on nothing else: not on the order, the sharding, the threads or wrappers
    (``torch.compile``, DistributedDataParallel). They are the transpose of
    ``varprop.weights((*kernel, in, out), law, seed=seed, name="layers.0.weight", trial=trial)``.

    Parameters
    ----------
    module : Module
        Parameters of float32, float64, bfloat16 or float16. Those on the meta device become real
        ones with their values; of a DTensor (tensor parallel, ``fully_shard``) the shard is filled
        alone; those on other devices are drawn on the host and copied.
    law : str, Law, number, array or mapping
        One law goes to the parameters of two or more dimensions; biases become 0, the weights of
        norms 1; others stay, with a warning that names them. A mapping says all: what it does not
        match stays. Its keys are patterns of qualified names such as ``"layers.*.weight"``, or
        types of modules, whose weights have the law then and whose biases become 0; the last
        entry that matches a parameter counts.
    seed : int
        Any integer >= 0.
    trial : int
        Number of the draw: trials are independent.
    region : mapping, optional
        By name, of parameters that are shards of a whole: (the whole's shape, slices of it that
        the parameter is), both as torch has them.
    device : device, optional
        Where parameters of the meta device come to be; by default the CPU.
    threads : int, optional
        By default as many as there are cores.

    Returns
    -------
    Module
        `module`.

    Raises
    ------
    ValueError, TypeError
        A pattern that matches nothing (the nearest name is said), a law that does not take a
        parameter's shape, an integer parameter: nothing is written then.

    Examples
    --------
    >>> from torch import nn
    >>> import varprop as vp
    >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> _ = vp.torch.init_(model, "he_normal", seed=1)
    >>> weight = vp.weights((64, 32), "he_normal", seed=1, name="0.weight")
    >>> bool((model[0].weight.detach().numpy() == weight.T).all())
    True
    >>> _ = vp.torch.init_(model, {"*.weight": "he_normal", "2.*": "zeros"}, seed=1)
    """
    laws = assign(module, law)
    found = parameters(module)
    left = [p.name for p in found if p.name not in laws]
    if not isinstance(law, Mapping):
        for parameter in found:
            _door.kind(parameter.tensor, parameter.name)
    if left and not isinstance(law, Mapping):
        warnings.warn(
            f"one law leaves {_listed(left)} as {'they are' if len(left) > 1 else 'it is'}: "
            "a mapping can name them",
            stacklevel=2,
        )
    _fill(module, laws, seed=seed, trial=trial, region=region, device=device, threads=threads)
    return module


def reset_parameters(
    module: nn.Module,
    seed: int,
    *,
    trial: int = 0,
    device: torch.device | str | None = None,
    threads: int | None = None,
) -> list[str]:
    """Fill the parameters of torch's standard layers by torch's own default laws, reproducibly.

    As the modules' ``reset_parameters`` do, in law; running statistics of norms begin anew.

    Parameters
    ----------
    module : Module
    seed : int
        Any integer >= 0.
    trial, device, threads
        As of :func:`init_`.

    Returns
    -------
    list of str
        Names of the parameters that stay as they are: those of modules that are not torch's, or
        that draw by a method of their own.

    Examples
    --------
    >>> import torch, varprop.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.LayerNorm(32))
    >>> varprop.torch.reset_parameters(model, seed=1)
    []
    """
    laws = assign(module)
    _fill(module, laws, seed=seed, trial=trial, device=device, threads=threads)
    with torch.no_grad():
        for parameter in parameters(module):
            zero_padding(parameter)
        for part in module.modules():
            if isinstance(part, _NormBase):
                part.reset_running_stats()
    return [p.name for p in parameters(module) if p.name not in laws]


def zero_padding(parameter: Parameter) -> None:
    """Zero the row of an embedding that pads, as torch's own default does."""
    owner = parameter.places[0].owner
    if isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) and owner.padding_idx is not None:
        local, part = _shards.held(parameter.tensor, parameter.name)
        rows = range(owner.num_embeddings)
        if part is not None:
            rows = rows[part.slices[0]]
        if owner.padding_idx in rows:
            with torch.no_grad():
                local[rows.index(owner.padding_idx)].zero_()


def fill_(
    tensor: torch.Tensor,
    law: LawLike,
    *,
    seed: int,
    name: str = "",
    trial: int = 0,
    region: tuple[tuple[int, ...], tuple[slice, ...]] | None = None,
    threads: int | None = None,
) -> torch.Tensor:
    """Fill one tensor in place; the functions of :mod:`varprop.torch.init` are this with a law.

    Parameters
    ----------
    tensor : Tensor
        Of shape (out, in, *kernel), or any that the law takes.
    law : str, Law, number or array
        An array is of our layout, (*kernel, in, out).
    seed : int
        Any integer >= 0.
    name : str
        Tensors of different names are independent.
    trial, threads
        As of :func:`init_`.
    region : tuple, optional
        The whole's shape and the slices of it that the tensor is.

    Returns
    -------
    Tensor
        `tensor`.

    Examples
    --------
    >>> import torch, varprop.torch
    >>> whole, shard = torch.empty(100, 64), torch.empty(50, 64)
    >>> _ = varprop.torch.fill_(whole, "he_normal", seed=1, name="w")
    >>> half = ((100, 64), (slice(50, 100),))
    >>> _ = varprop.torch.fill_(shard, "he_normal", seed=1, name="w", region=half)
    >>> bool((shard == whole[50:]).all())
    True
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"tensor must be a torch.Tensor, got {type(tensor).__name__}")
    seed, trial = _spec.integer("seed", seed), _trial(trial)
    chosen, count = resolve(law, "law"), thread_count(threads)
    local, part = _shards.held(tensor, name)
    if region is not None:
        part = _shards.region_of(region, "region")
    _door.check(local, chosen, name, part)
    _door.fill(local, chosen, seed=seed, name=name, trial=trial, region=part, threads=count)
    return tensor


def _fill(
    module: nn.Module,
    laws: dict[str, Law],
    *,
    seed: int,
    trial: int,
    region: _shards.Regions | None = None,
    device: torch.device | str | None,
    threads: int | None,
) -> None:
    """Check everything, then bring parameters of the meta device to life, then draw."""
    seed, trial = _spec.integer("seed", seed), _trial(trial)
    count = thread_count(threads)
    found = parameters(module)
    regions = _shards.given(region, [p.name for p in found])
    for parameter in found:
        name, tensor = parameter.name, parameter.tensor
        if name not in laws and _shards.is_meta(tensor):
            raise ValueError(
                f"parameter {name!r} is on the meta device and has no law: name it in a mapping"
            )
        if name in laws:
            local, part = _shards.held(tensor, name)
            _door.check(local, laws[name], name, regions.get(name, part))
    for parameter in found:
        if parameter.name not in laws:
            continue
        tensor = parameter.tensor
        if _shards.is_meta(tensor):
            tensor = _shards.materialized(tensor, device)
            for place in parameter.places:
                setattr(place.owner, place.attribute, tensor)
        local, part = _shards.held(tensor, parameter.name)
        _door.fill(
            local,
            laws[parameter.name],
            seed=seed,
            name=parameter.name,
            trial=trial,
            region=regions.get(parameter.name, part),
            threads=count,
        )
    _materialize_buffers(module, device)


def _materialize_buffers(module: nn.Module, device: torch.device | str | None) -> None:
    """Give running statistics of the meta device their first values; name other buffers there."""
    left = []
    for name, lineage in modules(module):
        owner = lineage[-1]
        buffers = {key: b for key, b in owner._buffers.items() if b is not None}
        meta = {key: b for key, b in buffers.items() if _shards.is_meta(b)}
        if isinstance(owner, _NormBase) and meta:
            for key, buffer in meta.items():
                owner._buffers[key] = torch.empty_like(buffer, device=device or "cpu")
            owner.reset_running_stats()
        else:
            left += [f"{name}.{key}" if name else key for key in meta]
    if left:
        warnings.warn(
            f"{_listed(left)} stay{'s' * (len(left) == 1)} on the meta device: only a buffer's "
            "module knows its values",
            stacklevel=4,
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"
