"""Which law each parameter gets: from one law, from a mapping, or from torch's defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from varprop import initializers
from varprop._laws import Constant, Law
from varprop._layer import LawLike
from varprop.torch._defaults import defaults, is_norm
from varprop.torch._names import Parameter, Place, parameters

Laws = LawLike | Mapping[str | type[nn.Module], LawLike]
"""A law, or laws by patterns of qualified names and by types of modules."""


def assign(module: nn.Module, laws: Laws | None = None, argument: str = "law") -> dict[str, Law]:
    """Return the laws of parameters by their names, without those that are to stay as they are.

    Parameters
    ----------
    module : Module
    laws : law, mapping or None
        One law is for parameters of two or more dimensions; biases are 0 then and the weights of
        norms 1. Of a mapping the last entry that matches counts: a pattern such as
        ``"layers.*.weight"``, or a type of module, whose own weights have the law and whose biases
        are 0. None stands for torch's own default laws.
    argument : str
        What errors call `laws`.

    Raises
    ------
    ValueError
        An entry that matches no parameter (the nearest name is said), or that decides nothing as
        later ones match all that it does.
    """
    found = parameters(module)
    if laws is None:
        return {p.name: own[0] for p in found if (own := defaults(p))}
    if isinstance(laws, Mapping):
        return _mapped(found, laws, argument)
    law = initializers.resolve(laws, argument)
    alike = ((p.name, _of_one(law, p, p.places[0])) for p in found)
    return {name: chosen for name, chosen in alike if chosen is not None}


def _mapped(found: list[Parameter], laws: Mapping[Any, LawLike], argument: str) -> dict[str, Law]:
    assigned: dict[str, tuple[Law, int]] = {}
    for number, (key, value) in enumerate(laws.items()):
        law = initializers.resolve(value, f"{argument}[{_spelled(key)}]")
        chosen = {p.name: own for p in found if (own := _of_entry(key, law, p, argument))}
        if not chosen:
            raise _unmatched(key, found, argument)
        assigned.update({name: (own, number) for name, own in chosen.items()})
    deciding = {number for _, number in assigned.values()}
    for number, key in enumerate(laws):
        if number not in deciding:
            raise ValueError(
                f"{argument}[{_spelled(key)}] decides nothing: later entries match all that it "
                "does, and the last one counts"
            )
    order = (p.name for p in found)
    return {name: assigned[name][0] for name in order if name in assigned}


def _of_entry(key: object, law: Law, parameter: Parameter, argument: str) -> Law | None:
    """Return the law that an entry gives a parameter, None where it does not match."""
    if isinstance(key, str):
        return law if any(fnmatchcase(place.name, key) for place in parameter.places) else None
    if not (isinstance(key, type) and issubclass(key, nn.Module)):
        raise TypeError(
            f"{argument} must have patterns of names and types of modules as keys, got {key!r}"
        )
    for place in parameter.places:
        if isinstance(place.owner, key):
            return Constant(0.0) if _is_bias(parameter, place) else law
        if any(isinstance(module, key) for module in place.lineage):
            return _of_one(law, parameter, place)
    return None


def _of_one(law: Law, parameter: Parameter, place: Place) -> Law | None:
    """Return what one law for many parameters gives one of them."""
    if any(isinstance(module, ParametrizationList) for module in place.lineage):
        return None  # magnitudes, directions and the like are no weights
    if parameter.tensor.dim() >= 2:
        return law
    if _is_bias(parameter, place):
        return Constant(0.0)
    if is_norm(place.owner):
        return Constant(1.0)
    return next(iter(defaults(parameter)), None)


def _is_bias(parameter: Parameter, place: Place) -> bool:
    return parameter.tensor.dim() < 2 and "bias" in place.attribute


def _unmatched(key: object, found: list[Parameter], argument: str) -> ValueError:
    if isinstance(key, str):
        near = difflib.get_close_matches(key, [p.name for p in found], n=1, cutoff=0.3)
        names = f"the nearest is {near[0]!r}" if near else _listed([p.name for p in found])
        if any(p.name.startswith(f"{key}.") for p in found):
            names = f"it is a module, {key + '.*'!r} are its parameters"
        return ValueError(f"{argument}[{key!r}] matches no parameter: {names}")
    types = dict.fromkeys(type(place.owner).__name__ for p in found for place in p.places)
    return ValueError(f"{argument}[{_spelled(key)}] matches no parameter: {_listed(list(types))}")


def _listed(names: list[str]) -> str:
    if not names:
        return "the module has none"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"there are {', '.join(names[:10])}{more}"


def _spelled(key: object) -> str:
    return key.__name__ if isinstance(key, type) else repr(key)
