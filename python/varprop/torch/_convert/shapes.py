"""The shape of an input: given, or told by the modules that take it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import takewhile

from torch import nn

from varprop import _spec
from varprop._laws import Constant, Law
from varprop._layer import Shape
from varprop.torch import modules
from varprop.torch._convert.readers import READERS, Leaf, named


def given(module: nn.Module, shape: int | Sequence[int] | None) -> Shape | None:
    """Return the shape that is given, or is an attribute of the module's, as ours; or None."""
    if shape is None:
        left = getattr(module, "input_shape", None)
        if not (isinstance(left, tuple) and all(type(size) is int for size in left)):
            return None
        shape = left
    sizes = _spec.sizes("input_shape", (shape,) if isinstance(shape, int) else shape)
    if len(sizes) not in (1, 3):
        raise ValueError(
            f"input_shape must be (features,) or (channels, height, width), got {sizes!r}"
        )
    return (*sizes[1:], sizes[0])


_LARGEST = 2**15  # side of an image


def told(leaves: list[Leaf]) -> Shape:
    """Return the shape that modules need, or the error that asks for it."""
    for position, (_, module, kind) in enumerate(leaves):
        if _size_of(module, kind) is None:
            continue
        if kind in _OF_FEATURES and not any(one[2] in _OF_IMAGES for one in leaves[:position]):
            return (_size_of(module, kind) or 0,)
        if kind in _OF_IMAGES:
            return _square(leaves, _size_of(module, kind) or 0)
    raise _untold("")


def _square(leaves: list[Leaf], channels: int) -> Shape:
    """Return a square image of so many channels that fits the first modules of features."""
    before = list(takewhile(lambda leaf: leaf[2] not in _OF_FEATURES, leaves))
    _through(before, (_LARGEST, _LARGEST, channels))  # or the error of what takes no image
    if len(before) == len(leaves) or any(kind in _ADAPTIVE for _, _, kind in before):
        raise _untold("")
    name, module, kind = leaves[len(before)]
    wanted = _size_of(module, kind) or 0

    def features(side: int) -> int:
        """Return how many arrive there: more from larger images."""
        try:
            return math.prod(_through(before, (side, side, channels)))
        except ValueError:  # it is too small
            return 0

    sides = range(1, _LARGEST)
    first = bisect_left(sides, wanted, key=features)
    fits = sides[first : bisect_right(sides, wanted, lo=first, key=features)]
    if not fits or fits[-1] == sides[-1]:
        raise _untold(f" (no square image fits the {wanted} features of module {name!r})")
    side = max(fits, key=lambda size: size & -size)
    return (side, side, channels)


def _through(leaves: list[Leaf], shape: Shape) -> Shape:
    """Return the shape that leaves the last of some modules."""
    for name, module, kind in leaves:
        try:
            shape = READERS[kind](module, shape, _of_no_matter).output_shape(shape)
        except ValueError as error:
            raise named(module, name, error) from None
    return shape


def _of_no_matter(part: str) -> Law:
    """Return a law that any module takes."""
    return Constant(1.0 if part == "weight" else 0.0)


def _untold(why: str) -> ValueError:
    return ValueError(
        f"input_shape cannot be told from the modules{why}: "
        "give input_shape=(channels, height, width), or (features,)"
    )


_OF_FEATURES = (nn.Linear, nn.BatchNorm1d, nn.LayerNorm, getattr(nn, "RMSNorm", nn.LayerNorm))
_ADAPTIVE = (nn.AdaptiveAvgPool2d, modules.GlobalAvgPool)
_OF_IMAGES = (nn.Conv2d, modules.SameConv2d, nn.BatchNorm2d, nn.AvgPool2d, *_ADAPTIVE)


def _size_of(module: nn.Module, kind: type[nn.Module]) -> int | None:
    """Return the features or channels that a module needs, None where it takes any."""
    if kind in (nn.Conv2d, modules.SameConv2d):
        return int(module.in_channels)  # type: ignore[arg-type]
    if kind is nn.Linear:
        return int(module.in_features)  # type: ignore[arg-type]
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        return int(module.num_features)  # type: ignore[arg-type]
    if kind in _OF_FEATURES:
        return int(module.normalized_shape[-1])  # type: ignore[index]
    return None
