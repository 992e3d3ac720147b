"""A model lent for a while: given back to the bit, whatever happens meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from varprop.torch._names import Parameter
from varprop.torch._profile.taps import unchanged


@contextmanager
def lent(model: nn.Module, found: list[Parameter], redrawn: set[str]) -> Iterator[Lent]:
    """Lend a model: its parameters may be written, its state may change, until the end.

    Parameters and buffers have memory of their own meanwhile, so that the model's own is never
    touched; of those `redrawn` with any values, of all others with copies. Gradients are put aside.
    """
    loan = Lent(model, found, redrawn)
    with ExitStack() as stack:
        for tensor in loan.tensors:  # autograd's count of changes in place, which are ours
            stack.enter_context(unchanged(tensor))
        stack.push(loan.give_back)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(loan.devices))
        stack.enter_context(_hooks_everywhere())
        loan.start()
        yield loan


class Lent:
    """A model as it was, and what has to begin anew in each trial."""

    def __init__(self, model: nn.Module, found: list[Parameter], redrawn: set[str]) -> None:
        self._parameters = [(p.tensor, _Kept(p.tensor)) for p in found]
        self._modules = [_State(module) for module in model.modules()]
        self._memory: dict[torch.Tensor, torch.Tensor] = {
            p.tensor: p.tensor.data for p in found if p.name not in redrawn
        }
        self.devices = _cuda_devices(model)
        self._redrawn = [p.tensor for p in found if p.name in redrawn]
        for state in self._modules:
            self._memory |= {b: b.data for b in state.buffers.values() if b is not None}

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All parameters and buffers."""
        every = dict.fromkeys([*self._redrawn, *self._memory])
        return [tensor for tensor in every if not tensor.is_inference()]

    def start(self) -> None:
        """Give the parameters that are redrawn memory of their own."""
        for tensor in self._redrawn:
            tensor.data = torch.empty_like(tensor.data)

    def begin(self, random: int) -> None:
        """Put the state back, drop gradients, and seed torch's own generators."""
        for state in self._modules:
            state.put_back()
        for kept, data in self._memory.items():
            kept.data = data.clone()
        for tensor, _ in self._parameters:
            tensor.grad = None
            tensor.requires_grad_(True)
        torch.default_generator.manual_seed(random)
        for device in self.devices:
            torch.cuda.default_generators[device].manual_seed(random)

    def give_back(self, *_: object) -> None:
        """Put all back."""
        try:
            self._put_back()
        except KeyboardInterrupt:
            self._put_back()
            raise

    def _put_back(self) -> None:
        for state in self._modules:
            state.put_back()
        for buffer, data in self._memory.items():
            buffer.data = data
        for tensor, kept in self._parameters:
            kept.put_back(tensor)


class _Kept:
    """What a parameter is besides its name."""

    def __init__(self, tensor: nn.Parameter) -> None:
        self._data, self._grad = tensor.data, tensor.grad
        self._requires_grad, self._hooks = tensor.requires_grad, tensor._backward_hooks

    def put_back(self, tensor: nn.Parameter) -> None:
        tensor.data = self._data
        tensor.requires_grad_(self._requires_grad)
        tensor.grad, tensor._backward_hooks = self._grad, self._hooks


class _State:
    """What a module holds: its parameters and buffers by name, its mode, attributes of its own."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._training = module, module.training
        self._attributes = dict(vars(module))
        self._parameters, self.buffers = dict(module._parameters), dict(module._buffers)

    def put_back(self) -> None:
        own = vars(self._module)
        own.update(self._attributes)
        for name in own.keys() - self._attributes.keys():
            del own[name]
        _refill(self._module._parameters, self._parameters)
        _refill(self._module._buffers, self.buffers)
        self._module.training = self._training


def _refill(held: dict[str, Any], before: dict[str, Any]) -> None:
    held.clear()
    held.update(before)


@contextmanager
def _hooks_everywhere() -> Iterator[None]:
    """Switch off what calls no hooks: the fast paths of attention, and compiled code."""
    mha: Any = getattr(torch.backends, "mha", None)
    with ExitStack() as stack:
        if mha is not None:
            stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
            mha.set_fastpath_enabled(False)
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({t.get_device() for t in model.parameters() if t.is_cuda})
