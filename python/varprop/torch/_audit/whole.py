"""Whether a tensor has a law that is formed whole: orthogonal, sparse, identity, given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop._draw import Draw
from varprop._laws import Law, Scaled
from varprop._laws_whole import DeltaOrthogonal, Orthogonal, Sparse

Array = NDArray[np.float64]

_ROWS = 1024  # of an orthogonal matrix, at most: products of them all would take long


def factored(law: Law) -> tuple[Law, float]:
    """Return a law and the factor that scales it, 1 for most."""
    return (law.of, law.factor) if isinstance(law, Scaled) else (law, 1.0)


def normal_part(law: Law) -> Draw:
    """Return the law of the numbers of a sparse one that are not zero."""
    inner, factor = factored(law)
    assert isinstance(inner, Sparse)
    return Draw("normal", 0.0, inner.std * factor)


def check(law: Law, tensor: NDArray[Any], step: float) -> list[str]:
    """Return what keeps a tensor of our layout from having a law.

    Parameters
    ----------
    step : float
        Relative distance of neighbours in the tensor's dtype.
    """
    inner, factor = factored(law)
    if isinstance(inner, Orthogonal):
        return _orthogonal(tensor.reshape(-1, tensor.shape[-1]), inner.gain * factor, step)
    if isinstance(inner, DeltaOrthogonal):
        centre = tuple((size - 1) // 2 for size in tensor.shape[:-2])
        outside = np.count_nonzero(tensor) - np.count_nonzero(tensor[centre])
        off = [f"{outside} numbers are not 0 outside the kernel's centre"] if outside else []
        return [*off, *_orthogonal(tensor[centre], inner.gain * factor, step)]
    if isinstance(inner, Sparse):
        return _sparse(tensor, inner.sparsity, 2 if step >= 2.0**-10 else 0)
    return _equal(tensor, law.form(tensor.shape, _no_source), step)


def _orthogonal(matrix: NDArray[Any], gain: float, step: float) -> list[str]:
    """Compare the products of rows, or of columns if these are fewer, with gain^2 I."""
    rows = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    rows = np.ascontiguousarray(rows[:: -(-len(rows) // _ROWS)])
    # float32's products are as good as its numbers, and twice as fast as float64's.
    rows = rows.astype(np.float64 if step < 2.0**-24 else np.float32)
    products = (rows @ rows.T).astype(np.float64)
    square, scale = gain * gain, max(gain * gain, 1e-300)
    off = np.abs(products - square * np.eye(len(rows))) / scale
    rounding = max(step, 2.0**-52)
    if float(off.max()) <= 4.0 * rounding + math.sqrt(rows.shape[1]) * min(rounding, 2.0**-23):
        return []
    lengths = np.sqrt(np.diag(products))
    if float(np.ptp(lengths)) < 0.01 * float(lengths.max()):
        angles = off - np.diag(np.diag(off))
        if float(angles.max()) <= 0.02 * float(lengths.max() ** 2) / scale:
            length = float(lengths.mean())
            return [f"orthogonal of gain {length:.4g}, not {gain:.4g}: x {length / gain:.3g}"]
    return [f"not orthogonal: products of its rows are off gain^2 I by {float(off.max()):.3g}"]


def _sparse(matrix: NDArray[Any], sparsity: float, rounded: int) -> list[str]:
    """Count the zeros among the outgoing weights of each input; so many more come of rounding."""
    due = math.ceil(sparsity * matrix.shape[1])
    zeros = (matrix == 0).sum(axis=1)
    wrong = int(((zeros < due) | (zeros > due + rounded)).sum())
    if not wrong:
        return []
    return [
        f"{wrong} of {len(zeros)} inputs have not {due} zeros, but {zeros.mean():.3g} on average"
    ]


def _equal(tensor: NDArray[Any], due: Array, step: float) -> list[str]:
    different = ~(np.abs(tensor - due) <= step * np.abs(due))
    count = int(different.sum())
    if not count:
        return []
    where = tuple(int(i) for i in np.argwhere(different)[0])
    numbers = f"{float(tensor[where]):.4g} for {float(due[where]):.4g}"
    return [f"{count} of {tensor.size} numbers differ: {numbers} at {where} of (*kernel, in, out)"]


def _no_source(*_arguments: object) -> Array:
    raise AssertionError("laws without chance draw nothing")
