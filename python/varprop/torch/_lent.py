"""A model lent for a while: given back to the bit, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from varprop.torch._names import Parameter


@contextmanager
def lent(model: nn.Module, found: list[Parameter], redrawn: set[str]) -> Iterator[Lent]:
    """Lend a model: its parameters may be written, its buffers and modes change, until the end.

    The parameters `redrawn` have memory of their own meanwhile, so that the model's own is never
    touched; all others, and the buffers, are copied first. Gradients are put aside.
    """
    kept = [(p.tensor, p.tensor.data, p.tensor.requires_grad, p.tensor.grad) for p in found]
    buffers = [(m, dict(m._buffers)) for m in model.modules()]
    memory = {id(b): (b, b.data) for _, own in buffers for b in own.values() if b is not None}
    modes = [(m, m.training) for m in model.modules()]
    with ExitStack() as stack:
        stack.callback(_give_back, kept, buffers, memory, modes)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(_cuda_devices(p.tensor for p in found)))
        stack.enter_context(_hooks_everywhere())
        for parameter in found:
            tensor = parameter.tensor
            fresh = torch.empty_like if parameter.name in redrawn else torch.clone
            tensor.data = fresh(tensor.data)
            tensor.requires_grad_(True)
            tensor.grad = None
        yield Lent([p.tensor for p in found], buffers, memory)


class Lent:
    """What has to begin anew in each trial."""

    def __init__(
        self,
        tensors: list[nn.Parameter],
        buffers: list[tuple[nn.Module, dict[str, torch.Tensor | None]]],
        memory: dict[int, tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        self._tensors, self._buffers, self._memory = tensors, buffers, memory

    def begin(self, random: int) -> None:
        """Put the buffers back, drop gradients, and seed torch's own generators."""
        for tensor in self._tensors:
            tensor.grad = None
        for module, own in self._buffers:
            module._buffers.clear()
            module._buffers.update(own)
        for buffer, data in self._memory.values():
            buffer.data = data.clone()
        torch.manual_seed(random)


def _give_back(
    kept: list[tuple[nn.Parameter, torch.Tensor, bool, torch.Tensor | None]],
    buffers: list[tuple[nn.Module, dict[str, torch.Tensor | None]]],
    memory: dict[int, tuple[torch.Tensor, torch.Tensor]],
    modes: list[tuple[nn.Module, bool]],
) -> None:
    for tensor, data, requires_grad, grad in kept:
        tensor.data = data
        tensor.requires_grad_(requires_grad)
        tensor.grad = grad
    for module, own in buffers:
        module._buffers.clear()
        module._buffers.update(own)
    for buffer, data in memory.values():
        buffer.data = data
    for module, training in modes:
        module.training = training


@contextmanager
def _hooks_everywhere() -> Iterator[None]:
    """Switch off the fast paths of attention, which call no modules."""
    mha: Any = getattr(torch.backends, "mha", None)
    if mha is None:
        yield
        return
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


def _cuda_devices(tensors: Iterable[torch.Tensor]) -> list[int]:
    return sorted({t.get_device() for t in tensors if t.is_cuda})
