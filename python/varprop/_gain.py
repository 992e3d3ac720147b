"""The gain you should use: what an activation's weights need for a goal, by theory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from varprop import _spec

if TYPE_CHECKING:
    from varprop.theory._kernels import Activation

__all__ = ["Goal", "recommended_gain"]

Goal = Literal["unit_variance", "critical"]


def recommended_gain(
    activation: Activation, goal: Goal = "unit_variance", sigma_b: float = 0.0
) -> float:
    """Return the gain of the weights that follow an activation: they have variance gain^2 / fan_in.

    The word as in ``torch.nn.init.calculate_gain`` and :func:`gain`, whose values are PyTorch's.

    Parameters
    ----------
    activation : str, ActivationFunction, Elementwise or callable
        As in :func:`varprop.theory.fixed_points`.
    goal : {"unit_variance", "critical"}
        "unit_variance": pre-activations of variance 1 are followed by such ones, gain^2 E[phi(z)^2]
        + sigma_b^2 = 1. "critical": gradients keep their size, at the edge of chaos: sigma_w of
        :func:`varprop.theory.critical`.
    sigma_b : float
        Standard deviation of the biases.

    Returns
    -------
    float

    Raises
    ------
    varprop.theory.NoCriticalPoint
        A ValueError: with biases of this size the activation has no stable edge of chaos, as gelu,
        silu and mish have none with small ones.
    ValueError
        Biases alone have a variance of 1 or more.
    ImportError
        SciPy is missing: ``pip install "varprop[scipy]"``.

    Examples
    --------
    >>> round(recommended_gain("gelu"), 6), round(recommended_gain("tanh"), 6)
    (1.53353, 1.592537)
    >>> round(recommended_gain("tanh", "critical", sigma_b=0.1), 6)
    1.193401
    """
    from varprop import theory
    from varprop.theory._kernels import kernel

    if goal not in get_args(Goal):
        raise _spec.unknown("goal", goal, get_args(Goal))
    phi = kernel(activation)
    sigma_b = _spec.real("sigma_b", sigma_b, least=0.0)
    if goal == "critical":
        return theory.critical(activation, sigma_b).sigma_w
    if sigma_b >= 1.0:
        raise ValueError(
            f"sigma_b must be under 1 for goal='unit_variance', as biases add sigma_b^2 to the "
            f"variance, got {sigma_b!r}"
        )
    square = float(phi.square(1.0))
    if square == 0.0:
        raise ValueError(f"activation {phi.name} has no gain: all that leaves it is 0")
    return math.sqrt((1.0 - sigma_b) * (1.0 + sigma_b) / square)
