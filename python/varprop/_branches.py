"""How branches make the sums of a residual network grow, and at which scale by little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from varprop.layers import Normalization

if TYPE_CHECKING:
    from varprop.run import Run


@dataclass(frozen=True)
class Branches:
    """Of each block what there is to know of the growth that its branch brings.

    Decimal logarithms of the mean squares of branch and skip, the share of the branch's mean in
    that, and whether the branch begins with a normalization.
    """

    blocks: list[tuple[float, float, float, bool]]

    @classmethod
    def of(cls, run: Run) -> Branches:
        """Return what a run measured."""
        steps = run.network.steps
        signal = run.activations.per_trial
        logs = signal.log10_second_moment.mean(axis=0)
        shares = np.mean(1.0 - 10.0 ** (signal.log10_var - signal.log10_second_moment), axis=0)
        found = []
        for position, step in enumerate(steps):
            if step.skip is None or step.depth:
                continue
            before = logs[step.skip] if step.skip >= 0 else 0.0
            share = float(np.clip(shares[position - 1], 0.0, 1.0))
            normed = isinstance(steps[step.skip + 1].layer, Normalization)
            found.append((float(logs[position - 1]), float(before), share, normed))
        return cls(found)

    def growth(self, scale: float, skip: float) -> float:
        """Return the natural logarithm of the mean square at the end over that at the start."""
        _, first, _, _ = self.blocks[0]
        logarithm, mean, spread = 0.0, 0.0, 1.0
        for branch, before, share, normed in self.blocks:
            square = 10.0 ** (branch - first) / math.exp(logarithm)
            if not normed:  # it grows as what enters it
                square = 10.0 ** (branch - before)
            mean = skip * mean + scale * math.sqrt(share * square)
            spread = skip**2 * spread + scale**2 * (1.0 - share) * square
            whole = mean**2 + spread
            logarithm += math.log(whole)
            mean, spread = mean / math.sqrt(whole), spread / whole
        return logarithm

    def scale(self, skip: float) -> float:
        """Return the scale at which the mean square grows e-fold, 0 if there is none."""
        low, high = math.log(1e-6), math.log(1e6)
        if self.growth(math.exp(low), skip) > 1.0:
            return 0.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            small = self.growth(math.exp(middle), skip) < 1.0
            low, high = (middle, high) if small else (low, middle)
        return math.exp(low)
