"""Options that commands share, and what is done with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import varprop as vp
from varprop import _files
from varprop._extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".pdf", ".svg")
LISTED = "varprop info lists them"

Seed = Annotated[int, typer.Option(min=0, help="Seed of all draws.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, show_default="all cores", help="The numbers do not depend on it."),
]
DType = Annotated[str, typer.Option(metavar="TYPE", help="float32 or float64.")]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw the result: .png, .pdf or .svg.")
]


def integers(text: str, parameter: str) -> list[int]:
    """Return the integers of a text, or the error of its parameter."""
    try:
        return [int(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        message = f"{text!r} is not a list of integers such as 784,1000,10"
        raise typer.BadParameter(message, param_hint=parameter) from None


def on_a_terminal() -> bool:
    """Return whether somebody is watching; a closed stream is None."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def check_targets(plot: Path | None, output: Path | None = None) -> None:
    """Raise what would stop the results from being written, before a long run."""
    if plot is not None:
        check_picture(plot, "--plot")
    if output is not None:
        _files.format_of(output)
        _files.target(output)


def check_picture(path: Path, option: str) -> None:
    """Raise what would stop a picture from being written."""
    require("matplotlib", "plot")
    _files.target(path)
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"{option} must end in {', '.join(PICTURES)}, got {str(path)!r}")


def draw(result: vp.Run | vp.Jacobian, plot: Path | None) -> None:
    """Write the picture of a result where one is asked for."""
    if plot is not None:
        save(result.plot(), plot)


def save(figure: Figure, path: Path) -> None:
    """Write a picture."""
    with _files.atomic(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)


def echo_time(trials: int, seconds: float) -> None:
    """Print how long it took."""
    typer.echo(f"\n{trials} trial{'s' * (trials > 1)} in {seconds:.3g} s")
