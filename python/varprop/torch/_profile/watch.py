"""Hooks on a model: which modules a pass calls, what left each, what came back to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from varprop._moments import Moments
from varprop.torch import _door
from varprop.torch._defaults import is_norm
from varprop.torch._names import modules
from varprop.torch._profile.taps import tap, tapped

_is_wrapped: Callable[[torch.Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor


class Seen:
    """The numbers of a signal in one trial."""

    def __init__(self) -> None:
        self.moments = Moments()

    def add(self, tensor: torch.Tensor) -> None:
        """Add a tensor's numbers, read where they are."""
        _door.observe(tensor, self.moments)


@dataclass
class Call:
    """One call of a module.

    Attributes
    ----------
    name : str
        Qualified name of the module, with ":2" for its second call ...
    module : Module
    entered, left : Seen
        What its pre-activations are, and its activations: of most modules the same.
    returned : Seen or None
        The gradient by its pre-activations; None where none can come.
    inside : list of Call
        The calls that it made.
    took : Seen or None
        Of a module with others inside, what entered it.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] = ()
    pointwise: bool = False
    entered: Seen = field(default_factory=Seen)
    left: Seen = field(default_factory=Seen)
    returned: Seen | None = None
    inside: list[Call] = field(default_factory=list)
    took: Seen | None = None
    chains: bool = False
    """Whether it only hands on what its calls inside give: it has nothing of its own to tell."""
    follows: bool = False
    """Whether it takes what a call of its own class just before it gave."""
    has_output: bool = False
    """Whether what left it is a tensor."""


@dataclass
class _Value:
    """A tensor as it was at a time, before whatever changes it in place."""

    tensor: torch.Tensor
    version: int | None

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Value:
        return cls(tensor, None if tensor.is_inference() else tensor._version)

    def is_still(self, other: _Value) -> bool:
        same = self.tensor is other.tensor and self.version == other.version
        return same and self.version is not None


@dataclass
class _Look:
    """The last tensor whose numbers were taken, for another module that has the same."""

    value: _Value
    seen: Seen
    returned: Seen | None = None


@dataclass
class _End:
    """What a call that has come back took and gave."""

    module: nn.Module
    entered: _Value | None
    left: _Value | None


@dataclass
class _Frame:
    """A call that has not come back yet."""

    call: Call
    entered: _Value | None  # the first tensor, if it is of real numbers
    ends: list[_End] = field(default_factory=list)


class Watch:
    """Watches the passes of a model; a context, which takes its hooks off again.

    Attributes
    ----------
    calls : list of Call
        Those of the last pass, outermost; of one that a model is itself, that one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[Call] = []
        self._model = model
        self._names: dict[nn.Module, str] = {}
        for name, lineage in modules(model):
            if any(isinstance(module, ParametrizationList) for module in lineage):
                continue  # they make parameters, not signals
            self._names.setdefault(lineage[-1], name or type(model).__name__)
        self._counts: dict[nn.Module, int] = {}
        self._frames: list[_Frame] = []
        self._latest: _Look | None = None
        self._latest_back: tuple[_Value, Seen] | None = None
        self._handles: list[Any] = []
        self._taps: list[Any] = []
        self._blind: dict[nn.Module, list[Call]] = {}  # calls within torch.no_grad()
        self._watching = False

    def __enter__(self) -> Watch:
        for module in self._names:
            self._handles += [
                module.register_forward_pre_hook(self._before, with_kwargs=True),
                module.register_forward_hook(self._after, with_kwargs=True),
            ]
        return self

    def __exit__(self, *_: object) -> None:
        self._watching = False
        self._forget()
        for handle in self._handles:
            handle.remove()

    def forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the model, and remember its calls; hooks of what runs later see nothing."""
        self._forget()
        self.calls, self._frames, self._counts = [], [], {}
        self._watching = True
        try:
            return self._model(*args, **kwargs)
        finally:
            self._watching = False
            self._frames, self._latest = [], None

    def _forget(self) -> None:
        """Let go of the tensors of the last pass."""
        self._latest = self._latest_back = None
        self._blind = {}
        for handle in self._taps:
            handle.remove()
        self._taps.clear()

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._watching:
            again, tensor = self._again(module), first_tensor(args)
            if again is None or tensor is None or not again.pointwise:
                return None
            return self._enters(again, tensor, args, kwargs)
        count = self._counts[module] = self._counts.get(module, 0) + 1
        name = self._names[module]
        call = Call(name if count == 1 else f"{name}:{count}", module)
        every = list(tensors((args, kwargs)))
        entering = [tensor for tensor in every if _is_signal(tensor)]
        tensor = entering[0] if entering else None
        main = None if tensor is None or every[0] is not tensor else _Value.of(tensor)
        self._frames.append(_Frame(call, main))
        if module._modules and main is not None:
            call.took = self._seen(call, main.tensor)
        if not torch.is_grad_enabled():
            self._blind.setdefault(module, []).append(call)
        alone = len(entering) == 1 and any(item is tensor for item in args)
        if tensor is None or not alone or not _may_be_pointwise(module):
            return None
        call.pointwise, call.shape = True, tuple(tensor.shape)
        call.entered = self._seen(call, tensor)
        return self._enters(call, tensor, args, kwargs)

    def _enters(
        self, call: Call, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """See the gradient by what enters a pointwise module; return the arguments for it."""
        if not (tensor.requires_grad and torch.is_grad_enabled()):
            return None
        if getattr(call.module, "inplace", False):
            call.returned = self._returned(call, tensor)
            return None
        # Another name for what enters, so that the gradient is that through this module alone.
        call.returned = Seen()
        alias = tapped(tensor, partial(self._came_back, call.returned))
        if self._watching:
            self._latest = _Look(_Value.of(alias), call.entered)
        return tuple(alias if item is tensor else item for item in args), kwargs

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        del args, kwargs
        if not self._watching:
            again, tensor = self._again(module), first_tensor(output)
            if again is not None and not again.pointwise and tensor is not None:
                again.returned = self._returned(again, tensor)
            return
        if all(f.call.module is not module for f in self._frames):
            return
        frame = self._frames.pop()
        while frame.call.module is not module:  # left by an exception that was caught
            frame = self._frames.pop()
        call, tensor = frame.call, first_tensor(output)
        left = None if tensor is None else _Value.of(tensor)
        if tensor is not None:
            call.has_output, call.chains = True, _chains(frame, left)
            call.left = self._seen(call, tensor)
            if tuple(tensor.shape) != call.shape:  # a pool, a reshaping
                call.pointwise, call.shape = False, tuple(tensor.shape)
            if not call.pointwise:
                call.entered, call.returned = call.left, self._returned(call, tensor)
        above = self._frames[-1] if self._frames else None
        if tensor is not None or call.inside:
            (self.calls if above is None else above.call.inside).append(call)
        if above is not None:
            end = _End(module, frame.entered, left)
            call.follows = bool(above.ends) and _follows(above.ends[-1], end)
            above.ends.append(end)

    def _seen(self, call: Call, tensor: torch.Tensor) -> Seen:
        """Return the numbers of a tensor, of one that has just been looked at those of then."""
        del call
        value = _Value.of(tensor)
        if self._latest is None or not self._latest.value.is_still(value):
            self._latest = _Look(value, Seen())
            self._latest.seen.add(tensor)
        return self._latest.seen

    def _returned(self, call: Call, tensor: torch.Tensor) -> Seen | None:
        """Return what will have the gradient by a tensor, of one just looked at the same again."""
        del call
        if not tensor.requires_grad:
            return None
        look = self._latest if self._watching else None
        if look is not None and look.returned is not None:
            return look.returned
        seen = Seen()
        handle = tap(tensor, partial(self._came_back, seen))
        if handle is not None:
            self._taps.append(handle)
        if look is not None:
            look.returned = seen
        return seen

    def _again(self, module: nn.Module) -> Call | None:
        """Return the call that a checkpoint makes again on the way back, to see its gradient."""
        blind = self._blind.get(module, [])
        return blind[0] if len(blind) == 1 and torch.is_grad_enabled() else None

    def _came_back(self, seen: Seen, gradient: torch.Tensor) -> None:
        if self._watching:  # within the pass: a model that differentiates
            return
        value = _Value.of(gradient)
        if self._latest_back is None or not self._latest_back[0].is_still(value):
            fresh = Seen()
            fresh.add(gradient)
            self._latest_back = value, fresh
        seen.moments = self._latest_back[1].moments


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors within tuples, lists, mappings and dataclasses."""
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, Mapping):
        value = value.values()
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, one.name) for one in fields(value)]
    elif not isinstance(value, (tuple, list)):
        return
    for item in value:
        yield from tensors(item)


def first_tensor(value: Any) -> torch.Tensor | None:
    """Return the first tensor of real numbers within a value."""
    return next(filter(_is_signal, tensors(value)), None)


def _is_signal(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds real numbers in memory of its own, as none does in vmap."""
    plain = tensor.layout == torch.strided and not tensor.is_nested and not _is_wrapped(tensor)
    return plain and tensor.dtype in _door.DTYPES and tensor.numel() > 0


def within(calls: list[Call]) -> Iterator[Call]:
    """Yield calls in the order in which they came back: those inside before the one around."""
    for call in calls:
        yield from within(call.inside)
        yield call


def _may_be_pointwise(module: nn.Module) -> bool:
    """Return whether a module may treat numbers in place: nothing inside it, nothing to learn."""
    if module._modules:
        return False
    return isinstance(module, nn.PReLU) or is_norm(module) or not module._parameters


def _chains(frame: _Frame, left: _Value | None) -> bool:
    """Return whether each call inside starts with what the one before it gave, and so on."""
    before = frame.entered
    if isinstance(frame.call.module, nn.Sequential) and not frame.call.module._modules:
        return True  # an empty one, as of a residual block without a projection
    for end in frame.ends:
        if before is None or end.entered is None or not before.is_still(end.entered):
            return False
        before = end.left
    return bool(frame.ends) and left is not None and before is not None and before.is_still(left)


def _follows(before: _End, after: _End) -> bool:
    """Return whether a call takes what one of the same class gave."""
    if before.left is None or after.entered is None:
        return False
    return type(before.module) is type(after.module) and before.left.is_still(after.entered)
