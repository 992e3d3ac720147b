"""Whether every parameter of a module has the law it should: the audit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from varprop import _spec
from varprop._laws import Law
from varprop.torch._audit import table
from varprop.torch._audit.duplicates import HEAD, duplicates
from varprop.torch._audit.subject import Subject
from varprop.torch._names import Parameter, parameters
from varprop.torch._rules import Laws, assign

if TYPE_CHECKING:
    from pandas import DataFrame

_STACKS = (nn.TransformerEncoder, nn.TransformerDecoder)
_LAYER = re.compile(r"\blayers\.\d+\b")


@dataclass
class Entry:
    """One parameter of an audit.

    Attributes
    ----------
    name : str
        Qualified name; of a tied parameter that of its first place.
    shape : tuple of int
        As torch has it.
    dtype : str
    law : Law or None
        None where it is unknown: the parameter is not one of torch's layers', nor declared.
    declared : bool
        Whether the law is the user's; else it is torch's own default.
    count : int
        How many numbers it has.
    mean, std, low, high : float
        Measured: mean, population std and extremes.
    due_mean, due_std : float or None
        Those of the law, where its numbers are independent.
    std_pvalue, ks_pvalue : float or None
        Of the second moment about the law's mean, and of Kolmogorov-Smirnov.
    problems : list of str
        What is wrong; empty for a healthy parameter.
    notes : list of str
        What there is to know, and no failure.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    law: Law | None
    declared: bool
    count: int
    mean: float
    std: float
    low: float
    high: float
    due_mean: float | None = None
    due_std: float | None = None
    std_pvalue: float | None = None
    ks_pvalue: float | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems

    def __str__(self) -> str:
        return f"{self.name}: {'; '.join(self.problems or self.notes or ['ok'])}"


@dataclass
class Audit:
    """What :func:`audit` found; it prints as a table, the failures first.

    Attributes
    ----------
    entries : list of Entry
        One for each parameter, in the order of the module.
    level : float
        Probability that a healthy model fails.
    """

    entries: list[Entry]
    level: float

    @property
    def failures(self) -> list[Entry]:
        """The entries that have problems."""
        return [entry for entry in self.entries if not entry.ok]

    @property
    def unknown(self) -> list[Entry]:
        """The entries whose law is not known."""
        return [entry for entry in self.entries if entry.law is None]

    @property
    def ok(self) -> bool:
        """Whether no parameter has a problem."""
        return not self.failures

    def assert_ok(self) -> None:
        """Raise an AssertionError with the table, unless all is well."""
        if not self.ok:
            raise AssertionError(f"{table.summary(self)}\n\n{self}")

    def to_dataframe(self) -> DataFrame:
        """Return one row for each parameter.

        Needs pandas: ``pip install "varprop[dataframe]"``.
        """
        return table.dataframe(self)

    def __str__(self) -> str:
        return table.text(self)

    def __repr__(self) -> str:
        return f"<Audit: {table.summary(self)}>"

    def _repr_html_(self) -> str:
        return table.html(self)


def audit(model: nn.Module, declared: Laws | None = None, *, level: float = 1e-5) -> Audit:
    """Tell whether every parameter of a module has the law it should.

    For each parameter: NaN and infinities, numbers beyond the law's bounds, the second moment
    about the law's mean, Kolmogorov-Smirnov; for laws that are formed whole their structure, for
    constants their value. Then parameters whose numbers are those of another: a reused seed, or a
    copy. Nothing is changed.

    Parameters
    ----------
    model : Module
        Before training. Of a DTensor the local shard is looked at.
    declared : law or mapping, optional
        What was given to :func:`init_`: one law, or laws by patterns and types of modules. What a
        mapping leaves as it is has torch's own default law, as everything has without it; padding
        rows of embeddings may be zero. Parameters of modules that are not torch's are unknown:
        listed, and failures for NaN, infinities and copies only.
    level : float
        Probability that a healthy model fails, at most: each test is at `level` over their number
        (Bonferroni). Bounds, structure and copies leave nothing to chance.

    Returns
    -------
    Audit
        ``ok``, ``failures``, ``entries``; ``print`` it, or ``assert_ok()`` in a test.

    Raises
    ------
    TypeError, ValueError
        Entries of `declared` that match nothing or do not take a shape, integer parameters,
        parameters without numbers: of the meta device, of lazy modules before their first call.

    Notes
    -----
    The second moment is that of all numbers, against the law's own: a chi-square for a normal. A
    std that is off by 5% in a matrix of 256 x 256 is 18 standard errors off for a normal, 29 for a
    uniform; in 100 x 100 normal numbers it is found with probability 0.99 where they are alone,
    0.93 among 200 random parameters. Of a tensor Kolmogorov-Smirnov takes at most 131072 numbers,
    evenly. What rounding to the dtype explains is no fault, and neither are the coarse uniform
    numbers that torch draws in 16 bits.

    Examples
    --------
    >>> import torch, varprop.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.Linear(256, 256))
    >>> _ = varprop.torch.init_(model, "he_normal", seed=1)
    >>> varprop.torch.audit(model, "he_normal").ok
    True
    >>> with torch.no_grad():
    ...     _ = model[1].weight.mul_(1.05)
    >>> print(varprop.torch.audit(model, "he_normal").failures[0])  # doctest: +ELLIPSIS
    1.weight: std 0.0929, declared 0.0884: x 1.05; ...
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    level = _spec.real("level", level)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    given = {} if declared is None else assign(model, declared, "declared")
    subjects = {p.name: Subject.of(p, given.get(p.name)) for p in parameters(model)}
    each = level / max(1, sum(subject.tests for subject in subjects.values()))
    entries = {name: _entry(subject, each) for name, subject in subjects.items()}
    candidates = [subject.candidate() for subject in subjects.values() if subject.is_random]
    for found in duplicates(candidates):
        later, earlier = subjects[found.later], subjects[found.earlier]
        _add_duplicate(entries[found.later], found.words, later.parameter, earlier.parameter)
    return Audit(list(entries.values()), level)


def _entry(subject: Subject, level: float) -> Entry:
    law, numbers, finding = subject.tested(level)
    return Entry(
        name=subject.parameter.name,
        shape=tuple(subject.parameter.tensor.shape),
        dtype=subject.dtype,
        law=law,
        declared=subject.declared,
        count=numbers.count,
        mean=numbers.mean,
        std=numbers.std,
        low=numbers.low,
        high=numbers.high,
        due_mean=finding.due_mean,
        due_std=finding.due_std,
        std_pvalue=finding.std_pvalue,
        ks_pvalue=finding.ks_pvalue,
        problems=finding.problems,
        notes=finding.notes,
    )


def _add_duplicate(entry: Entry, relation: str, later: Parameter, earlier: Parameter) -> None:
    kind = _copying_stack(later, earlier)
    why = "a reused seed, or a copy"
    if kind:
        why = f"nn.{kind} deep-copies its layer, so all its layers start equal"
    # Copied biases of a stack do no harm beside weights that differ: nn.Transformer has them.
    matrices = later.tensor.dim() >= 2 and earlier.tensor.dim() >= 2
    many = entry.law is not None and entry.count >= HEAD
    wrong = matrices or (many and not kind)
    (entry.problems if wrong else entry.notes).append(f"{relation}: {why}")


def _copying_stack(later: Parameter, earlier: Parameter) -> str:
    """Return the class of torch's that made both parameters of one layer, "" where none did."""
    for a in later.places:
        for b in earlier.places:
            common = (x for x, y in zip(a.lineage, b.lineage, strict=False) if x is y)
            stacks = [type(x).__name__ for x in common if isinstance(x, _STACKS)]
            if stacks and _LAYER.sub("", a.name) == _LAYER.sub("", b.name):
                return stacks[-1]
    return ""
