"""What was simulated, in words: the network, its laws, and the conditions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING

from varprop._layer import Shape, written
from varprop._table import DOTS, WIDTH

if TYPE_CHECKING:
    from varprop._compile import Step
    from varprop.network import Network
    from varprop.run import Run


def heading(run: Run) -> list[str]:
    """Return what was simulated, in lines."""
    return [line for phrases in settings(run) for line in wrapped(phrases)]


def settings(run: Run) -> tuple[list[str], list[str]]:
    """Return the network and the conditions in phrases."""
    profiled = run.network.is_profiled
    what = _modules(run.network) if profiled else _layers(run.network)
    shape = _as_torch(run.network.input_shape) if profiled else written(run.network.input_shape)
    drawn = run.given_inputs is None and not profiled
    last = run.first_trial + run.trials - 1
    which = f" ({run.first_trial} to {last})" if run.first_trial else ""
    return (
        what,
        [
            f"inputs {run.batch} x {shape} {'standard normal' if drawn else 'given'}",
            f"{run.trials} trial{'s' if run.trials > 1 else ''}{which}",
            f"seed {run.seed}",
            run.dtype,
            *(["implicit weights"] if run.method == "implicit" else []),
            *([f"loss {run.loss}"] if run.loss else []),
            *(["targets given"] if run.given_targets is not None else []),
        ],
    )


def _layers(net: Network) -> list[str]:
    """Return kinds, shapes, activations and laws of the layers in their order."""
    steps, shape = net.steps, written(net.input_shape)
    count = "1 layer" if len(steps) == 1 else f"{len(steps)} layers"
    outputs = [written(step.output_shape) for step in steps]
    if {step.kind for step in steps} == {"dense"}:
        layers = count.replace("layer", "dense layer")
    else:
        layers = f"{count} ({_kinds(steps)})"
        outputs = [size for size, _ in groupby(outputs)]  # 8 x 8 x 3 x 5 would be no shape
    parts: dict[str, list[object]] = {
        "": [step.activation for step in steps if step.activation is not None],
        "weight ": [step.law("weight") for step in steps if step.weight_shape],
        "bias ": [step.law("bias") or "none" for step in steps if step.bias_shape],
    }
    return [
        layers,
        f"{shape} -> {_chain(outputs, ' -> ')}",
        *(f"{part}{_chain(values)}" for part, values in parts.items() if values),
    ]


def _modules(net: Network) -> list[str]:
    """Return classes, shapes and laws of the modules that a profile saw."""
    steps = net.steps
    count = "1 module" if len(steps) == 1 else f"{len(steps)} modules"
    parts = {
        "weight": [step.law("weight") or "kept" for step in steps if step.weight_shape],
        "bias": [step.law("bias") or "kept" for step in steps if step.bias_shape],
    }
    return [
        f"{count} ({_kinds(steps)})",
        f"{_as_torch(net.input_shape)} -> {_as_torch(net.output_shape)}",
        *(f"{part} {_counted(values)}" for part, values in parts.items() if values),
    ]


def _kinds(steps: Sequence[Step]) -> str:
    counts = Counter(step.kind for step in steps)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _as_torch(shape: Shape) -> str:
    """Write a shape with the channels of an image first, as PyTorch has them."""
    return written((shape[-1], *shape[:-1]) if len(shape) > 2 else shape)


def _chain(values: Iterable[object], link: str = " then ") -> str:
    """Write a sequence by its stretches of equals: ``tanh x 5 then linear``."""
    stretches = [(text, len(list(same))) for text, same in groupby(map(str, values))]
    if len(stretches) == 1:
        return stretches[0][0]
    words = [text if count == 1 else f"{text} x {count}" for text, count in stretches]
    return link.join(words if len(words) <= 5 else [*words[:2], DOTS, *words[-2:]])


def _counted(values: Iterable[object]) -> str:
    """Write how often each of some values is there: ``torch_linear x 24 and zeros x 12``."""
    counts = Counter(re.sub(r"\d+\.\d{5,}", _short_number, str(value)) for value in values)
    words = [text if count == 1 else f"{text} x {count}" for text, count in counts.most_common()]
    return " and ".join(words if len(words) <= 3 else [*words[:3], "others"])


def _short_number(digits: re.Match[str]) -> str:
    return f"{float(digits[0]):.4g}"


def wrapped(phrases: list[str]) -> list[str]:
    """Join phrases by commas into lines that break between them, inside only at a space."""
    joined = ", ".join(phrase.replace(" ", "\0") for phrase in phrases)
    lines = (line.replace("\0", " ") for line in _broken(joined))
    return [part for line in lines for part in _broken(line)]


def _broken(text: str) -> list[str]:
    return wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
