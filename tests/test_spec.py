"""Texts as users give them: what is read, and that nothing else is, let alone evaluated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from varprop import _spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relu", ("relu", (), {})),
        ("relu()", ("relu", (), {})),
        (" normal( 0.1 ,mean = -2 ) ", ("normal", (0.1,), {"mean": -2})),
        ("f('a', None, True)", ("f", ("a", None, True), {})),
        ("f(inf, low=-inf)", ("f", (math.inf,), {"low": -math.inf})),
        ("f((1, -2.5), x=((),))", ("f", ((1, -2.5),), {"x": ((),)})),
        ("f(1e400)", ("f", (math.inf,), {})),
    ],
)
def test_parse(text, expected):
    assert _spec.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "'relu'", "a.b", "a b", "f(", "f()()", "a[0]", "lambda: 0", "(x := 1)", "f;g"),
        *("f(a)", "f(nan)", "f(g())", "f(*[1])", "f(**{})", "f(x=1, x=2)", "f([1])", "f({})"),
        *("f(1 + 1)", "f(2**999)", "f(1j)", "f(b'a')", "f(...)", "f(--1)", "f(-True)", "f(+1)"),
        *("f(__import__('os').getpid())", "f(-" + "(" * 300, "f(" + "-" * 400 + "1)", "f\0"),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"^init must be a name, alone or called with numbers"):
        _spec.parse(text, "init")


def test_long_texts_are_refused_unread():
    with pytest.raises(
        ValueError, match=r"text must have at most 500 characters, got 501: 'x{40}'"
    ):
        _spec.parse("x" * 501)


def test_unknown():
    error = _spec.unknown("activation", "rellu", ["relu", "elu"])
    assert str(error) == "unknown activation 'rellu': did you mean 'relu'? One of: relu, elu"
    assert str(_spec.unknown("mode", 3, ["relu"])) == "unknown mode 3. One of: relu"


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int8(2), np.uint64(2)])
def test_real(value):
    number = _spec.real("std", value)
    assert (number, type(number)) == (2.0, float)


@pytest.mark.parametrize(
    ("value", "limits", "error", "message"),
    [
        ("2", {}, TypeError, "std must be a number, got '2'"),
        (True, {}, TypeError, "std must be a number, got True"),
        (1j, {}, TypeError, "std must be a number, got 1j"),
        (math.nan, {"finite": False}, ValueError, "std must be a number, got nan"),
        (math.inf, {}, ValueError, "std must be a finite number, got inf"),
        (10**400, {}, ValueError, "std must be a finite number, got 1000"),
        (-1, {"least": 0}, ValueError, "std must be a finite number >= 0, got -1"),
        (
            2,
            {"least": 0, "most": 1},
            ValueError,
            "std must be a finite number >= 0 and <= 1, got 2",
        ),
    ],
)
def test_real_errors(value, limits, error, message):
    with pytest.raises(error, match=message):
        _spec.real("std", value, **limits)


def test_sizes():
    assert _spec.sizes("shape", [2, np.int64(3)]) == (2, 3)
    assert _spec.sizes("shape", np.array([4, 5])) == (4, 5)
    assert _spec.sizes("shape", ()) == ()
    for value, error, message in (
        (5, TypeError, "shape must be a tuple of integers, got 5"),
        ("55", TypeError, "shape must be a tuple of integers, got '55'"),
        ((5, 0), ValueError, r"shape\[1\] must be an integer >= 1, got 0"),
        ((True,), TypeError, r"shape\[0\] must be an integer, got True"),
    ):
        with pytest.raises(error, match=message):
            _spec.sizes("shape", value)
