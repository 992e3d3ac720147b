"""Taps on the way back: the gradient by a tensor as it is now, whatever changes it in place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.autograd import grad_mode

Tell = Callable[[torch.Tensor], None]


def tap(tensor: torch.Tensor, tell: Tell) -> Any:
    """Have the gradient by a tensor told on its way back; return a handle to undo it, or None."""
    if tensor._is_view() and not tensor.is_leaf:
        # Hooks of a view are lost where it is changed in place later: then its own past is another.
        try:
            with unchanged(tensor):
                _InPlace.apply(tensor, tell)  # type: ignore[no-untyped-call]
            return None
        except RuntimeError:  # one among several views of a split, which nothing may change
            pass
    return tensor.register_hook(tell)  # type: ignore[no-untyped-call]


def tapped(tensor: torch.Tensor, tell: Tell) -> torch.Tensor:
    """Return another name for a tensor, of the same memory: the gradient through it is told."""
    named: torch.Tensor = _Named.apply(tensor, tell)  # type: ignore[no-untyped-call]
    return named


def unchanged(tensor: torch.Tensor) -> AbstractContextManager[None]:
    """Put autograd's count of a tensor's changes in place back afterwards."""
    kept: AbstractContextManager[None] = grad_mode._unsafe_preserve_version_counter(tensor)
    return kept


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, tell: Tell) -> torch.Tensor:
        ctx.tell = tell
        ctx.mark_dirty(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        ctx.tell(gradient)
        return gradient, None


class _Named(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, tell: Tell) -> torch.Tensor:
        ctx.tell = tell
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        ctx.tell(gradient)
        return gradient, None
