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
            reason = "is a convolution, whose weights meet many patches of an image"
        elif not _normal(operation.weight):
            reason = f"has weight {step.law('weight')}"
            if operation.weight.source == "drawn" and not _mean(operation.weight):
                reason += f", of the same variance as 'normal(std={operation.weight.rms:.6g})'"
        else:
            continue
        raise ValueError(
            "method='implicit' needs dense layers with weights that are independent normals of "
            f"mean 0, but layer {step.name!r} {reason}; use method='explicit'"
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
