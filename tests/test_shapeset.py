"""The images of Shapeset-3x2: every pixel, greys, and that image i depends on i alone.

Seeds are fixed. A share is outside of 4 sigma by chance once in 16,000 times; goodness of fit
fails by chance once in 10,000.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from plain_shapeset import inside, numbers

import varprop as vp
from varprop import _raster, _shapeset, datasets


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 300)])
def test_every_pixel_of_thousands_of_shapes(height, width):
    scenes = _shapeset.scenes(9, 0, 2000, height, width)
    pixels = 0
    for kind, sides in enumerate(_shapeset.SIDES):
        x, y = scenes.first.outline(np.flatnonzero(scenes.first.kind == kind), sides)
        begin, end = _raster.spans(x, y, height, width)
        filled = _raster.fill(begin.T, end.T, width)
        for shape, (corners_x, corners_y) in enumerate(zip(x.T, y.T, strict=True)):
            theirs = inside(corners_x, corners_y, height, width)
            assert np.array_equal(filled[shape], theirs)
            pixels += theirs.sum()
    assert pixels == pytest.approx(scenes.first.area.sum(), rel=0.01)


def test_polygons_that_share_a_side_share_no_pixel():
    """Centres on the sides, on the corners, and between two triangles."""
    square = np.array([[2.5, 6.5, 6.5, 2.5], [1.5, 1.5, 4.5, 4.5]])
    begin, end = _raster.spans(square[0][:, None], square[1][:, None], 8, 8)
    assert begin[1:4, 0].tolist() == [2, 2, 2]
    assert (end - begin)[:, 0].tolist() == [0, 4, 4, 4, 0, 0, 0, 0]
    halves = np.stack([square[:, [0, 1, 2]], square[:, [0, 2, 3]]], axis=-1)
    begin, end = _raster.spans(*halves, 8, 8)
    filled = _raster.fill(begin.T, end.T, 8).astype(int).sum(axis=0)
    expected = np.zeros((8, 8), int)
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(filled, expected)


def test_images_are_painted_shape_over_shape():
    """Pixel by pixel with the greys of the reference's numbers."""
    n, seed = 500, 11
    images, labels, masks = vp.datasets.shapeset(n, seed, masks=True)
    scenes = _shapeset.scenes(seed, 0, n, 32, 32)
    bright = numbers("bright", 1, n, seed)[:, 0] > 0.5
    grey = numbers("grey", 3, n, seed)
    light, dark = 140 + np.floor(116 * grey), np.floor(115 * grey)
    column = {scene: column for column, scene in enumerate(scenes.pairs)}
    for i in range(n):
        around, on = (light, dark) if bright[i] else (dark, light)
        image = np.full((32, 32), around[i, 0])
        sides = _shapeset.SIDES[scenes.first.kind[i]]
        painted = inside(*(z[:, 0] for z in scenes.first.outline(np.array([i]), sides)), 32, 32)
        image[painted] = on[i, 1]
        if i in column:
            sides = _shapeset.SIDES[scenes.second.kind[column[i]]]
            z = scenes.second.outline(np.array([column[i]]), sides)
            over = inside(*(z[:, 0] for z in z), 32, 32)
            image[over] = on[i, 2]
            painted |= over
        np.testing.assert_allclose(images[i, :, :, 0], image / 255 * 2 - 1, atol=1e-7)
        np.testing.assert_array_equal(masks[i, :, :, 0], painted)
    np.testing.assert_array_equal(labels, scenes.labels)


def test_greys():
    stats = pytest.importorskip("scipy.stats")
    images, labels, masks = vp.datasets.shapeset(20_000, seed=12, masks=True)
    levels = np.rint((images[..., 0].astype(float) + 1) / 2 * 255).astype(int)
    np.testing.assert_allclose(levels / 255 * 2 - 1, images[..., 0], atol=1e-7)
    background = levels[:, 0, 0]  # within the margin
    on = masks[..., 0] == 1
    np.testing.assert_array_equal(on, levels != background[:, None, None])
    bright = background >= 140
    assert np.mean(bright) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(20_000))
    least, most = np.where(on, levels, 255).min((1, 2)), np.where(on, levels, 0).max((1, 2))
    assert np.all(most[bright] <= 114)
    assert np.all(least[~bright] >= 140)
    one = labels < 3
    assert np.all((least == most)[one])
    for shades in (background, least[one]):
        light, dark = np.bincount(shades, minlength=256)[140:], np.bincount(shades)[:115]
        assert light.sum() + dark.sum() == len(shades)
        assert stats.chisquare(light).pvalue > 1e-4
        assert stats.chisquare(dark).pvalue > 1e-4


def test_shapes_dtypes_and_sizes():
    images, labels, masks = vp.datasets.shapeset(30, size=(64, 96), channels=3, masks=True)
    assert (images.shape, images.dtype) == ((30, 64, 96, 3), np.float32)
    assert (labels.shape, labels.dtype) == ((30,), np.int64)
    assert (masks.shape, masks.dtype) == ((30, 64, 96, 1), np.float32)
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert np.all(np.abs(images) <= 1)
    channels = np.moveaxis(images, -1, 0)
    np.testing.assert_array_equal(channels != channels[:, :, :1, :1], [masks[..., 0] == 1] * 3)
    assert np.all((channels[1] != channels[0]).any(axis=(1, 2)))
    same = (channels[:, :, 0, 0] > 0).sum(axis=0)
    assert np.all((same == 0) | (same == 3))
    assert len(vp.datasets.SHAPESET_CLASSES) == 9
    empty = vp.datasets.shapeset(0, masks=True)
    assert [part.shape for part in empty] == [(0, 32, 32, 1), (0,), (0, 32, 32, 1)]


def test_an_image_depends_on_its_number_alone(monkeypatch):
    options = {"seed": 13, "size": (20, 24), "masks": True}
    whole = vp.datasets.shapeset(100, channels=2, **options)
    for some, rows in (
        (vp.datasets.shapeset(50, channels=2, **options), slice(50)),
        (vp.datasets.shapeset(33, channels=2, first=41, **options), slice(41, 74)),
    ):
        for part, all_of_it in zip(some, whole, strict=True):
            assert part.tobytes() == all_of_it[rows].tobytes()
    monkeypatch.setattr(datasets, "_PIXELS", 7 * 20 * 24)
    for part, all_of_it in zip(
        vp.datasets.shapeset(100, channels=2, **options), whole, strict=True
    ):
        assert part.tobytes() == all_of_it.tobytes()
    one = vp.datasets.shapeset(100, **options)
    assert one[0].tobytes() == whole[0][..., :1].tobytes()
    other = vp.datasets.shapeset(100, channels=2, **{**options, "seed": 14})
    assert not np.any(np.all(other[0] == whole[0], axis=(1, 2, 3)))
    assert vp.datasets.shapeset(3, seed=2**200, first=2**33 - 4)[0].shape == (3, 32, 32, 1)


@pytest.mark.parametrize(("batch", "block"), [(10, 25), (10, 10), (30, 7)])
def test_stream(batch, block, monkeypatch):
    options = {"seed": 15, "size": 16, "channels": 3, "masks": True, "first": 100}
    whole = vp.datasets.shapeset(7 * batch, **options)
    monkeypatch.setattr(datasets, "_PIXELS", block * 16 * 16)
    stream = vp.datasets.shapeset_stream(batch, **options)
    batches = [next(stream) for _ in range(7)]
    for part, all_of_it in zip(zip(*batches, strict=True), whole, strict=True):
        assert {len(some) for some in part} == {batch}
        assert np.concatenate(part).tobytes() == all_of_it.tobytes()
    assert len(next(vp.datasets.shapeset_stream(5, 0))) == 2


def test_the_end_of_a_stream():
    stream = vp.datasets.shapeset_stream(10, 0, size=10, first=2**33 - 1 - 25)
    assert [len(next(stream)[1]) for _ in range(2)] == [10, 10]
    with pytest.raises(ValueError, match=r"first \+ n must be under 2\*\*33"):
        next(stream)


def test_published_bits():
    """They change only together with STREAM_VERSION."""
    images, labels, masks = vp.datasets.shapeset(500, seed=1, size=(24, 40), channels=3, masks=True)
    bits = [part.astype(part.dtype.newbyteorder("<")).tobytes() for part in (images, labels, masks)]
    digest = hashlib.blake2b(b"".join(bits), digest_size=16).hexdigest()
    assert digest == "c3b7d1a8d935696701c93c025f62d14c"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be an integer >= 0, got -1"),
        ({"n": 2.5}, TypeError, "n must be an integer, got 2.5"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"n": 0, "seed": "one"}, TypeError, "seed must be an integer"),
        ({"size": 9}, ValueError, "size must be an integer >= 10, got 9"),
        ({"size": (32, 9)}, ValueError, r"size must be an integer >= 10, or two, .* \(32, 9\)"),
        ({"size": (32, 32, 3)}, ValueError, "size must be an integer >= 10, or two"),
        ({"size": "large"}, TypeError, "size must be a tuple of integers"),
        ({"size": (32, 1.5)}, TypeError, r"size\[1\] must be an integer"),
        ({"channels": 0}, ValueError, "channels must be an integer >= 1, got 0"),
        ({"masks": 1}, TypeError, "masks must be True or False, got 1"),
        ({"first": -1}, ValueError, "first must be an integer >= 0"),
        ({"n": 2, "first": 2**33 - 1}, ValueError, r"first \+ n must be under 2\*\*33"),
        ({"n": 2**32}, MemoryError, "4294967296 images of 32 x 32 needs about 17.6 TB"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        vp.datasets.shapeset(**{"n": 10, **arguments})
    if error is not MemoryError and "n" not in arguments:
        with pytest.raises(error, match=message):  # before the first batch
            vp.datasets.shapeset_stream(**{"batch": 10, "seed": 0, **arguments})


def test_errors_of_the_stream():
    with pytest.raises(ValueError, match="batch must be an integer >= 1, got 0"):
        vp.datasets.shapeset_stream(0, 0)


def test_example(tmp_path):
    pytest.importorskip("matplotlib")
    example = Path(__file__).parents[1] / "examples" / "shapeset.py"
    picture = tmp_path / "shapeset.png"
    command = [sys.executable, "-W", "error", example, "--images", "20000", "--plot", picture]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^  \d .* (0\.\d{4}) +0\.\d{4} +[\d.]+%$", done.stdout, re.MULTILINE)
    found = np.array(rows, dtype=float)
    expected = np.repeat([1 / 6, 1 / 9, 1 / 18], 3)
    assert np.all(np.abs(found - expected) < 4 * np.sqrt(expected / 20_000))
    assert picture.read_bytes().startswith(b"\x89PNG")
