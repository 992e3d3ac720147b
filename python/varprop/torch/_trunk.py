"""Of a pass, what there is to tell: its steps, their parameters, and the way through the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from varprop.torch._names import Parameter
from varprop.torch._watch import Call


class Owned(NamedTuple):
    """A parameter of a step, under its name there: "weight", or "out_proj.weight"."""

    name: str
    parameter: Parameter

    @property
    def is_weight(self) -> bool:
        """Whether it has two or more dimensions."""
        return self.parameter.tensor.dim() > 1


class Told(NamedTuple):
    """A call that is a step of the run.

    Attributes
    ----------
    call : Call
    stretch : str or None
        The stretch of the trunk that it is a step of; None within blocks.
    owned : list of Owned
        Its weights, and the biases beside them: its own and those of modules inside it that are not
        called, as the projection of MultiheadAttention.
    """

    call: Call
    stretch: str | None
    owned: list[Owned]

    @property
    def type(self) -> str:
        """Name of the module's class."""
        return type(self.call.module).__name__


def told(calls: list[Call], found: list[Parameter]) -> list[Told]:
    """Return the steps of a pass, in the order in which they return."""
    root = calls[0]
    steps = list(_recorded(calls))
    if len(steps) > 1 and steps[-1] is root and root.left is steps[-2].left:
        steps.pop()  # it hands on what one inside gave
    stretches = _stretches(root, steps)
    owned = _owned(steps, found)
    return [Told(call, stretches.get(id(call)), owned.get(i, [])) for i, call in enumerate(steps)]


def _recorded(calls: list[Call]) -> Iterator[Call]:
    for call in calls:
        yield from _recorded(call.inside)
        if call.has_output and not call.chains:
            yield call


def _stretches(root: Call, steps: list[Call]) -> dict[int, str]:
    """Return the stretch of each step of the trunk.

    A block is a module with others inside whose class the model has several times, and which is not
    itself inside of one. Blocks are the trunk where there are any, a stretch for each class; else
    it is all modules that have none inside.
    """
    recorded = {id(call) for call in steps} - {id(root)}

    def is_container(call: Call) -> bool:
        return any(_recorded(call.inside))

    classes = Counter(
        type(call.module) for call in steps if call is not root and is_container(call)
    )
    blocks: dict[int, str] = {}

    def look(calls: list[Call]) -> None:
        for call in calls:
            kind = type(call.module)
            if id(call) in recorded and is_container(call) and classes[kind] > 1:
                blocks[id(call)] = kind.__name__
            else:
                look(call.inside)

    look([root])
    if len(blocks) > 1:
        return blocks
    return {id(call): "" for call in steps if not is_container(call)}


def _owned(steps: list[Call], found: list[Parameter]) -> dict[int, list[Owned]]:
    """Return the weights and biases of each step by its position; only first calls have any."""
    positions: dict[nn.Module, int] = {}
    for i, call in enumerate(steps):
        positions.setdefault(call.module, i)
    owned: dict[int, list[Owned]] = {}
    for parameter in found:
        place = parameter.places[0]
        called = [i for i, m in enumerate(place.lineage) if m in positions]
        if not called:
            continue
        parts = place.name.split(".")
        # The modules between it and its step are the last parts of its name, but for wrappers.
        depth = len(place.lineage) - called[-1]
        name = ".".join(parts[-depth:])
        owned.setdefault(positions[place.lineage[called[-1]]], []).append(Owned(name, parameter))
    return {
        i: [own for own in all_own if own.is_weight or "bias" in own.name]
        for i, all_own in owned.items()
        if any(own.is_weight for own in all_own)
    }
