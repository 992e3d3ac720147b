"""Weights drawn into memory of any layout: the plain draw to the bit, and nothing beside it."""

import sys

import ml_dtypes
import numpy as np
import pytest

import varprop as vp
from varprop import _weights

DTYPES = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
LAWS = (
    "normal(std=0.3, mean=2)",
    "uniform(low=-3, high=5)",
    "truncated_normal(std=0.5)",
    "truncated_normal(low=-1, high=3)",
    "constant(0.5)",
)

# Ours (*kernel, in, out), and the axes of memory in this order: PyTorch's linear layers,
# convolutions (out, in, *kernel) and transposed convolutions (in, out, *kernel), kernels outermost.
TORCH = {
    "dense": ((130, 70), (1, 0)),
    "dense_of_few": ((5, 300), (1, 0)),
    "dense_to_few": ((333, 3), (1, 0)),
    "one_column": ((300, 1), (1, 0)),
    "conv1d": ((5, 40, 33), (2, 1, 0)),
    "conv2d": ((3, 3, 64, 130), (3, 2, 0, 1)),
    "conv2d_of_images": ((7, 7, 3, 64), (3, 2, 0, 1)),
    "conv2d_of_one_position": ((1, 1, 90, 50), (3, 2, 0, 1)),
    "conv2d_wide": ((2, 3, 1100, 5), (3, 2, 0, 1)),
    "conv2d_odd": ((3, 3, 66, 7), (3, 2, 0, 1)),
    "depthwise": ((3, 3, 1, 200), (3, 2, 0, 1)),
    "conv3d": ((3, 2, 3, 20, 24), (4, 3, 0, 1, 2)),
    "conv1d_transposed": ((4, 24, 50), (1, 2, 0)),
    "conv2d_transposed": ((3, 3, 24, 50), (2, 3, 0, 1)),
    "kernel_outermost": ((3, 3, 24, 50), (0, 1, 3, 2)),
    "many_small_matrices": ((40, 50, 3, 3), (0, 1, 2, 3)),
    "many_small_matrices_inside_out": ((40, 50, 3, 3), (3, 2, 0, 1)),
    "matrices_of_one_number": ((30, 20, 1, 1), (1, 2, 0, 3)),
}


class Room:
    """Memory with an array somewhere in it, to be filled; the rest must stay as it is."""

    def __init__(self, shape, dtype, order, gaps=None, flips=None, offset=0):
        gaps = gaps or [1] * len(shape)
        flips = flips or [False] * len(shape)
        sizes = [shape[axis] * gaps[axis] for axis in order]
        self.bytes = np.full(offset + int(np.prod(sizes, dtype=int)) * dtype.itemsize, 0xA5, "u1")
        room = self.bytes[offset:].view(dtype).reshape(sizes).transpose(np.argsort(order))
        self.array = room[
            tuple(slice(None, None, -gap if f else gap) for gap, f in zip(gaps, flips, strict=True))
        ]

    def check(self, expected):
        assert self.array.tobytes() == expected.tobytes()
        self.array[...] = np.frombuffer(b"\xa5" * self.array.itemsize, self.array.dtype)[0]
        assert (self.bytes == 0xA5).all()


def _random_slice(rng, size):
    start, stop = sorted(rng.integers(0, size + 1, 2).tolist())
    step = int(rng.choice([1, 1, 1, 2, 5, -1, -3]))
    if step > 0:
        return slice(start, stop, step)
    return slice(stop - 1 if stop else None, start - 1 if start else None, step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", TORCH)
def test_torchs_layouts(layout, dtype):
    shape, order = TORCH[layout]
    for law in LAWS:
        room = Room(shape, DTYPES[dtype], order)
        arguments = {"seed": 4, "name": layout, "trial": 3, "dtype": dtype}
        vp.weights(shape, law, out=room.array, threads=1, **arguments)
        room.check(vp.weights(shape, law, **arguments))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", LAWS)
def test_any_strides_and_regions(law, dtype):
    rng = np.random.default_rng(7)
    for shape in [(70, 45), (300, 6), (3, 2, 11, 70), (2, 3, 80, 9), (6, 5, 4, 3, 2), (900,)]:
        whole = vp.weights(shape, law, seed=9, name="r", dtype=dtype)
        for _ in range(8):
            region = tuple(
                slice(None) if rng.random() < 0.4 else _random_slice(rng, size) for size in shape
            )
            expected = whole[region]
            room = Room(
                expected.shape,
                DTYPES[dtype],
                rng.permutation(len(shape)),
                gaps=rng.choice([1, 1, 2, 3], len(shape)).tolist(),
                flips=(rng.random(len(shape)) < 0.3).tolist(),
                offset=int(rng.choice([0, 0, 1])),  # not aligned either
            )
            vp.weights(
                shape, law, seed=9, name="r", dtype=dtype, region=region, out=room.array,
                threads=int(rng.integers(1, 5)),
            )  # fmt: skip
            room.check(expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_that_are_no_multiple_of_a_number(dtype):
    packed = np.zeros((60, 50), [("before", "u1"), ("weight", DTYPES[dtype]), ("after", "u1")])
    for shape, out in [((60, 50), packed["weight"]), ((50, 60), packed["weight"].T)]:
        vp.weights(shape, "normal", dtype=dtype, out=out)
        assert out.tobytes() == vp.weights(shape, "normal", dtype=dtype).tobytes()
        assert not packed["before"].any()
        assert not packed["after"].any()


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_share_any_layout(threads, dtype):
    for shape, order in [
        ((700, 901), (1, 0)),
        ((3, 3, 200, 150), (3, 2, 0, 1)),
        ((3, 3, 150, 200), (2, 3, 0, 1)),
        ((200, 150, 3, 3), (3, 2, 0, 1)),
        ((300, 100, 3, 3), (1, 0, 3, 2)),
    ]:
        room = Room(shape, DTYPES[dtype], order)
        vp.weights(shape, "normal", dtype=dtype, out=room.array, threads=threads)
        room.check(vp.weights(shape, "normal", dtype=dtype))


def test_broadcast_memory_holds_one_of_the_rows():
    out = np.lib.stride_tricks.as_strided(np.zeros(300, np.float32), (40, 300), (0, 4))
    vp.weights((40, 300), "normal", out=out, threads=1)
    whole = vp.weights((40, 300), "normal")
    assert any(np.array_equal(out[0], row) for row in whole)


@pytest.mark.parametrize(
    ("shape", "law"),
    [(shape, law) for shape in ((), (7,), (300, 40), (3, 3, 16, 40)) for law in (*LAWS, "given")]
    + [((300, 40), "orthogonal"), ((300, 40), "sparse(sparsity=0.3)")],
)
def test_bits_of_bfloat16_without_a_dtype_for_it(shape, law, monkeypatch):
    if law == "given":
        law = np.random.default_rng(3).standard_normal(shape)
    region = tuple(slice(size // 3, None) for size in shape)
    expected = vp.weights(shape, law, seed=2, dtype="bfloat16", region=region)
    single = vp.weights(shape, law, seed=2, dtype="float32", region=region)
    assert expected.tobytes() == single.astype(ml_dtypes.bfloat16).tobytes()
    target = np.zeros(expected.shape[::-1], np.uint16).T
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # not installed
    _weights.fill(target, law, shape=shape, seed=2, dtype="bfloat16", region=region)
    assert target.tobytes() == expected.view(np.uint16).tobytes()


def test_given_numbers_are_rounded_to_nearest_even():
    rng = np.random.default_rng(5)
    ties = (rng.integers(0, 0x7F7F, 1000, np.uint32) << 16 | 0x8000).view(np.float32)
    given = np.concatenate(
        [ties * (1 + delta) for delta in (0, 1e-7, -1e-7)] + [[0.0, -0.0, 1e-45]]
    )
    drawn = vp.weights(given.shape, given, dtype="bfloat16")
    assert drawn.tobytes() == given.astype(ml_dtypes.bfloat16).tobytes()


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (np.zeros((5, 6), np.int16), TypeError, "out must have dtype bfloat16, got int16"),
        (np.zeros((6, 5), np.uint16), ValueError, r"out must have shape \(5, 6\), got \(6, 5\)"),
        (np.broadcast_to(np.uint16(0), (5, 6)), ValueError, "read-only"),
    ],
)
def test_bad_targets(target, error, message):
    with pytest.raises(error, match=message):
        _weights.fill(target, "he_normal", shape=(5, 6), dtype="bfloat16")
    assert not target.any()
    with pytest.raises(TypeError, match="out must have dtype bfloat16, got uint16"):
        vp.weights((5, 6), dtype="bfloat16", out=np.zeros((5, 6), np.uint16))
