"""The same function, otherwise parametrized: larger weights, and a division that undoes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Literal, get_args

from varprop import _spec, activations, initializers, layers
from varprop.layers import Activation, Conv2d, Dense, Layer, Scale
from varprop.network import Network

__all__ = ["rescale"]

Where = Literal["output", "input"]


def rescale(net: Network, factors: Mapping[str | int, float], where: Where = "output") -> Network:
    """Return the same function with the weights of some layers multiplied by a factor.

    What they give is divided by it: a :class:`Scale` of 1 / factor, called "<layer>_scale", follows
    or precedes the layer. From the same seed both networks draw the same numbers, so that they are
    the same function; they do not train alike, see :func:`compare`.

    Parameters
    ----------
    net : Network
    factors : mapping
        For each layer, by name or position, the factor, greater than 0.
    where : {"output", "input"}
        "output" multiplies weights and biases and divides what comes before the activation, which
        becomes a layer "<layer>_activation" unless it is linear; "input" multiplies the weights
        alone and divides what enters the layer.

    Returns
    -------
    Network

    Raises
    ------
    ValueError, TypeError
        A layer is unknown or has no weights, or a factor is no positive number.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([64, 100, 10], "tanh")
    >>> other = rescale(net, {"dense1": 3.0})
    >>> other.layer_names
    ('dense1', 'dense1_scale', 'dense1_activation', 'dense2')
    >>> a, b = (vp.simulate(one, inputs=50, trials=1).activations.var[-1] for one in (net, other))
    >>> bool(abs(a / b - 1) < 1e-6)
    True
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    if where not in get_args(Where):
        raise _spec.unknown("where", where, get_args(Where))
    by_name = _checked(net, factors)
    taken = set(net.layer_names)

    def free(name: str, kind: str) -> str:
        """Return a name for a new layer beside `name`, without those that it lies within."""
        numbers = ("" if i == 1 else str(i) for i in count(1))
        chosen = next(f"{name}_{kind}{i}" for i in numbers if f"{name}_{kind}{i}" not in taken)
        taken.add(chosen)
        return chosen.rpartition(".")[2]

    def change(name: str, layer: Layer) -> Iterable[Layer]:
        if name not in by_name or not isinstance(layer, (Dense, Conv2d)):
            return [layer]
        factor = by_name[name]
        scale = Scale(1.0 / factor, name=free(name, "scale"))
        larger = replace(layer, weight=initializers.scaled(layer.weight, factor))
        if where == "input":
            return [scale, larger]
        if layer.bias is not None:
            larger = replace(larger, bias=initializers.scaled(layer.bias, factor))
        if layer.activation.name == "linear":
            return [larger, scale]
        activation = Activation(layer.activation, name=free(name, "activation"))
        return [replace(larger, activation=activations.resolve("linear")), scale, activation]

    return Network(net.inputs, layers.replaced(net.layers, change))


def _checked(net: Network, factors: Mapping[str | int, float]) -> dict[str, float]:
    """Return the factors by the layers' names."""
    if not isinstance(factors, Mapping):
        raise TypeError(f"factors must be a mapping of layers to numbers, got {factors!r:.80}")
    found: dict[str, float] = {}
    for layer, factor in factors.items():
        name = net.layer_names[net.index(layer)]
        if name not in net.weight_names:
            have = ", ".join(net.weight_names) or "no layers"
            raise ValueError(f"layer {name!r} has no weights: {have} have some")
        if name in found:
            raise ValueError(f"factors must name layer {name!r} once")
        number = _spec.real(f"factors[{layer!r}]", factor)
        if number <= 0.0:
            raise ValueError(f"factors[{layer!r}] must be greater than 0, got {factor!r}")
        found[name] = number
    return found
