"""When a model is trained by a step: hooks on all optimizers that hold parameters of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

Parameters = list[torch.Tensor]


class Steps:
    """Tells when a step begins, and of every optimizer before and after it moves parameters.

    Optimizers of different parameters make one step together, which ends where a parameter that has
    moved is to move again; so do an optimizer and the one that it wraps.

    Parameters
    ----------
    parameters : iterable of Tensor
        Of the model.
    begins : callable
        Called where a step begins.
    before, differentiated, after : callable
        Called with those of the parameters that an optimizer holds: before it moves them, when
        their gradients are there, after it has moved them.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        begins: Callable[[], None],
        before: Callable[[Parameters], None],
        differentiated: Callable[[Parameters], None],
        after: Callable[[Parameters], None],
    ) -> None:
        self._ids = {id(p) for p in parameters}
        self._begins, self._before, self._after = begins, before, after
        self._differentiated = differentiated
        self._moved: set[int] = set()  # parameters, in the present step
        self._begun = False
        self._known: WeakKeyDictionary[Optimizer, tuple[list[int], Parameters]] = (
            WeakKeyDictionary()
        )
        self._handles: list[Any] = []

    def start(self) -> bool:
        """Put the hooks on; return whether they are called: by torch 2.2 not after compiling."""
        self._handles = [
            register_optimizer_step_pre_hook(self._pre),
            register_optimizer_step_post_hook(self._post),
        ]
        called: list[object] = []
        probe = register_optimizer_step_pre_hook(lambda *args: called.append(args))
        torch.optim.SGD([torch.zeros(1)], lr=0.0).step()
        probe.remove()
        return bool(called)

    def stop(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _pre(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        held = self._held(optimizer)
        if not held:
            return
        if not self._begun or not self._moved.isdisjoint(map(id, held)):
            self._begun, self._moved = True, set()
            self._begins()
        self._before(held)
        if not _has_closure(args, kwargs):
            self._differentiated(held)

    def _post(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        held = self._held(optimizer)
        if not held:
            return
        self._moved.update(map(id, held))
        if _has_closure(args, kwargs):  # which has sent gradients back within the step
            self._differentiated(held)
        self._after(held)

    def _held(self, optimizer: Optimizer) -> Parameters:
        """Return the parameters of the model that an optimizer holds, looked up where it grows."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        known, held = self._known.get(optimizer, ([], []))
        if known != sizes:
            every = (p for group in optimizer.param_groups for p in group["params"])
            held = [p for p in every if id(p) in self._ids]
            self._known[optimizer] = sizes, held
        return held


def _has_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # Of a hook on all optimizers the optimizer itself is the first of the arguments.
    return any(callable(a) and not isinstance(a, Optimizer) for a in (*args, *kwargs.values()))
