"""The command line, ``varprop``: a file for each command."""

from varprop.cli import (
    gain,
    info,
    jacobian,
    plot,
    simulate,
    sweep,
    sweep_status,
    theory,
    tune,
    weights,
)
from varprop.cli._app import app

__all__ = [
    "app",
    "gain",
    "info",
    "jacobian",
    "main",
    "plot",
    "simulate",
    "sweep",
    "sweep_status",
    "theory",
    "tune",
    "weights",
]


def main() -> None:
    """Run the command line of this process."""
    app()
