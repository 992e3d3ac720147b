"""The network that a command is about, and its inputs: of a file, or as the options say."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from numpy.typing import NDArray

import varprop as vp
from varprop import _memory, _rows
from varprop.cli._options import LISTED, integers

DEPTH, WIDTH = 100, 100

Inputs = int | NDArray[Any]  # a number of rows to draw, or the rows


def with_network(rows: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options below, and as its first arguments what they are read as.

    Parameters
    ----------
    rows : int
        Number of rows that are drawn by default.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shared = _parameters(_read)
        shared["batch"] = shared["batch"].replace(annotation=_batch(rows))
        own = list(_parameters(command).values())[2:]

        def run(**given: Any) -> None:
            options = {name: given.pop(name) for name in shared}
            options["batch"] = options["batch"] or (None if options["data"] else rows)
            command(*_read(**options), **given)

        parameters = [*shared.values(), *own]
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    return dict(signature(function, eval_str=True).parameters)


def _batch(default: int) -> Any:
    option = typer.Option(
        min=1, show_default=str(default), help="Rows of standard normals instead."
    )
    return Annotated[int | None, option]


def _read(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="NET.TOML",
            show_default="dense layers, as the options say",
            help="A network's file, as Network.to_toml writes it.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Inputs: .npy, .npz or .csv."),
    ] = None,
    batch: int | None = None,
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
    last: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default="as the others", help="Activation of the last layer."
        ),
    ] = None,
    weight: Annotated[
        str, typer.Option(metavar="LAW", help=f"he_normal, normal(std=0.1) ...: {LISTED}.")
    ] = "lecun_normal",
    bias: Annotated[str, typer.Option(metavar="LAW", help="As weight; none for none.")] = "zeros",
) -> tuple[vp.Network, Inputs]:
    """Return the network and its inputs."""
    if data is not None and batch is not None:
        raise typer.BadParameter("give --input or --batch, not both")
    inputs: Inputs = _rows.read(data) if batch is None and data is not None else batch or 1
    if file is not None:
        if file.suffix.lower() != ".toml":
            raise typer.BadParameter(f"NET.TOML must end in .toml, got {str(file)!r}")
        for option in ("depth", "width", "sizes", "activation", "last", "weight", "bias"):
            source = ctx.get_parameter_source(option)
            if source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(f"give a file or --{option}, not both")
        return vp.Network.from_toml(file), inputs
    if sizes is not None and (depth is not None or width is not None):
        raise typer.BadParameter("give --sizes or --depth and --width, not both")
    if sizes is not None:
        layers = integers(sizes, "--sizes")
    else:
        _memory.require(2000 * (depth or DEPTH), f"a network of {depth} layers")
        if not isinstance(inputs, int) and inputs.ndim > 2:
            raise typer.BadParameter(f"give a NET.TOML for inputs of shape {inputs.shape}")
        features = (width or WIDTH) if isinstance(inputs, int) else inputs.shape[1]
        layers = [features, *([width or WIDTH] * (depth or DEPTH))]
    biases = None if bias == "none" else bias
    return vp.mlp(layers, activation, weight, biases, last), inputs
