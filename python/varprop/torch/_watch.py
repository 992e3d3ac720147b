"""Hooks on a model: which modules a pass calls, what left each, what came back to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from varprop._moments import Moments
from varprop.torch import _door
from varprop.torch._defaults import is_norm
from varprop.torch._names import modules


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
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] = ()
    pointwise: bool = False
    entered: Seen = field(default_factory=Seen)
    left: Seen = field(default_factory=Seen)
    returned: Seen | None = None
    inside: list[Call] = field(default_factory=list)
    chains: bool = False
    """Whether it only hands on what its calls inside give: it has nothing of its own to tell."""
    has_output: bool = False
    """Whether what left it is a tensor."""


@dataclass
class _Value:
    """A tensor as it was at a time, before whatever changes it in place."""

    tensor: torch.Tensor
    version: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Value:
        return cls(tensor, tensor._version)

    def is_still(self, other: _Value) -> bool:
        return self.tensor is other.tensor and self.version == other.version


@dataclass
class _Frame:
    """A call that has not come back yet."""

    call: Call
    entered: _Value | None
    handle: Any = None  # of the hook for the gradient by what entered
    ends: list[tuple[_Value | None, _Value | None]] = field(default_factory=list)


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
            self._names.setdefault(lineage[-1], name or type(model).__name__)
        self._counts: dict[nn.Module, int] = {}
        self._frames: list[_Frame] = []
        self._latest: tuple[_Value, Seen] | None = None
        self._handles: list[Any] = []
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
        for handle in self._handles:
            handle.remove()

    def forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the model, and remember its calls; hooks of what runs later see nothing."""
        self.calls, self._frames, self._counts, self._latest = [], [], {}, None
        self._watching = True
        try:
            return self._model(*args, **kwargs)
        finally:
            self._watching = False
            self._frames, self._latest = [], None

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._watching:
            return None
        count = self._counts[module] = self._counts.get(module, 0) + 1
        name = self._names[module]
        call = Call(name if count == 1 else f"{name}:{count}", module)
        tensor = first_tensor((args, kwargs))
        frame = _Frame(call, None if tensor is None else _Value.of(tensor))
        self._frames.append(frame)
        if tensor is None or not _may_be_pointwise(module) or first_tensor(args) is not tensor:
            return None
        call.pointwise, call.shape = True, tuple(tensor.shape)
        call.entered = self._seen(tensor)
        if not tensor.requires_grad:
            return None
        # Another name for what enters, so that the gradient is that through this module alone.
        alias = tensor.view_as(tensor)
        call.returned = Seen()
        frame.handle = alias.register_hook(call.returned.add)  # type: ignore[no-untyped-call]
        return _replaced(args, tensor, alias), kwargs

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        del args, kwargs
        if not self._watching or all(f.call.module is not module for f in self._frames):
            return
        frame = self._frames.pop()
        while frame.call.module is not module:  # left by an exception that was caught
            frame = self._frames.pop()
        call, tensor = frame.call, first_tensor(output)
        left = None if tensor is None else _Value.of(tensor)
        if tensor is not None:
            call.has_output, call.chains = True, _chains(frame, left)
            call.left = self._seen(tensor)
            if call.pointwise and tuple(tensor.shape) != call.shape:  # a pool, a reshaping
                call.pointwise, call.returned = False, None
                if frame.handle is not None:
                    frame.handle.remove()
            call.shape = tuple(tensor.shape)
            if not call.pointwise:
                call.entered = call.left
                if tensor.requires_grad:
                    call.returned = Seen()
                    tensor.register_hook(call.returned.add)  # type: ignore[no-untyped-call]
        above = self._frames[-1] if self._frames else None
        if tensor is not None or call.inside:
            (self.calls if above is None else above.call.inside).append(call)
        if above is not None:
            above.ends.append((frame.entered, left))

    def _seen(self, tensor: torch.Tensor) -> Seen:
        """Return the numbers of a tensor, of one that has just been looked at those of then."""
        value = _Value.of(tensor)
        if self._latest is not None and self._latest[0].is_still(value):
            return self._latest[1]
        seen = Seen()
        seen.add(tensor)
        self._latest = value, seen
        return seen


def first_tensor(value: Any) -> torch.Tensor | None:
    """Return the first tensor of real numbers within tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        return value if value.dtype in _door.DTYPES else None
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return None
    found = (first_tensor(item) for item in value)
    return next((tensor for tensor in found if tensor is not None), None)


def within(calls: list[Call]) -> Iterator[Call]:
    """Yield calls in the order in which they came back: those inside before the one around."""
    for call in calls:
        yield from within(call.inside)
        yield call


def _may_be_pointwise(module: nn.Module) -> bool:
    """Return whether a module may treat numbers in place: nothing inside it, nothing to learn."""
    if isinstance(module, nn.PReLU) or is_norm(module):
        return True
    return not module._modules and not module._parameters


def _chains(frame: _Frame, left: _Value | None) -> bool:
    """Return whether each call inside starts with what the one before it gave, and so on."""
    before = frame.entered
    for entered, given in frame.ends:
        if before is None or entered is None or given is None or not before.is_still(entered):
            return False
        before = given
    return bool(frame.ends) and left is not None and before is not None and before.is_still(left)


def _replaced(args: tuple[Any, ...], old: torch.Tensor, new: torch.Tensor) -> tuple[Any, ...]:
    """Return arguments with another tensor in the place of one among them."""
    return tuple(new if item is old else item for item in args)
