"""What goes back from a model's output: standard normals, or the gradient of a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (as torch's own documents have it)
from numpy.typing import NDArray

from varprop import _loss, _spec
from varprop._weights import weights
from varprop.torch import _door
from varprop.torch._profile.watch import first_tensor

Loss = str | Callable[..., torch.Tensor]

_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": F.mse_loss,
    "softmax_cross_entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy,
}


class Objective:
    """A loss, its targets, and the seed of what is drawn for them."""

    def __init__(self, loss: Loss | None, targets: Any, seed: int) -> None:
        self.loss: Any = "gaussian" if loss is None else loss
        if isinstance(self.loss, str) and self.loss not in _loss.TENSORS:
            raise _spec.unknown("loss", self.loss, _loss.TENSORS)
        if not isinstance(self.loss, str) and not callable(self.loss):
            raise TypeError(f"loss must be a name or a function, got {type(loss).__name__}")
        if self.loss == "gaussian" and targets is not None:
            raise ValueError("targets must be None for loss 'gaussian', which compares with none")
        named = isinstance(self.loss, str) and targets is not None
        if isinstance(targets, np.ndarray) or (named and not isinstance(targets, torch.Tensor)):
            targets = torch.as_tensor(np.array(targets))
        self.targets = targets
        self._seed = seed

    @property
    def name(self) -> str:
        """The name of the loss, or its function's."""
        if isinstance(self.loss, str):
            return self.loss
        return str(getattr(self.loss, "__name__", type(self.loss).__name__))

    def kept(self) -> NDArray[Any] | None:
        """Return given targets as a run keeps them, None where they are no numbers."""
        if not isinstance(self.targets, torch.Tensor):
            return None
        given = self.targets.detach().cpu()
        kept = given.double() if given.is_floating_point() else given.long()
        return np.array(kept.numpy())

    def backward(self, output: Any, trial: int) -> None:
        """Send gradients back from a model's output.

        Raises
        ------
        ValueError
            The output holds no tensor, nothing that gradients could go back through, or is of a
            shape that the targets are not.
        """
        if not isinstance(self.loss, str):
            value = self.loss(output) if self.targets is None else self.loss(output, self.targets)
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise ValueError(f"loss must return one number, a tensor, got {value!r:.80}")
            _check_way_back(value, "loss")
            value.backward()  # type: ignore[no-untyped-call]
            return
        tensor = first_tensor(output)
        if tensor is None:
            raise ValueError(f"model must return a tensor, got {type(output).__name__}")
        _check_way_back(tensor, "model")
        if self.loss == "gaussian":
            tensor.backward(self._drawn("normal", tensor, trial))  # type: ignore[no-untyped-call]
        else:
            self._named(self.loss, tensor, trial).backward()  # type: ignore[no-untyped-call]

    def _named(self, loss: str, output: torch.Tensor, trial: int) -> torch.Tensor:
        if loss == "softmax_cross_entropy":
            targets = self._classes(output, trial)
            output = output.reshape(-1, output.shape[-1])
        elif self.targets is None:
            law = "normal" if loss == "mse" else "uniform(-1, 1)"
            targets = self._drawn(law, output, trial)
            targets = targets if loss == "mse" else (targets > 0).to(output.dtype)
        else:
            targets = self._given([tuple(output.shape)]).to(output.dtype)
        return _LOSSES[loss](output, targets.to(output.device))

    def _classes(self, output: torch.Tensor, trial: int) -> torch.Tensor:
        """Return labels, or probabilities, of all positions of an output in one row."""
        shape = tuple(output.shape)
        if len(shape) < 2 or shape[-1] < 2:
            raise ValueError(
                f"loss {self.name!r} needs outputs of at least 2 classes, on the last axis, got "
                f"shape {shape}"
            )
        if self.targets is None:
            return self._labels(output.reshape(-1, shape[-1]), trial)
        given = self._given([shape[:-1], shape])
        if given.dim() == len(shape):
            return given.reshape(-1, shape[-1]).to(output.dtype)
        if given.is_floating_point():
            raise TypeError(f"targets of shape {shape[:-1]} must be integers, got {given.dtype}")
        return given.reshape(-1).long()

    def _given(self, shapes: list[tuple[int, ...]]) -> torch.Tensor:
        """Return the given targets, or the error of a shape that does not fit."""
        given: torch.Tensor = self.targets
        if tuple(given.shape) not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise ValueError(
                f"targets must have shape {wanted} for loss {self.name!r}, got {tuple(given.shape)}"
            )
        return given

    def _labels(self, output: torch.Tensor, trial: int) -> torch.Tensor:
        rows, classes = output.shape
        share = (self._numbers("uniform(-1, 1)", (rows,), output, trial).astype(np.float64) + 1) / 2
        return torch.as_tensor(np.minimum((share * classes).astype(np.int64), classes - 1))

    def _drawn(self, law: str, like: torch.Tensor, trial: int) -> torch.Tensor:
        """Return drawn numbers of an output's shape: those that simulate draws, images permuted."""
        axes = _door.last_channels(like.dim())
        shape = tuple(like.shape[axis] for axis in axes)
        drawn = torch.as_tensor(self._numbers(law, shape, like, trial))
        return drawn.permute(*np.argsort(axes).tolist()).to(like.device, like.dtype)

    def _numbers(
        self, law: str, shape: tuple[int, ...], like: torch.Tensor, trial: int
    ) -> NDArray[Any]:
        dtype = "float64" if like.dtype == torch.float64 else "float32"
        name = _loss.TENSORS[self.name]
        return weights(shape, law, seed=self._seed, name=name, trial=trial, dtype=dtype)


def _check_way_back(tensor: torch.Tensor, what: str) -> None:
    if not tensor.requires_grad:
        raise ValueError(f"{what} must return a tensor that gradients go back from: it has no past")
