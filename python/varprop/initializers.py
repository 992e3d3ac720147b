"""Initializers: the names under which frameworks know the laws of weights and biases."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec
from varprop._draw import Draw
from varprop._fans import fans, gain, squared_gain
from varprop._laws import (
    Constant,
    Distribution,
    Law,
    Mode,
    Normal,
    Scaled,
    Source,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
)
from varprop._laws_whole import DeltaOrthogonal, Dirac, Given, Identity, Orthogonal, Sparse

__all__ = [
    "LAWS",
    "Constant",
    "DeltaOrthogonal",
    "Dirac",
    "Draw",
    "Given",
    "Identity",
    "Law",
    "Normal",
    "Orthogonal",
    "Scaled",
    "Source",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "fans",
    "gain",
    "resolve",
    "scaled",
    "spell",
    "to_value",
]


def _xavier(distribution: Distribution, gain: float = 1.0) -> Law:
    gain = _spec.real("gain", gain, least=0.0)
    return VarianceScaling(gain * gain, "fan_avg", distribution)


def _kaiming(
    distribution: Distribution,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> Law:
    if mode not in ("fan_in", "fan_out"):
        raise _spec.unknown("mode", mode, ("fan_in", "fan_out"))
    return VarianceScaling(squared_gain(nonlinearity, _spec.real("a", a)), mode, distribution)


def _torch_truncated(mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Law:
    return TruncatedNormal(std, mean, a, b)


def _keras_normal(mean: float = 0.0, stddev: float = 0.05) -> Law:
    return Normal(stddev, mean)


def _keras_uniform(minval: float = -0.05, maxval: float = 0.05) -> Law:
    return Uniform(minval, maxval)


def _keras_truncated(mean: float = 0.0, stddev: float = 0.05) -> Law:
    mean, stddev = _spec.real("mean", mean), _spec.real("stddev", stddev)
    return TruncatedNormal(stddev, mean, mean - 2.0 * stddev, mean + 2.0 * stddev)


# A name means what its home framework means by it. A law prints under its first name.
LAWS: dict[str, Law | Callable[..., Law]] = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "glorot_uniform": VarianceScaling(1.0, "fan_avg", "uniform"),
    "glorot_normal": VarianceScaling(1.0, "fan_avg", "truncated_normal"),
    "he_uniform": VarianceScaling(2.0, "fan_in", "uniform"),
    "he_normal": VarianceScaling(2.0, "fan_in", "truncated_normal"),
    "lecun_uniform": VarianceScaling(1.0, "fan_in", "uniform"),
    "lecun_normal": VarianceScaling(1.0, "fan_in", "truncated_normal"),
    "torch_linear": VarianceScaling(1.0 / 3.0, "fan_in", "uniform"),
    "variance_scaling": VarianceScaling,
    "xavier_uniform": partial(_xavier, "uniform"),
    "xavier_normal": partial(_xavier, "untruncated_normal"),
    "kaiming_uniform": partial(_kaiming, "uniform"),
    "kaiming_normal": partial(_kaiming, "untruncated_normal"),
    "constant": Constant,
    "normal": Normal,
    "uniform": Uniform,
    "truncated_normal": TruncatedNormal,
    "trunc_normal": _torch_truncated,
    "random_normal": _keras_normal,
    "random_uniform": _keras_uniform,
    "keras_truncated_normal": _keras_truncated,
    "orthogonal": Orthogonal,
    "delta_orthogonal": DeltaOrthogonal,
    "sparse": Sparse,
    "identity": Identity,
    "eye": Identity,
    "dirac": Dirac,
    "scaled": Scaled,
}

_NAMES: dict[object, str] = {entry: name for name, entry in reversed(LAWS.items())}
_NAMES[_xavier("untruncated_normal")] = "xavier_normal"
_NAMES[_kaiming("untruncated_normal")] = "kaiming_normal"


def resolve(spec: str | Law | ArrayLike, argument: str = "init") -> Law:
    """Return the law that a user gave in any form.

    Parameters
    ----------
    spec : str, Law, number or array
        A name of ``initializers.LAWS``, alone or with arguments; a law; a number for a constant; an
        array for the weights themselves.
    argument : str
        What errors call `spec`.

    Returns
    -------
    Law

    Raises
    ------
    TypeError, ValueError
        None of these, an unknown name (the nearest match is named), or arguments that do not fit.

    Examples
    --------
    >>> resolve("xavier_uniform(gain=2)")
    VarianceScaling(scale=4.0, mode='fan_avg', distribution='uniform')
    >>> str(resolve("xavier_uniform")), str(resolve(0.1))
    ('glorot_uniform', 'constant(value=0.1)')
    """
    if isinstance(spec, Law):
        return spec
    if isinstance(spec, str):
        return _named(spec, argument)
    try:
        array = np.asarray(spec)
        if array.dtype.kind in "fiuV":
            return Given(array) if array.ndim else Constant(float(array))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from None
    raise TypeError(
        f"{argument} must be a name such as 'he_normal', a Law, a number or an array, "
        f"got {reprlib.repr(spec)}"
    )


@lru_cache
def _named(text: str, argument: str) -> Law:
    with suppress(ValueError):
        return Constant(float(text))
    name, args, kwargs = _spec.parse(text, argument)
    if name not in LAWS:
        raise _spec.unknown(argument, name, LAWS)
    if name == "normal" and len(args) > 1 and args[0] == 0:  # PyTorch and NumPy begin with the mean
        raise ValueError(f"{argument} must be 'normal(std=..., mean=...)', std first, got {text!r}")
    entry = LAWS[name]
    if isinstance(entry, Law):
        if args or kwargs:
            raise ValueError(f"{argument}: {name} takes no arguments, got {text!r}")
        return entry
    signature = inspect.signature(entry)
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        plain = (str(p.replace(annotation=p.empty)) for p in signature.parameters.values())
        usage = f"{name}({', '.join(plain)})"
        raise ValueError(f"{argument} must be called as {usage!r}, got {text!r}") from None
    try:
        return entry(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} {text!r}: {error}") from None


def spell(law: Law) -> str:
    """Return the text of which :func:`resolve` makes an equal law."""
    if law in _NAMES:
        return _NAMES[law]
    given = ((field, getattr(law, field.name)) for field in fields(law))
    changed = {
        field.name: str(value) if isinstance(value, Law) else value
        for field, value in given
        if value != field.default
    }
    return _spec.spell(_NAMES.get(type(law), type(law).__name__), changed)


def scaled(law: Law, factor: float) -> Law:
    """Return the law of the same numbers times a positive factor, in its simplest form.

    Examples
    --------
    >>> scaled(resolve("zeros"), 3.0), str(scaled(resolve("he_normal"), 3.0))
    (Constant(value=0.0), "scaled(law='he_normal', factor=3.0)")
    """
    if isinstance(law, Constant):
        return Constant(factor * law.value)
    if isinstance(law, Given):
        return Given(factor * law.array)
    return Scaled(law, factor)


def to_value(law: Law) -> str | NDArray[np.floating]:
    """Return what :func:`resolve` makes an equal law of: a text, or the given array."""
    return law.array if isinstance(law, Given) else str(law)
