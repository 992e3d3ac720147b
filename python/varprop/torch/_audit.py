"""Whether every parameter of a module has the law it should: the audit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from varprop import _spec
from varprop._draw import Draw
from varprop._laws import Law
from varprop._laws_whole import DeltaOrthogonal, Orthogonal, Sparse
from varprop.torch import _audit_table, _door, _shards, _whole
from varprop.torch._defaults import defaults
from varprop.torch._duplicates import Candidate, Duplicate, duplicates
from varprop.torch._fit import Finding, degenerate, fit, is_random
from varprop.torch._likely import likely
from varprop.torch._measure import Measured, flat, measure, step
from varprop.torch._names import Parameter, parameters
from varprop.torch._rules import Laws, assign

if TYPE_CHECKING:
    from pandas import DataFrame

_STACKS = (nn.TransformerEncoder, nn.TransformerDecoder)


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
            raise AssertionError(f"{_audit_table.summary(self)}\n\n{self}")

    def to_dataframe(self) -> DataFrame:
        """Return one row for each parameter.

        Needs pandas: ``pip install "varprop[dataframe]"``.
        """
        return _audit_table.dataframe(self)

    def __str__(self) -> str:
        return _audit_table.text(self)

    def __repr__(self) -> str:
        return f"<Audit: {_audit_table.summary(self)}>"

    def _repr_html_(self) -> str:
        return _audit_table.html(self)


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
    The second moment is that of all numbers, against the law's own: chi-square for a normal. A
    std that is off by 5% in a matrix of 256 x 256 is 18 standard errors off for a normal, 29 for a
    uniform; of 100 x 100 numbers it is found with probability 0.97 in a normal. Kolmogorov-Smirnov
    takes at most 131072 numbers of a tensor, evenly. Rounding to the dtype explains as much as it
    can, and so do the coarse uniform numbers that torch draws in 16 bits.

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
    1.weight: std 0.0927, declared 0.0884: x 1.05; ...
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    level = _spec.real("level", level)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    given = {} if declared is None else assign(model, declared, "declared")
    subjects = [_Subject.of(parameter, given) for parameter in parameters(model)]
    tests = sum(subject.tests for subject in subjects)
    entries = {s.parameter.name: s.entry(level / max(1, tests)) for s in subjects}
    places = {s.parameter.name: s.parameter for s in subjects}
    for found in duplicates([s.candidate for s in subjects if s.is_random]):
        _add_duplicate(entries[found.later], found, places)
    return Audit(list(entries.values()), level)


@dataclass
class _Subject:
    """A parameter with the laws that it may have, one of which it has to."""

    parameter: Parameter
    local: torch.Tensor
    dtype: str
    shape: tuple[int, ...]  # of our layout, of the whole of which the local tensor is a part
    laws: list[Law]
    draws: list[Draw | None]
    declared: bool

    @classmethod
    def of(cls, parameter: Parameter, given: dict[str, Law]) -> _Subject:
        name, tensor = parameter.name, parameter.tensor
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name!r} has no shape yet: call the lazy module once")
        if _shards.is_meta(tensor):
            raise ValueError(f"parameter {name!r} is on the meta device: it has no numbers yet")
        dtype = _door.kind(tensor, name)
        local, part = _shards.held(tensor, name)
        shape = _door.our_shape(tuple(tensor.shape))
        laws = [given[name]] if name in given else defaults(parameter)
        try:
            draws = [law.compile(shape) if tensor.numel() else None for law in laws]
        except ValueError as error:
            raise ValueError(f"parameter {name!r}: {error}") from None
        if part is not None and None in draws:  # the structure is that of the whole
            laws, draws = [], []
        return cls(parameter, local, dtype, shape, laws, draws, name in given)

    @property
    def tests(self) -> int:
        """How many tests at the level there are."""
        sparse = (isinstance(_whole.factored(law)[0], Sparse) for law in self.laws)
        drawn = (draw is not None and is_random(draw) for draw in self.draws)
        return 2 * (sum(sparse) + sum(drawn)) if self.local.numel() else 0

    @property
    def is_random(self) -> bool:
        """Whether its numbers should be no other parameter's."""
        if not self.laws:
            return True
        formed = (Orthogonal, DeltaOrthogonal, Sparse)
        return any(
            isinstance(_whole.factored(law)[0], formed) if draw is None else is_random(draw)
            for law, draw in zip(self.laws, self.draws, strict=True)
        )

    @property
    def parts(self) -> list[NDArray[Any]]:
        """The numbers, without the row of an embedding that pads where it is zero."""
        owner = self.parameter.places[0].owner
        row = getattr(owner, "padding_idx", None)
        table = isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) and row is not None
        if not table or len(self.local) != self.parameter.tensor.shape[0]:
            return [flat(self.local)]
        if bool((self.local[row] != 0).any()):
            return [flat(self.local)]
        kept = (self.local[:row], self.local[row + 1 :])
        return [flat(part) for part in kept if part.numel()]

    @property
    def candidate(self) -> Candidate:
        """The same for the search of duplicates."""
        numbers = max(self.parts, key=len, default=np.empty(0))
        shape = tuple(self.local.shape) if len(numbers) == self.local.numel() else ()
        drawn = [draw for draw in self.draws if draw is not None]
        centre = drawn[0].mean if drawn else 0.0
        if drawn and drawn[0].distribution == "uniform":
            centre = 0.5 * (drawn[0].low + drawn[0].high)
        return Candidate(self.parameter.name, numbers, self.dtype, centre, shape)

    def entry(self, level: float) -> Entry:
        """Test the numbers against each law, and take the best."""
        numbers = measure(self.parts, self.dtype)
        due = "declared" if self.declared else "torch's default"
        findings = [
            self._finding(law, draw, numbers, level, due)
            for law, draw in zip(self.laws, self.draws, strict=True)
        ] or [_unknown(numbers)]
        best = min(findings, key=lambda found: (len(found.problems), -found.pvalue))
        law = self.laws[findings.index(best)] if self.laws else None
        return Entry(
            name=self.parameter.name,
            shape=tuple(self.parameter.tensor.shape),
            dtype=self.dtype,
            law=law,
            declared=self.declared,
            count=numbers.count,
            mean=numbers.mean,
            std=numbers.std,
            low=numbers.low,
            high=numbers.high,
            due_mean=best.due_mean,
            due_std=best.due_std,
            std_pvalue=best.std_pvalue,
            ks_pvalue=best.ks_pvalue,
            problems=best.problems,
            notes=best.notes,
        )

    def _finding(
        self, law: Law, draw: Draw | None, numbers: Measured, level: float, due: str
    ) -> Finding:
        if numbers.count == 0:
            return Finding(notes=["empty"])
        finding = self._whole(law, numbers, level, due) if draw is None else fit(
            draw, numbers, level, due
        )
        if finding.problems and math.isfinite(numbers.std):
            looks = likely(numbers, self.shape)
            clipped = any("clipped" in problem for problem in finding.problems)
            if looks and not clipped:
                finding.problems.append(f"looks like {looks}")
        return finding

    def _whole(self, law: Law, numbers: Measured, level: float, due: str) -> Finding:
        if problems := degenerate(numbers):
            return Finding(problems)
        array = _door.numbers(self.local.detach().cpu())
        from varprop.torch._measure import real

        ours = real(array, self.dtype).transpose(_door.our_order(array.ndim))
        finding = Finding(_whole.check(law, ours, step(self.dtype)))
        inner, factor = _whole.factored(law)
        if isinstance(inner, Sparse) and not finding.problems:
            rest = np.ascontiguousarray(ours[ours != 0])
            kind = "float32" if self.dtype == "bfloat16" else self.dtype
            return fit(Draw("normal", 0.0, inner.std * factor), measure([rest], kind), level, due)
        return finding


def _unknown(numbers: Measured) -> Finding:
    """Look at numbers of no known law: only NaN and infinities are wrong for certain."""
    found = degenerate(numbers)
    wrong = bool(numbers.nan or numbers.infinite)
    return Finding(problems=found if wrong else [], notes=[] if wrong else found)


def _add_duplicate(entry: Entry, found: Duplicate, places: dict[str, Parameter]) -> None:
    later, earlier = places[found.later], places[found.earlier]
    kind = _copying_stack(later, earlier)
    matrices = later.tensor.dim() >= 2 and earlier.tensor.dim() >= 2
    if kind:
        words = f"{found.words}: nn.{kind} deep-copies its layer, so all its layers start equal"
    else:
        words = f"{found.words}: a reused seed, or a copy"
    # Copied biases of a stack do no harm beside weights that differ: so nn.Transformer is.
    if matrices or (entry.law is not None and entry.count >= 16 and not kind):
        entry.problems.append(words)
    else:
        entry.notes.append(words)


def _copying_stack(later: Parameter, earlier: Parameter) -> str:
    """Return the class of torch's that made both parameters of one layer, "" where none did."""
    for a in later.places:
        for b in earlier.places:
            common = (x for x, y in zip(a.lineage, b.lineage, strict=False) if x is y)
            stacks = [type(x).__name__ for x in common if isinstance(x, _STACKS)]
            if stacks and a.attribute == b.attribute:
                return stacks[-1]
    return ""
