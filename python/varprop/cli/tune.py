"""``varprop tune``: weights of such scales that every layer meets a goal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import varprop as vp
from varprop import _files
from varprop.cli._app import app
from varprop.cli._network import Inputs, with_network
from varprop.cli._options import Seed


@app.command()
@with_network(rows=100)
def tune(
    net: vp.Network,
    inputs: Inputs,
    goal: Annotated[
        str, typer.Option(metavar="NAME", help="unit_variance, or critical: chi_1 = 1.")
    ] = "unit_variance",
    method: Annotated[
        str, typer.Option(metavar="NAME", help="theory, or measured: on inputs and draws.")
    ] = "theory",
    trials: Annotated[int, typer.Option(min=1, help="Draws of all weights, if measured.")] = 10,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", metavar="FILE", help="Write the network: .toml."),
    ] = None,
) -> None:
    """Scale a network's weights so that every layer meets a goal, and report before and after."""
    if output is not None:
        if output.suffix.lower() != ".toml":
            raise ValueError(f"--output must end in .toml, got {str(output)!r}")
        _files.target(output)
    tuned = vp.tune(
        net,
        goal,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        inputs=inputs,
        trials=trials,
        seed=seed,
    )
    if output is not None:
        tuned.to_toml(output)
    typer.echo(tuned.report)
