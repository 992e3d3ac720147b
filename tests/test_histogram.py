"""Bins and percentiles against the raw numbers, sorted and counted by NumPy."""

import numpy as np
import pytest

from varprop import _histogram
from varprop._histogram import BINS, EDGES

MIDDLE, END = 257, 514


def place(x):
    """Return the bin of a number, by the layout: octaves 2**-10 to 2**6, 16 equal bins in each."""
    magnitude = abs(x)
    if magnitude < 2.0**-10:
        return MIDDLE
    if magnitude >= 64:
        return END if x > 0 else 0
    octave = max(o for o in range(-10, 6) if 2.0**o <= magnitude)
    step = 16 * (octave + 10) + int((magnitude / 2.0**octave - 1) * 16)
    return MIDDLE + 1 + step if x > 0 else MIDDLE - 1 - step


def counted(values):
    return np.bincount([place(x) for x in values], minlength=BINS)


def test_edges_bound_their_bins():
    assert (BINS, len(EDGES)) == (515, 516)
    assert np.array_equal(EDGES, -EDGES[::-1])
    ends = [-np.inf, -64, -(2.0**-10), 2.0**-10, 64, np.inf]
    assert EDGES[[0, 1, 257, 258, 514, 515]].tolist() == ends
    for bin_ in range(258, 514):
        low, high = EDGES[bin_ : bin_ + 2]
        assert place(low) == place(np.nextafter(high, 0)) == bin_
        assert place(-low) == place(-np.nextafter(high, 0)) == BINS - 1 - bin_


@pytest.mark.parametrize("scale", [0.1, 1, 7])
@pytest.mark.parametrize("q", [0.1, 2, 25, 50, 98, 99.9])
def test_percentiles_are_right_to_a_bin(scale, q):
    values = scale * np.random.default_rng(0).gamma(2, size=5000) - scale
    found, exact = _histogram.percentile(counted(values), q), np.percentile(values, q)
    assert abs(found - exact) <= abs(exact) / 16 + 2.0**-10
    if 2 <= q <= 98 and abs(exact) > 0.1 * scale:  # in a bin of many numbers far better
        assert found == pytest.approx(exact, rel=0.02)


def test_percentiles_are_linear_inside_a_bin():
    counts = np.zeros(BINS, np.int64)
    counts[[place(1.0), place(-2.0)]] = 4, 4  # [1, 17/16) and (-2 - 2/16, -2]
    for q, exact in (
        *((0, -2.125), (12.5, -2.125 + 0.125 / 4), (50, -2), (75, 1 + 1 / 32), (100, 17 / 16)),
    ):
        assert _histogram.percentile(counts, q) == exact


def test_percentiles_at_the_ends_and_of_zeros():
    values = [0, 0, 0, 1e-9, -70, 1e30, 64, 65]
    counts = counted(values)
    assert [float(_histogram.percentile(counts, q)) for q in (0, 12.5, 13, 50, 99, 100)] == [
        *(-64, -64, 0, 0, 64, 64)
    ]
    stack = np.stack([counts, np.zeros(BINS, np.int64)])
    assert np.array_equal(_histogram.percentile(stack, 50), [0, np.nan], equal_nan=True)


def test_trials_of_one_scale_add_up():
    counts = np.random.default_rng(1).integers(0, 9, (4, 3, BINS))
    total = _histogram.pooled(counts, np.zeros((4, 3), np.int64))
    assert np.array_equal(total, counts.sum(axis=0))
    assert total.dtype == np.int64


def test_trials_of_different_scales_are_pooled_as_their_numbers():
    """Bins nest when scales differ by powers of two: the pool has the bins of the numbers."""
    rng = np.random.default_rng(2)
    octaves = np.array([[0, -3], [-5, 0], [-1, -12]])
    values = rng.normal(size=(3, 2, 400))  # none beyond 64
    counts = np.array([[counted(x) for x in layers] for layers in values])
    scaled = np.ldexp(values, octaves[..., None])
    exact = [counted(scaled[:, layer].ravel()) for layer in range(2)]
    assert np.array_equal(_histogram.pooled(counts, octaves), exact)


@pytest.mark.parametrize(
    ("value", "octaves", "where"),
    [
        (1.0, -10, place(2.0**-10)),
        (1.0, -11, MIDDLE),
        (-63.0, -16, MIDDLE),
        (-1.0, 5, place(-32.0)),
        (-1.0, 6, 0),
        (1.0, 10**9, END),
        (1.0, -(10**9), MIDDLE),
        (1e9, -1, place(32.0)),  # beyond the end: as if next to it
        (-1e9, -16, place(-(2.0**-10))),
        (1e9, -17, MIDDLE),
        (1e9, 3, END),
        (0.0, 10**9, MIDDLE),
    ],
)
def test_what_leaves_the_window(value, octaves, where):
    total = _histogram.pooled(counted([value])[None, None], np.array([[octaves]]))
    assert np.flatnonzero(total[0]).tolist() == [where]
    assert total.sum() == 1
