"""What is watched: which modules, by patterns of names and by types, and which statistics."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import cast

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from varprop import _catalogue, _spec
from varprop.torch._monitor.record import SIGNALS, STATISTICS
from varprop.torch._names import modules, parameters

Layers = str | type[nn.Module] | Iterable[str | type[nn.Module]]


def names(model: nn.Module) -> dict[nn.Module, str]:
    """Return the name of every module, of the model itself its class."""
    found: dict[nn.Module, str] = {}
    for name, lineage in modules(model):
        found.setdefault(lineage[-1], name or type(model).__name__)
    return found


def select(model: nn.Module, layers: Layers | None) -> set[nn.Module]:
    """Return the modules that patterns or types match; all without any.

    Raises
    ------
    ValueError
        One that matches no module; the nearest name is said.
    TypeError
        Neither a pattern nor a type of module.
    """
    found = names(model)
    if layers is None:
        return set(found)
    chosen: set[nn.Module] = set()
    if not isinstance(layers, (str, type, Iterable)):
        raise TypeError(f"layers must be patterns of names or types of modules, got {layers!r}")
    given = [layers] if isinstance(layers, (str, type)) else list(layers)
    if not given:
        raise ValueError("layers must not be empty")
    for key in given:
        if isinstance(key, str):
            matched = {module for module, name in found.items() if fnmatchcase(name, key)}
        elif isinstance(key, type) and issubclass(key, nn.Module):  # type: ignore[redundant-expr]
            matched = {module for module in found if isinstance(module, key)}
        else:
            raise TypeError(f"layers must be patterns of names or types of modules, got {key!r}")
        if not matched:
            raise _unmatched(key, found)
        chosen |= matched
    return chosen


def _unmatched(key: str | type[nn.Module], found: dict[nn.Module, str]) -> ValueError:
    if isinstance(key, str):
        near = difflib.get_close_matches(key, found.values(), n=1, cutoff=0.3)
        some = f"the nearest is {near[0]!r}" if near else _listed(list(found.values()))
        return ValueError(f"layers: {key!r} matches no module: {some}")
    types = list(dict.fromkeys(type(module).__name__ for module in found))
    return ValueError(f"layers: {key.__name__} matches no module: {_listed(types)}")


def _listed(some: list[str]) -> str:
    more = f" and {len(some) - 10} more" if len(some) > 10 else ""
    return f"there are {', '.join(some[:10])}{more}"


def weights_of(model: nn.Module, wanted: set[nn.Module]) -> dict[str, list[torch.Tensor]]:
    """Return the parameters of two or more dimensions that a wanted layer owns, by its name.

    What a parametrization makes a weight of is the layer's, too.
    """
    called = names(model)
    owned: dict[str, list[torch.Tensor]] = {}
    for parameter in parameters(model):
        lineage = parameter.places[0].lineage
        made = [i for i, one in enumerate(lineage) if isinstance(one, ParametrizationList)]
        owner = lineage[made[0] - 2] if made else lineage[-1]  # its dictionary lies between
        if parameter.is_weight and owner in wanted:
            owned.setdefault(called[owner], []).append(parameter.tensor)
    return owned


def inside(model: nn.Module) -> nn.Module:
    """Return the model within what compiles it, or copies it to several devices."""
    wrappers = nn.DataParallel, nn.parallel.DistributedDataParallel
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = cast(nn.Module, model._orig_mod)
        elif isinstance(model, wrappers):
            model = cast(nn.Module, model.module)
        else:
            return model


def is_compiled(model: nn.Module) -> bool:
    """Return whether torch.compile has compiled some of a model."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def statistics_of(statistics: str | Iterable[str]) -> tuple[str, ...]:
    """Return statistics by their full names, or the error of one that a Monitor has not."""
    resolved = _catalogue.resolve(statistics)
    for text in resolved:
        if text.partition("(")[0] not in STATISTICS:
            raise _spec.unknown("statistics of a Monitor", text, STATISTICS)
    return resolved


def signals_of(signals: Iterable[str]) -> tuple[str, ...]:
    """Return signals in the order of the table, or the error of one that it has not."""
    asked = (signals,) if isinstance(signals, str) else tuple(signals)
    for name in asked:
        if name not in SIGNALS:
            raise _spec.unknown("signal", name, SIGNALS)
    if not asked:
        raise ValueError(f"signals must be some of {', '.join(SIGNALS)}")
    return tuple(name for name in SIGNALS if name in asked)
