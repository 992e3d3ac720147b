"""The NumPy reference against known answers, plain integers, closed forms and SciPy's laws.

Statistical tests have fixed seeds. Were a seed drawn anew, a right implementation would fail a
Kolmogorov-Smirnov or chi-squared test with probability 1e-4, and a test on z-scores with 1e-5.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from varprop import reference
from varprop._keys import key

KAT = json.loads((Path(__file__).parent / "data" / "threefry_kat.json").read_text())
SIGNIFICANCE = 1e-4
Z = 4.42  # two-sided 1e-5


def test_threefry_known_answers():
    def columns(which):
        return np.array([[int(w, 16) for w in answer[which]] for answer in KAT["answers"]]).T

    for k, c, w in zip(columns("key").T, columns("counter").T, columns("words").T, strict=True):
        np.testing.assert_array_equal(reference.threefry(k, c), w)
    # Counters of any shape are drawn each for itself.
    same_key = np.stack([columns("counter")[:, :1]] * 6, axis=1).reshape(4, 2, 3)
    for word in reference.threefry((0, 0, 0, 0), same_key).reshape(4, 6).T:
        np.testing.assert_array_equal(word, columns("words")[:, 0])


def test_key_is_frozen():
    # printf '0\0dense1.weight' through BLAKE2b of 16 bytes personalized "varprop-1"
    assert key(0, "dense1.weight") == (0xF7157FDA, 0x579E34D2, 0x91B2C8FF, 0x367880E5)
    assert key(1, "2") != key(12, "")
    assert key(2**200, "é") != key(2**200, "e")


@pytest.mark.parametrize(
    ("seed", "name", "error", "message"),
    [
        (-1, "", ValueError, "seed must be an integer >= 0, got -1"),
        (0.5, "", TypeError, "seed must be an integer, got 0.5"),
        (True, "", TypeError, "seed must be an integer, got True"),
        (0, b"w", TypeError, "name must be a string, got b'w'"),
    ],
)
def test_key_errors(seed, name, error, message):
    with pytest.raises(error, match=message):
        key(seed, name)


# The contract once more, for one number at a time, in Python's integers.


def threefry_of_integers(k, c):
    rotations = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]
    k = [*k, 0x1BD11BDA ^ k[0] ^ k[1] ^ k[2] ^ k[3]]
    x0, x1, x2, x3 = ((a + b) % 2**32 for a, b in zip(c, k[:4], strict=True))
    for turn in range(20):
        r, s = rotations[turn % 8]
        x0 = (x0 + x1) % 2**32
        x1 = ((x1 << r | x1 >> (32 - r)) % 2**32) ^ x0
        x2 = (x2 + x3) % 2**32
        x3 = ((x3 << s | x3 >> (32 - s)) % 2**32) ^ x2
        x1, x3 = x3, x1
        if turn % 4 == 3:
            i = turn // 4 + 1
            x0, x1, x2, x3 = (
                (x + k[(i + j) % 5] + (i if j == 3 else 0)) % 2**32
                for j, x in enumerate((x0, x1, x2, x3))
            )
    return x0, x1, x2, x3


def word(bits, k, row, column, trial):
    """Return the unsigned word of an entry."""
    group = 128 // bits
    four = threefry_of_integers(k, (column, row // group, trial % 2**32, trial >> 32))
    if bits == 32:
        return four[row % 4]
    return four[2 * (row % 2)] + 2**32 * four[2 * (row % 2) + 1]


def signed(w, bits):
    return w - (w >> (bits - 1) << bits)


def uniform(bits, *entry):
    kept = {32: 24, 64: 53}[bits]
    return math.ldexp(2 * (signed(word(bits, *entry), bits) >> (bits - kept)) + 1, -kept)


def normal(bits, k, row, column, trial):
    even = row - row % 2
    a, b = (word(bits, k, even + i, column, trial) for i in (0, 1))
    f = (2 * signed(a, bits) + 1) / 2 ** (bits + 1)
    radius = math.sqrt(-2.0 * (math.log(f) if f > 0 else math.log1p(f)))
    angle = (signed((b << 2) % 2**bits, bits) + 2) / 2**bits * math.pi / 2
    c, s = radius * math.cos(angle), radius * math.sin(angle)
    if b >> (bits - 1):
        c = -c
    pair = (s, c) if b >> (bits - 2) & 1 else (c, s)
    return pair[row % 2]


SHAPE = (7, 3)
TRIAL = 5 * 2**32 + 9


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("seed", range(5))
def test_numbers_follow_the_contract(dtype, seed):
    bits = 64 if dtype == "float64" else 32
    k = key(seed, "dense1.weight")

    def drawn(init):
        options = {"seed": seed, "name": "dense1.weight", "trial": TRIAL, "dtype": dtype}
        return reference.weights(SHAPE, init, **options)

    def stated(law):
        return np.array([[law(bits, k, i, j, TRIAL) for j in range(3)] for i in range(7)])

    def all_bits(*entry):
        return math.ldexp(2 * signed(word(*entry), 32) + 1, -32) if bits == 32 else uniform(*entry)

    u, v = stated(uniform), stated(all_bits)
    np.testing.assert_array_equal(drawn("uniform(-1, 1)"), u)
    np.testing.assert_array_equal(drawn("uniform(2, 6)"), 4 + 2 * u)
    np.testing.assert_allclose(drawn("normal"), stated(normal), rtol=1e-14)
    np.testing.assert_allclose(drawn("normal(0.5, 3)"), 3 + 0.5 * stated(normal), rtol=1e-14)
    z = math.sqrt(2) * special.erfinv(u * math.erf(math.sqrt(2)))
    np.testing.assert_allclose(drawn("truncated_normal"), z, rtol=1e-14, atol=1e-15)
    z = special.ndtri(special.ndtr(-6) + (special.ndtr(-4) - special.ndtr(-6)) * (1 + v) / 2)
    np.testing.assert_allclose(drawn("truncated_normal(low=-6, high=-4)"), z, rtol=1e-13)
    z = special.ndtri(special.ndtr(-3) + (special.ndtr(-1) - special.ndtr(-3)) * (1 - v) / 2)
    np.testing.assert_allclose(drawn("truncated_normal(low=1, high=3)"), -z, rtol=1e-13)
    np.testing.assert_array_equal(drawn("constant(0.1)"), np.full(SHAPE, 0.1))


def test_shapes_and_corners():
    whole = reference.weights((40, 30), "normal", name="w")
    np.testing.assert_array_equal(reference.weights((9, 11), "normal", name="w"), whole[:9, :11])
    np.testing.assert_array_equal(reference.weights((40,), "normal", name="w"), whole[:, 0])
    assert reference.weights((), "normal", name="w") == whole[0, 0]
    cube = reference.weights((5, 8, 30), "normal", name="w")
    np.testing.assert_array_equal(cube.reshape(40, 30), whole)
    assert not np.isin(reference.weights((40, 30), "normal", name="w", trial=1), whole).any()
    assert not np.isin(reference.weights((40, 30), "normal", name="v"), whole).any()
    assert not np.isin(reference.weights((40, 30), "normal", name="w", seed=1), whole).any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "float23"}, ValueError, "unknown dtype 'float23': did you mean 'float32'"),
        ({"trial": -1}, ValueError, "trial must be an integer >= 0, got -1"),
        ({"trial": 2**63}, ValueError, r"trial must be under 2\*\*63, got 9223372036854775808"),
        ({"shape": (3, 0)}, ValueError, r"shape\[1\] must be an integer >= 1, got 0"),
        ({"init": "nrmal"}, ValueError, "unknown init 'nrmal': did you mean 'normal'"),
    ],
)
def test_weights_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        reference.weights(**{"shape": (2, 2), **arguments})


# Laws, on 10^5 numbers each.

LAWS = {
    "normal(std=2, mean=-1)": stats.norm(-1, 2),
    "uniform(-3, 1)": stats.uniform(-3, 4),
    "truncated_normal": stats.truncnorm(-2, 2),
    "truncated_normal(std=2, mean=1, low=0, high=inf)": stats.truncnorm(-0.5, np.inf, 1, 2),
    "truncated_normal(low=-1, high=3)": stats.truncnorm(-1, 3),
    "truncated_normal(low=6, high=8)": stats.truncnorm(6, 8),
    "truncated_normal(low=-8, high=-6)": stats.truncnorm(-8, -6),
    "truncated_normal(low=30, high=inf)": stats.truncnorm(30, np.inf),
    "truncated_normal(low=-inf, high=10)": stats.norm(),
    "he_normal": stats.truncnorm(-2, 2, 0, 0.1 / 0.87962566103423978),
    "glorot_uniform": stats.uniform(-0.1, 0.2),
}
SHAPES = {"he_normal": (200, 500), "glorot_uniform": (300, 300)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", LAWS)
def test_law(text, dtype):
    law = LAWS[text]
    w = reference.weights(SHAPES.get(text, (250, 400)), text, seed=3, name=text, dtype=dtype)
    x = w.ravel()
    low, high = law.support()
    assert low <= x.min()
    assert x.max() <= high
    assert stats.kstest(x, law.cdf).pvalue > SIGNIFICANCE
    mean, var, _, excess = (float(moment) for moment in law.stats("mvsk"))
    assert abs(x.mean() - mean) < Z * math.sqrt(var / x.size)
    assert abs(x.var() / var - 1) < Z * math.sqrt((excess + 2) / x.size)
    # Neighbours along both axes are uncorrelated.
    centred = (w - mean) / math.sqrt(var)
    for a, b in ((centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])):
        assert abs((a * b).mean()) < Z / math.sqrt(a.size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_tails_and_angles(dtype):
    z = reference.weights((2000, 500), "normal", seed=1, dtype=dtype)
    for sigma in (3.0, 4.0):
        expected = z.size * math.erfc(sigma / math.sqrt(2))
        assert abs((np.abs(z) > sigma).sum() - expected) < Z * math.sqrt(expected)
    assert abs((z**4).mean() - 3) < Z * math.sqrt(96 / z.size)
    angle = np.arctan2(z[::2], z[1::2]) / (2 * np.pi) + 0.5
    assert stats.kstest(angle.ravel(), "uniform").pvalue > SIGNIFICANCE
    radius = z[::2] ** 2 + z[1::2] ** 2
    assert stats.kstest(radius.ravel(), stats.chi2(2).cdf).pvalue > SIGNIFICANCE


@pytest.mark.parametrize(("dtype", "bits"), [(np.int32, 32), (np.int64, 64)])
def test_normal_at_the_extreme_words(dtype, bits):
    # Radius words 0 and -1 lie on either side of U = 0 and 1; angle words 0 and 2^(n-2) on axes.
    far = math.sqrt(2 * (bits + 1) * math.log(2))
    z = reference.standard_normal(np.array([[0, 0, -1], [0, 2 ** (bits - 2), 0]], dtype))
    np.testing.assert_allclose(z[:, 0], [far, 0.0], atol=1e-7)
    np.testing.assert_allclose(z[:, 1], [0.0, far], atol=1e-7)
    np.testing.assert_allclose(z[0, 2], math.sqrt(2.0**-bits), rtol=1e-9)
    limits = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]] * 2, dtype)
    assert np.isfinite(reference.standard_normal(limits)).all()
    for low, high in ((-2.0, 2.0), (-np.inf, 9.0), (-9.0, np.inf), (6.0, 8.0), (0.0, 1e-9)):
        z = reference.standard_truncated(limits, low, high)
        assert np.isfinite(z).all()
        assert (low <= z).all()
        assert (z <= high).all()


# Laws formed whole.


@pytest.mark.parametrize(
    "shape", [(40, 40), (60, 20), (20, 60), (3, 3, 4, 50), (3, 3, 4, 20), (1, 1)]
)
def test_orthogonal(shape):
    q = reference.weights(shape, "orthogonal(gain=3)", name="q").reshape(-1, shape[-1])
    gram = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(gram, 9 * np.eye(len(gram)), atol=1e-13)


def test_orthogonal_is_haar():
    draws = [reference.weights((3, 3), "orthogonal", name="q", trial=t) for t in range(2000)]
    entries = np.array(draws).reshape(2000, 9)
    for entry in entries.T:  # a coordinate of a uniform point on the sphere in 3 dimensions
        assert stats.kstest(entry, stats.uniform(-1, 2).cdf).pvalue > SIGNIFICANCE
    rotations = (np.linalg.det(draws) > 0).sum()
    assert abs(rotations - 1000) < Z * math.sqrt(500)


def test_sparse():
    w = reference.weights((2000, 30), "sparse(0.33, std=0.5)", name="s")
    np.testing.assert_array_equal((w == 0).sum(axis=1), math.ceil(0.33 * 30))  # 10 of 30
    zeros = (w == 0).sum(axis=0)  # in each column: 10 of 30 positions, drawn without replacement
    spread = 2000 * (1 / 3) * (2 / 3) * 30 / 29
    assert stats.chi2(29).sf(((zeros - 2000 / 3) ** 2).sum() / spread) > SIGNIFICANCE
    assert stats.kstest(w[w != 0], stats.norm(0, 0.5).cdf).pvalue > SIGNIFICANCE


@pytest.mark.parametrize(("sparsity", "zeros"), [(0, 0), (0.01, 1), (0.1, 1), (0.11, 2), (1, 10)])
def test_sparse_rounds_up(sparsity, zeros):
    w = reference.weights((4, 10), f"sparse({sparsity})")
    np.testing.assert_array_equal((w == 0).sum(axis=1), zeros)


def dirac_as_pytorch_fills_it(shape, groups):
    """Fill (out, in, *kernel), then move the axes to (*kernel, in, out)."""
    *kernel, inputs, outputs = shape
    tensor = np.zeros((outputs, inputs, *kernel))
    centre = tuple(size // 2 for size in kernel)
    for g in range(groups):
        for d in range(min(outputs // groups, inputs)):
            tensor[(g * (outputs // groups) + d, d, *centre)] = 1
    return np.moveaxis(tensor, (0, 1), (-1, -2))


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 2, 12), (2, 5, 9, 6), (1, 2, 3, 6, 6)])
def test_dirac(shape, groups):
    w = reference.weights(shape, f"dirac({groups})")
    np.testing.assert_array_equal(w, dirac_as_pytorch_fills_it(shape, groups))


@pytest.mark.parametrize(
    ("shape", "centre"),
    [((3, 4, 6), (1,)), ((4, 6, 6), (1,)), ((2, 5, 3, 8), (0, 2)), ((1, 6, 7, 2, 2), (0, 2, 3))],
)
def test_delta_orthogonal(shape, centre):
    w = reference.weights(shape, "delta_orthogonal(gain=2)", name="d")
    block = w[centre]
    np.testing.assert_allclose(block @ block.T, 4 * np.eye(shape[-2]), atol=1e-13)
    assert np.count_nonzero(w) == block.size


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_identity(shape):
    rows = [[2.0 if i == j else 0.0 for j in range(shape[1])] for i in range(shape[0])]
    np.testing.assert_array_equal(reference.weights(shape, "identity(2)"), rows)
    np.testing.assert_array_equal(reference.weights(shape, "eye") * 2, rows)


def test_given():
    array = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(reference.weights((2, 3), array), array)
