"""``varprop simulate``: how the variance travels through a network."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

import varprop as vp
from varprop import _catalogue, _estimate, _job, _memory
from varprop.cli._app import app
from varprop.cli._network import Inputs, with_network
from varprop.cli._options import (
    DType,
    Plot,
    Seed,
    Threads,
    check_targets,
    draw,
    echo_time,
    on_a_terminal,
)


def _trials(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither an integer of at least 1 nor auto")
    return int(text)


@app.command()
@with_network(rows=100)
def simulate(
    net: vp.Network,
    inputs: Inputs,
    trials: Annotated[
        Any,
        typer.Option(
            parser=_trials,
            metavar="N|auto",
            help="Draws of all weights; auto: until the intervals are narrow.",
        ),
    ] = "10",
    backward: Annotated[
        bool, typer.Option("--backward", help="Go back, too: gradients of a cost.")
    ] = False,
    loss: Annotated[
        str,
        typer.Option(metavar="NAME", help="The cost: gaussian, mse, softmax_cross_entropy or bce."),
    ] = "gaussian",
    stat: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="none",
            help="Take more statistics: saturation, histogram ...; may be repeated.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", show_default="what is free", help="A bound: 500MB, 2GB."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="explicit, or implicit: exact in law without weights, for any width.",
        ),
    ] = "explicit",
    seed: Seed = 0,
    dtype: DType = "float32",
    threads: Threads = None,
    plot: Plot = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the run: .json or .npz.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the network and its size, and stop.")
    ] = False,
) -> None:
    """Push a batch through a random network and report how its variance travels."""
    check_targets(plot, output)
    statistics = ("moments", *(stat or ()))
    if dry_run:
        job = _job.make(
            net,
            inputs,
            seed=seed,
            dtype=dtype,
            statistics=_catalogue.resolve(statistics),
            backward=backward,
            loss=loss,
            threads=threads,
            method=method,
        )
        typer.echo(net.summary(job.batch))
        _echo_estimate(job, trials, memory)
        return
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an interval still too wide: the report says so
        run = vp.simulate(
            net,
            inputs,
            trials=trials,
            seed=seed,
            dtype=dtype,
            statistics=statistics,
            backward=backward,
            loss=loss,
            memory=memory,
            method=cast(_job.Method, method),
            threads=threads,
            progress=on_a_terminal(),
        )
    seconds = time.perf_counter() - began
    typer.echo(run)
    if output is not None:
        run.save(output)
    draw(run, plot)
    echo_time(run.trials, seconds)


def _echo_estimate(job: _job.Job, trials: int | str, memory: str | None) -> None:
    auto = isinstance(trials, str)  # as many again and again
    count = 10 if isinstance(trials, str) else trials
    bound = None if memory is None else _memory.size("memory", memory)
    seconds, size = _estimate.estimate(job, count, bound)
    typer.echo(
        f"{'each ' * auto}{count} trial{'s' * (count > 1)} {'both ways' if job.loss else 'forward'}"
        f": about {seconds:.2g} s on {job.threads} thread{'s' * (job.threads > 1)}, "
        f"{_memory.readable(size)} of memory"
    )
