"""A run for people: the verdict, its network in words, its layers in a table; text or HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from varprop import _table
from varprop._catalogue import threshold
from varprop._heading import heading, settings, wrapped
from varprop._numerals import deviations, fixed, known, means, spreads
from varprop._table import DOTS, Column, shown
from varprop.layers import Elementwise
from varprop.network import Network

if TYPE_CHECKING:
    from varprop._statistics import Statistics
    from varprop.run import Run
    from varprop.theory import Agreement, Beside


def text(run: Run) -> str:
    """Return the verdict, the settings, the table, and what there is to know about it."""
    foot = [line for phrases in _foot(run) for line in wrapped(phrases)]
    lines = [str(run.verdict), "", *heading(run), "", table(run), *([""] if foot else []), *foot]
    return "\n".join(lines)


def html(run: Run) -> str:
    """Return the same for a notebook."""
    columns = _columns(_blocks_of(run) if run.network.blocks else run)
    groups = [(group, len(list(same))) for group, same in groupby(columns, lambda c: c.group)]
    rows = zip(*(column.cells for column in columns), strict=True)
    table = [
        _row("th", ((group, f' colspan="{span}"') for group, span in groups)),
        _row("th", ((column.title, "") for column in columns)),
        *(_row("td", ((cell, "") for cell in row)) for row in rows),
    ]
    above = [", ".join(phrases) for phrases in settings(run)]
    below = [", ".join(phrases) for phrases in _foot(run)]
    verdict, what, foot = (
        f"<p>{'<br>'.join(map(escape, lines))}</p>" if lines else ""
        for lines in (str(run.verdict).splitlines(), above, below)
    )
    return f"{verdict}{what}<table>{''.join(table)}</table>{foot}"


def _row(tag: str, cells: Iterable[tuple[str, str]]) -> str:
    inside = (f"<{tag}{attribute}>{escape(cell)}</{tag}>" for cell, attribute in cells)
    return f"<tr>{''.join(inside)}</tr>"


def table(run: Run, every: int | None = None) -> str:
    """Return the table as text."""
    if every is None and run.network.blocks:
        run = _blocks_of(run)
    # Of wide numbers as many digits, and of columns as many, as leave room for the names.
    for digits, spare in ((2, 0), (2, 1), (2, 2), (1, 2), (0, 2)):
        names, *columns = _columns(run, every, digits, spare)
        if _table.room(columns) >= min(_table.READABLE, max(map(len, names.cells))):
            break
    return "\n".join(_table.lines(names, columns))


def _columns(run: Run, every: int | None = None, digits: int = 2, spare: int = 0) -> list[Column]:
    """Return the columns: all, without those that z may take the place of, or without z."""
    beside = run.beside_theory if spare < 2 else None
    make = _there_and_back if "gradients" in run.observed else _there
    columns = make(run, digits, beside, spare == 1 and beside is not None)
    rows = shown(len(run.layer_names), every)
    return [
        column._replace(cells=[DOTS if i is None else column.cells[i] for i in rows])
        for column in [Column("", "layer", list(run.layer_names)), *columns]
    ]


def _blocks_of(run: Run) -> Run:
    """Return the run of the blocks alone of a model that was profiled."""
    from varprop.run import Run

    whole = run.network
    part = Network(whole.inputs, [whole.layers[i] for i in whole.blocks])
    places = {
        signal: [whole.names(signal).index(name) for name in part.names(signal)]
        for signal in run.observed
    }
    return Run(
        part,
        inputs=run.batch,
        seed=run.seed,
        trials=run.trials,
        first_trial=run.first_trial,
        dtype=run.dtype,
        statistics=run.statistics,
        observed={
            signal: {
                key: values.take(places[signal], axis=0 if key == "count" else 1)
                for key, values in observed.items()
            }
            for signal, observed in run.observed.items()
        },
        loss=run.loss,
    )


def _there(run: Run, digits: int, beside: Agreement | None, brief: bool) -> list[Column]:
    """Return the columns of a run without a backward pass."""
    before, after = run.preactivations, run.activations
    group = "typical trial" if run.trials > 1 else "activation"
    columns = [
        Column("pre-activation", "mean", means(before, digits)),
        Column("pre-activation", "std", spreads(before, 1, digits)),
        Column("activation", "mean", means(after, digits)),
        Column("activation", "var", spreads(after, 2, digits)),
        *_saturated(run),
    ]
    if beside is None:
        return [*columns, *_typical(group, "log10 E[x^2]", after, most=8)]
    columns += _typical(group, "log10", after)
    if not brief:
        columns.append(Column(group, "theory", known(beside.activations.theory)))
    return [*columns, *_deviations(group, beside, "activations")]


def _there_and_back(run: Run, digits: int, beside: Agreement | None, brief: bool) -> list[Column]:
    weights = run.weight_gradients
    return [
        *([] if brief else [Column("activation", "var", spreads(run.activations, 2, digits))]),
        *_saturated(run),
        *_typical("activation", "log10", run.activations),
        *_deviations("activation", beside, "activations"),
        *_typical("gradient", "log10", run.gradients),
        *_deviations("gradient", beside, "gradients"),
        *(
            _typical("weight gradient", "log10", weights, names=run.layer_names)
            if weights.layer_names
            else []
        ),
    ]


def _deviations(group: str, beside: Agreement | None, signal: str) -> list[Column]:
    found: Beside | None = getattr(beside, signal, None)
    return [] if found is None else [Column(group, "z", deviations(found.z))]


def _saturated(run: Run) -> list[Column]:
    has = "saturation" in run.activations.observed
    return [Column("activation", "sat.", fixed(run.activations.saturation))] if has else []


def _typical(
    group: str,
    title: str,
    statistics: Statistics,
    most: int = 5,
    names: Sequence[str] | None = None,
) -> list[Column]:
    """Return the mean of the trials' logarithms and, for more than one, half its interval.

    Of the layers `names` those that the statistics do not have are empty.
    """
    logarithms = statistics.per_trial.log10_second_moment
    with np.errstate(invalid="ignore"):
        columns = [Column(group, title, fixed(logarithms.mean(axis=0), most))]
    if len(logarithms) > 1:
        low, high = statistics.interval("log10_second_moment")
        columns.append(Column(group, "+- 95%", fixed((high - low) / 2, most)))
    if names is None or tuple(names) == statistics.layer_names:
        return columns
    filled = (dict(zip(statistics.layer_names, c.cells, strict=True)) for c in columns)
    return [
        column._replace(cells=[cells.get(name, "") for name in names])
        for column, cells in zip(columns, filled, strict=True)
    ]


def _foot(run: Run) -> list[list[str]]:
    """Return what the columns mean, what left the range, what was too wide: each in phrases."""
    beside, bound = run.beside_theory, run.verdict.max_factor
    notes = [[f"verdict: on the mean square, where within a factor of {bound:g} is stable"]]
    if "gradients" in run.observed and len(set(run.network.sizes["gradients"].tolist())) > 1:
        notes[0].append("of gradients summed over a layer")
    blocks = run.network.blocks
    if blocks:
        taken = run.block_inputs.per_trial.log10_second_moment[:, 0].mean()
        notes[0].append(f"{run.layer_names[blocks[0]]} takes log10 {taken:.4f}")
    if run.verdict.stages > 1:
        notes[0].append(f"changes {'between stretches' if blocks else 'of resolution'} left out")
    if "gradients" in run.observed or beside is not None:
        typical = " in the typical trial, +- half its 95% interval" if run.trials > 1 else ""
        notes.append([f"log10: of the mean square{typical}"])
    if beside is not None:
        notes.append(beside.key)
    if "saturation" in run.activations.observed:
        notes.append([f"sat.: share with |phi'| < {threshold(run.statistics):g}"])
    more = (_differences(run), _out_of_range(run), _short(run))
    first = [[run.without_theory]] if run.without_theory else []
    if beside is not None:
        first = [beside.sentence]
    elif blocks:
        modules = len(run.layer_names)
        first = [[f"blocks alone: run.table(every=1) shows all {modules} modules"]]
    return [*first, *notes, *(phrases for phrases in more if phrases)]


def _differences(run: Run) -> list[str]:
    """Return which functions of a user's have slopes that are differences, where slopes count."""
    sloped = "gradients" in run.observed or "saturation" in run.activations.observed
    names = [
        step.name
        for step in run.network.steps
        if isinstance(step.layer, Elementwise) and step.layer.derivative is None
    ]
    if not sloped or not names:
        return []
    more = [f"and {len(names) - 3} more"] if len(names) > 3 else []
    return [f"slopes by central differences: {names[0]}", *names[1:3], *more]


def _out_of_range(run: Run) -> list[str]:
    kind = "module " if run.network.is_profiled else ""  # which may be called 0
    events = [f"{kind}{layer} in trial {trial}" for layer, trial in run.out_of_range]
    if not events:
        return []
    events[0] = f"out of the range of {run.dtype}: {events[0]}"
    more = [f"and {len(events) - 3} more: run.out_of_range"] if len(events) > 3 else []
    return [*events[:3], *more]


def _short(run: Run) -> list[str]:
    """Return which interval is the widest, where one is wider than trials were added for."""
    if run.precision is None:
        return []
    wide = [
        (math.inf if math.isnan(width) else width, f"{signal} of {layer}")
        for signal in ("activations", "gradients")
        if signal in run.observed
        for low, high in [getattr(run, signal).interval("log10_second_moment")]
        for layer, width in zip(run.layer_names, (high - low).tolist(), strict=True)
        if not width <= run.precision
    ]
    if not wide:
        return []
    width, where = max(wide)
    found = f"{width:.2g} wide" if width < math.inf else "unknown"
    return [f"short of precision {run.precision:g}: the interval of the {where} is {found}"]
