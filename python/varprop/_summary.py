"""A network in a table: layers, shapes, laws, parameters, and the work of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from varprop import _memory, _spec
from varprop._compile import Step
from varprop._layer import Shape, written
from varprop._table import DOTS, WIDTH, shortened, shown
from varprop.network import Network

_GAP = "  "
_CUT = ((0, 18), (3, 8), (0, 9))  # columns of a wide table to cut, in turn, and what they keep


class Row(NamedTuple):
    """What is to say of one layer."""

    name: str
    kind: str
    output_shape: Shape
    law: str
    """Of the weights; of the biases where there are no weights; empty without either."""
    parameters: int
    flops: int


@dataclass(frozen=True, repr=False)
class Summary:
    """Layers, shapes, laws, parameters and FLOPs of a network; printed, they are a table.

    Attributes
    ----------
    network : Network
    batch : int
        Number of examples of which the FLOPs are.
    rows : tuple of Row
        name, kind, output_shape (of one example), law, parameters and flops of every layer.
    """

    network: Network
    batch: int
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Two for each multiply-add of the products going forward; nothing else is counted."""
        return sum(row.flops for row in self.rows)

    @property
    def bytes(self) -> int:
        """Bytes of the weights and biases in float32."""
        return 4 * self.parameters

    def __repr__(self) -> str:
        return f"<Summary of {self.network!r}: {self.parameters} parameters, {self.flops} FLOPs>"

    def __str__(self) -> str:
        examples = f"{self.batch} example{'s' * (self.batch > 1)}"
        size = _memory.readable(self.bytes)
        return "\n".join(
            (
                *self._table(),
                "",
                f"{self.parameters:,} parameters, {size} in float32",
                f"{_counted(self.flops)} FLOPs forward for {examples}",
                "FLOPs: two for each multiply-add of the products, nothing else is counted",
            )
        )

    def _table(self) -> list[str]:
        """Return the lines: of a deep network the first and the last ten layers."""
        titles = ("layer", "kind", "output", "law", "parameters", "FLOPs")
        rows = [
            (DOTS,) * len(titles) if i is None else _cells(self.rows[i])
            for i in shown(len(self.rows), None)
        ]
        columns = [[title, *cells] for title, *cells in zip(titles, *rows, strict=True)]
        widths = [max(map(len, column)) for column in columns]
        over = sum(widths) + len(_GAP) * (len(widths) - 1) - WIDTH
        for column, least in _CUT:
            room = max(widths[column] - max(over, 0), min(least, widths[column]))
            over -= widths[column] - room
            widths[column] = room
        columns[0] = ["layer", *shortened(columns[0][1:], widths[0])]
        columns[3] = [_cut(text, widths[3]) for text in columns[3]]
        lines = zip(*columns, strict=True)
        return [
            _GAP.join(
                cell.rjust(width) if i > 3 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]


def summarize(net: Network, batch: int) -> Summary:
    """Return the summary of a network; see :meth:`Network.summary`."""
    batch = _spec.integer("batch", batch, least=1)
    return Summary(net, batch, tuple(_row(step, batch) for step in net.steps))


def _row(step: Step, batch: int) -> Row:
    tensors = step.layer.parameters(step.input_shape)
    law = next((str(law) for law, _ in tensors.values()), "")
    parameters = sum(prod(shape) for _, shape in tensors.values())
    places = prod(step.output_shape[:-1])  # where the weights are applied
    products = batch * places * prod(step.weight_shape) if step.weight_shape else 0
    return Row(step.name, step.kind, step.output_shape, law, parameters, 2 * products)


def _cells(row: Row) -> tuple[str, ...]:
    counts = (_counted(n) if n else "" for n in (row.parameters, row.flops))
    return (row.name, row.kind, written(row.output_shape), row.law, *counts)


def _counted(number: int) -> str:
    """Write a count: whole up to a million, then three digits of it."""
    if number < 10**6:
        return f"{number:,}"
    power = min((len(str(number)) - 1) // 3, 6)
    return f"{number / 1000**power:.3g} {' kMGTPE'[power]}"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 2]}.."
