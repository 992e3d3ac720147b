"""The application that the commands belong to, and how they fail."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import varprop as vp

ORDER = (
    *("simulate", "jacobian", "theory", "tune", "gain", "weights"),
    *("sweep", "sweep-status", "plot", "info"),
)
FAILURES = (
    *(ValueError, TypeError, MemoryError, OSError, ImportError, NotImplementedError),
    vp.PointError,
)


class Commands(TyperGroup):
    """Commands that fail with one line instead of a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the names in the order of --help."""
        return list(ORDER)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; where it fails, say why and exit with 1 (interrupted: 130)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader has gone: nobody to tell
            raise
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None
        except FAILURES as error:
            reason = " ".join(_said(error).split()) or type(error).__name__
            typer.echo(f"error: {reason}", err=True)
            raise typer.Exit(1) from None


def _said(error: BaseException) -> str:
    """Return an error's text, that of the system without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror.lower()}: {error.filename}"
    return str(error)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"varprop {vp.__version__}")
        raise typer.Exit


@app.callback(help="Does a deep network's signal survive its own random initialization?")
def start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print it and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
