"""What every picture of a run has: its heading, the names of the layers, what the lines are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from varprop._extras import require
from varprop._heading import heading
from varprop._table import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from varprop.run import Run

Signal = Literal["preactivations", "activations"]

STEPS = (1, 2, 5, 10)  # between the numbers of an axis, times a power of ten
_INCH = 14  # characters that have room side by side on an inch
_NAME = 14  # characters of a layer's name
_KEY = 10  # characters that a legend's line and gaps take


def canvas(run: Run, figure: Figure | None, size: tuple[float, float]) -> Figure:
    """Return the figure to draw into, headed by what was simulated."""
    if figure is None:
        figure = require("matplotlib.figure", "plot").Figure(figsize=size)
    if figure.get_layout_engine() is None:
        figure.figure.set_layout_engine("constrained")
    text = "\n".join(heading(run))
    whole = text.replace(",\n", ", ")
    wide = max(map(len, whole.splitlines())) <= room(figure)
    figure.suptitle(whole if wide else text, fontsize="small", parse_math=False)
    return figure


def room(where: Axes | Figure) -> int:
    """Return about how many characters have room side by side."""
    return int(_INCH * where.bbox.width / where.figure.dpi)


def words(signal: Signal) -> str:
    """Return the signal's name in a sentence."""
    return signal.replace("pre", "pre-")


def names(run: Run) -> list[str]:
    """Return the names of the layers, the long ones cut."""
    return shortened(list(run.layer_names), _NAME)


def explain(figure: Figure, *some: Axes) -> None:
    """Put under the picture, where no line is, what the lines of some axes are."""
    artists = [artist for axes in some for artist in (*axes.collections, *axes.lines)]
    names = {artist: str(artist.get_label()) for artist in artists}
    shown = [artist for artist in artists if not names[artist].startswith("_child")]
    if len(shown) > 1:
        fit = max(1, room(figure) // (max(len(names[artist]) for artist in shown) + _KEY))
        rows = math.ceil(len(shown) / fit)
        legend = figure.legend(
            shown,
            ["x"] * len(shown),
            loc="outside lower center",
            ncols=math.ceil(len(shown) / rows),
            frameon=False,
            handlelength=3,
        )
        for text, artist in zip(legend.get_texts(), shown, strict=True):
            text.set(text=names[artist], parse_math=False)  # a layer may have any name
