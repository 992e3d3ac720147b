"""``varprop sweep-status``: how far a sweep is."""

from __future__ import annotations

from typing import Annotated

import typer

from varprop._sweep.status import status
from varprop.cli._app import app


@app.command()
def sweep_status(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="A sweep's store, while it runs or afterwards.")
    ],
) -> None:
    """Tell how many points of a sweep are done, which failed, and what it is of."""
    typer.echo(status(store))
