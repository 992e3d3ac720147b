"""Weights: the contract of reproducibility, regions, dtypes, buffers, errors."""

import json
from pathlib import Path

import numpy as np
import pytest

import varprop as vp
from varprop import _core, reference

DATA = Path(__file__).parent / "data"

# With arguments where a law has branches: both tails, one side, an off-centre interval.
IID = (
    "normal(std=0.3, mean=2)",
    "uniform(low=-3, high=5)",
    "truncated_normal(std=0.5, low=-1, high=1)",
    "truncated_normal(low=-1, high=3)",
    "truncated_normal(low=6, high=8)",
    "truncated_normal(low=-inf, high=-2)",
    "he_normal",
    "glorot_uniform",
    "constant(0.5)",
)
FORMED = ("orthogonal(gain=2)", "sparse(sparsity=0.3)", "identity")


@pytest.mark.parametrize("answer", json.loads((DATA / "threefry_kat.json").read_text())["answers"])
def test_generator_gives_the_known_answers(answer):
    key, counter = (tuple(int(word, 16) for word in answer[k]) for k in ("key", "counter"))
    assert [f"{word:08x}" for word in _core.threefry(key, counter)] == answer["words"]


@pytest.mark.parametrize("init", IID)
@pytest.mark.parametrize("shape", [(37, 53), (64, 128), (3, 2, 5, 7), (1, 300), (300, 1)])
def test_agrees_with_the_reference(init, shape):
    # Relative to the numbers' own size; float32's few roundings, and its polynomials' 2^-22.
    for dtype, tolerance in (("float32", 6e-7), ("float64", 2e-14)):
        drawn = vp.weights(shape, init, seed=3, name="a", trial=2**40 + 7, dtype=dtype)
        exact = reference.weights(shape, init, seed=3, name="a", trial=2**40 + 7, dtype=dtype)
        scale = np.sqrt(np.mean(exact**2))
        assert drawn.dtype == dtype
        np.testing.assert_allclose(drawn, exact, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("init", FORMED)
def test_formed_laws_agree_with_the_reference(init):
    drawn = vp.weights((40, 30), init, seed=3, name="a", trial=2, dtype="float64")
    exact = reference.weights((40, 30), init, seed=3, name="a", trial=2, dtype="float64")
    np.testing.assert_allclose(drawn, exact, atol=1e-13)


@pytest.mark.parametrize(
    "published", json.loads((DATA / "stream_1.json").read_text()), ids=lambda p: p["init"]
)
def test_published_bits_stay(published):
    assert vp.STREAM_VERSION == 1
    shape = tuple(published["shape"])
    for dtype, numbers in published["numbers"].items():
        drawn = vp.weights(shape, published["init"], seed=1, name="layer", trial=5, dtype=dtype)
        corner = drawn.reshape(-1, shape[-1])[:3, :2].astype(np.float64).ravel()
        assert [x.hex() for x in corner.tolist()] == numbers


@pytest.mark.parametrize("init", IID)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_any_region_is_the_slice_of_the_whole(init, dtype):
    rng = np.random.default_rng(1)
    for shape in [(50, 77), (3, 2, 11, 70), (9, 200), (500, 3)]:
        whole = vp.weights(shape, init, seed=9, name="r", dtype=dtype)
        for _ in range(12):
            region = tuple(_random_slice(rng, size) for size in shape)
            part = vp.weights(shape, init, seed=9, name="r", dtype=dtype, region=region)
            assert part.shape == whole[region].shape
            assert part.tobytes() == whole[region].tobytes()


@pytest.mark.parametrize("shape", [(), (1,), (1000,)])
def test_regions_of_vectors(shape):
    whole = vp.weights(shape, "normal", seed=9)
    region = tuple(slice(size // 5, None, 7) for size in shape)
    assert whole.shape == shape
    assert np.array_equal(vp.weights(shape, "normal", seed=9, region=region), whole[region])
    if shape:  # a longer vector starts with the shorter one
        longer = vp.weights((shape[0] + 500,), "normal", seed=9)
        assert np.array_equal(longer[: shape[0]], whole)


def _random_slice(rng, size):
    start, stop = sorted(rng.integers(0, size + 1, 2).tolist())
    step = int(rng.choice([1, 1, 2, 5, -1, -3]))
    if step > 0:
        return slice(start, stop, step)
    return slice(stop - 1 if stop else None, start - 1 if start else None, step)


@pytest.mark.parametrize("init", FORMED)
def test_regions_of_formed_laws(init):
    whole = vp.weights((30, 20), init, seed=9)
    region = (slice(3, 9), slice(None, None, -2))
    assert np.array_equal(vp.weights((30, 20), init, seed=9, region=region), whole[region])


def test_a_wider_matrix_contains_the_narrower():
    for init in ("normal(std=0.1)", "uniform", "truncated_normal"):
        small = vp.weights((30, 40), init, seed=4, name="w")
        large = vp.weights((90, 130), init, seed=4, name="w")
        assert np.array_equal(large[:30, :40], small)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
def test_threads_change_no_bit(dtype, threads):
    for shape in [(1000, 333), (100_001,), (3, 3, 64, 65), (7, 50_000)]:
        one = vp.weights(shape, "normal", dtype=dtype, threads=1)
        many = vp.weights(shape, "normal", dtype=dtype, threads=threads)
        assert one.tobytes() == many.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_out_of_any_layout_is_filled_in_place(dtype):
    shape = (70, 45)
    expected = vp.weights(shape, "normal", seed=2, dtype=dtype)
    room = np.zeros((200, 200), expected.dtype)
    for target in (
        np.zeros(shape, expected.dtype),
        np.zeros(shape[::-1], expected.dtype).T,
        room[3:73, 5:50],
        room[::2, ::3][:70, :45],
        room[::-1, ::-1][10:80, 3:48],
        np.zeros((*shape, 2), expected.dtype)[..., 1],
    ):
        before = room.copy()
        assert vp.weights(shape, "normal", seed=2, dtype=dtype, out=target) is target
        assert target.tobytes() == expected.tobytes()
        target[...] = 0  # and nothing beside it was touched
        assert room.tobytes() == np.where(before == 0, 0, room).astype(room.dtype).tobytes()


def test_out_of_a_transposed_matrix_is_pytorchs_layout():
    out = np.empty((333, 200), np.float32)  # (out, in)
    vp.weights((200, 333), "he_normal", seed=2, out=out.T)
    assert np.array_equal(out.T, vp.weights((200, 333), "he_normal", seed=2))


def test_sixteen_bits_are_rounded_to_nearest_even():
    import ml_dtypes

    for init in ("normal", "normal(std=1e-6)", "normal(std=1e5)", "normal(std=1e-40)"):
        single = vp.weights((300, 300), init)
        with np.errstate(over="ignore"):
            half = single.astype(np.float16)
        brain = single.astype(ml_dtypes.bfloat16)
        assert vp.weights((300, 300), init, dtype="float16").tobytes() == half.tobytes()
        assert vp.weights((300, 300), init, dtype="bfloat16").tobytes() == brain.tobytes()
        assert vp.weights((300, 300), init, dtype=ml_dtypes.bfloat16).tobytes() == brain.tobytes()


def test_seed_name_and_trial_make_other_tensors():
    tensors = [
        vp.weights((100, 100), "normal", seed=seed, name=name, trial=trial).ravel()
        for seed in (0, 1, 2**100)
        for name in ("", "a", "a.weight")
        for trial in (0, 1, 2**32, 2**62)
    ]
    correlations = np.corrcoef(tensors) - np.eye(len(tensors))
    # 630 pairs, each N(0, 1e-4): beyond 5.5 sigma with probability under 3e-5.
    assert np.abs(correlations).max() < 0.055


def test_neighbours_are_uncorrelated():
    w = vp.weights((1500, 1500), "normal", seed=5).astype(np.float64)
    for a, b in [(w[1:], w[:-1]), (w[:, 1:], w[:, :-1]), (w[2:], w[:-2]), (w[:, 16:], w[:, :-16])]:
        for f in (lambda x: x, np.square, np.abs):
            # N(0, 1 / 2.2e6): 12 statistics beyond 5 sigma with probability under 1e-5.
            assert abs(np.corrcoef(f(a).ravel(), f(b).ravel())[0, 1]) < 5 / 1490


def test_uniform_never_reaches_its_ends():
    for low, high in [(0, 1), (-1, 1), (0.1, 0.3), (5, 5.001), (-1e-30, 1e-30), (1e8, 1e8 + 64)]:
        for dtype in ("float32", "float64"):
            w = vp.weights((1 << 20,), f"uniform({low}, {high})", dtype=dtype)
            assert w.min() > np.dtype(dtype).type(low)
            assert w.max() < np.dtype(dtype).type(high)


def test_given_weights_are_a_law():
    given = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(vp.weights((3, 4), given), given.astype(np.float32))
    assert np.array_equal(vp.weights((3, 4), given, region=(slice(1, 2),)), given[1:2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"init": "he_norml"}, ValueError, "unknown init 'he_norml': did you mean 'he_normal'"),
        ({"init": "normal(std=-1)"}, ValueError, "std"),
        ({"init": "uniform(2, 1)"}, ValueError, "low"),
        ({"init": np.zeros((2, 2))}, ValueError, "shape"),
        ({"shape": (5,)}, ValueError, "at least 2 dimensions"),
        ({"shape": (5, 0)}, ValueError, r"shape\[1\]"),
        ({"shape": (5, 2.5)}, TypeError, r"shape\[1\]"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"name": 3}, TypeError, "name"),
        ({"trial": -1}, ValueError, "trial"),
        ({"trial": 2**64}, ValueError, "trial"),
        ({"dtype": "float8"}, ValueError, "dtype"),
        ({"dtype": "int32"}, ValueError, "dtype"),
        ({"dtype": None}, ValueError, "dtype"),
        ({"init": "normal(std=1e-50)"}, ValueError, "out of the range of float32"),
        ({"init": "uniform(0, 1e39)"}, ValueError, "out of the range of float32"),
        ({"region": 3}, TypeError, "region must be a tuple of slices"),
        ({"threads": 0}, ValueError, "threads"),
        ({"region": (slice(0, 7),)}, ValueError, r"region\[0\]"),
        ({"region": (slice(None),) * 3}, ValueError, "region"),
        ({"region": (3,)}, TypeError, r"region\[0\]"),
        ({"out": [1.0]}, TypeError, "out"),
        ({"out": np.zeros((5, 6))}, TypeError, "out must have dtype float32"),
        ({"out": np.zeros((6, 5), np.float32)}, ValueError, r"out must have shape \(5, 6\)"),
        ({"shape": (2**35, 2), "region": (slice(0, 2),)}, ValueError, r"2\*\*33 rows"),
    ],
)
def test_bad_arguments(arguments, error, message):
    arguments = {"shape": (5, 6), "init": "he_normal", **arguments}
    with pytest.raises(error, match=message):
        vp.weights(arguments.pop("shape"), arguments.pop("init"), **arguments)


def test_read_only_out_is_left_alone():
    out = np.zeros((5, 6), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        vp.weights((5, 6), out=out)
    assert not out.any()


def test_too_large_is_refused_before_allocating():
    with pytest.raises(MemoryError, match=r"needs about 4 TB, .* available"):
        vp.weights((10**6, 10**6), "normal")
    # ... while a part of the same matrix is no trouble.
    assert vp.weights((10**6, 10**6), "normal", region=(slice(0, 2), slice(0, 2))).shape == (2, 2)


@pytest.mark.parametrize("kernel", [(), (2, 2)])
def test_progress_is_reported(kernel):
    # 10^9 numbers into one row, again and again: much work, little memory.
    shape = (*kernel, 40_000 // 4 ** bool(kernel), 25_000)
    row = np.zeros(shape[-1], np.float32)
    out = np.lib.stride_tricks.as_strided(row, shape, (*(0 for _ in shape[1:]), 4))
    seen = []
    vp.weights(shape, "normal", out=out, progress=seen.append)
    assert seen
    assert seen == sorted(seen)
    assert all(0 <= done <= 1 for done in seen)


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt_stops_a_long_draw(threads, interrupted_after):
    # 10^11 numbers into one row, again and again.
    work = f"""
    row = np.zeros(30_000, np.float32)
    out = np.lib.stride_tricks.as_strided(row, (3_000_000, 30_000), (0, 4))
    vp.weights(out.shape, "normal", out=out, threads={threads})
    """
    assert interrupted_after(work) < 0.5
