"""What varprop computes, in plain NumPy: the readable specification of its numbers.

Draws, what every kind of layer does forward and back, and what is observed of it. The core is
another road to these numbers, and nothing here imports it.
"""

from varprop.reference.chain import Gradients, Layer, backward, chain
from varprop.reference.draws import (
    numbers,
    standard_normal,
    standard_truncated,
    standard_uniform,
    threefry,
    weights,
    words,
)
from varprop.reference.losses import cotangent, targets
from varprop.reference.simulation import (
    correlation,
    histogram,
    histogram_edges,
    moments,
    saturation,
    simulate,
)

__all__ = [
    "Gradients",
    "Layer",
    "backward",
    "chain",
    "correlation",
    "cotangent",
    "histogram",
    "histogram_edges",
    "moments",
    "numbers",
    "saturation",
    "simulate",
    "standard_normal",
    "standard_truncated",
    "standard_uniform",
    "targets",
    "threefry",
    "weights",
    "words",
]
