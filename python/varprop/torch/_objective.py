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
from varprop.torch._watch import first_tensor

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
        self.targets = torch.as_tensor(targets) if isinstance(targets, np.ndarray) else targets
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
        return (
            self.targets.detach().cpu().double().numpy()
            if (self.targets.is_floating_point())
            else self.targets.detach().cpu().long().numpy()
        )

    def backward(self, output: Any, trial: int) -> None:
        """Send gradients back from a model's output.

        Raises
        ------
        ValueError
            The output holds no tensor, or nothing that gradients could go back through.
        """
        tensor = first_tensor(output)
        if tensor is None:
            raise ValueError(f"model must return a tensor, got {type(output).__name__}")
        if not isinstance(self.loss, str):
            value = self.loss(output) if self.targets is None else self.loss(output, self.targets)
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise ValueError(f"loss must return one number, a tensor, got {value!r:.80}")
            value.backward()  # type: ignore[no-untyped-call]
        elif self.loss == "gaussian":
            tensor.backward(self._drawn("normal", tensor, trial))  # type: ignore[no-untyped-call]
        else:
            self._named(self.loss, tensor, trial).backward()  # type: ignore[no-untyped-call]

    def _named(self, loss: str, output: torch.Tensor, trial: int) -> torch.Tensor:
        targets = self.targets
        if loss == "softmax_cross_entropy":
            output = output.reshape(-1, output.shape[-1])
            if targets is None:
                targets = self._labels(output, trial)
            else:
                targets = targets.reshape(-1) if not targets.is_floating_point() else targets
        elif targets is None:
            law = "normal" if loss == "mse" else "uniform(-1, 1)"
            targets = self._drawn(law, output, trial)
            targets = targets if loss == "mse" else (targets > 0).to(output.dtype)
        return _LOSSES[loss](output, targets.to(output.device))

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
