"""A parameter under audit: the laws that it may have, and the tests of its numbers against them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from varprop._draw import Draw
from varprop._laws import Law
from varprop._laws_whole import DeltaOrthogonal, Orthogonal, Sparse
from varprop.torch import _door, _shards
from varprop.torch._audit import whole
from varprop.torch._audit.duplicates import Candidate
from varprop.torch._audit.fit import Finding, alike, fit, is_random, not_finite
from varprop.torch._audit.goodness import moments
from varprop.torch._audit.likely import likely
from varprop.torch._audit.measure import Measured, flat, measure, real
from varprop.torch._defaults import defaults
from varprop.torch._names import Parameter


@dataclass
class Subject:
    """A parameter with the laws that it may have, one of which it has to.

    Attributes
    ----------
    local : Tensor
        The part of it that this process holds.
    shape : tuple of int
        The whole's, of our layout.
    laws : list of Law
        None where they are unknown; several where the parameter is tied.
    draws : list of Draw or None
        What each asks for; None where it is formed whole.
    declared : bool
        Whether the law is the user's.
    """

    parameter: Parameter
    local: torch.Tensor
    dtype: str
    shape: tuple[int, ...]
    laws: list[Law]
    draws: list[Draw | None]
    declared: bool

    @classmethod
    def of(cls, parameter: Parameter, given: Law | None) -> Subject:
        """Find the laws of a parameter: the one that is given, or torch's defaults."""
        name, tensor = parameter.name, parameter.tensor
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name!r} has no shape yet: call the lazy module once")
        if _shards.is_meta(tensor):
            raise ValueError(f"parameter {name!r} is on the meta device: it has no numbers yet")
        dtype = _door.kind(tensor, name)
        local, _ = _shards.held(tensor, name)
        shape = _door.our_shape(tuple(tensor.shape))
        laws = defaults(parameter) if given is None else [given]
        try:
            draws = [law.compile(shape) if tensor.numel() else None for law in laws]
        except ValueError as error:
            raise ValueError(f"parameter {name!r}: {error}") from None
        if None in draws and local.shape != tensor.shape:  # a shard does not show the structure
            laws, draws = [], []
        return cls(parameter, local.detach(), dtype, shape, laws, draws, given is not None)

    @property
    def tests(self) -> int:
        """How many tests it takes that chance may fail."""
        pairs = zip(self.laws, self.draws, strict=True)
        random = (_is_sparse(law) if draw is None else is_random(draw) for law, draw in pairs)
        return 2 * sum(random) if self.local.numel() else 0

    @property
    def is_random(self) -> bool:
        """Whether its numbers should be no other parameter's."""
        formed = (Orthogonal, DeltaOrthogonal, Sparse)
        pairs = list(zip(self.laws, self.draws, strict=True))
        return not pairs or any(
            isinstance(whole.factored(law)[0], formed) if draw is None else is_random(draw)
            for law, draw in pairs
        )

    def parts(self) -> list[torch.Tensor]:
        """Return the numbers, without the row of an embedding that pads where it is zero."""
        owner = self.parameter.places[0].owner
        row = owner.padding_idx if isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) else None
        unsharded = self.local.shape == self.parameter.tensor.shape
        if row is None or not unsharded or bool((self.local[row] != 0).any()):
            return [self.local]
        return [part for part in (self.local[:row], self.local[row + 1 :]) if part.numel()]

    def candidate(self) -> Candidate:
        """Return it for the search of duplicates."""
        largest = max(self.parts(), key=torch.numel, default=self.local)
        drawn = [draw for draw in self.draws if draw is not None]
        centre = moments(drawn[0])[0] if drawn else 0.0
        shape = tuple(largest.shape) if largest.is_contiguous() else ()
        return Candidate.of(self.parameter.name, shape, self.dtype, _loader(largest), centre)

    def tested(self, level: float) -> tuple[Law | None, Measured, Finding]:
        """Test the numbers against each law; return the one that they fit best, and what is found.

        Parameters
        ----------
        level : float
            Of each test.
        """
        numbers = measure([flat(part) for part in self.parts()], self.dtype)
        if not self.laws:
            finding = _of_unknown(numbers)
            if self.declared:
                finding.notes.append("a shard, which does not show the structure of the law")
            return None, numbers, finding
        due = "declared" if self.declared else "torch's default"
        tried = [
            (law, self._against(law, draw, numbers, level, due))
            for law, draw in zip(self.laws, self.draws, strict=True)
        ]
        law, best = min(tried, key=lambda pair: (len(pair[1].problems), -pair[1].pvalue))
        told = any("of the numbers are" in problem for problem in best.problems)
        fits = best.std_pvalue is not None and best.pvalue >= level  # but for single numbers
        if best.problems and not told and not fits and (looks := likely(numbers, self.shape)):
            best.problems.append(f"looks like {looks}")
        return law, numbers, best

    def _against(
        self, law: Law, draw: Draw | None, numbers: Measured, level: float, due: str
    ) -> Finding:
        if numbers.count == 0 or not_finite(numbers):
            return Finding(not_finite(numbers), notes=[] if numbers.count else ["empty"])
        if draw is not None:
            return fit(draw, numbers, level, due)
        array = real(_door.numbers(self.local.cpu()), self.dtype)
        ours = array.transpose(_door.our_order(array.ndim))
        finding = Finding(whole.check(law, ours, numbers.step))
        if _is_sparse(law) and not finding.problems:
            rest = measure([np.ascontiguousarray(ours[ours != 0])], ours.dtype.name)
            rest = replace(rest, step=numbers.step, least=numbers.least)
            return fit(whole.normal_part(law), rest, level, due)
        return finding


def _loader(tensor: torch.Tensor) -> Callable[[], NDArray[Any]]:
    return lambda: flat(tensor)


def _is_sparse(law: Law) -> bool:
    return isinstance(whole.factored(law)[0], Sparse)


def _of_unknown(numbers: Measured) -> Finding:
    """Look at numbers of no known law: only NaN and infinities are wrong for certain."""
    return Finding(not_finite(numbers), alike(numbers) if numbers.count > 1 else [])
