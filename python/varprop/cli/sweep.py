"""``varprop sweep``: simulations over a grid, here or on a cluster."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import varprop as vp
from varprop._extras import require
from varprop._sweep.status import Status, status
from varprop._sweep.store import open_store, place
from varprop._sweep.template import Template
from varprop.cli._app import app
from varprop.cli._options import on_a_terminal

_PATIENCE = 10  # seconds until a scheduler has answered


@app.command()
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="SWEEP.TOML", help="Grid, network, trials, quantities ...")
    ],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            show_default="SWEEP.zarr",
            help="Where the points are kept: a folder, or an address, s3://...",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="this process",
            help="Processes of one thread each; the numbers do not depend on them.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of a Dask cluster that does the work: tcp://host:8786.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="all cores here, 1 on workers",
            help="Of each simulation, with workers as many as there are cores for.",
        ),
    ] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Refuse a store that holds a sweep already.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Keep the errors of points that fail, and do the others; exit with 1 in the end.",
        ),
    ] = False,
) -> None:
    """Simulate all networks of a grid; stopped, by whatever, it goes on where it was."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("give --workers or --scheduler, not both")
    require("zarr", "sweep")
    template = Template.load(file)
    store = str(file.with_suffix(".zarr")) if store is None else store
    settings = template.settings | ({"errors": "record"} if keep_going else {})
    before = _done(store)
    began = time.perf_counter()
    try:
        with _client(scheduler) as client:
            vp.sweep(
                template,
                template.grid,
                **settings,
                store=store,
                client=client,
                workers=workers,
                threads=threads,
                resume=not no_resume,
                progress=on_a_terminal(),
            )
    except KeyboardInterrupt:
        if done := _done(store):
            typer.echo(f"{store} keeps {done} points; the same command goes on", err=True)
        raise
    found = status(store)
    _echo(found, before, time.perf_counter() - began)
    if found.failed:
        raise typer.Exit(1)


def _done(store: str) -> int:
    """Return how many points a store holds, none where it is no sweep's."""
    try:
        return int(open_store(place(store)).finished().sum())
    except (OSError, ValueError):  # which vp.sweep will tell
        return 0


@contextmanager
def _client(scheduler: str | None) -> Iterator[Any]:
    """Yield a client of the cluster at an address, None without one."""
    if scheduler is None:
        yield None
        return
    distributed = require("distributed", "sweep")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    with distributed.Client(scheduler, timeout=_PATIENCE) as client:
        yield client


def _echo(found: Status, before: int, seconds: float) -> None:
    """Print what was done, what was not, and what to do with it."""
    trials = found.record["trials"]
    typer.echo(
        f"{found.where}: {found.done} of {found.points} points of {trials} "
        f"trial{'s' * (trials > 1)}, in {seconds:.3g} s"
        + (f"; {before} were there before" if before else "")
    )
    for line in found.failures():
        typer.echo(line)
    if found.done:
        typer.echo(f"next: {_next(found)}")


def _next(found: Status) -> str:
    """Return the command that draws a phase diagram: two axes, one value of all others."""
    grid = found.record["grid"]
    usual = ("sigma_w", "sigma_b")
    shown = usual if set(usual) <= set(grid) else tuple(grid)[:2]
    words = ["varprop", "plot", found.where, "--kind", "phase"]
    for name, labels in grid.items():
        if name not in shown and len(labels) > 1:
            words += ["--select", f"{name}={labels[0]}"]
    return shlex.join(words)
