"""Arguments as users give them: texts such as ``normal(std=0.1)``, numbers, names."""

from __future__ import annotations

import ast
import difflib
import math
import numbers
import operator
from collections.abc import Iterable

LONGEST = 500


def parse(text: str, argument: str = "text") -> tuple[str, tuple[object, ...], dict[str, object]]:
    """Split ``name`` or ``name(arguments)`` without evaluating anything.

    Parameters
    ----------
    text : str
        A name, alone or called with literals: numbers (``inf`` too), strings, True, False, None
        and tuples of these, by position or by keyword.
    argument : str
        What errors call `text`.

    Returns
    -------
    name : str
    args : tuple
    kwargs : dict

    Raises
    ------
    ValueError
        The text is anything else, or over 500 characters long.

    Examples
    --------
    >>> parse("normal(0.1, mean=-2)")
    ('normal', (0.1,), {'mean': -2})
    """
    if len(text) > LONGEST:
        raise ValueError(
            f"{argument} must have at most {LONGEST} characters, got {len(text)}: {text[:40]!r}..."
        )
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name):
            raise ValueError
        args = tuple(_literal(value) for value in call.args)
        kwargs = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
        named = {name: value for name, value in kwargs.items() if name is not None}
        if len(named) < len(call.keywords):  # **mapping, or one keyword twice
            raise ValueError
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(
            f"{argument} must be a name, alone or called with numbers and quoted strings "
            f"such as \"name(x=0.1, mode='fan_in')\", got {text!r}"
        ) from None
    return call.func.id, args, named


def _literal(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.Name(id="inf"):  # so that str() of an open bound can be read back
            return math.inf
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() | ast.Name() as operand):
            number = _literal(operand)
            if type(number) is int or type(number) is float:
                return -number
        case ast.Tuple(elts=items):
            return tuple(_literal(item) for item in items)
    raise ValueError


def spell(name: str, arguments: dict[str, object]) -> str:
    """Write what :func:`parse` reads: ``name`` or ``name(argument=value, ...)``."""
    inside = ", ".join(f"{argument}={value!r}" for argument, value in arguments.items())
    return f"{name}({inside})" if inside else name


def unknown(kind: str, name: object, names: Iterable[str]) -> ValueError:
    """Make the error for a name that is not in a list: the nearest match, then the list."""
    names = list(names)
    near = difflib.get_close_matches(str(name), names, n=1)
    guess = f": did you mean {near[0]!r}?" if near else "."
    return ValueError(f"unknown {kind} {name!r}{guess} One of: {', '.join(names)}")


def real(
    argument: str,
    value: object,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    finite: bool = True,
) -> float:
    """Return a number as a float, or raise the error that names its argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument} must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not least <= number <= most or (finite and math.isinf(number)):
        kind = "a finite number" if finite else "a number"
        low = f" >= {least:g}" if least > -math.inf else ""
        high = f" and <= {most:g}" if most < math.inf else ""
        raise ValueError(f"{argument} must be {kind}{low}{high}, got {value!r}")
    return number


def integer(argument: str, value: object, *, least: int = 0) -> int:
    """Return a whole number as an int, or raise the error that names its argument."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{argument} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{argument} must be an integer >= {least}, got {number}")
    return number


def sizes(argument: str, value: object) -> tuple[int, ...]:
    """Return a shape as a tuple of ints of at least 1, or raise the error that names it."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{argument} must be a tuple of integers, got {value!r}")
    return tuple(integer(f"{argument}[{axis}]", n, least=1) for axis, n in enumerate(value))
