"""Modules of varprop's layers that PyTorch has none of.

Images are (batch, channels, height, width).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "Bias",
    "Erf",
    "Flatten",
    "GlobalAvgPool",
    "LayerNorm",
    "RMSNorm",
    "Residual",
    "SameConv2d",
    "Scale",
    "Sin",
    "SquaredReLU",
]


class Residual(nn.Sequential):
    """A branch beside a skip: ``skip_scale * x + branch_scale * f(x)``.

    Parameters
    ----------
    branch : dict of str to Module
        The modules of f, one after the other.
    branch_scale, skip_scale : float

    Examples
    --------
    >>> block = Residual({"fc": nn.Linear(3, 3)}, branch_scale=0.0)
    >>> block(torch.ones(1, 3)).tolist(), [name for name, _ in block.named_parameters()]
    ([[1.0, 1.0, 1.0]], ['fc.weight', 'fc.bias'])
    """

    def __init__(
        self, branch: dict[str, nn.Module], branch_scale: float = 1.0, skip_scale: float = 1.0
    ) -> None:
        super().__init__(OrderedDict(branch))
        self.branch_scale, self.skip_scale = branch_scale, skip_scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both ways."""
        branch = x
        for module in self:
            branch = module(branch)
        return self.skip_scale * x + self.branch_scale * branch


class Scale(nn.Module):
    """Multiplication by a number that is not learnt."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return factor x."""
        return self.factor * x

    def extra_repr(self) -> str:
        """Return what stands between the brackets."""
        return f"{self.factor:g}"


class Bias(nn.Module):
    """Addition of a vector to the features, or to the channels of an image; it begins as zeros."""

    def __init__(
        self, size: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + b."""
        return x + _by_channel(self.bias, x)


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the channels of an image, at every position; or over features.

    torch's own is over the last axis, which is the width of an image.
    """

    def __init__(self, size: int, eps: float = 1e-5, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(size, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized x, times the weight, plus the bias."""
        last, shape = x.movedim(1, -1), self.weight.shape
        normed = functional.layer_norm(last, shape, self.weight, self.bias, self.eps)
        return normed.movedim(-1, 1)


class RMSNorm(nn.Module):
    """Mean square 1 over the channels of an image, at every position; or over features."""

    def __init__(self, size: int, eps: float = 1e-5, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized x, times the weight."""
        size = torch.sqrt(x.square().mean(1, keepdim=True) + self.eps)
        return x / size * _by_channel(self.weight, x)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: ceil(size / stride) places of the kernel.

    Of an odd number of zeros the smaller half is above and left.

    Examples
    --------
    >>> SameConv2d(3, 8, 3, stride=2)(torch.zeros(1, 3, 64, 97)).shape
    torch.Size([1, 8, 32, 49])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the padded image."""
        numbers = zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        down, across = (_zeros(*axis) for axis in numbers)
        return super().forward(functional.pad(x, (*across, *down)))


class GlobalAvgPool(nn.Module):
    """Mean of every channel over the whole image: (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the means."""
        return x.mean(dim=(2, 3))


class Flatten(nn.Module):
    """An image's numbers in a row in the order height, width, channels, as where these are last."""

    def forward(self, x: Tensor) -> Tensor:
        """Return them."""
        return x.movedim(1, -1).flatten(1)


class Erf(nn.Module):
    """The error function."""

    def forward(self, x: Tensor) -> Tensor:
        """Return erf(x)."""
        return torch.erf(x)


class Sin(nn.Module):
    """The sine."""

    def forward(self, x: Tensor) -> Tensor:
        """Return sin(x)."""
        return torch.sin(x)


class SquaredReLU(nn.Module):
    """The square of the positive part."""

    def forward(self, x: Tensor) -> Tensor:
        """Return max(x, 0)^2."""
        return functional.relu(x).square()


def _by_channel(vector: Tensor, x: Tensor) -> Tensor:
    """Return a vector along the axis of the channels, which is that of features too."""
    return vector.reshape(-1, *[1] * (x.dim() - 2))


def _zeros(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and behind an axis."""
    zeros = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return zeros // 2, zeros - zeros // 2
