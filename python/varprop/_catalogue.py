"""What a simulation can collect: its signals, its statistics, and what these bring."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from varprop._spec import parse, real, spell, unknown

#: What may be observed: X W + b and phi(X W + b) of every layer; after a backward pass the
#: gradients of the cost by the pre-activations, weights and biases of every layer, first to last,
#: and by the inputs. Of a model that was profiled, what enters its blocks.
SIGNALS = (
    "preactivations",
    "activations",
    "gradients",
    "weight_gradients",
    "bias_gradients",
    "input_gradients",
    "block_inputs",
)


class Statistic(NamedTuple):
    """The keys that a statistic brings to an Observed, the fields it gives, and its signals."""

    keys: tuple[str, ...]
    fields: tuple[str, ...]
    signals: tuple[str, ...] = SIGNALS


#: All of simulate's statistics.
STATISTICS = {
    "moments": Statistic(
        ("count", "mean", "variance", "exponent"),
        ("count", "mean", "var", "std", "second_moment", "log10_var", "log10_second_moment"),
    ),
    "extremes": Statistic(("minimum", "maximum"), ("min", "max")),
    "kurtosis": Statistic(("m3", "m4"), ("kurtosis",)),
    "histogram": Statistic(("histogram",), ("p02", "p50", "p98")),
    "correlation": Statistic(("correlation",), ("correlation",), ("preactivations", "activations")),
    "saturation": Statistic(
        ("saturation", "zero_slope", "dead"), ("saturation", "zero_slope", "dead"), ("activations",)
    ),
    "gradient_correlation": Statistic(("correlation",), ("correlation",), ("gradients",)),
}
THRESHOLD = 0.1  # of |phi'|, under which a unit is saturated


def resolve(statistics: str | Iterable[str]) -> tuple[str, ...]:
    """Return statistics as a run keeps them: in the order of the table, moments always.

    Examples
    --------
    >>> resolve(["saturation(threshold=0.05)", "kurtosis"])
    ('moments', 'kurtosis', 'saturation(threshold=0.05)')
    """
    if not isinstance(statistics, Iterable):
        raise TypeError(f"statistics must be a tuple of names, got {statistics!r}")
    asked = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    for text in asked:
        if not isinstance(text, str):
            raise unknown("statistics", str(text), STATISTICS)
    return _resolved(asked)


@lru_cache
def _resolved(statistics: tuple[str, ...]) -> tuple[str, ...]:
    asked = {"moments": "moments"}
    for text in statistics:
        name, written = _parsed(text)
        if asked.setdefault(name, written) != written:
            raise ValueError(f"statistics: {name} must be named once, got {asked[name]}, {written}")
    return tuple(asked[name] for name in STATISTICS if name in asked)


def threshold(statistics: Iterable[str]) -> float:
    """Return the bound on |phi'| under which a run's statistic "saturation" counts a number."""
    stated = (parse(text)[2].get("threshold") for text in statistics if "(" in text)
    return real("threshold", next(stated, THRESHOLD))


@lru_cache
def keys(statistics: tuple[str, ...], signal: str, method: str = "explicit") -> tuple[str, ...]:
    """Return the keys that a run's Observed of this signal has."""
    return tuple(key for entry in _entries(statistics, signal, method) for key in entry.keys)


def fields(statistics: tuple[str, ...], signal: str, method: str = "explicit") -> tuple[str, ...]:
    """Return the fields that a run's Statistics of this signal have."""
    return tuple(field for entry in _entries(statistics, signal, method) for field in entry.fields)


def _entries(statistics: tuple[str, ...], signal: str, method: str) -> list[Statistic]:
    entries = [STATISTICS[text.partition("(")[0]] for text in statistics]
    if method == "implicit" and signal == "weight_gradients":
        return entries[:1]  # the moments alone are had without the matrix
    return [entry for entry in entries if signal in entry.signals]


def _parsed(text: str) -> tuple[str, str]:
    """Return the name of a statistic, and how a run writes it."""
    name, args, kwargs = parse(text, "statistics")
    if name not in STATISTICS:
        raise unknown("statistics", name, STATISTICS)
    values = [*args, *kwargs.values()]
    if not values:
        return name, name
    if name != "saturation" or len(values) > 1 or kwargs.keys() - {"threshold"}:
        known = "saturation(threshold=0.05) alone takes an argument"
        raise ValueError(f"statistics: {known}, got {text!r}")
    least = real("threshold", values[0], least=0)
    return name, name if least == THRESHOLD else spell(name, {"threshold": least})
