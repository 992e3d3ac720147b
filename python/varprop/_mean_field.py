"""The networks of mean field theory: dense layers that are alike, Gaussian weights and biases."""

from __future__ import annotations

from varprop import _layer, _spec
from varprop.activations import ActivationFunction
from varprop.initializers import Law, Normal, VarianceScaling
from varprop.network import Network, mlp


def mean_field_mlp(
    width: int,
    depth: int,
    activation: str | ActivationFunction = "tanh",
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
    *,
    inputs: int | None = None,
) -> Network:
    """Return the network of mean field theory's phase diagrams.

    Weights are normal of variance sigma_w^2 / fan_in and biases normal of variance sigma_b^2, so
    that pre-activations keep their size at all widths (Poole et al. 2016, Schoenholz et al. 2017).
    What :func:`varprop.theory.fixed_points` says of these parameters is said of this network.

    Parameters
    ----------
    width : int
        Units of every layer.
    depth : int
        Number of layers.
    activation : str or ActivationFunction
        Follows every layer.
    sigma_w : float
        Standard deviation of the weights, times sqrt(fan_in).
    sigma_b : float
        Standard deviation of the biases.
    inputs : int, optional
        Number of input features, by default `width`.

    Returns
    -------
    Network

    Raises
    ------
    ValueError, TypeError
        An argument does not fit; it is named.

    Examples
    --------
    >>> mean_field_mlp(200, 50, "tanh", sigma_w=1.5, sigma_b=0.05)
    <Network: 50 dense layers, 200 -> 200 x 50>

    The function of a phase diagram, whose grid says what varies:

    >>> from functools import partial
    >>> import varprop as vp
    >>> grid = {"sigma_w": [0.5, 1.5, 2.5], "sigma_b": [0.0, 0.1]}
    >>> found = vp.sweep(partial(mean_field_mlp, 50, 10), grid, store=None)
    >>> found["log10_second_moment"].sel(layer=10, statistic="mean").shape
    (3, 2)
    """
    width, depth = _layer.size("width", width), _layer.size("depth", depth)
    sizes = [width if inputs is None else _layer.size("inputs", inputs), *[width] * depth]
    return mlp(sizes, activation, weights("sigma_w", sigma_w), biases("sigma_b", sigma_b))


def weights(argument: str, sigma_w: object) -> Law:
    """Return the law of weights of variance sigma_w^2 / fan_in."""
    sigma = _spec.real(argument, sigma_w, least=0.0)
    return VarianceScaling(sigma**2, "fan_in", "untruncated_normal")


def biases(argument: str, sigma_b: object) -> Law:
    """Return the law of biases of variance sigma_b^2."""
    return Normal(_spec.real(argument, sigma_b, least=0.0))
