"""``varprop plot``: pictures of a sweep, or of a run that was saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

import varprop as vp
from varprop import _spec
from varprop.cli._app import app
from varprop.cli._options import check_picture, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

_RUNS = (".npz", ".json")
_OF_A_SWEEP = {  # kind: the options that it takes
    "phase": ("x", "y", "value", "layer", "statistic", "level", "theory", "select"),
    "depth": ("value", "over", "statistic", "select"),
}
_OF_A_RUN = {
    "variance": ("theory",),
    "histograms": (),
    "saturation": (),
    "weight_gradients": (),
}


@app.command()
def plot(
    source: Annotated[
        str,
        typer.Argument(metavar="STORE|RUN", help="A sweep's store; or a saved run: .npz, .json."),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="phase, variance",
            help=f"Of a sweep: {' or '.join(_OF_A_SWEEP)}; of a run: {', '.join(_OF_A_RUN)}.",
        ),
    ] = None,
    x: Annotated[
        str | None,
        typer.Option("-x", "--x", metavar="NAME", help="Dimension of the grid, or layer."),
    ] = None,
    y: Annotated[str | None, typer.Option("-y", "--y", metavar="NAME", help="As x.")] = None,
    value: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default="the first", help="Which quantity."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="LAYER", show_default="the last", help="Number from 1, or name."),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of depth: the dimension that has a curve a value."),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="One value of a dimension, the nearest one; may be repeated.",
        ),
    ] = None,
    statistic: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default="mean", help="Over trials: mean, std, low or high."
        ),
    ] = None,
    level: Annotated[
        float | None, typer.Option(metavar="X", help="Draw the line where the quantity is X.")
    ] = None,
    theory: Annotated[
        bool | None,
        typer.Option(
            "--theory/--no-theory",
            show_default="yes of phase",
            help="The edge of chaos; or theory beside a run's variance.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default="STORE_KIND.png", help="Picture: .png, .pdf or .svg."
        ),
    ] = None,
) -> None:
    """Draw a phase diagram or depth profiles of a sweep, or the layers of a run."""
    asked = {
        "x": x,
        "y": y,
        "value": value,
        "layer": int(layer) if layer is not None and layer.isdecimal() else layer,
        "over": over,
        "select": select or None,
        "statistic": statistic,
        "level": level,
        "theory": theory,
    }
    options = {name: given for name, given in asked.items() if given is not None}
    is_run = Path(source).suffix.lower() in _RUNS
    kinds: dict[str, tuple[str, ...]] = _OF_A_RUN if is_run else _OF_A_SWEEP
    kind = next(iter(kinds)) if kind is None else kind
    if kind not in kinds:
        raise _spec.unknown(f"kind of a {'run' if is_run else 'sweep'}", kind, kinds)
    for name in options:
        if name not in kinds[kind]:
            raise typer.BadParameter(f"--{name} is not for --kind {kind}")
    path = _beside(source, kind) if to is None else to
    check_picture(path, "--to")
    figure = _of_run(source, kind, options) if is_run else _of_sweep(source, kind, options)
    save(figure, path)
    typer.echo(path)


def _beside(source: str, kind: str) -> Path:
    """Return the name of a picture beside its source, here if that is elsewhere."""
    path = Path(source.rstrip("/").rpartition("/")[2] if "://" in source else source)
    return path.with_name(f"{path.stem}_{kind}.png")


def _of_run(source: str, kind: str, options: dict[str, Any]) -> Figure:
    drawn: Figure = vp.load(source).plot(kind=kind, **options)  # type: ignore[arg-type]
    return drawn


def _of_sweep(source: str, kind: str, options: dict[str, Any]) -> Figure:
    dataset = vp.open_sweep(source)
    for text in options.pop("select", ()):
        dataset = _selected(dataset, text)
    _check_shown(dataset, kind, options)
    draw = dataset.varprop.phase_diagram if kind == "phase" else dataset.varprop.depth_profile
    figure: Figure = draw(**options)
    return figure


def _check_shown(dataset: Dataset, kind: str, options: dict[str, Any]) -> None:
    """Raise the error of more dimensions than a picture has."""
    named = [options[option] for option in ("x", "y", "over") if option in options]
    many = [name for name in _grid(dataset) if dataset.sizes[name] > 1 and name not in named]
    count = 2 if kind == "phase" else 1
    if len(many) > count - len(named):
        raise ValueError(
            f"--kind {kind} shows {count} dimension{'s' * (count > 1)}, not "
            f"{', '.join(dict.fromkeys((*named, *many)))}: choose a value of the others, as with "
            f"--select {many[-1]}={dataset[many[-1]].values.tolist()[0]}"
        )


def _grid(dataset: Dataset) -> list[str]:
    return [str(name) for name in dataset.dims if name not in ("layer", "statistic")]


def _selected(dataset: Dataset, text: str) -> Dataset:
    """Return a dataset at one value of a dimension of its grid: of numbers the nearest."""
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name or not value:
        raise typer.BadParameter(f"--select must be NAME=VALUE, got {text!r}")
    if name not in _grid(dataset):
        raise _spec.unknown("dimension", name, _grid(dataset))
    labels = dataset[name].values
    written = [str(label) for label in labels.tolist()]
    if value in written:
        place = written.index(value)
    else:
        number = _number(value) if labels.dtype.kind in "if" else None
        if number is None:
            raise _spec.unknown(name, value, written)
        if not labels.min() <= number <= labels.max():
            raise ValueError(f"{name} is from {labels.min():g} to {labels.max():g}, got {number:g}")
        place = int(np.abs(labels - number).argmin())
        typer.echo(f"{name} = {labels[place]:g}, the nearest to {value}")
    found: Dataset = dataset.isel({name: place})
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
