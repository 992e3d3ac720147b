"""How a gain of the weights moves the factors of a chain of dense layers, as wide ones have them.

In plain NumPy and to some tenths of a percent a layer, which is enough for advice; exactly, and
of more networks, varprop.theory says it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varprop.activations import ActivationFunction
from varprop.layers import Dense

if TYPE_CHECKING:
    from varprop.run import Run

Array = NDArray[np.float64]

_LOG_Q = np.linspace(-6.0, 3.0, 73)  # decimal, of the second moments of the tables
_Z = np.arange(-7.995, 8.0, 0.01)
_GAINS = (0.25, 30.0)
_GAINS_TRIED = 1000
_ROUNDS, _TRIED = 4, 61  # of the search for the best gain, each finer by 30
_CHANCE = 3.5  # by which chance moves second moments, relative, times the root of the width


def spread(width: int) -> float:
    """Return by which factor chance may move a second moment over so many units."""
    return 1.0 + _CHANCE / math.sqrt(width)


class Tables(NamedTuple):
    """What an activation does at second moments 10^_LOG_Q.

    Natural logarithms of E[phi^2] / q and of E[phi'^2]; and what is lost in a layer of one unit:
    half the relative variance of phi^2, and of phi'^2 times the square of a normal.
    """

    square: Array
    slope: Array
    square_loss: Array
    slope_loss: Array


@lru_cache(maxsize=32)
def _tables(phi: ActivationFunction) -> Tables:
    weights = np.exp(-0.5 * _Z * _Z)
    weights /= weights.sum()
    q = 10.0**_LOG_Q
    u = np.sqrt(q)[:, None] * _Z
    value, slopes = phi.value(u), phi.derivative(u) ** 2
    squares = value**2
    square, slope = (np.maximum(moment @ weights, 1e-300) for moment in (squares, slopes))
    # Of many examples' gradients only what they share is lost: found to go with this root.
    shared = np.abs(value @ weights) / np.sqrt(square)
    return Tables(
        np.log(square / q),
        np.log(slope),
        0.5 * (squares**2 @ weights / square**2 - 1.0),
        shared * 0.5 * (3.0 * (slopes**2 @ weights) / slope**2 - 1.0),
    )


class Factors(NamedTuple):
    """Decimal logarithms of factors, shape (3, gains): from less, from the mean, from more."""

    forward: Array
    backward: Array

    @property
    def worst_forward(self) -> Array:
        """Largest magnitude over the starts, by gain."""
        return np.asarray(np.abs(self.forward).max(axis=0))

    @property
    def worst_backward(self) -> Array:
        """Largest magnitude over the starts, by gain."""
        return np.asarray(np.abs(self.backward).max(axis=0))

    @property
    def worst(self) -> Array:
        """The larger of both."""
        return np.maximum(self.worst_forward, self.worst_backward)

    def middle(self, gain: int) -> tuple[float, float]:
        """Return both from the start in the middle."""
        return float(self.forward[1, gain]), float(self.backward[1, gain])


@dataclass(frozen=True)
class Chain:
    """Activations, widths and variances of biases, layer by layer, and the inputs' mean square."""

    functions: tuple[ActivationFunction, ...]
    widths: tuple[int, ...]
    biases: tuple[float, ...]
    inputs: float

    @classmethod
    def of(cls, run: Run) -> Chain:
        """Return the chain that a run simulated."""
        net, given = run.network, run.given_inputs
        dense = [step.layer for step in net.steps if isinstance(step.layer, Dense)]
        return cls(
            tuple(layer.activation for layer in dense),
            tuple(layer.width for layer in dense),
            tuple(operation.bias.rms**2 for operation in net.operations),
            1.0 if given is None else float(np.mean(np.square(given, dtype=np.float64))),
        )

    def factors(self, gains: Array) -> Factors:
        """Return the factors from the first layer to the last and back.

        From the inputs' mean square, and from more and less, as chance has it. The logarithm of a
        mean over n units is on average lower than that of its expectation, by half its relative
        variance.
        """
        w = np.log(gains**2)
        hidden = self.widths[:-1] or self.widths
        chance = math.log(spread(min(hidden)))
        start = math.log(self.inputs + 1e-300) + np.array([[-chance], [0.0], [chance]])
        signal = np.broadcast_to(start, (3, len(w)))
        backward, first = np.zeros(signal.shape), signal
        last = len(self.functions) - 1
        for layer, (phi, width, bias) in enumerate(
            zip(self.functions, self.widths, self.biases, strict=True)
        ):
            log_q = np.logaddexp(w + signal, math.log(bias)) if bias else w + signal
            tables, at = _tables(phi), log_q / math.log(10.0)
            square, slope, square_loss, slope_loss = (np.interp(at, _LOG_Q, t) for t in tables)
            signal = log_q + square - square_loss / width
            first = first if layer else signal
            if layer < last:
                backward = backward + w + slope - slope_loss / width
        forward = signal - first[1]  # the others end there, too, unless chance grows
        return Factors(forward / math.log(10.0), backward / math.log(10.0))

    def nearest(self, gain: float, bound: float) -> float | None:
        """Return the gain nearest to this one that keeps the signal forward within a bound."""
        tried = np.geomspace(*_GAINS, _GAINS_TRIED)
        kept = tried[self.factors(tried).worst_forward <= bound]
        return float(kept[np.argmin(np.abs(np.log(kept / gain)))]) if kept.size else None

    def best(self, worst: Callable[[Factors], Array]) -> float:
        """Return the gain for which something is least."""
        low, high = np.log(_GAINS)
        for _ in range(_ROUNDS):
            tried = np.linspace(low, high, _TRIED)
            best = int(np.argmin(worst(self.factors(np.exp(tried)))))
            low, high = tried[max(best - 1, 0)], tried[min(best + 1, _TRIED - 1)]
        return float(np.exp(tried[best]))
