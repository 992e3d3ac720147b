"""What a simulation can collect: names as users write them, keys and fields by signal."""

import pytest

from varprop import _catalogue
from varprop._catalogue import fields, keys, resolve, threshold

ALL = resolve(_catalogue.STATISTICS)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ((), ("moments",)),
        ("kurtosis", ("moments", "kurtosis")),
        (["saturation", "extremes", "extremes"], ("moments", "extremes", "saturation")),
        ("saturation(threshold=0.1)", ("moments", "saturation")),
        ("saturation(0.05)", ("moments", "saturation(threshold=0.05)")),
        (iter(["saturation(threshold=1)"]), ("moments", "saturation(threshold=1.0)")),
    ],
)
def test_statistics_as_a_run_keeps_them(asked, kept):
    assert resolve(asked) == kept
    assert resolve(kept) == kept


def test_threshold():
    assert threshold(("moments", "saturation")) == threshold(("moments",)) == 0.1
    assert threshold(("moments", "saturation(threshold=0.05)")) == 0.05


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ("moment", ValueError, "unknown statistics 'moment': did you mean 'moments'"),
        (["kurtosis", None], ValueError, "unknown statistics 'None'"),
        ([["kurtosis"]], ValueError, "unknown statistics"),
        (5, TypeError, "statistics must be a tuple of names, got 5"),
        ("kurtosis(3)", ValueError, r"saturation\(threshold=0.05\) alone takes an argument"),
        ("saturation(bound=3)", ValueError, "alone takes an argument, got 'saturation.bound=3.'"),
        ("saturation(1, 2)", ValueError, "alone takes an argument"),
        ("saturation(-1)", ValueError, "threshold must be a finite number >= 0, got -1"),
        ("saturation('x')", TypeError, "threshold must be a number, got 'x'"),
        ("saturation(", ValueError, "statistics must be a name"),
        (("saturation", "saturation(0.2)"), ValueError, "saturation must be named once"),
    ],
)
def test_what_is_no_statistic(asked, error, message):
    with pytest.raises(error, match=message):
        resolve(asked)


def test_what_the_signals_have():
    moments = ("count", "mean", "variance", "exponent")
    everywhere = (*moments, "minimum", "maximum", "m3", "m4", "histogram")
    shares = ("saturation", "zero_slope", "dead")
    assert keys(ALL, "preactivations") == (*everywhere, "correlation")
    assert keys(ALL, "activations") == (*everywhere, "correlation", *shares)
    assert keys(ALL, "gradients") == (*everywhere, "correlation")
    for signal in ("weight_gradients", "bias_gradients", "input_gradients"):
        assert keys(ALL, signal) == everywhere
        assert keys(("moments",), signal) == moments
    assert keys(ALL, "weight_gradients", "implicit") == moments
    assert keys(ALL, "gradients", "implicit") == keys(ALL, "gradients")
    assert keys(("moments", "correlation"), "gradients") == moments
    assert keys(("moments", "gradient_correlation"), "activations") == moments
    assert fields(("moments", "saturation(threshold=0.2)"), "activations")[-3:] == shares
    assert fields(("moments", "histogram"), "input_gradients")[-3:] == ("p02", "p50", "p98")
