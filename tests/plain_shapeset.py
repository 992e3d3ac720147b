"""Shapeset-3x2 from its description: scene by scene, with complex numbers as points."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np

import varprop as vp
from varprop import _shapeset

SIDES = (3, 4, 20)


@dataclass
class Shape:
    corners: list[complex]  # x + i y

    @property
    def centre(self):
        return sum(self.corners) / len(self.corners)

    @property
    def area(self):
        ring = zip(self.corners, self.corners[1:] + self.corners[:1], strict=True)
        return sum((a.conjugate() * b).imag for a, b in ring) / 2


def shape(kind, numbers, height=32, width=32):
    """Make a shape of six numbers between 0 and 1."""
    first, one, other, turn, right, down = numbers
    sides, unit = SIDES[kind], min(height, width)
    step = 2 * math.pi / sides
    lean = math.floor(255 * first) / 255 * step
    level = -math.pi / 2 - step / 2
    corners = [cmath.rect(0.5, level + lean + k * step) for k in range(sides)]
    small, large = sorted(unit * (0.2 + 0.6 * number) for number in (one, other))
    corners = [complex(large * z.real, small * z.imag) for z in corners]
    angle = 2 * math.pi * math.floor(255 * turn) / 255 - cmath.phase(corners[1] - corners[0])
    corners = [z * cmath.rect(1, angle) for z in corners]
    xs, ys = [z.real for z in corners], [z.imag for z in corners]
    x = 1 + right * (width - 2 - (max(xs) - min(xs))) - min(xs)
    y = 1 + down * (height - 2 - (max(ys) - min(ys))) - min(ys)
    return Shape([z + complex(x, y) for z in corners])


def rejected(new, old):
    """Say whether the new shape would cover too much of the old one."""
    line = new.centre - old.centre
    d = abs(line)
    if d == 0:
        return new.area / old.area > 0.5
    towards = line / d
    p = max(((z - old.centre) / towards).real for z in old.corners)
    p += max(-((z - new.centre) / towards).real for z in new.corners)
    return p >= d and new.area * (1 - 2 ** (-(p - d) / d)) / old.area > 0.5


def second(kind, old, numbers, redraws, height=32, width=32):
    """Return the second shape, None if it is dropped, and how often it was drawn.

    `numbers` gives six numbers for each time that it is drawn.
    """
    for tries in range(1, redraws + 2):
        new = shape(kind, numbers(tries - 1), height, width)
        if not rejected(new, old):
            return new, tries
    return None, tries


def inside(x, y, height, width):
    """Return which pixels have their centres on the right of all sides, clockwise, y down."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    found = np.full((height, width), True)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        found &= (x1 - x0) * (rows - y0) > (y1 - y0) * (columns - x0)
    return found


def numbers(name, columns, scenes, seed, trial=0):
    """Return what the contract draws, by the reference."""
    drawn = vp.reference.weights(
        (scenes, columns), "uniform(-1.0, 1.0)", seed=seed, name=f"shapeset.{name}", trial=trial
    )
    return (1 + drawn) / 2


def many(scenes, seed=0, height=32, width=32):
    """Yield scenes of the package, a thousand at a time."""
    for first in range(0, scenes, 1000):
        yield _shapeset.scenes(seed, first, 1000, height, width)
