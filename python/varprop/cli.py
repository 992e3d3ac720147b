"""The command line: ``varprop simulate``, ``jacobian``, ``weights`` and ``info``."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from typer.core import TyperGroup

import varprop as vp
from varprop import _catalogue, _estimate, _files, _job, _memory, _rows
from varprop._extras import require

DEPTH, WIDTH, BATCH = 100, 100, 100
PICTURES = (".png", ".pdf", ".svg")
LISTED = "varprop info lists them"


class Commands(TyperGroup):
    """Commands that fail with one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; where it fails, say why and exit with 1 (interrupted: 130)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader has gone: nobody to tell
            raise
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None
        except (ValueError, TypeError, MemoryError, OSError, ImportError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            typer.echo(f"error: {reason}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Seed = Annotated[int, typer.Option(min=0, help="Seed of all draws.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, show_default="all cores", help="The numbers do not depend on it."),
]


def _trials(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither an integer of at least 1 nor auto")
    return int(text)


File = Annotated[
    Path | None,
    typer.Argument(
        metavar="NET.TOML",
        show_default="dense layers, as the options say",
        help="A network's file, as Network.to_toml writes it.",
    ),
]


def _batch(default: int) -> Any:
    return typer.Option(min=1, show_default=str(default), help="Rows of standard normals instead.")


Data = Annotated[
    Path | None,
    typer.Option("--input", metavar="FILE", help="Inputs: .npy, .npz or .csv."),
]
Depth = Annotated[
    int | None, typer.Option(min=1, show_default=str(DEPTH), help="Number of layers.")
]
Width = Annotated[
    int | None, typer.Option(min=1, show_default=str(WIDTH), help="Units of every layer.")
]
Sizes = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...",
        show_default="from depth and width",
        help="Inputs, then the width of each layer: 784,1000,10.",
    ),
]
Activation = Annotated[
    str, typer.Option(metavar="NAME", help=f"tanh, leaky_relu(slope=0.2) ...: {LISTED}.")
]
Last = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", show_default="as the others", help="Activation of the last layer."
    ),
]
Weight = Annotated[
    str, typer.Option(metavar="LAW", help=f"he_normal, normal(std=0.1) ...: {LISTED}.")
]
Bias = Annotated[str, typer.Option(metavar="LAW", help="As weight; none for none.")]
DType = Annotated[str, typer.Option(metavar="TYPE", help="float32 or float64.")]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw the result: .png, .pdf or .svg.")
]


def main() -> None:
    """Run the command line of this process."""
    app()


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


@app.command()
def simulate(
    ctx: typer.Context,
    file: File = None,
    data: Data = None,
    batch: Annotated[int | None, _batch(BATCH)] = None,
    depth: Depth = None,
    width: Width = None,
    sizes: Sizes = None,
    activation: Activation = "linear",
    last: Last = None,
    weight: Weight = "lecun_normal",
    bias: Bias = "zeros",
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
    _check_targets(plot, output)
    inputs = _inputs(data, batch, BATCH)
    net = _network(ctx, file, inputs, depth, width, sizes, activation, last, weight, bias)
    if dry_run:
        typer.echo(net.summary(inputs if isinstance(inputs, int) else len(inputs)))
        job = _job.make(
            net,
            inputs,
            seed=seed,
            dtype=dtype,
            statistics=_catalogue.resolve(("moments", *(stat or ()))),
            backward=backward,
            loss=loss,
            threads=threads,
        )
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
            statistics=("moments", *(stat or ())),
            backward=backward,
            loss=loss,
            memory=memory,
            threads=threads,
            progress=_on_a_terminal(),
        )
    seconds = time.perf_counter() - began
    typer.echo(run)
    if output is not None:
        run.save(output)
    _draw(run, plot)
    _echo_time(run.trials, seconds)


@app.command()
def jacobian(
    ctx: typer.Context,
    file: File = None,
    data: Data = None,
    batch: Annotated[int | None, _batch(1)] = None,
    depth: Depth = None,
    width: Width = None,
    sizes: Sizes = None,
    activation: Activation = "linear",
    last: Last = None,
    weight: Weight = "lecun_normal",
    bias: Bias = "zeros",
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
    _check_targets(plot, None)
    if plot is not None and method != "svd":
        raise typer.BadParameter("--plot needs --method svd")
    inputs = _inputs(data, batch, 1)
    net = _network(ctx, file, inputs, depth, width, sizes, activation, last, weight, bias)
    began = time.perf_counter()
    found = vp.jacobian(
        net,
        inputs,
        trials=trials,
        seed=seed,
        dtype=dtype,
        layers=layers,
        method=method,
        progress=_on_a_terminal(),
    )
    seconds = time.perf_counter() - began
    typer.echo(found)
    _draw(found, plot)
    _echo_time(trials, seconds)


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
        tuple(_integers(shape, "SHAPE")),
        law,
        seed=seed,
        name=name,
        trial=trial,
        dtype=dtype,
        threads=threads,
        progress=_on_a_terminal(),
    )
    with _files.atomic(output) as file:
        np.save(file, array if dtype != "bfloat16" else array.view(np.uint16))
    typer.echo(f"{output}: {law}, {' x '.join(map(str, array.shape))}, {dtype}")


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


def _on_a_terminal() -> bool:
    """Return whether somebody is watching; a closed stream is None."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def _inputs(data: Path | None, batch: int | None, rows: int) -> int | NDArray[Any]:
    """Return the rows of a file, or the number of those to draw."""
    if data is not None and batch is not None:
        raise typer.BadParameter("give --input or --batch, not both")
    return (batch or rows) if data is None else _rows.read(data)


def _network(
    ctx: typer.Context,
    file: Path | None,
    inputs: int | NDArray[Any],
    depth: int | None,
    width: int | None,
    sizes: str | None,
    activation: str,
    last: str | None,
    weight: str,
    bias: str,
) -> vp.Network:
    if file is not None:
        if file.suffix.lower() != ".toml":
            raise typer.BadParameter(f"NET.TOML must end in .toml, got {str(file)!r}")
        for option in ("depth", "width", "sizes", "activation", "last", "weight", "bias"):
            source = ctx.get_parameter_source(option)
            if source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(f"give a file or --{option}, not both")
        return vp.Network.from_toml(file)
    if sizes is not None and (depth is not None or width is not None):
        raise typer.BadParameter("give --sizes or --depth and --width, not both")
    if sizes is not None:
        layers = _integers(sizes, "--sizes")
    else:
        _memory.require(2000 * (depth or DEPTH), f"a network of {depth} layers")
        if not isinstance(inputs, int) and inputs.ndim > 2:
            raise typer.BadParameter(f"give a NET.TOML for inputs of shape {inputs.shape}")
        features = (width or WIDTH) if isinstance(inputs, int) else inputs.shape[1]
        layers = [features, *([width or WIDTH] * (depth or DEPTH))]
    biases = None if bias == "none" else bias
    return vp.mlp(layers, activation, weight, biases, last)


def _draw(result: vp.Run | vp.Jacobian, plot: Path | None) -> None:
    if plot is not None:
        with _files.atomic(plot) as file:
            result.plot().savefig(file, format=plot.suffix[1:].lower(), dpi=150)


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


def _echo_time(trials: int, seconds: float) -> None:
    typer.echo(f"\n{trials} trial{'s' * (trials > 1)} in {seconds:.3g} s")


def _integers(text: str, parameter: str) -> list[int]:
    try:
        return [int(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        message = f"{text!r} is not a list of integers such as 784,1000,10"
        raise typer.BadParameter(message, param_hint=parameter) from None


def _check_targets(plot: Path | None, output: Path | None) -> None:
    """Raise what would stop the results from being written, before a long run."""
    if plot is not None:
        require("matplotlib", "plot")
        _files.target(plot)
        if plot.suffix.lower() not in PICTURES:
            raise ValueError(f"--plot must end in {', '.join(PICTURES)}, got {str(plot)!r}")
    if output is not None:
        _files.format_of(output)
        _files.target(output)
