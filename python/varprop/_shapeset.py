"""The scenes of Shapeset-3x2: which shapes, where, and which grey, drawn from counters."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop._weights import weights

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SIDES = (3, 4, 20)  # triangle, parallelogram, ellipse
NONE = 3  # the kind of a second shape that is not there
MARGIN = 1.0  # pixels
REDRAWS = 50
# The label of the kinds of the first and the second shape.
LABELS = np.array([[6, 3, 5, 0], [3, 7, 4, 1], [5, 4, 8, 2]])

_STEPS = 255  # of a turn, and of the first rotation
_RADIUS = 0.5
_SCALES = (0.2, 0.8)
_COVERED = 0.5
_DARK = (0, 114)
_BRIGHT = (140, 255)
_COLUMNS = 6  # numbers behind a shape: first rotation, two scales, rotation, x, y


def _exact(value: float) -> float:
    """Round to 2^-32, so that the last digit of the system's sine does not matter."""
    return round(value * 2.0**32) * 2.0**-32


def _corners(sides: int, step: int) -> tuple[list[float], list[float]]:
    """Return x and y of a regular polygon's corners, the first two of them the base.

    Level at step 0, turned by step / 255 of its symmetry; the last corner fills up to 20.
    """
    start = -math.pi / 2 - math.pi / sides + 2 * math.pi * step / (_STEPS * sides)
    angles = [start + 2 * math.pi * min(k, sides - 1) / sides for k in range(max(SIDES))]
    return (
        [_exact(_RADIUS * math.cos(angle)) for angle in angles],
        [_exact(_RADIUS * math.sin(angle)) for angle in angles],
    )


# Axes: x or y, corner, kind, step.
_CORNERS = np.array([[_corners(n, step) for step in range(_STEPS)] for n in SIDES])
_CORNERS = np.ascontiguousarray(_CORNERS.transpose(2, 3, 0, 1))
_TURN = [2 * math.pi * step / _STEPS for step in range(_STEPS)]
_COS = np.array([_exact(math.cos(angle)) for angle in _TURN])
_SIN = np.array([_exact(math.sin(angle)) for angle in _TURN])
_AREA = np.array([n / 2 * _RADIUS**2 * _exact(math.sin(2 * math.pi / n)) for n in SIDES])


class Shapes(NamedTuple):
    """Convex polygons, one a column, in pixels: x to the right, y down."""

    kind: Integers
    x: Floats  # corners about the centre, shape (20, shapes)
    y: Floats
    centre_x: Floats
    centre_y: Floats
    area: Floats

    def take(self, columns: Integers) -> Shapes:
        """Return some of the shapes."""
        return Shapes._make(field[..., columns] for field in self)

    def outline(self, columns: Integers, sides: int) -> tuple[Floats, Floats]:
        """Return x and y of the corners of some of the shapes, all with so many sides."""
        x = self.x[:sides, columns] + self.centre_x[columns]
        y = self.y[:sides, columns] + self.centre_y[columns]
        return x, y


class Scenes(NamedTuple):
    """One or two shapes a scene."""

    kinds: Integers  # shape (2, scenes); NONE where there is no second shape
    first: Shapes
    second: Shapes  # of the scenes `pairs`
    pairs: Integers
    tries: Integers  # how many second shapes were drawn, 0 where none was asked for

    @property
    def labels(self) -> Integers:
        """Return the class of each scene, 0 to 8."""
        found: Integers = LABELS[self.kinds[0], self.kinds[1]]
        return found


def scenes(seed: int, first: int, count: int, height: int, width: int) -> Scenes:
    """Return the scenes number `first` to ``first + count - 1``."""
    drawn = _uniforms(seed, "scene", first, count, 3)
    kinds = _choice(drawn[:, 1:], len(SIDES)).T.copy()
    old = _shapes(kinds[0], _uniforms(seed, "shape1", first, count, _COLUMNS), height, width)
    numbers = _uniforms(seed, "shape2", first, count, _COLUMNS)
    pairs = pending = np.flatnonzero(drawn[:, 0] > 0.5)
    tries = np.zeros(count, np.int64)
    for trial in range(1 + REDRAWS):
        if not len(pending):
            break
        if trial:
            start, stop = pending[0], pending[-1] + 1
            again = _uniforms(seed, "shape2", first + start, stop - start, _COLUMNS, trial)
            numbers[pending] = again[pending - start]
        tries[pending] += 1
        new = _shapes(kinds[1, pending], numbers[pending], height, width)
        pending = pending[_covers(new, old.take(pending))]
    pairs = np.setdiff1d(pairs, pending, assume_unique=True)
    second = _shapes(kinds[1, pairs], numbers[pairs], height, width)
    kinds[1] = NONE
    kinds[1, pairs] = second.kind
    return Scenes(kinds, old, second, pairs, tries)


def greys(seed: int, first: int, count: int, channels: int) -> Integers:
    """Return the greys of background, first and second shape, 0 to 255.

    Of shape (count, 3, channels); which of background and shapes is the bright one is common to
    all channels of an image.
    """
    background = _uniforms(seed, "bright", first, count, 1) > 0.5
    bright = background ^ np.array([False, True, True])
    drawn = _uniforms(seed, "grey", first, count, 3 * channels)
    drawn = drawn.reshape(count, channels, 3).swapaxes(1, 2)
    (dark, darkest), (light, lightest) = _DARK, _BRIGHT
    return np.where(
        bright[:, :, np.newaxis],
        light + _choice(drawn, lightest - light + 1),
        dark + _choice(drawn, darkest - dark + 1),
    )


def _uniforms(seed: int, part: str, first: int, count: int, columns: int, trial: int = 0) -> Floats:
    """Return numbers within (0, 1), odd multiples of 2^-25: a row for each image."""
    drawn = weights(
        (first + count, columns),
        "uniform(-1.0, 1.0)",
        seed=seed,
        name=f"shapeset.{part}",
        trial=trial,
        region=slice(first, first + count),
        threads=1,
    )
    uniform: Floats = 0.5 + 0.5 * drawn.astype(np.float64)
    return uniform


def _choice(uniform: Floats, count: int) -> Integers:
    return (uniform * count).astype(np.int64)


def _shapes(kind: Integers, drawn: Floats, height: int, width: int) -> Shapes:
    unit = min(height, width)
    first, one, other, turn, x_share, y_share = drawn.T
    low, high = (unit * scale for scale in _SCALES)
    long = low + (high - low) * np.maximum(one, other)
    short = low + (high - low) * np.minimum(one, other)
    corners = _CORNERS[:, :, kind, _choice(first, _STEPS)]
    x, y = long * corners[0], short * corners[1]
    base_x, base_y = x[1] - x[0], y[1] - y[0]
    length = np.sqrt(base_x * base_x + base_y * base_y)
    level_cos, level_sin = base_x / length, base_y / length
    step = _choice(turn, _STEPS)
    cos = _COS[step] * level_cos + _SIN[step] * level_sin
    sin = _SIN[step] * level_cos - _COS[step] * level_sin
    x, y = cos * x - sin * y, sin * x + cos * y
    return Shapes(
        kind,
        x,
        y,
        _place(x, width, x_share),
        _place(y, height, y_share),
        _AREA[kind] * long * short,
    )


def _place(corners: Floats, length: int, share: Floats) -> Floats:
    """Return where the centre comes to lie, the share of the way that the margins leave."""
    low = MARGIN - corners.min(axis=0)
    high = length - MARGIN - corners.max(axis=0)
    centre: Floats = low + share * (high - low)
    return centre


def _covers(new: Shapes, old: Shapes) -> NDArray[np.bool_]:
    """Return whether the new shape would cover too much of the old one, by the generator's rule.

    With p / d - 1 = overlap: below 0 the power is over 1, and the new shape is never rejected.
    """
    x, y = new.centre_x - old.centre_x, new.centre_y - old.centre_y
    square = x * x + y * y
    reach = (x * old.x + y * old.y).max(axis=0) - (x * new.x + y * new.y).min(axis=0)
    overlap = np.divide(reach, square, out=np.full(len(x), np.inf), where=square > 0.0) - 1.0
    covered: NDArray[np.bool_] = new.area * (1.0 - np.exp2(-overlap)) > _COVERED * old.area
    return covered
