"""What a model is called with: tensors, arrays, tuples of them, mappings by keyword."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from varprop.torch import _door

_KEPT = {torch.float32, torch.float64, torch.float16, torch.int64}  # that a run's file can hold


class Arguments:
    """What a model is called with, in each trial with copies of it.

    Attributes
    ----------
    first : Tensor or None
        The first tensor among them, whose first axis is the batch.
    leaf : Tensor or None
        Where the gradient by the inputs comes to be; None where the first is not of real numbers.
    """

    def __init__(self, inputs: Any, like: torch.Tensor, name: str = "inputs") -> None:
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}
        if isinstance(inputs, Mapping):
            self._kwargs = {str(k): _tensor(value, like) for k, value in inputs.items()}
        else:
            several = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
            self._args = tuple(_tensor(value, like) for value in several)
        tensors = [v for v in (*self._args, *self._kwargs.values()) if isinstance(v, torch.Tensor)]
        if not tensors:
            raise TypeError(f"{name} must hold a tensor or an array, got {inputs!r:.80}")
        self.first = tensors[0]
        if not self.first.numel():
            raise ValueError(f"{name} must not be empty, got shape {tuple(self.first.shape)}")
        real = self.first.is_floating_point()
        if real and not bool(torch.isfinite(self.first).all()):
            raise ValueError(f"{name} must be finite")
        self.leaf: torch.Tensor | None = None
        self._single = len(tensors) == 1

    def fresh(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments of their own, which a model may change in place."""
        return (
            tuple(self._copy(value) for value in self._args),
            {name: self._copy(value) for name, value in self._kwargs.items()},
        )

    def _copy(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        copied = value.detach().clone()
        if not value.is_floating_point():
            return copied
        copied.requires_grad_()
        if value is self.first:
            self.leaf = copied
        return copied.clone()  # no leaf, so that it may be changed in place

    def kept(self) -> int | NDArray[Any]:
        """Return the inputs as a run keeps them: of several tensors, how many examples."""
        if not self._single or self.first.dim() < 2 or self.first.dtype not in _KEPT:
            return len(self.first) if self.first.dim() else 1
        array = self.first.detach().cpu().numpy().transpose(_door.last_channels(self.first.dim()))
        return np.array(array, order="C")  # whatever becomes of the tensor


def _tensor(value: Any, like: torch.Tensor) -> Any:
    """Return an array as a tensor, where a parameter is and of its dtype if it has one."""
    if not isinstance(value, np.ndarray):
        return value
    dtype = like.dtype if value.dtype.kind == "f" else None
    return torch.as_tensor(np.array(value), dtype=dtype, device=like.device)
