"""What part of a parameter this process holds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

import torch
from torch import nn

from varprop import _spec
from varprop.torch._door import Region, called

Regions = Mapping[str, tuple[tuple[int, ...], tuple[slice, ...]]]


def given(regions: Regions | None, names: list[str]) -> dict[str, Region]:
    """Return regions that a user states by the names of parameters, checked."""
    if regions is None:
        return {}
    if not isinstance(regions, Mapping):
        raise TypeError(
            "region must map names of parameters to (whole shape, slices), got "
            f"{type(regions).__name__}"
        )
    found = {}
    for name, value in regions.items():
        if name not in names:
            raise _spec.unknown("parameter in region", name, names)
        found[name] = region_of(value, f"region[{name!r}]")
    return found


def region_of(value: Any, argument: str) -> Region:
    """Return a region that a user states as (whole shape, slices)."""
    try:
        shape, slices = value
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be (whole shape, slices), got {value!r}") from None
    slices = (slices,) if isinstance(slices, slice) else slices
    if not isinstance(slices, tuple) or not all(isinstance(part, slice) for part in slices):
        raise TypeError(f"{argument} must have a tuple of slices, got {slices!r}")
    return Region(_spec.sizes(f"shape of {argument}", shape), slices)


def held(tensor: torch.Tensor, name: str) -> tuple[torch.Tensor, Region | None]:
    """Return this process's part of a tensor, and where it lies; None for all of it.

    A DTensor (tensor parallel, ``fully_shard``) tells its shard's offsets.
    """
    if type(tensor).__name__ == "FlatParameter" or getattr(tensor, "_fsdp_flattened", False):
        raise TypeError(
            f"{called(name)} is flattened by FullyShardedDataParallel: fill the model before "
            "it is wrapped, or wrap it by torch.distributed.fsdp.fully_shard"
        )
    if not _is_distributed(tensor):
        return tensor, None
    sharded = cast(Any, tensor)
    if any(placement.is_partial() for placement in sharded.placements):
        raise ValueError(f"{called(name)} must not be a sum over processes (Partial)")
    shape, offset = _offsets()(sharded.shape, sharded.device_mesh, sharded.placements)
    local = sharded.detach().to_local()
    slices = tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))
    if 0 in shape:
        slices = tuple(slice(0, size) for size in shape)
    return local, Region(tuple(sharded.shape), slices)


def _is_distributed(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "device_mesh") and hasattr(tensor, "placements")


def _offsets() -> Any:
    try:
        utils = import_module("torch.distributed.tensor._utils")
    except ImportError:  # before torch 2.5
        utils = import_module("torch.distributed._tensor._utils")
    return utils.compute_local_shape_and_global_offset


def is_meta(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has no memory yet."""
    return tensor.device.type == "meta"


def materialized(tensor: nn.Parameter, device: torch.device | str | None) -> nn.Parameter:
    """Return the parameter of a meta one's shape, with memory that is not written yet."""
    mesh = getattr(tensor, "device_mesh", None)
    where = device or (mesh.device_type if mesh is not None else "cpu")
    return nn.Parameter(torch.empty_like(tensor, device=where), tensor.requires_grad)
