"""``varprop info``: the build, and the names of laws and activations."""

from __future__ import annotations

from textwrap import fill

import typer

import varprop as vp
from varprop.cli._app import app


@app.command()
def info() -> None:
    """Print version, compiler, instruction sets, threads, and the names of laws and activations."""
    vp.show_config()
    for title, names in (
        ("laws", vp.initializers.LAWS),
        ("activations", vp.activations.NAMES),
    ):
        label = f"{title + ':':<18}"
        lines = fill(", ".join(names), 80, initial_indent=label, subsequent_indent=" " * 18)
        typer.echo(lines)
