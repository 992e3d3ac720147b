"""``varprop weights``: one random tensor, to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import varprop as vp
from varprop import _files
from varprop.cli._app import app
from varprop.cli._options import LISTED, Seed, Threads, integers, on_a_terminal


@app.command()
def weights(
    law: Annotated[str, typer.Argument(help=f"he_normal, normal(std=0.1) ...: {LISTED}.")],
    shape: Annotated[str, typer.Argument(help="784,1000 or 3x3x64x128: inputs, then outputs.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write them: .npy.")],
    seed: Seed = 0,
    name: Annotated[str, typer.Option(help="Name of the tensor: another one, other draws.")] = "",
    trial: Annotated[int, typer.Option(min=0, help="Number of the draw.")] = 0,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="TYPE", help="float32, float64, float16, or bfloat16 (written as uint16 bits)."
        ),
    ] = "float32",
    threads: Threads = None,
) -> None:
    """Draw the weights of one tensor and write them to a file."""
    if output.suffix.lower() != ".npy":
        raise ValueError(f"--output must end in .npy, got {str(output)!r}")
    _files.target(output)
    array = vp.weights(
        tuple(integers(shape, "SHAPE")),
        law,
        seed=seed,
        name=name,
        trial=trial,
        dtype=dtype,
        threads=threads,
        progress=on_a_terminal(),
    )
    with _files.atomic(output) as file:
        np.save(file, array if dtype != "bfloat16" else array.view(np.uint16))
    typer.echo(f"{output}: {law}, {' x '.join(map(str, array.shape))}, {dtype}")
