"""``varprop gain``: what to multiply weights by, for every activation."""

from __future__ import annotations

from typing import Annotated

import typer

import varprop as vp
from varprop.cli._app import app
from varprop.cli._options import LISTED


@app.command()
def gain(
    activations: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ACTIVATION", show_default="all of them", help=f"tanh, gelu ...: {LISTED}."
        ),
    ] = None,
    sigma_b: Annotated[
        float, typer.Option("--sigma-b", metavar="X", help="Standard deviation of the biases.")
    ] = 0.0,
    depth: Annotated[int, typer.Option(min=1, help="Layers of which the effect is told.")] = 100,
) -> None:
    """Print PyTorch's gain of every activation beside ours, and what they do to deep networks."""
    typer.echo(vp.gain_table(activations or None, sigma_b=sigma_b, depth=depth))
