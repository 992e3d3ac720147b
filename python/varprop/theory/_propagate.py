"""Signals and gradients of a network at infinite width, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from varprop import _numerals, _spec, _table
from varprop._compile import Step
from varprop._layer import Shape
from varprop._table import Column
from varprop.layers import (
    Activation,
    Bias,
    Conv2d,
    Dense,
    Dropout,
    Elementwise,
    Flatten,
    LayerNorm,
    Residual,
    RMSNorm,
    Scale,
)
from varprop.network import Network
from varprop.reference.layers import convolution, convolution_back
from varprop.theory import _law_moments
from varprop.theory._kernels import kernel
from varprop.theory._signal import Signal, activated, normalized
from varprop.theory.gaussian import Array

_Back = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class LayerMoments:
    """Moments of a signal in every layer, over infinitely many units: arrays of shape (layers,).

    Attributes
    ----------
    layer_names : tuple of str
    mean, second_moment : ndarray
    correlation : ndarray
        Cosine between two inputs: the mean of products over the second moment.
    """

    layer_names: tuple[str, ...]
    mean: Array
    second_moment: Array
    correlation: Array

    @property
    def var(self) -> Array:
        """Variance."""
        return np.maximum(self.second_moment - self.mean**2, 0.0)

    @property
    def log10_second_moment(self) -> Array:
        """Decimal logarithm of the second moment, -inf where that is 0."""
        with np.errstate(divide="ignore"):
            return np.log10(self.second_moment)


@dataclass(frozen=True, repr=False)
class Propagation:
    """What :func:`propagate` found; signals are named as in :class:`varprop.Run`. Printed, a table.

    Attributes
    ----------
    network : Network
    preactivations, activations : LayerMoments
    gradients : LayerMoments
        Of the gradient by the pre-activations, where that by the last activations is standard
        normal (simulate's loss "gaussian").
    input_gradients : LayerMoments
        Of one layer, "input".
    chi_1 : ndarray, shape (layers,)
        The factor of each layer on the square of a small difference between two inputs, phi
        included: sigma_w^2 E[phi'^2] of dense layers and convolutions, the mean over positions.
    """

    network: Network
    preactivations: LayerMoments
    activations: LayerMoments
    gradients: LayerMoments
    input_gradients: LayerMoments
    chi_1: Array

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in order of execution."""
        return self.network.layer_names

    @property
    def q(self) -> Array:
        """Second moments of the pre-activations, shape (layers,)."""
        return self.preactivations.second_moment

    @property
    def c(self) -> Array:
        """Correlations of two inputs' pre-activations, shape (layers,)."""
        return self.preactivations.correlation

    def table(self, every: int | None = None) -> str:
        """Return the table of layers as text, 80 columns wide.

        Parameters
        ----------
        every : int, optional
            Show every so many layers, and the last: 1 shows all. By default the first and the last
            ten of a deep network.
        """
        before, after, back = self.preactivations, self.activations, self.gradients
        columns = [
            Column("", "layer", list(self.layer_names)),
            Column("pre-activation", "q", _numerals.plain(before.second_moment)),
            Column("pre-activation", "c", _numerals.known(before.correlation)),
            Column("activation", "mean", _numerals.plain(after.mean, after.second_moment**0.5)),
            Column("activation", "E[x^2]", _numerals.plain(after.second_moment)),
            Column("activation", "c", _numerals.known(after.correlation)),
            Column("", "chi_1", _numerals.plain(self.chi_1)),
            Column("gradient", "E[g^2]", _numerals.plain(back.second_moment)),
        ]
        if np.isnan(before.correlation).all():
            columns = [column for column in columns if column.title != "c"]
        rows = _table.shown(len(self.layer_names), every)
        names, *others = (
            column._replace(cells=[_table.DOTS if i is None else column.cells[i] for i in rows])
            for column in columns
        )
        return "\n".join(_table.lines(names, others))

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<Propagation of {self.network!r}>"


def propagate(
    net: Network, q: float = 1.0, c: float | None = 0.0, *, mean: float = 0.0
) -> Propagation:
    """Return moments, correlations and gradients of every layer as its width goes to infinity.

    Parameters
    ----------
    net : Network
        Of dense layers, convolutions, activations, Elementwise, residuals, LayerNorm, RMSNorm,
        scales, biases, dropout and Flatten. Its widths matter to the scale of weights alone.
    q, mean : float
        Second moment and mean of the inputs, which are normal. The defaults are those of
        ``simulate(net, inputs=2)``.
    c : float or None
        Correlation of two inputs: their mean product over q. None leaves correlations out (NaN),
        which take most of the time where there is no closed form.

    Returns
    -------
    Propagation

    Raises
    ------
    NotImplementedError
        There is no theory here of a layer, which the message names: pools, BatchNorm; given
        weights, or such whose mean is not 0; an activation of what is not normal over the units;
        a branch without weights.
    ValueError
        A second moment leaves the range of float64; gradients may, to infinity.

    Notes
    -----
    q' = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2 with sigma_w^2 = fan_in Var(W), and back
    g = Var(W) fan_out E[phi'^2] g' (Poole et al. 2016; Schoenholz et al. 2017). Convolutions have
    it at every position, with the zeros of the padding (Xiao et al. 2018 without them); branches
    add to their skips (Yang and Schoenholz 2017). Going back, weights count as drawn anew, which is
    exact in the limit for such a cotangent (Yang 2020). Biases count as normal of their mean and
    variance.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([100] * 4, "relu", weight="he_normal")
    >>> found = propagate(net)
    >>> found.q.round(12), found.c.round(8)
    (array([2., 2., 2.]), array([0.        , 0.31830989, 0.49373109]))
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    q = _spec.real("q", q, least=0.0)
    mean = _spec.real("mean", mean)
    if mean**2 > q:
        raise ValueError(f"mean must be at most sqrt(q) in magnitude, got {mean!r} and q={q!r}")
    if c is not None:
        c = _spec.real("c", c, least=-1.0, most=1.0)
        if c * q < 2.0 * mean**2 - q:
            raise ValueError(f"c must be at least 2 mean^2 / q - 1, got {c!r}")
    places = net.input_shape[:-1] or (1,)
    product = math.nan if c is None else c * q
    at_start = [np.full(places, moment) for moment in (mean, q, product)]
    start = Signal(at_start[0], at_start[1], at_start[2], gaussian=True, roots=frozenset({-1}))
    with np.errstate(over="ignore", invalid="ignore"):
        passed = _forward(net, start)
        gradients, by_inputs = _backward(net, passed, places)
    names = net.layer_names
    return Propagation(
        net,
        _moments(names, [one.before for one in passed]),
        _moments(names, [one.after for one in passed]),
        _of_gradients(names, gradients),
        _of_gradients(("input",), [by_inputs]),
        np.array([one.chi_1 for one in passed]),
    )


class _Passed(NamedTuple):
    """A layer: what is before phi and after; its factor; gradients by both sides, from above."""

    before: Signal
    after: Signal
    chi_1: float
    back: _Back


def _moments(names: tuple[str, ...], signals: list[Signal]) -> LayerMoments:
    mean, square, cosine = np.array([signal.total() for signal in signals]).T
    return LayerMoments(names, mean, square, cosine)


def _of_gradients(names: tuple[str, ...], squares: list[Array]) -> LayerMoments:
    nothing = np.zeros(len(names))  # cotangents of different inputs are independent, of mean 0
    return LayerMoments(names, nothing, np.array([g.mean() for g in squares]), nothing)


def _same(step: Step, _x: Signal, _position: int) -> Step:
    return step


def _forward(
    net: Network, start: Signal, change: Callable[[Step, Signal, int], Step] = _same
) -> list[_Passed]:
    """Return all layers, each as `change` makes it of the step, what enters it and its position."""
    passed: list[_Passed] = []
    for position, step in enumerate(net.steps):
        x = passed[-1].after if passed else start
        try:
            if isinstance(step.layer, Residual) and step.skip is not None:
                skip = passed[step.skip].after if step.skip >= 0 else start
                branch = _branch_factor(net, passed, step.skip)
                passed.append(_joined(step.layer, skip, x, branch))
            else:
                passed.append(_passed(change(step, x, position), x, position))
            if not np.isfinite(passed[-1].after.square).all():
                raise ValueError("the second moment leaves the range of float64")
        except (NotImplementedError, ValueError) as error:
            raise type(error)(f"layer {step.name!r}: {error}") from None
    return passed


def _branch_factor(net: Network, passed: list[_Passed], skip: int) -> float:
    """Return the factor of a branch, all layers since its skip; those within others are in them."""
    factor, position = 1.0, len(passed) - 1
    while position > skip:
        factor *= passed[position].chi_1
        nested = net.steps[position].skip
        position = position - 1 if nested is None else nested
    return factor


def _joined(layer: Residual, skip: Signal, x: Signal, branch: float) -> _Passed:
    a, b = layer.skip_scale, layer.branch_scale
    out = skip.scaled(a).beside(x.scaled(b))
    return _Passed(out, out, a**2 + b**2 * branch, lambda g: (g, b**2 * g))


def _passed(step: Step, x: Signal, position: int) -> _Passed:
    layer = step.layer
    match layer:
        case Dense() | Conv2d():
            return _weighted(step, layer, x, position)
        case Activation() | Elementwise():
            phi = layer.function if isinstance(layer, Activation) else layer
            out, slope = activated(x, kernel(phi))
            return _Passed(x, out, float(slope.mean()), lambda g: (g * slope, g * slope))
        case LayerNorm() | RMSNorm():
            out, size = normalized(x, layer, step.input_shape)
            return _Passed(x, out, float((1 / size).mean()), lambda g: (g / size, g / size))
        case Dropout():
            kept = 1.0 - layer.rate
            return _Passed(x, x.dropped(layer.rate), 1 / kept, lambda g: (g / kept, g / kept))
        case Scale():
            square = layer.factor**2
            out = x.scaled(layer.factor)
            return _Passed(out, out, square, lambda g: (g, square * g))
        case Bias():
            out = x.plus(*_law_moments.moments(layer.law, step.input_shape[-1:]))
            return _Passed(out, out, 1.0, lambda g: (g, g))
        case Flatten():
            out = x.flat()
            return _Passed(out, out, 1.0, lambda g: (g, g.reshape(x.mean.shape)))
    raise NotImplementedError(f"no theory of {step.kind} layers")


def _weighted(step: Step, layer: Dense | Conv2d, x: Signal, position: int) -> _Passed:
    """Return what weights make: they mix all units, so that sums are normal and mean is lost."""
    shape = step.weight_shape
    assert shape is not None
    taps = _law_moments.variances(layer.weight, shape)  # of the weights
    if isinstance(layer, Conv2d):
        sums = Conv2d(1, layer.kernel, layer.stride, layer.padding)
        kernels = [(taps * n)[:, :, None, None] for n in (shape[2], shape[3] // layer.groups)]

        def forth(a: Array) -> Array:
            return convolution(a[None, :, :, None], kernels[0], sums)[0, :, :, 0]

        def back(g: Array) -> Array:
            like = np.zeros((1, *x.mean.shape, 1))
            _, by_x = convolution_back(like, kernels[1], g[None, :, :, None], sums)
            return by_x[0, :, :, 0]
    else:
        forwards, backwards = (float(taps[0, 0]) * n for n in shape)
        image = len(step.input_shape) == 3

        def forth(a: Array) -> Array:
            return forwards * a if image else np.array([forwards * a.mean()])

        def back(g: Array) -> Array:
            return np.broadcast_to(backwards * g, x.mean.shape)

    square, product = forth(x.square), forth(x.product)
    y = Signal(np.zeros(square.shape), square, product, True, frozenset({position}))
    if layer.bias is not None:
        y = y.plus(*_law_moments.moments(layer.bias, shape[-1:]))
    out, slope = activated(y, kernel(layer.activation))
    sigma_w = float(taps.sum()) * (shape[2] if isinstance(layer, Conv2d) else shape[0])

    def by_both(g: Array) -> tuple[Array, Array]:
        by_y = g * slope
        return by_y, back(by_y)

    return _Passed(y, out, sigma_w * float(slope.mean()), by_both)


def _backward(net: Network, passed: list[_Passed], places: Shape) -> tuple[list[Array], Array]:
    """Return mean squares of the gradients by pre-activations, first layer to last, and by inputs.

    Those that come to one signal two ways add: weights of the branch are between them.
    """
    last = len(passed) - 1
    arriving = {last: np.ones(passed[last].after.mean.shape)}
    found: list[Array] = []
    for position in range(last, -1, -1):
        step, gradient = net.steps[position], arriving.pop(position)
        if isinstance(step.layer, Residual) and step.skip is not None:
            beside = step.layer.skip_scale**2 * gradient
            arriving[step.skip] = arriving.get(step.skip, 0.0) + beside
        by_y, by_x = passed[position].back(gradient)
        found.append(by_y)
        arriving[position - 1] = arriving.get(position - 1, 0.0) + by_x
    return found[::-1], np.broadcast_to(arriving[-1], places)
