"""The command line: ``varprop simulate``, ``varprop weights`` and ``varprop info``."""

from __future__ import annotations

import sys
import time
import warnings
import zlib
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
import typer
from numpy.typing import NDArray
from typer.core import TyperGroup

import varprop as vp
from varprop import _files, _memory
from varprop._extras import require

DEPTH, WIDTH, BATCH = 100, 100, 100
READ = (".npy", ".npz", ".csv")
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
    data: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Rows to push through: .npy, .npz or .csv."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, show_default=str(BATCH), help="Rows of standard normals instead."),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, show_default=str(DEPTH), help="Number of layers.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, show_default=str(WIDTH), help="Units of every layer.")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            show_default="from depth and width",
            help="Inputs, then the width of each layer: 784,1000,10.",
        ),
    ] = None,
    activation: Annotated[
        str, typer.Option(metavar="NAME", help=f"tanh, leaky_relu(slope=0.2) ...: {LISTED}.")
    ] = "linear",
    weight: Annotated[
        str, typer.Option(metavar="LAW", help=f"he_normal, normal(std=0.1) ...: {LISTED}.")
    ] = "lecun_normal",
    bias: Annotated[str, typer.Option(metavar="LAW", help="As weight; none for none.")] = "zeros",
    trials: Annotated[int, typer.Option(min=1, help="Draws of all weights.")] = 10,
    seed: Seed = 0,
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="float32 or float64.")] = "float32",
    threads: Threads = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the run: .png, .pdf or .svg.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the run: .json or .npz.")
    ] = None,
) -> None:
    """Push a batch through a random network and report how its variance travels."""
    if data is not None and batch is not None:
        raise typer.BadParameter("give --input or --batch, not both")
    if sizes is not None and (depth is not None or width is not None):
        raise typer.BadParameter("give --sizes or --depth and --width, not both")
    _check_targets(plot, output)
    inputs = (batch or BATCH) if data is None else _read(data)
    if sizes is None:
        _memory.require(2000 * (depth or DEPTH), f"a network of {depth} layers")
        features = (width or WIDTH) if isinstance(inputs, int) else inputs.shape[1]
        layers = [features, *([width or WIDTH] * (depth or DEPTH))]
    else:
        layers = _integers(sizes, "--sizes")
    net = vp.mlp(layers, activation, weight, None if bias == "none" else bias)
    began = time.perf_counter()
    run = vp.simulate(
        net,
        inputs,
        trials=trials,
        seed=seed,
        dtype=dtype,
        threads=threads,
        progress=_on_a_terminal(),
    )
    seconds = time.perf_counter() - began
    typer.echo(run)
    if output is not None:
        run.save(output)
    if plot is not None:
        with _files.atomic(plot) as file:
            run.plot().savefig(file, format=plot.suffix[1:].lower(), dpi=150)
    typer.echo(f"\n{trials} trial{'s' * (trials > 1)} in {seconds:.3g} s")


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


def _read(path: Path) -> NDArray[Any]:
    """Read a (batch, features) array."""
    suffix = path.suffix.lower()
    if suffix not in READ:
        raise ValueError(f"--input must end in {', '.join(READ)}, got {str(path)!r}")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    array = _read_csv(path) if suffix == ".csv" else _load(path)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{path} must hold a (batch, features) array, got shape {array.shape}")
    return array


def _load(path: Path) -> NDArray[Any]:
    """Read an array from a file of NumPy's; of its own messages some advise to unpickle."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            names = loaded.files
            if len(names) == 1:
                return np.asarray(loaded[names[0]])
    except (ValueError, EOFError, BadZipFile, zlib.error) as error:
        objects = str(error).startswith("Object arrays")
        lack = "holds objects, not numbers" if objects else "is no NumPy array file, or is damaged"
        raise ValueError(f"{path} {lack}") from None
    raise ValueError(f"{path} holds {len(names)} arrays ({', '.join(names)}), one is needed")


def _read_csv(path: Path) -> NDArray[Any]:
    """Read comma-separated numbers; a first line without any number is a header."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = int(not any(map(_is_number, file.readline().split(","))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file: its shape will say so
            return np.loadtxt(path, delimiter=",", skiprows=header, ndmin=2, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers separated by commas: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
