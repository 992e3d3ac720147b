"""``varprop jacobian``: the singular values of a network's Jacobian."""

from __future__ import annotations

import time
from typing import Annotated

import typer

import varprop as vp
from varprop.cli._app import app
from varprop.cli._network import Inputs, with_network
from varprop.cli._options import DType, Plot, Seed, check_targets, draw, echo_time, on_a_terminal


@app.command()
@with_network(rows=1)
def jacobian(
    net: vp.Network,
    inputs: Inputs,
    layers: Annotated[
        str, typer.Option(metavar="WHICH", help="end_to_end, or all: each layer's own.")
    ] = "end_to_end",
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="svd: all; extreme: largest and smallest; moments: tr (J J^T)^k."
        ),
    ] = "svd",
    trials: Annotated[int, typer.Option(min=1, help="Draws of all weights.")] = 1,
    seed: Seed = 0,
    dtype: DType = "float32",
    plot: Plot = None,
) -> None:
    """Report the singular values of a random network's Jacobian at some inputs."""
    check_targets(plot)
    if plot is not None and method != "svd":
        raise typer.BadParameter("--plot needs --method svd")
    began = time.perf_counter()
    found = vp.jacobian(
        net,
        inputs,
        trials=trials,
        seed=seed,
        dtype=dtype,
        layers=layers,
        method=method,
        progress=on_a_terminal(),
    )
    seconds = time.perf_counter() - began
    typer.echo(found)
    draw(found, plot)
    echo_time(trials, seconds)
