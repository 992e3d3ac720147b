"""Functions that build networks, for tests of sweeps: in a module, so that workers find them."""

from __future__ import annotations

import varprop as vp


def chain(sigma_w, depth=6, width=10, sigma_b=0.0):
    """Return tanh layers of Gaussian weights."""
    weight = f"normal(std={sigma_w / width**0.5!r})"
    return vp.mlp([width] * (depth + 1), "tanh", weight, f"normal(std={sigma_b})")


def depth_of(position):
    """Return a network of as many layers as a list says, with an activation of its own."""
    return vp.Network(8, [vp.Dense(8), vp.Activation("relu")] * (1 + position))
