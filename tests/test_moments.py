"""The accumulator against NumPy in long double, on arrays of every kind."""

import numpy as np
import pytest

import varprop as vp


def exact(x, axis=None):
    x = np.asarray(x, np.longdouble)
    mean = x.mean(axis=axis, keepdims=True)
    d = x - mean
    var = np.mean(d**2, axis=axis)
    return {
        "mean": x.mean(axis=axis),
        "var": var,
        "std": np.sqrt(var),
        "kurtosis": np.mean(d**4, axis=axis) / var**2,
        "min": x.min(axis=axis),
        "max": x.max(axis=axis),
    }


def check(moments, x, axis=None, rtol=1e-12):
    for name, value in exact(x, axis).items():
        found = getattr(moments, name)
        scale = float(np.max(np.abs(np.asarray(x, float))))
        np.testing.assert_allclose(
            found, value.astype(float), rtol=rtol, atol=1e-14 * scale, err_msg=name
        )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool"])
@pytest.mark.parametrize("shape", [(1,), (7,), (1000,), (12345,), (3, 4, 5), (70, 65), ()])
def test_any_shape_and_dtype(dtype, shape):
    x = (np.random.default_rng(1).normal(size=shape) * 3 + 1).astype(dtype)
    moments = vp.Moments()
    moments.update(x)
    assert moments.count == x.size
    if x.size > 1 and dtype != "bool":
        check(moments, x)
    assert moments.mean == pytest.approx(float(np.mean(x, dtype=float)))


def test_bfloat16():
    import ml_dtypes

    x = np.random.default_rng(1).normal(size=(50, 60)).astype(ml_dtypes.bfloat16)
    moments = vp.Moments()
    moments.update(x)
    check(moments, x.astype(np.float64))


def test_strided_views_are_read_in_place():
    base = np.random.default_rng(2).normal(size=(60, 70, 8)).astype(np.float32)
    for view in (base[::2, ::-3, 1], base.T, base[5:6], base.transpose(1, 2, 0)[::-1], base[:, 0]):
        moments = vp.Moments()
        moments.update(view)
        check(moments, view)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), (0, 2), (1, 2), (0, 1, 2), ()])
def test_axes(axis):
    rng = np.random.default_rng(3)
    parts = [rng.normal(size=(20, 33, 40)) + np.arange(40) for _ in range(3)]
    moments = vp.Moments(axis=axis)
    for part in parts:
        moments.update(part)
    axes = (axis,) if isinstance(axis, int) else axis
    kept = [a for a in range(3) if a not in {b % 3 for b in axes}]
    if len(axes) == 0:
        assert np.allclose(moments.mean, np.mean(parts, axis=0))
        return
    stacked = np.stack(parts).transpose(0, *(a % 3 + 1 for a in axes), *(a + 1 for a in kept))
    flat = stacked.reshape(-1, *(parts[0].shape[a] for a in kept))
    assert moments.count.shape == flat.shape[1:] if kept else moments.count == flat.size
    check(moments, flat, axis=0 if kept else None)


def test_merge_equals_one_pass():
    x = np.random.default_rng(4).gamma(2.0, size=100_000) + 50
    whole = vp.Moments()
    whole.update(x)
    for cuts in ([1], [99_999], [10, 20, 5000], list(range(0, 100_000, 777))):
        merged = vp.Moments()
        for part in np.split(x, cuts):
            one = vp.Moments()
            one.update(part)
            merged.merge(one)
        for name in ("count", "mean", "var", "std", "kurtosis", "min", "max"):
            assert getattr(merged, name) == pytest.approx(getattr(whole, name), rel=1e-12)


def test_tiny_variance_around_a_mean_has_six_digits():
    rng = np.random.default_rng(5)
    for mean, std in [(0.5, 1e-3), (0.5, 1e-5), (1e6, 1.0), (-3.0, 1e-4)]:
        for dtype in ("float32", "float64"):
            x = (mean + std * rng.normal(size=200_000)).astype(dtype)
            moments = vp.Moments()
            moments.update(x)
            assert moments.var == pytest.approx(float(exact(x)["var"]), rel=1e-9)


def test_normal_has_kurtosis_3():
    moments = vp.Moments()
    moments.update(vp.weights((1000, 1000), "normal"))
    assert moments.kurtosis == pytest.approx(3, abs=5 * np.sqrt(24e-6))  # 5 sigma


def test_empty_and_single():
    moments = vp.Moments()
    assert moments.count == 0
    assert np.isnan(moments.mean)
    assert np.isnan(moments.var)
    moments.update(np.empty((0, 5)))
    moments.merge(vp.Moments())
    assert moments.count == 0
    moments.update(3.0)
    assert (moments.mean, moments.var, moments.min, moments.max) == (3, 0, 3, 3)
    assert "1 numbers" in repr(moments)


def test_squares_past_the_range_are_infinite():
    moments = vp.Moments()
    moments.update(1e200 * np.random.default_rng(0).normal(size=5000))
    assert moments.var == np.inf
    assert np.isfinite(moments.mean)


def test_not_a_number_is_not_hidden():
    moments = vp.Moments()
    moments.update([1.0, np.nan])
    assert np.isnan(moments.mean)
    assert np.isnan(moments.var)


@pytest.mark.parametrize(
    ("axis", "array", "error", "message"),
    [
        (2, np.zeros((3, 4)), ValueError, "axis must fit an array of 2 dimensions"),
        (None, np.zeros(3, complex), TypeError, "complex128"),
        (None, ["a"], TypeError, "real numbers"),
    ],
)
def test_errors(axis, array, error, message):
    moments = vp.Moments(axis)
    with pytest.raises(error, match=message):
        moments.update(array)


def test_shapes_that_differ():
    a, b = vp.Moments(0), vp.Moments(0)
    a.update(np.zeros((2, 3)))
    b.update(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(4,\)"):
        a.update(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="shape"):
        a.merge(b)
    with pytest.raises(TypeError, match="Moments"):
        a.merge(3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_side_by_side_apart_or_unaligned_the_bits_are_the_same(dtype):
    numbers = np.random.default_rng(3).normal(2.0, 3.0, (7, 1, 431)).astype(dtype)
    apart = np.zeros((7, 1, 862), dtype)[..., ::2]
    apart[...] = numbers
    raw = np.zeros(numbers.nbytes + 1, np.uint8)[1:]
    unaligned = raw.view(dtype).reshape(numbers.shape)
    unaligned[...] = numbers
    assert not unaligned.flags.aligned
    found = []
    for array in (numbers, apart, unaligned, numbers.transpose(2, 0, 1)):
        moments = vp.Moments()
        moments.update(array)
        found.append((moments.count, moments.mean, moments.var, moments.kurtosis, moments.min))
    assert len(set(found)) == 1
