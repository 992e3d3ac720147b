"""What tells two networks apart, in whatever process they were built."""

from __future__ import annotations

from dataclasses import fields
from hashlib import blake2b
from typing import Any, cast

import numpy as np

from varprop._compile import Step
from varprop._layer import Layer
from varprop.activations import ActivationFunction
from varprop.initializers import Law
from varprop.layers import Elementwise
from varprop.network import Network

SIZE = 16  # bytes
_PROBES = np.linspace(-4.0, 4.0, 129)  # where functions of Python's are looked at


def digest(net: Network) -> bytes:
    """Return a digest of all layers and arrays; of functions of Python's, of some values."""
    texts: dict[int, str] = {}  # of laws and activations, which many layers share
    steps = [_description(step, texts) for step in net.steps]
    hashed = blake2b(repr((net.inputs, *steps)).encode(), digest_size=SIZE)
    for position, array in net.given.items():
        hashed.update(f"{position} {array.dtype} {array.shape}".encode())
        hashed.update(array.tobytes())
    return hashed.digest()


def _description(step: Step, texts: dict[int, str]) -> tuple[object, ...]:
    layer = step.layer
    if isinstance(layer, Elementwise):
        return (step.name, step.kind, _values(layer.value), _values(layer.slope))
    own = (getattr(layer, field.name) for field in fields(cast(Any, layer)))
    return (step.name, step.kind, *(_written(value, texts) for value in own))


def _values(function: Any) -> str:
    """Return values as text, to digits that no library's rounding changes."""
    try:
        with np.errstate(all="ignore"):
            return " ".join(f"{value:.6e}" for value in function(_PROBES))
    except Exception as error:  # whatever the user's function raises: simulate will tell
        return type(error).__name__


def _written(value: object, texts: dict[int, str]) -> object:
    if isinstance(value, (Law, ActivationFunction)):
        if id(value) not in texts:
            texts[id(value)] = str(value)
        return texts[id(value)]
    if isinstance(value, tuple):  # layers are steps of their own
        return tuple(_written(item, texts) for item in value if not isinstance(item, Layer))
    return value if isinstance(value, (int, float, str, type(None))) else type(value).__name__
