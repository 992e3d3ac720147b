"""Which networks can be simulated exactly without their weights."""

from __future__ import annotations

from varprop._compile import Parameter
from varprop.layers import Conv2d
from varprop.network import Network


def check(net: Network) -> None:
    """Raise the error of a layer whose weights have to be there.

    Raises
    ------
    ValueError
        Weights are not independent normals of mean 0, or meet the same numbers more than once.
    """
    for operation, step in zip(net.operations, net.steps, strict=True):
        if step.weight_shape is None:
            continue
        if isinstance(step.layer, Conv2d):
            reason = "a convolution's weights meet many patches of the same image"
        elif not _normal(operation.weight):
            reason = f"weight {step.law('weight')} is no law of independent normals of mean 0"
            if operation.weight.source == "drawn" and not _mean(operation.weight):
                reason += f", as 'normal(std={operation.weight.rms:.6g})' of its variance is"
        else:
            continue
        raise ValueError(
            f"method='implicit' needs dense layers of normal weights, layer {step.name!r} is none: "
            f"{reason}; method='explicit' takes it"
        )


def _normal(weight: Parameter) -> bool:
    draw = weight.draw
    return weight.source == "absent" or (
        weight.source == "drawn" and draw.distribution == "normal" and draw.mean == 0.0
    )


def _mean(weight: Parameter) -> float:
    draw = weight.draw
    return draw.low + draw.high if draw.distribution != "constant" else draw.mean


def names(net: Network) -> list[str]:
    """Return the names of all parameters' draws: those for weights are not the weights' own."""
    return [
        f"{name}, implicit" if name.endswith(".weight") else name for name in net.parameter_names
    ]
