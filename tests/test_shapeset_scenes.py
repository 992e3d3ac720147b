"""The scenes of Shapeset-3x2: one by one as described, and a million of them by their law.

Seeds are fixed. A class or number is outside of 3 sigma by chance once in 370 times, of 4 once in
16,000; goodness of fit fails by chance once in 10,000.
"""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import plain_shapeset as plain
import pytest
from plain_shapeset import inside, many, numbers

from varprop import _shapeset

KINDS = range(3)
PAIRS = list(product(KINDS, KINDS))
CLASSES = ["T", "P", "E", "TP", "PE", "TE", "TT", "PP", "EE"]


def label(*kinds):
    """Return the class of one or two shapes, by its name in the paper."""
    name = "".join("TPE"[kind] for kind in sorted(kinds))
    return CLASSES.index(name)


@pytest.mark.parametrize("redraws", [50, 1])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (11, 10)])
def test_every_scene_is_the_one_described(height, width, redraws, monkeypatch):
    monkeypatch.setattr(_shapeset, "REDRAWS", redraws)
    n, seed = 1000, 5
    scenes = _shapeset.scenes(seed, 0, n, height, width)
    about = numbers("scene", 3, n, seed)
    firsts = numbers("shape1", 6, n, seed)
    seconds = [numbers("shape2", 6, n, seed, trial) for trial in range(redraws + 1)]
    second_column = {scene: column for column, scene in enumerate(scenes.pairs)}
    dropped = 0
    for i in range(n):
        kinds = [int(3 * about[i, 1]), int(3 * about[i, 2])]
        old = plain.shape(kinds[0], firsts[i], height, width)
        compare(scenes.first, i, old)
        new, tries = None, 0
        if about[i, 0] > 0.5:
            trials = [row[i] for row in seconds]
            new, tries = plain.second(kinds[1], old, trials.__getitem__, redraws, height, width)
            dropped += new is None
        assert scenes.tries[i] == tries
        assert scenes.labels[i] == label(*kinds[: 1 if new is None else 2])
        assert (new is not None) == (i in second_column)
        if new is not None:
            compare(scenes.second, second_column[i], new)
    assert scenes.tries.max() > (3 if redraws == 50 else 1)
    assert dropped == 0 if redraws == 50 else dropped > 20


def compare(shapes, column, shape):
    sides = len(shape.corners)
    x, y = shapes.outline(np.array([column]), sides)
    np.testing.assert_allclose(x[:, 0] + 1j * y[:, 0], shape.corners, rtol=0, atol=1e-7)
    assert sides == _shapeset.SIDES[shapes.kind[column]]
    assert shapes.area[column] == pytest.approx(shape.area, rel=1e-7)


def test_sines_are_right_to_the_bit():
    """Rounded to 2^-32, and none so near to a tie that the last digit of a sine could matter."""
    mpmath = pytest.importorskip("mpmath")
    turn, scale = 2 * mpmath.pi, 2**32
    for k, (cos, sin) in enumerate(zip(_shapeset._COS, _shapeset._SIN, strict=True)):
        rounded_from(mpmath.expjpi(mpmath.mpf(2 * k) / 255), complex(cos, sin), scale)
    for kind, sides in enumerate(_shapeset.SIDES):
        for step, k in product(range(255), range(sides)):
            angle = turn / sides * (mpmath.mpf(step) / 255 + k - mpmath.mpf(1) / 2) - turn / 4
            corner = complex(*_shapeset._CORNERS[:, k, kind, step])
            rounded_from(mpmath.expj(angle) / 2, corner, scale)


def rounded_from(exact, found, scale):
    for true, part in ((exact.real, found.real), (exact.imag, found.imag)):
        error = abs(true - part) * scale
        assert error < 0.5 - 2**-20


@pytest.fixture(scope="module")
def million():
    """Return labels, tries and who was dropped, of a million scenes."""
    parts = [(s.labels, s.tries, (s.tries > 0) & (s.kinds[1] == 3)) for s in many(10**6)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def test_frequencies_of_a_million_scenes(million):
    """Dropped second shapes, one in a million scenes, are far below the error of 4e-4."""
    labels, tries, dropped = million
    assert dropped.sum() < 10
    assert np.all(tries[dropped] == 51)
    expected = np.array([1 / 6] * 3 + [1 / 9] * 3 + [1 / 18] * 3)
    z = (np.bincount(labels) / 1e6 - expected) / np.sqrt(expected * (1 - expected) / 1e6)
    assert np.all(np.abs(z) < 3)
    assert 0.5 + 3 * 5e-4 > np.mean(tries > 0) > 0.5 - 3 * 5e-4
    assert np.isin(labels[dropped], [0, 1, 2]).all()


def test_frequencies_with_dropped_second_shapes(monkeypatch):
    """With one redraw a quarter is dropped: how many of each pair, a plain simulation says."""
    redraws, scenes, simulated = 1, 200_000, 1500
    monkeypatch.setattr(_shapeset, "REDRAWS", redraws)
    labels = np.concatenate([s.labels for s in many(scenes, seed=1)])
    rng = random.Random(2)
    expected, variance = np.repeat([1 / 6, 0.0], [3, 6]), np.zeros(9)
    for one, other in PAIRS:
        lost = np.mean([drop(one, other, redraws, rng) for _ in range(simulated)])
        expected[label(one)] += lost / 18
        expected[label(one, other)] += (1 - lost) / 18
        error = lost * (1 - lost) / simulated / 18**2
        variance[label(one)] += error
        variance[label(one, other)] += error
    assert expected[:3].sum() > 0.55
    error = np.sqrt(variance + expected * (1 - expected) / scenes)
    assert np.all(np.abs(np.bincount(labels) / scenes - expected) < 3 * error)


def six(rng):
    return [rng.random() for _ in range(6)]


def drop(one, other, redraws, rng):
    new, _ = plain.second(other, plain.shape(one, six(rng)), lambda _: six(rng), redraws)
    return new is None


def test_how_often_second_shapes_are_redrawn(million):
    """By the plain simulation with random numbers of its own, within 4 sigma."""
    _, tries, _ = million
    rng, simulated = random.Random(3), 3000
    theirs = []
    for _ in range(simulated):
        one, other = rng.randrange(3), rng.randrange(3)
        old = plain.shape(one, six(rng))
        theirs.append(plain.second(other, old, lambda _: six(rng), 50)[1])
    tries, theirs = tries[tries > 0], np.array(theirs)
    for limit in (1, 2, 3, 5, 8):
        share = np.mean(tries > limit)
        error = np.sqrt(share * (1 - share) / simulated)
        assert share == pytest.approx(np.mean(theirs > limit), abs=4 * error)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (40, 10)])
def test_limits_of_the_geometry(height, width):
    unit, most, least = min(height, width), 0.0, np.inf
    for scenes in many(20_000, 7, height, width):
        for shapes in (scenes.first, scenes.second):
            x, y = shapes.x + shapes.centre_x, shapes.y + shapes.centre_y
            for along, length in ((x, width), (y, height)):
                assert along.min() > 1 - 1e-9
                assert along.max() < length - 1 + 1e-9
            long, short = scales(shapes)
            most, least = max(most, long.max() / unit), min(least, short.min() / unit)
    assert 0.799 < most < 0.8 + 1e-9
    assert 0.2 - 1e-9 < least < 0.201


def scales(shapes):
    """Return both scales in pixels, from the second moments of the corners.

    Those of a regular polygon of radius 1/2 are 1/8 in all directions.
    """
    found = []
    for kind, sides in enumerate(_shapeset.SIDES):
        z = np.array(shapes.outline(np.flatnonzero(shapes.kind == kind), sides))
        z = z - z.mean(axis=1, keepdims=True)
        moments = np.einsum("ikm,jkm->mij", z, z) / sides
        found.append(np.sqrt(8 * np.linalg.eigvalsh(moments)))
    short, long = np.concatenate(found).T
    return long, short


def test_laws_of_the_geometry():
    stats = pytest.importorskip("scipy.stats")
    parts = [scenes.first for scenes in many(20_000, seed=8)]
    shapes = _shapeset.Shapes(
        *(np.concatenate(field, axis=-1) for field in zip(*parts, strict=True))
    )
    long, short = scales(shapes)
    uniform = (long / 32 - 0.2) / 0.6, (short / 32 - 0.2) / 0.6
    assert stats.kstest(uniform[0] ** 2, "uniform").pvalue > 1e-4
    assert stats.kstest(1 - (1 - uniform[1]) ** 2, "uniform").pvalue > 1e-4
    for corners, centre in ((shapes.x, shapes.centre_x), (shapes.y, shapes.centre_y)):
        least, most = 1 - corners.min(axis=0), 31 - corners.max(axis=0)
        assert stats.kstest((centre - least) / (most - least), "uniform").pvalue > 1e-4
    base = shapes.x[1] - shapes.x[0] + 1j * (shapes.y[1] - shapes.y[0])
    step = np.angle(base) * 255 / (2 * np.pi) % 255
    nearest = np.rint(step)
    np.testing.assert_allclose(step, nearest, atol=1e-7)
    counts = np.bincount(nearest.astype(int) % 255, minlength=255)
    assert stats.chisquare(counts).pvalue > 1e-4
    # E[long * short] is the square of the mean scale, 1/4.
    share = shapes.area / 32**2
    areas = np.array([np.sqrt(27) / 16, 1 / 2, 5 / 8 * (np.sqrt(5) - 1)])
    assert share.mean() == pytest.approx(areas.mean() / 4, abs=4 * share.std() / np.sqrt(20_000))


def test_first_shapes_stay_half_visible():
    """The paper: the second one covers at most half; the generator's rule estimates the overlap."""
    hidden = []
    for scenes in many(10_000, seed=16):
        for column, scene in enumerate(scenes.pairs):
            first, second = (
                inside(*(z[:, 0] for z in shapes.outline([index], _shapeset.SIDES[kind])), 32, 32)
                for shapes, index, kind in (
                    (scenes.first, scene, scenes.kinds[0, scene]),
                    (scenes.second, column, scenes.kinds[1, scene]),
                )
            )
            hidden.append((first & second).sum() / first.sum())
    hidden = np.array(hidden)
    assert len(hidden) > 4900
    assert np.mean(hidden > 0.5) < 0.001
    assert 0.45 < hidden.max() < 0.53
    assert np.mean(hidden > 0) == pytest.approx(0.6, abs=0.03)
