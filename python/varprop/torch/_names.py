"""The parameters of a module: under which name, owned by whom, in how many places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

# What wrappers put into qualified names: a wrapped model is filled like the model alone.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


class Place(NamedTuple):
    """Where a parameter hangs.

    Attributes
    ----------
    name : str
        Qualified name, as in ``named_parameters()`` of the model without wrappers.
    lineage : tuple of Module
        The modules that it lies within, the outermost first; the last owns it.
    attribute : str
        The owner's name for it: "weight" ...
    """

    name: str
    lineage: tuple[nn.Module, ...]
    attribute: str

    @property
    def owner(self) -> nn.Module:
        """The module that it is a parameter of."""
        return self.lineage[-1]


class Parameter(NamedTuple):
    """A parameter and its places: tied ones have several, of which the first gives the name."""

    tensor: nn.Parameter
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """Qualified name of the first place."""
        return self.places[0].name

    @property
    def is_weight(self) -> bool:
        """Whether it has two or more dimensions."""
        return self.tensor.dim() > 1


def parameters(module: nn.Module) -> list[Parameter]:
    """Return all parameters, in the order of ``module.named_parameters()``; all have a shape."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    tensors: dict[int, nn.Parameter] = {}
    places: dict[int, list[Place]] = {}
    for name, lineage in modules(module):
        for attribute, tensor in lineage[-1]._parameters.items():
            if tensor is not None:
                tensors[id(tensor)] = tensor
                place = Place(f"{name}.{attribute}" if name else attribute, lineage, attribute)
                places.setdefault(id(tensor), []).append(place)
    found = [Parameter(tensors[key], tuple(held)) for key, held in places.items()]
    for parameter in found:
        if isinstance(parameter.tensor, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"parameter {parameter.name!r} has no shape yet: call the lazy module once"
            )
    return found


def modules(
    module: nn.Module, name: str = "", within: tuple[nn.Module, ...] = ()
) -> Iterator[tuple[str, tuple[nn.Module, ...]]]:
    """Yield every module's name without wrappers, and its lineage; shared ones several times."""
    lineage = (*within, module)
    yield name, lineage
    for part, child in module._modules.items():
        if child is None:
            continue
        hidden = part in _WRAPPERS or (part == "module" and _is_parallel(module))
        yield from modules(child, ".".join(filter(None, (name, "" if hidden else part))), lineage)


def _is_parallel(module: nn.Module) -> bool:
    return isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel))
