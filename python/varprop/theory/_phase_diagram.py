"""Order and chaos over sizes of weights and biases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _spec
from varprop.theory import _hermite
from varprop.theory._fixed_points import found
from varprop.theory._kernels import Activation, kernel
from varprop.theory.gaussian import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class PhaseDiagram:
    """Fixed points over a grid: arrays of shape (biases, weights).

    Attributes
    ----------
    activation : str
    sigma_w : ndarray, shape (weights,)
    sigma_b : ndarray, shape (biases,)
    q, chi_1, c, xi_q, xi_c : ndarray
        As in :class:`FixedPoints`.
    phase : ndarray of str
        "ordered", "critical", "chaotic", or "unbounded".
    """

    activation: str
    sigma_w: Array
    sigma_b: Array
    q: Array
    chi_1: Array
    c: Array
    xi_q: Array
    xi_c: Array
    phase: NDArray[np.str_]

    def __repr__(self) -> str:
        axes = (
            f"{len(axis)} {name} from {axis.min():g} to {axis.max():g}"
            for name, axis in (("sigma_w", self.sigma_w), ("sigma_b", self.sigma_b))
        )
        return f"<PhaseDiagram of {self.activation}: {', '.join(axes)}>"

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw the correlation that inputs come to, and the depth scale, with the edge of chaos.

        Needs Matplotlib: ``pip install "varprop[plot]"``.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
            Where to draw; by default a new figure that pyplot does not know.
        """
        from varprop.plot._phases import draw

        return draw(self, figure)


def phase_diagram(
    activation: Activation, sigma_w: ArrayLike, sigma_b: ArrayLike, *, start: float = 1.0
) -> PhaseDiagram:
    """Return fixed points, depth scales and phases for all pairs of weights' and biases' sizes.

    Parameters
    ----------
    activation : str, ActivationFunction, Elementwise or callable
        As in :func:`fixed_points`.
    sigma_w, sigma_b : array, ascending
        Square roots of fan_in times the variance of weights, and of the variance of biases.
    start : float
        As in :func:`fixed_points`.

    Returns
    -------
    PhaseDiagram

    Notes
    -----
    Poole et al. 2016, figure 2; Schoenholz et al. 2017, figures 1 and 2. Some milliseconds a pair,
    where kinks meet the edge some tenths of a second.

    Examples
    --------
    >>> found = phase_diagram("tanh", [0.5, 1.5, 3.0], [0.0, 0.5])
    >>> print(found.phase)
    [['ordered' 'chaotic' 'chaotic']
     ['ordered' 'ordered' 'chaotic']]
    """
    phi = kernel(activation)
    weights, biases = _ascending("sigma_w", sigma_w), _ascending("sigma_b", sigma_b)
    if _spec.real("start", start, least=0.0) == 0.0:
        raise ValueError("start must be greater than 0, got 0.0")
    grid = [[found(phi, w, b, start, _hermite.solve) for w in weights] for b in biases]

    def collected(name: str) -> Array:
        return np.array([[getattr(one, name) for one in row] for row in grid])

    return PhaseDiagram(
        phi.name,
        np.array(weights),
        np.array(biases),
        collected("q"),
        collected("chi_1"),
        collected("c"),
        collected("xi_q"),
        collected("xi_c"),
        np.array([[one.phase for one in row] for row in grid]),
    )


def _ascending(argument: str, values: ArrayLike) -> list[float]:
    numbers = np.atleast_1d(np.asarray(values))
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"{argument} must be a sequence of numbers, got shape {numbers.shape}")
    one_by_one: Iterable[object] = numbers.tolist()
    checked = [_spec.real(f"{argument}[{i}]", x, least=0.0) for i, x in enumerate(one_by_one)]
    if any(x >= y for x, y in pairwise(checked)):
        raise ValueError(f"{argument} must ascend, got {checked!r:.80}")
    return checked
