"""``varprop theory``: what a network does at infinite width."""

from __future__ import annotations

import math

import numpy as np
import typer

import varprop as vp
from varprop import _job
from varprop._extras import require
from varprop.activations import ActivationFunction
from varprop.cli._app import app
from varprop.cli._network import Inputs, with_network
from varprop.layers import Dense


@app.command()
@with_network(rows=100)
def theory(net: vp.Network, inputs: Inputs) -> None:
    """Print signals and gradients at infinite width, and where equal layers would end."""
    require("scipy", "scipy")
    moments: tuple[float, float, float | None] = 0.0, 1.0, 0.0
    if not isinstance(inputs, int):
        moments = _moments(_job.checked_inputs(net, inputs, "float64"))
    mean, q, c = moments
    typer.echo(vp.theory.propagate(net, q, c, mean=mean))
    equal = _equal(net)
    if equal is not None:
        typer.echo("")
        typer.echo("\n".join(_ends(*equal, q)))


def _moments(inputs: np.ndarray) -> tuple[float, float, float | None]:
    """Return mean, mean square, and the mean cosine of two rows, None where there is one."""
    rows = inputs.reshape(len(inputs), -1)
    mean, q = float(rows.mean()), float(np.mean(rows * rows))
    if len(rows) == 1 or q == 0.0:
        return mean, q, None
    pairs = np.square(rows.sum(axis=0)).sum() - np.square(rows).sum()
    return mean, q, float(pairs / (rows.size * (len(rows) - 1)) / q)


def _equal(net: vp.Network) -> tuple[ActivationFunction, float, float] | None:
    """Return activation, sigma_w and sigma_b of dense layers that, but for the last, are alike."""
    from varprop.theory import _law_moments

    found: set[tuple[ActivationFunction, float, float]] = set()
    for step in net.steps[: max(1, len(net.steps) - 1)]:
        layer = step.layer
        if not isinstance(layer, Dense) or step.weight_shape is None:
            return None
        variance = float(_law_moments.variances(layer.weight, step.weight_shape).sum())
        bias = 0.0
        if layer.bias is not None:
            mean, spread = _law_moments.moments(layer.bias, step.output_shape[-1:])
            bias = mean**2 + spread
        squares = step.weight_shape[0] * variance, bias  # without their rounding: 2, not nearly 2
        sigma_w, sigma_b = (math.sqrt(float(f"{square:.12g}")) for square in squares)
        found.add((layer.activation, sigma_w, sigma_b))
    return found.pop() if len(found) == 1 else None


def _ends(phi: ActivationFunction, sigma_w: float, sigma_b: float, q: float) -> list[str]:
    lines = [f"layers of {phi} with sigma_w = {sigma_w:.6g}, sigma_b = {sigma_b:.6g}:"]
    ends = vp.theory.fixed_points(phi, sigma_w, sigma_b, start=sigma_w**2 * q + sigma_b**2 or 1.0)
    if ends.unbounded:
        lines.append("  grow without bound")
    else:
        lines += [
            f"  {ends.phase}: they end at q = {ends.q:.6g}, c = {ends.c:.6g},",
            f"  chi_1 = {ends.chi_1:.6g}, xi_q = {ends.xi_q:.4g}, xi_c = {ends.xi_c:.4g} layers",
        ]
    try:
        edge = vp.theory.critical(phi, sigma_b)
        lines.append(f"  edge of chaos: sigma_w = {edge.sigma_w:.6g}, there q = {edge.q:.6g}")
    except vp.theory.NoCriticalPoint as error:
        lines.append(f"  {error}")
    return lines
