"""The grid of a sweep: named values, and the points that they make."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

Number = bool | int | float

# Names of a result's own.
_TAKEN = ("layer", "layer_name", "last_layer", "statistic", "quantity", "error")
_LONGEST = 1 << 31  # points


class Grid:
    """Named values; a point has one of each, and the last name goes round first.

    Parameters
    ----------
    grid : mapping of str to iterable
        Values of each of the arguments of the user's function.

    Attributes
    ----------
    values : dict of str to tuple
        As the user's function gets them: NumPy's numbers are Python's.
    labels : dict of str to list
        Numbers where all of a name's values are numbers, else their texts.
    shape : tuple of int
    """

    def __init__(self, grid: object) -> None:
        if not isinstance(grid, Mapping):
            raise TypeError(f"grid must be a mapping of names to values, got {grid!r:.80}")
        if not grid:
            raise ValueError("grid must have at least one name")
        self.values = {_name(name): _values(name, some) for name, some in grid.items()}
        self.labels = {name: _labels(name, some) for name, some in self.values.items()}
        self.shape = tuple(map(len, self.values.values()))
        if len(self) > _LONGEST:
            raise ValueError(f"grid must have at most {_LONGEST} points, got {len(self)}")

    def __len__(self) -> int:
        return math.prod(self.shape)

    def index(self, position: int) -> tuple[int, ...]:
        """Return where along each axis a point lies."""
        return tuple(int(i) for i in np.unravel_index(position, self.shape))

    def point(self, position: int) -> dict[str, Any]:
        """Return the values of a point, by name."""
        places = zip(self.values.items(), self.index(position), strict=True)
        return {name: some[i] for (name, some), i in places}

    def describe(self, position: int) -> str:
        """Return a point as text: ``sigma_w=1.5, depth=100``."""
        places = zip(self.labels.items(), self.index(position), strict=True)
        return ", ".join(f"{name}={some[i]}" for (name, some), i in places)


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"grid must have names that an argument can have, got {name!r}")
    if name in _TAKEN:
        raise ValueError(f"grid must not have the name {name!r}, which is one of the result's own")
    return name


def _values(name: str, some: object) -> tuple[Any, ...]:
    if isinstance(some, (str, bytes, Mapping)) or not isinstance(some, Iterable):
        raise TypeError(f"grid[{name!r}] must be a list of values, got {some!r:.80}")
    # NumPy's numbers, and arrays of one.
    values = tuple(value.item() if getattr(value, "shape", None) == () else value for value in some)
    if not values:
        raise ValueError(f"grid[{name!r}] must have at least one value")
    return values


def _labels(name: str, values: tuple[Any, ...]) -> list[Number] | list[str]:
    numbers = all(isinstance(value, (int, float)) for value in values)
    labels = [value if numbers else str(value) for value in values]
    for i, label in enumerate(labels):
        if isinstance(label, float) and not math.isfinite(label):
            raise ValueError(f"grid[{name!r}][{i}] must be finite, got {label!r}")
        if isinstance(label, str) and " at 0x" in label:  # another one in the next process
            raise ValueError(f"grid[{name!r}][{i}] must be told by its text, got {label}")
    ordered = sorted(np.array(labels).tolist())  # as a Dataset will have them
    for one, other in pairwise(ordered):
        if one == other:
            raise ValueError(f"grid[{name!r}] must have each value once, got {one!r} again")
    return labels
