"""Of a pass, what there is to tell: its steps, their parameters, and the way through the model."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from torch import nn

from varprop.torch._names import Parameter
from varprop.torch._profile.watch import Call, within


class Told(NamedTuple):
    """A call that is a step of the run.

    Attributes
    ----------
    call : Call
    stretch : str or None
        The stretch of the trunk that it is a step of; None within blocks.
    owned : list of Parameter
        Its weights, and the biases beside them: its own and those of modules inside it that are not
        called, as the projection of MultiheadAttention.
    """

    call: Call
    stretch: str | None
    owned: list[Parameter]

    @property
    def type(self) -> str:
        """Name of the module's class."""
        return type(self.call.module).__name__


def told(calls: list[Call], found: list[Parameter]) -> list[Told]:
    """Return the steps of a pass, in the order in which they return.

    Raises
    ------
    ValueError
        No module gave a tensor.
    """
    telling = {type(call.module) for call in within(calls) if call.has_output and not call.chains}
    blocks = _blocks(calls, telling)
    told_of = telling | blocks
    steps = [c for c in within(calls) if c.has_output and type(c.module) in told_of]
    if not steps:
        raise ValueError("model must return tensors of real numbers, or call modules that do")
    root = calls[0]
    if len(steps) > 1 and steps[-1] is root and root.left is steps[-2].left:
        steps.pop()  # it hands on what one inside gave
    stretches = _stretches(root, steps, blocks)
    owned = _owned(steps, found)
    return [Told(call, stretches.get(id(call)), owned.get(i, [])) for i, call in enumerate(steps)]


def _blocks(calls: list[Call], telling: set[type[nn.Module]]) -> set[type[nn.Module]]:
    """Return the classes of blocks, which are the trunk.

    They have others inside, and the model has several of the class. Where there are any, only those
    count that take what one of their class just gave: of two towers, the blocks inside. So do those
    with something to tell of themselves: of stages that chain residual blocks, these.
    """
    candidates = [
        call
        for call in within(calls)
        if call is not calls[0]
        and call.has_output
        and any(c.has_output for c in call.inside)
        and (type(call.module) in telling or _is_block(call))
    ]
    counts = Counter(type(call.module) for call in candidates)
    several = {kind for kind, count in counts.items() if count > 1}
    chained = {type(call.module) for call in candidates if call.follows}
    return (chained & telling) or chained or (several & telling) or several


def _is_block(call: Call) -> bool:
    """Return whether a module that only chains others is more than a container, or a wrapper."""
    return len(call.inside) > 1 and not isinstance(call.module, nn.Sequential)


def _stretches(root: Call, steps: list[Call], blocks: set[type[nn.Module]]) -> dict[int, str]:
    """Return the stretch of each step of the trunk.

    The outermost blocks are the trunk, a stretch for each class; without any, all modules that have
    none inside.
    """
    recorded = {id(call) for call in steps} - {id(root)}
    around = {id(call) for call in steps if any(id(c) in recorded for c in within(call.inside))}
    stretches: dict[int, str] = {}

    def look(calls: list[Call]) -> None:
        for call in calls:
            kind = type(call.module)
            if id(call) in recorded & around and kind in blocks:
                stretches[id(call)] = kind.__name__
            else:
                look(call.inside)

    look([root])
    return stretches or {id(call): "" for call in steps if id(call) not in around}


def _owned(steps: list[Call], found: list[Parameter]) -> dict[int, list[Parameter]]:
    """Return the weights and biases of each step by its position; only first calls have any."""
    positions: dict[nn.Module, int] = {}
    for i, call in enumerate(steps):
        positions.setdefault(call.module, i)
    owned: dict[int, list[Parameter]] = {}
    for parameter in found:
        place = parameter.places[0]
        called = [i for i, m in enumerate(place.lineage) if m in positions]
        if not called:
            continue
        owned.setdefault(positions[place.lineage[called[-1]]], []).append(parameter)
    return {
        i: [own for own in all_own if own.is_weight or "bias" in own.places[0].attribute]
        for i, all_own in owned.items()
        if any(own.is_weight for own in all_own)
    }
