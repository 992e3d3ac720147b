"""Laws of weights: every name against its framework's closed form; texts, arrays, errors."""

from __future__ import annotations

import math
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from varprop import initializers as laws
from varprop.initializers import resolve

FAN_IN, FAN_OUT = 300, 100
CUT = 2 / 0.87962566103423978  # where variance_scaling's truncated normal ends, in its own std


def as_scipy(draw):
    """Return SciPy's distribution of what a law asks the core to draw."""
    match draw.distribution:
        case "normal":
            return stats.norm(draw.mean, draw.std)
        case "uniform":
            return stats.uniform(draw.low, draw.high - draw.low)
        case "truncated_normal":
            return stats.truncnorm(draw.low, draw.high, draw.mean, draw.std)


def scaled(std, kind):
    """Return mean, std, low and high of a law of that std."""
    reach = {"uniform": sqrt(3.0), "truncated": CUT, "normal": inf}[kind] * std
    return 0.0, std, -reach, reach


# Mean, std and support of each name's law on (300, 100), from the frameworks' documentation.
INDEPENDENT = {
    "glorot_uniform": scaled(sqrt(2 / 400), "uniform"),
    "glorot_normal": scaled(sqrt(2 / 400), "truncated"),
    "he_uniform": scaled(sqrt(2 / 300), "uniform"),
    "he_normal": scaled(sqrt(2 / 300), "truncated"),
    "lecun_uniform": scaled(sqrt(1 / 300), "uniform"),
    "lecun_normal": scaled(sqrt(1 / 300), "truncated"),
    "torch_linear": (0.0, sqrt(1 / 900), -1 / sqrt(300), 1 / sqrt(300)),
    "variance_scaling": scaled(sqrt(1 / 300), "truncated"),
    "variance_scaling(2, 'fan_out')": scaled(sqrt(2 / 100), "truncated"),
    "variance_scaling(3, mode='fan_avg')": scaled(sqrt(3 / 200), "truncated"),
    "variance_scaling(1, 'fan_geo_avg', 'uniform')": scaled(30000**-0.25, "uniform"),
    "variance_scaling(1, 'fan_in', 'untruncated_normal')": scaled(sqrt(1 / 300), "normal"),
    "xavier_uniform": scaled(sqrt(2 / 400), "uniform"),
    "xavier_uniform(gain=5)": scaled(5 * sqrt(2 / 400), "uniform"),
    "xavier_normal": scaled(sqrt(2 / 400), "normal"),
    "xavier_normal(0.5)": scaled(0.5 * sqrt(2 / 400), "normal"),
    "kaiming_uniform": scaled(sqrt(2 / 300), "uniform"),
    "kaiming_uniform(a=3, mode='fan_out')": scaled(sqrt(0.2 / 100), "uniform"),
    "kaiming_normal": scaled(sqrt(2 / 300), "normal"),
    "kaiming_normal(nonlinearity='tanh')": scaled(5 / 3 / sqrt(300), "normal"),
    "kaiming_normal(0, 'fan_out', 'relu')": scaled(sqrt(2 / 100), "normal"),
    "normal": (0.0, 1.0, -inf, inf),
    "normal(std=0.1, mean=-2)": (-2.0, 0.1, -inf, inf),
    "uniform": (0.5, sqrt(1 / 12), 0.0, 1.0),
    "uniform(-2, high=4)": (1.0, sqrt(3), -2.0, 4.0),
    "truncated_normal": (0.0, 0.87962566103423978, -2.0, 2.0),
    "truncated_normal(high=inf, low=0)": (sqrt(2 / math.pi), sqrt(1 - 2 / math.pi), 0.0, inf),
    "truncated_normal(3, 1, -inf, inf)": (1.0, 3.0, -inf, inf),
    "trunc_normal": (0.0, 0.87962566103423978, -2.0, 2.0),
    "trunc_normal(std=0.02)": (0.0, 0.02, -inf, inf),  # bounds at 100 sigma cut nothing
    "trunc_normal(std=0.2106)": (0.0, 0.2106, -2.0, 2.0),  # at 9.497 sigma
    "trunc_normal(5, 2, 1, 9)": (5.0, 2 * 0.87962566103423978, 1.0, 9.0),
    "random_normal": (0.0, 0.05, -inf, inf),
    "random_uniform": (0.0, 0.05 / sqrt(3), -0.05, 0.05),
    "keras_truncated_normal": (0.0, 0.05 * 0.87962566103423978, -0.1, 0.1),
    "keras_truncated_normal(1, stddev=2)": (1.0, 2 * 0.87962566103423978, -3.0, 5.0),
    "scaled('normal(0.5, 2)', 3)": (6.0, 1.5, -inf, inf),
    "scaled('uniform(-1, 3)', 0.5)": (0.5, 1 / sqrt(3), -0.5, 1.5),
    "scaled('trunc_normal(5, 2, 1, 9)', 2)": (10.0, 4 * 0.87962566103423978, 2.0, 18.0),
}
CONSTANT = {"zeros": 0.0, "ones": 1.0, "constant(-2.5)": -2.5}
WHOLE = [
    *("orthogonal", "delta_orthogonal", "sparse(0.1)", "identity", "eye", "dirac"),
    *("orthogonal(gain=2)", "delta_orthogonal(0.5)", "sparse(sparsity=1, std=2)", "dirac(2)"),
]


@pytest.mark.parametrize("text", INDEPENDENT)
def test_moments_and_support(text):
    law = resolve(text)
    assert law.iid
    drawn = as_scipy(law.compile((FAN_IN, FAN_OUT)))
    expected = INDEPENDENT[text]
    assert (drawn.mean(), drawn.std(), *drawn.support()) == pytest.approx(expected, 1e-12, 1e-15)


@pytest.mark.parametrize("text", CONSTANT)
def test_constants(text):
    draw = resolve(text).compile(())
    assert (draw.distribution, draw.mean) == ("constant", CONSTANT[text])


def test_every_name_is_tested():
    tested = {text.split("(")[0] for text in (*INDEPENDENT, *CONSTANT, *WHOLE)}
    assert tested == set(laws.LAWS)


def test_variance_scaling_counts_the_kernel():
    draw = resolve("he_normal").compile((3, 5, 16, 32))
    assert as_scipy(draw).std() == pytest.approx(sqrt(2 / (3 * 5 * 16)), rel=1e-14)
    assert draw[3:] == (-2.0, 2.0)


@pytest.mark.parametrize("text", ["normal", "uniform", "truncated_normal", "zeros", "ones"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_laws_without_fans_take_any_shape(text, shape):
    assert resolve(text).compile(shape) == resolve(text).compile((7, 7))


@pytest.mark.parametrize(
    "law",
    [
        laws.TruncatedNormal(),
        laws.TruncatedNormal(std=0.5, mean=3.0, low=2.0, high=inf),
        laws.TruncatedNormal(low=6.0, high=8.0),
        laws.TruncatedNormal(low=-inf, high=-30.0),
        laws.TruncatedNormal(std=2.0, mean=1.0, low=-1.0, high=1.0),
        laws.TruncatedNormal(low=0.999, high=1.0),
        laws.TruncatedNormal(low=1e-12, high=3e-12),
        laws.Uniform(-3.0, 1.0),
        laws.Normal(3.0, 4.0),
    ],
)
def test_rms(law):
    draw = law.compile(())
    quantiles = as_scipy(draw).ppf((np.arange(100_000) + 0.5) / 100_000)
    if law == laws.TruncatedNormal(low=1e-12, high=3e-12):  # too narrow for SciPy
        quantiles = np.linspace(1e-12, 3e-12, 100_001)
    assert draw.rms == pytest.approx(sqrt(np.mean(quantiles**2)), rel=2e-4)


def test_rms_is_zero_only_for_zeros():
    assert resolve("zeros").compile(()).rms == 0.0
    assert resolve("normal(std=0)").compile(()).rms == 0.0
    assert resolve("constant(-3)").compile(()).rms == 3.0


@pytest.mark.parametrize("text", [*INDEPENDENT, *CONSTANT, *WHOLE])
def test_text_and_back(text):
    law = resolve(text)
    assert resolve(str(law)) == law
    assert hash(resolve(str(law))) == hash(law)
    assert resolve(law) is law
    assert laws.to_value(law) == str(law)


@pytest.mark.parametrize(
    ("law", "text"),
    [
        (laws.Normal(), "normal"),
        (laws.Normal(std=0.1), "normal(std=0.1)"),
        (laws.Normal(np.float32(0.5), np.int8(1)), "normal(std=0.5, mean=1.0)"),
        (laws.TruncatedNormal(high=inf), "truncated_normal(high=inf)"),
        (laws.TruncatedNormal(low=-inf), "truncated_normal(low=-inf)"),
        (laws.VarianceScaling(2.0), "he_normal"),
        (laws.VarianceScaling(2.5), "variance_scaling(scale=2.5)"),
        (laws.VarianceScaling(1, "fan_out"), "variance_scaling(mode='fan_out')"),
        (laws.Constant(0), "zeros"),
        (laws.Constant(2), "constant(value=2.0)"),
        (laws.Sparse(0.1), "sparse(sparsity=0.1)"),
        (laws.Dirac(3), "dirac(groups=3)"),
    ],
)
def test_text(law, text):
    assert str(law) == text


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.floats(0.0, 1e300), finite, finite, finite)
def test_any_number_survives_its_text(std, mean, low, high):
    drawn = [laws.Normal(std, mean), laws.Constant(low)]
    if low < high:
        drawn.append(laws.Uniform(low, high))
    for law in drawn:
        assert resolve(str(law)) == law


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("he_norml", "unknown weight 'he_norml': did you mean 'he_normal'. One of: zeros, ones"),
        ("normal(", "weight must be a name, alone or called with numbers"),
        ("normal(std=__import__('os'))", "weight must be a name, alone or called"),
        ("a" * 501, "weight must have at most 500 characters, got 501: 'aaa"),
        ("he_normal(2)", "weight: he_normal takes no arguments, got 'he_normal"),
        ("normal(foo=1)", "weight must be called as 'normal.std=1.0, mean=0.0.'"),
        ("sparse", "weight must be called as 'sparse.sparsity, std=0.01.'"),
        ("xavier_normal(1, 2)", "weight must be called as 'xavier_normal.gain=1.0.'"),
        ("normal(std=-1)", "weight 'normal.*: std must be a finite number >= 0, got -1"),
        ("normal(std='a')", "weight .*: std must be a number, got 'a'"),
        ("normal(mean=inf)", "weight .*: mean must be a finite number, got inf"),
        ("kaiming_normal(nonlinearity='gelu')", "weight .*: unknown nonlinearity 'gelu'"),
        ("kaiming_normal(mode='fan_avg')", "unknown mode 'fan_avg'.* of: fan_in, fan_out"),
        ("xavier_normal(gain=-1)", "weight .*: gain must be a finite number >= 0, got -1"),
        ([[1.0], [1.0, 2.0]], "weight: setting an array element with a sequence"),
        (math.nan, "weight: value must be a finite number, got nan"),
        (np.array([[1.0, 2.0], [3.0, inf]]), "weight: array must be finite, got inf at .1, 1."),
    ],
)
def test_resolve_refuses_values(spec, message):
    with pytest.raises(ValueError, match=message):
        resolve(spec, "weight")


@pytest.mark.parametrize("spec", [None, True, 1j, ["a", "b"], {}, [None], [[True]]])
def test_resolve_refuses_types(spec):
    with pytest.raises(TypeError, match="weight must be a name such as 'he_normal', a Law, a num"):
        resolve(spec, "weight")


@pytest.mark.parametrize(
    ("law", "arguments", "message"),
    [
        (laws.Normal, {"std": -0.1}, "std must be a finite number >= 0, got -0.1"),
        (laws.Normal, {"mean": math.nan}, "mean must be a finite number, got nan"),
        (laws.Uniform, {"low": 1}, "low must be less than high, got 1.0 and 1.0"),
        (laws.Uniform, {"high": inf}, "high must be a finite number, got inf"),
        (laws.TruncatedNormal, {"std": 0}, "std of a truncated normal must be > 0, got 0"),
        (laws.TruncatedNormal, {"low": 3}, "low must be less than high, got 3.0 and 2.0"),
        (laws.TruncatedNormal, {"low": math.nan}, "low must be a number, got nan"),
        (laws.TruncatedNormal, {"low": 38, "high": 50}, "low=38.0 and high=50.0 leave too"),
        (laws.TruncatedNormal, {"low": 0, "high": 1e-17}, "leave too little of a normal"),
        (laws.VarianceScaling, {"scale": -1}, "scale must be a finite number >= 0, got -1"),
        (laws.VarianceScaling, {"mode": "fan"}, "unknown mode 'fan': .*fan_in, fan_out, fan"),
        (laws.VarianceScaling, {"distribution": "normal"}, "unknown distribution 'normal'"),
        (laws.Orthogonal, {"gain": inf}, "gain must be a finite number, got inf"),
        (laws.Sparse, {"sparsity": 1.5}, "sparsity must be a finite number >= 0 and <= 1, got"),
        (laws.Sparse, {"sparsity": 0, "std": -1}, "std must be a finite number >= 0, got -1"),
        (laws.Dirac, {"groups": 0}, "groups must be an integer >= 1, got 0"),
        (laws.Constant, {"value": inf}, "value must be a finite number, got inf"),
    ],
)
def test_values_of_arguments_are_checked(law, arguments, message):
    with pytest.raises(ValueError, match=message):
        law(**arguments)


@pytest.mark.parametrize(
    ("law", "argument", "message"),
    [
        (laws.Normal, "1", "std must be a number, got '1'"),
        (laws.DeltaOrthogonal, None, "gain must be a number, got None"),
        (laws.Identity, True, "gain must be a number, got True"),
        (laws.Dirac, 1.0, "groups must be an integer, got 1.0"),
        (laws.Given, ["a"], "array must hold real numbers, got dtype <U1"),
        (laws.Given, [True], "array must hold real numbers, got dtype bool"),
    ],
)
def test_types_of_arguments_are_checked(law, argument, message):
    with pytest.raises(TypeError, match=message):
        law(argument)


@pytest.mark.parametrize(
    ("law", "shape", "message"),
    [
        ("he_normal", (5,), "he_normal needs at least 2 dimensions, got shape .5,."),
        ("orthogonal", (5,), "orthogonal needs at least 2 dimensions, got shape .5,."),
        ("delta_orthogonal", (5, 5), "delta_orthogonal needs 3 to 5 dimensions"),
        ("delta_orthogonal", (3, 6, 5), "needs .*kernel, in, out. with in <= out, got shape"),
        ("dirac", (5, 5), "dirac needs 3 to 5 dimensions, got shape .5, 5."),
        ("dirac", (1,) * 6, "dirac needs 3 to 5 dimensions"),
        ("dirac(groups=2)", (3, 4, 5), "dirac.groups=2. needs outputs in 2 groups, got shape"),
        ("sparse(0.5)", (3, 4, 5), "sparse.sparsity=0.5. needs 2 dimensions"),
        ("identity", (3,), "identity needs 2 dimensions, got shape .3,."),
        (
            np.zeros((64, 10)),
            (10, 64),
            "given array .64, 10. needs its own shape, got shape .10, 6",
        ),
    ],
)
def test_shapes_are_checked(law, shape, message):
    with pytest.raises(ValueError, match=message):
        resolve(law).compile(shape)


@pytest.mark.parametrize("text", WHOLE)
def test_laws_formed_whole_say_so(text):
    law = resolve(text)
    shape = (3, 4, 8) if text.startswith(("delta", "dirac")) else (4, 8)
    assert not law.iid
    assert law.compile(shape) is None


def test_independent_laws_are_not_formed():
    with pytest.raises(TypeError, match="normal is drawn number by number"):
        resolve("normal").form((2, 2), None)


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.array(0.5), np.float16(0.5)])
def test_a_number_is_a_constant(number):
    assert resolve(number) == laws.Constant(0.5)
    assert resolve(2) == laws.Constant(2.0)


def test_given_arrays_are_kept_as_read_only_copies():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    law = resolve(array)
    array[:] = -1.0
    assert law.array.dtype == np.float32
    assert not law.array.flags.writeable
    assert laws.to_value(law) is law.array
    formed = law.form((2, 3), None)
    assert formed.dtype == np.float64
    np.testing.assert_array_equal(formed, [[0, 1, 2], [3, 4, 5]])
    formed[:] = 0.0  # the caller's own
    assert law == resolve([[0, 1, 2], [3, 4, 5]]) != resolve(array)
    assert hash(law) == hash(resolve([[0, 1, 2], [3, 4, 5]]))
    assert (str(law), repr(law)) == ("given array (2, 3)", "<given array (2, 3)>")


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("f2", "f2"), (">f4", "=f4"), ("f8", "f8"), ("i4", "f8"), ("longdouble", "f8")],
)
def test_given_arrays_keep_float_dtypes(dtype, kept):
    assert resolve(np.ones((2, 2), dtype)).array.dtype == np.dtype(kept)


def test_given_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    law = resolve(np.full((2, 2), 0.5, ml_dtypes.bfloat16))
    np.testing.assert_array_equal(law.array, np.full((2, 2), 0.5))


def test_std_is_the_first_argument_of_normal():
    with pytest.raises(ValueError, match=r"std first, got 'normal\(0, 0\.02\)'"):
        resolve("normal(0, 0.02)")


def test_torchs_normals_print_under_their_names():
    for name in ("kaiming_normal", "xavier_normal"):
        assert str(resolve(name)) == name
