"""Jacobians of the outputs by the inputs, over draws of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from varprop import _memory, _singular, _spec, activations
from varprop._extras import require
from varprop._job import check_ranges, checked_inputs
from varprop._progress import progress_bar
from varprop._singular import Chain, Scaled
from varprop._spectrum import Jacobian
from varprop._weights import dtype_name, weights
from varprop.initializers import Law, Normal, Uniform
from varprop.network import Network

__all__ = ["Jacobian", "jacobian"]

Array = NDArray[np.float64]
LAYERS = ("end_to_end", "all")
METHODS = ("svd", "extreme", "moments")
LARGEST = 5000  # singular values of a full SVD: more take minutes
KEPT = 1 << 32  # bytes of a trial's weights that are kept at most; others are drawn when needed
STACKED = 1 << 27  # bytes of the products of several inputs that are formed together


def jacobian(
    net: Network,
    inputs: int | ArrayLike = 1,
    *,
    trials: int = 1,
    seed: int = 0,
    layers: str = "end_to_end",
    method: str = "svd",
    count: int | tuple[int, int] = 1,
    order: int = 4,
    probes: int = 64,
    first_trial: int = 0,
    dtype: DTypeLike = "float32",
    progress: bool | Callable[[float], object] = False,
) -> Jacobian:
    """Find the singular values of a network's Jacobian, over inputs and draws of its weights.

    It is that of the last activation by the inputs, diag(phi'(y_L)) W_L^T ... diag(phi'(y_1))
    W_1^T, the last layer's phi' included.

    Parameters
    ----------
    net : Network
        Whose Jacobian.
    inputs : int or array
        Where: a number of rows of standard normals, drawn anew in each trial, or the rows, shape
        (inputs, features); as in :func:`simulate`.
    trials : int
        Number of draws of all weights, those of :func:`simulate`.
    seed : int
        Any integer >= 0.
    layers : {"end_to_end", "all"}
        The Jacobian of the whole chain, or each layer's own, diag(phi'(y_l)) W_l^T.
    method : {"svd", "extreme", "moments"}
        "svd" finds all singular values, up to 5000. "extreme" finds the largest and the smallest by
        iteration (extra scipy). "moments" estimates tr((J J^T)^k) / outputs by random probes, and
        no singular values, at any width.
    count : int or (int, int)
        How many of the largest and of the smallest "extreme" finds. The largest take products with
        vectors only, and those under 1e-4 of the first are NaN; the smallest take products of
        matrices.
    order, probes : int
        "moments" estimates k = 1, ..., `order` from so many random vectors of signs.
    first_trial : int
        Number of the first trial.
    dtype : {"float32", "float64"}
        Type of the weights and the inputs drawn; the arithmetic is float64 always.
    progress : bool or callable
        A bar on the terminal, or a function of the fraction done.

    Returns
    -------
    Jacobian
        ``singular_values`` has shape (trials, inputs, min(features, outputs)), descending.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit, or a Jacobian too large for the method, before any work.
    MemoryError
        It would not fit, with the estimate, before any allocation.

    Notes
    -----
    The product is carried along as Q T, T triangular, so that small singular values keep their
    digits beside large ones, however deep the network (Stewart 1997, "On graded QR decompositions
    of products of matrices"). Those that are zero because units are dead (phi' is 0) or a layer is
    narrow are zero exactly. The last bits are those of NumPy's LAPACK.

    Examples
    --------
    >>> import varprop as vp
    >>> net = vp.mlp([100] * 11, "linear", weight="orthogonal")
    >>> found = vp.jacobian(net, trials=2)
    >>> found.singular_values.shape
    (2, 1, 100)
    >>> bool((abs(found.singular_values - 1) < 1e-5).all())  # of float32 draws
    True
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    _check_dense(net)
    for argument, value, names in (("layers", layers, LAYERS), ("method", method, METHODS)):
        if value not in names:
            raise _spec.unknown(argument, value, names)
    trials = _spec.integer("trials", trials, least=1)
    first_trial = _spec.integer("first_trial", first_trial)
    if first_trial + trials > 2**63:
        raise ValueError("first_trial + trials must be at most 2**63")
    seed = _spec.integer("seed", seed)
    order = _spec.integer("order", order, least=1)
    probes = _spec.integer("probes", probes, least=2)
    kind = dtype_name(dtype, ("float32", "float64"))
    given = None if isinstance(inputs, (int, np.integer)) else checked_inputs(net, inputs, kind)
    batch = _spec.integer("inputs", inputs, least=1) if given is None else len(given)
    check_ranges(net, kind)
    stretches = {"end_to_end": range(len(net.steps))}
    if layers == "all":
        stretches = {name: range(i, i + 1) for i, name in enumerate(net.layer_names)}
    narrow = {
        name: min(net.shapes[stretch[0]][0], net.shapes[stretch[-1]][-1])
        for name, stretch in stretches.items()
    }
    ends = (1, 1)
    if method == "extreme":
        require("scipy.sparse.linalg", "scipy")
        ends = _ends(count, min(narrow.values()))
    rows = {"svd": None, "extreme": None if ends[1] else 1, "moments": probes}[method]
    sizes = {
        name: _bytes(net, stretch, rows or narrow[name]) for name, stretch in stretches.items()
    }
    _check_size(net, method, narrow, max(sizes.values()), batch, trials)

    def solve(chain: Chain, draw: _Draws, first: int) -> Scaled:
        if method == "svd":
            return _singular.spectra(chain)
        if method == "extreme":
            return _singular.extremes(chain, draw("probe", Normal(), (chain.narrow,)), ends)
        shape = chain.inputs * probes, chain.narrow
        signs = np.copysign(1.0, draw("probe", Uniform(-1.0, 1.0), shape, first * probes))
        return _singular.moments(chain, signs.reshape(chain.inputs, probes, -1), order)

    parts: dict[str, list[Scaled]] = {name: [] for name in stretches}
    steps, done = trials * len(stretches) * batch, 0
    with progress_bar(progress) as report, np.errstate(all="ignore"):
        for trial in range(first_trial, first_trial + trials):
            draw = _Draws(net, seed, trial, kind)
            x = draw("input", Normal(), (batch, *net.input_shape)) if given is None else given
            slopes = _slopes(net, x.astype(np.float64), draw)
            for name, stretch in stretches.items():
                chunk = 1 if method == "extreme" else max(1, STACKED // sizes[name])
                for start in range(0, batch, chunk):
                    some = {layer: slopes[layer][start : start + chunk] for layer in stretch}
                    chain = Chain(draw.weight, some, net.shapes[stretch[0]][0])
                    parts[name].append(solve(chain, draw, start))
                    done += chain.inputs
                    if report is not None:
                        report(done / steps)
    return Jacobian(
        net,
        inputs=batch if given is None else given,
        seed=seed,
        trials=trials,
        first_trial=first_trial,
        dtype=kind,
        layers=layers,
        method=method,
        ends=ends,
        parts={name: _joined(found, (trials, batch)) for name, found in parts.items()},
    )


def _check_dense(net: Network) -> None:
    """Raise the error of a network that is not a chain of dense layers."""
    for step in net.steps:
        if step.kind != "dense":
            raise ValueError(f"jacobian takes dense layers only, got {step.name!r} ({step.kind})")
    if len(net.input_shape) > 1:
        raise ValueError(f"jacobian takes inputs of shape (features,), got {net.input_shape}")


class _Draws:
    """The tensors of one trial, in float64; weights are kept as long as there is room."""

    def __init__(self, net: Network, seed: int, trial: int, dtype: str) -> None:
        self.net = net
        self.draw = partial(weights, seed=seed, trial=trial, dtype=dtype)
        self.kept: dict[int, Array] = {}
        self.room = _room()

    def __call__(self, name: str, law: Law, shape: tuple[int, ...], row: int = 0) -> Array:
        """Draw a tensor, without its rows before `row`."""
        whole = (row + shape[0], *shape[1:])
        return self.draw(whole, law, name=name, region=slice(row, None)).astype(np.float64)

    def weight(self, layer: int) -> Array:
        """Return the weights of a layer, shape (fan_in, width)."""
        if layer in self.kept:
            return self.kept[layer]
        step = self.net.steps[layer]
        law, shape = step.layer.parameters(step.input_shape)["weight"]
        matrix = self(f"{step.name}.weight", law, shape)
        if matrix.nbytes <= self.room:
            self.kept[layer] = matrix
            self.room -= matrix.nbytes
        return matrix

    def bias(self, layer: int) -> Array | None:
        """Return the biases of a layer, None where it has none."""
        step = self.net.steps[layer]
        law, shape = step.layer.parameters(step.input_shape).get("bias", (None, ()))
        return None if law is None else self(f"{step.name}.bias", law, shape)


def _slopes(net: Network, x: Array, draw: _Draws) -> list[Array]:
    """Return phi'(y) of every layer; NaN for the inputs whose y has left the range of float64.

    The rows of X have powers of two of their own, until an activation needs to know their size.
    """
    slopes, exponent = [], np.zeros((len(x), 1), np.int64)
    for position, step in enumerate(net.steps):
        phi = step.activation or activations.resolve("linear")
        power = np.frexp(np.abs(x).max(axis=1, keepdims=True))[1]
        x, exponent = np.ldexp(x, -power), exponent + power
        y = x @ draw.weight(position)
        bias = draw.bias(position)
        if bias is not None:
            y += np.ldexp(bias, -exponent)
        if not phi.homogeneous:
            y, exponent = np.ldexp(y, exponent), np.zeros_like(exponent)
        slope = phi.derivative(y)
        slope[~np.isfinite(y).all(axis=1)] = np.nan
        slopes.append(slope)
        x = phi.value(y)
    return slopes


def _room() -> int:
    """Return how many bytes of weights to keep."""
    free = _memory.available()
    return KEPT if free is None else min(KEPT, free // 4)


def _ends(count: int | tuple[int, int], most: int) -> tuple[int, int]:
    pair = count if isinstance(count, tuple) else (count, count)
    if len(pair) != 2:
        raise ValueError(f"count must be an integer or a pair of them, got {count!r}")
    largest, smallest = (_spec.integer("count", number) for number in pair)
    if not 0 < max(largest, smallest) <= most:
        raise ValueError(f"count must be 1 to {most}, the number of singular values, got {count}")
    return largest, smallest


def _bytes(net: Network, stretch: range, rows: int) -> int:
    """Return what the rows of one input take: themselves, their QR, and the product."""
    widest = max(max(net.shapes[layer]) for layer in stretch)
    return 8 * rows * (4 * widest + 5 * min(rows, widest))


def _check_size(
    net: Network, method: str, narrow: dict[str, int], walked: int, batch: int, trials: int
) -> None:
    """Raise the error of a Jacobian too large for the method, or for the machine."""
    others = "use method='extreme' or method='moments'"
    for name, values in narrow.items():
        if method == "svd" and values > LARGEST:
            raise ValueError(
                f"method 'svd' takes up to {LARGEST} singular values, "
                f"that of {name} has {values}: {others}"
            )
    matrices = [8 * math.prod(shape) for shape in net.shapes]
    widths = sum(shape[-1] for shape in net.shapes)
    size = (
        min(_room(), sum(matrices)) + 2 * max(matrices) + max(walked, min(batch * walked, STACKED))
    )
    size += 8 * batch * (widths + 4 * trials * sum(narrow.values()) * (method == "svd"))
    try:
        _memory.require(size, f"method {method!r}")
    except MemoryError as error:
        if method != "svd":
            raise
        raise ValueError(f"{error}: {others}") from None


def _joined(found: list[Scaled], shape: tuple[int, int]) -> Scaled:
    """Put those of all trials and inputs together: arrays of shape (trials, inputs, ...)."""
    mantissa = np.concatenate([part.mantissa for part in found])
    exponent = np.concatenate([part.exponent for part in found])
    exponent = np.broadcast_to(exponent, mantissa.shape)
    return Scaled(*(array.reshape(*shape, *array.shape[1:]) for array in (mantissa, exponent)))
