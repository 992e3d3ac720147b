"""Hooks that hear a model's passes: those of a batch given, and the training's own.

Training must not change by a bit: hooks here change no argument and no graph, unlike those of a
profile; the gradient by a tensor is that of all that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from varprop import _catalogue
from varprop.activations import ActivationFunction
from varprop.torch._convert import activations
from varprop.torch._convert.readers import kind_of
from varprop.torch._monitor.signal import Shares, Signal, shares
from varprop.torch._profile.arguments import Arguments
from varprop.torch._profile.lent import lent
from varprop.torch._profile.trunk import Told, told
from varprop.torch._profile.watch import Call, Seen, Watch, _Look, _Value, within

_SEED = 0  # of dropout, where a batch is pushed through


class Heard(NamedTuple):
    """What left a layer, or came back to it."""

    name: str
    type: str
    signal: Signal


class Listener(Watch):
    """Hears what modules give while :meth:`forward` runs, and what enters activations.

    Parameters
    ----------
    model : Module
    wanted : collection of Module
        Of others no numbers are taken.
    statistics : tuple of str
    forward : bool
        Whether to take numbers going forward.
    """

    def __init__(
        self,
        model: nn.Module,
        wanted: Collection[nn.Module],
        statistics: tuple[str, ...],
        forward: bool = True,
    ) -> None:
        super().__init__(model)
        self._wanted, self._forward = wanted, forward
        self._histogram = "histogram" in statistics
        self._slopes = forward and any(text.startswith("saturation") for text in statistics)
        self._threshold = _catalogue.threshold(statistics)
        self._shares: dict[int, tuple[Call, Shares]] = {}  # by the call's id

    def heard(self, calls: list[Call]) -> list[Told]:
        """Return the calls of a pass that are layers and wanted, in the order of their return."""
        if not any(call.has_output for call in within(calls)):
            return []
        return [step for step in told(calls, []) if step.call.module in self._wanted]

    def left(self, steps: list[Told]) -> list[Heard]:
        """Return what left layers, with the shares of their slopes."""
        found = []
        for step in steps:
            signal, known = step.call.left, self._shares.get(id(step.call))
            assert isinstance(signal, Signal)
            signal = signal if known is None else signal.with_shares(known[1])
            found.append(Heard(step.call.name, step.type, signal))
        return found

    def returned(self, steps: list[Told]) -> list[Heard]:
        """Return the gradients that came back to layers."""
        found = []
        for step in steps:
            signal = step.call.returned
            signal = signal if isinstance(signal, Signal) else Signal(self._histogram)
            found.append(Heard(step.call.name, step.type, signal))
        return found

    def _enters(
        self, call: Call, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        del args, kwargs
        if self._slopes and self._watching and call.module in self._wanted:
            function = function_of(call.module)
            if function is not None:
                self._shares[id(call)] = call, shares(function, tensor, self._threshold)
        if tensor.requires_grad and torch.is_grad_enabled():
            call.returned = self._returned(call, tensor)

    def _seen(self, call: Call, tensor: torch.Tensor) -> Seen:
        value = _Value.of(tensor)
        if self._latest is None or not self._latest.value.is_still(value):
            self._latest = _Look(value, Signal(self._histogram))
        seen = self._latest.seen
        if self._forward and call.module in self._wanted and not seen.moments.count:
            seen.add(tensor)
        return seen

    def _returned(self, call: Call, tensor: torch.Tensor) -> Seen | None:
        if not tensor.requires_grad or call.module not in self._wanted:
            return None
        look = self._latest if self._watching else None
        if look is not None and look.returned is not None:
            return look.returned
        seen = Signal(self._histogram)
        hook = partial(self._came_back, seen)
        self._taps.append(tensor.register_hook(hook))  # type: ignore[no-untyped-call]
        if look is not None:
            look.returned = seen
        return seen

    def _came_back(self, seen: Seen, gradient: torch.Tensor) -> None:
        if not self._watching and isinstance(seen, Signal):
            seen.take(gradient.to_dense() if gradient.is_sparse else gradient)


class Ear(Listener):
    """Hears the passes that the user's own loop makes, while it is entered.

    Attributes
    ----------
    passes : list of list of Call
        The passes with gradients on, first to last. A pass is what is called until the model, or
        a module outermost in it already, is called anew.
    full : bool
        Whether no more passes are to be heard.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.passes: list[list[Call]] = []
        self.full = False
        self._outermost: set[nn.Module] = set()

    def latest(self) -> list[Told]:
        """Return the layers of the last pass that gradients came back through, or of the last."""
        for calls in reversed(self.passes):
            steps = self.heard(calls)
            if any(s.call.returned and s.call.returned.moments.count for s in steps):
                return steps
        return self.heard(self.passes[-1]) if self.passes else []

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stale = self._watching and module is self._model  # an exception left the last pass
        listens = not self.full and torch.is_grad_enabled() and not on_way_back()
        if listens and (stale or not self._watching):
            if stale or module is self._model or module in self._outermost or not self.passes:
                self.calls, self._counts, self._outermost = [], {}, set()
                self.passes.append(self.calls)
            self._frames, self._latest = [], None
            self._outermost.add(module)
            self._watching = True
        return super()._before(module, args, kwargs)

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        super()._after(module, args, kwargs, output)
        if self._watching and not self._frames:
            self._watching, self._latest = False, None

    def __deepcopy__(self, memo: dict[int, Any]) -> Ear:
        del memo
        return _without_hearing()

    def __reduce__(self) -> tuple[Callable[[], Ear], tuple[()]]:
        return _without_hearing, ()


def _without_hearing() -> Ear:
    """Return what the hooks of a copied or a saved model are bound to: nothing that listens."""
    ear = Ear.__new__(Ear)
    ear.full, ear._watching, ear._blind = True, False, {}
    return ear


def pushed(
    model: nn.Module, on: Arguments, wanted: Collection[nn.Module], statistics: tuple[str, ...]
) -> list[Heard]:
    """Call a model, without gradients, and put it back as it was; return what left its layers."""
    with lent(model, [], set()) as loan, torch.no_grad():
        loan.begin(_SEED)
        listener = Listener(model, wanted, statistics)
        with listener:
            args, kwargs = on.fresh()
            listener.forward(args, kwargs)
            return listener.left(listener.heard(listener.calls))


def on_way_back() -> bool:
    """Return whether autograd is at work, as where a checkpoint calls modules again."""
    return torch._C._current_graph_task_id() != -1


def function_of(module: nn.Module) -> ActivationFunction | None:
    """Return the activation function of a module, None of one that varprop does not know."""
    try:
        kind = kind_of(module)
        return activations.of_module(module, kind) if kind in activations.TYPES else None
    except ValueError:
        return None
