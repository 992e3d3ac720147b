"""Whether a run has the second moments that theory gives its network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from varprop import _table
from varprop._table import Column
from varprop.theory import _exact
from varprop.theory._expected import of_inputs, second_moments
from varprop.theory._propagate import Propagation, propagate
from varprop.theory.gaussian import Array

if TYPE_CHECKING:
    from varprop.run import Run

LEVEL = 0.001  # probability that a sound run is said to disagree
_SIGNALS = ("preactivations", "activations", "gradients")
_WORDS = {"preactivations": "pre-activations"}
_LN10 = math.log(10.0)


@dataclass(frozen=True, eq=False)
class Beside:
    """A signal's second moment in each layer, measured and in theory: arrays of shape (layers,).

    Attributes
    ----------
    layer_names : tuple of str
    measured : ndarray
        Mean over trials of log10_second_moment.
    theory : ndarray
        What that should be, given the spread of the trials.
    error : ndarray
        Standard error of the difference: of the trials, and what theory leaves open.
    doubt : ndarray
        What theory leaves open, which is in the error: by width, by inputs, by logarithms that are
        not normal.
    z : ndarray
        The difference in standard errors, as the quantile of a standard normal that is as
        improbable as Student's t of so few trials; at most 37 in size. NaN where a trial's signal
        is zero or out of range.
    """

    layer_names: tuple[str, ...]
    measured: Array
    theory: Array
    error: Array
    doubt: Array
    z: Array

    @property
    def matters(self) -> Array:
        """Whether the doubt is more than half of the trials' standard error, layer by layer."""
        with np.errstate(invalid="ignore"):
            return np.asarray(math.sqrt(5.0) * self.doubt > self.error)


@dataclass(frozen=True, eq=False)
class Agreement:
    """A run beside the theory of its network; see :meth:`varprop.Run.theory`. Printed, a table.

    Attributes
    ----------
    propagation : Propagation
        The infinite width's moments, for inputs of the mean square of the run's.
    exact : bool
        Whether the expected second moments are known at every width, not to first order in it.
    preactivations, activations : Beside
    gradients : Beside or None
        None without a backward pass, and for other losses than "gaussian".
    """

    propagation: Propagation
    exact: bool
    preactivations: Beside
    activations: Beside
    gradients: Beside | None

    @property
    def comparisons(self) -> int:
        """How many z there are."""
        return sum(int(np.isfinite(beside.z).sum()) for _, beside in self._signals())

    @property
    def bound(self) -> float:
        """The largest |z| that agrees.

        One of all z is beyond it in one of a thousand sound runs, or in fewer (Bonferroni).
        """
        return -float(special.ndtri(0.5 * LEVEL / max(1, self.comparisons)))

    @property
    def largest(self) -> tuple[str, str, float] | None:
        """Signal, layer and z of the largest |z|; None where there is none."""
        found = [
            (abs(z), signal, name, z)
            for signal, beside in self._signals()
            for name, z in zip(beside.layer_names, beside.z.tolist(), strict=True)
            if not math.isnan(z)
        ]
        return max(found)[1:] if found else None

    @property
    def most_open(self) -> tuple[str, str, float] | None:
        """Signal, layer and factor that theory is known to, where that is worst and matters."""
        found = [
            (doubt, signal, name)
            for signal, beside in self._signals()
            for name, doubt, z, matters in zip(
                beside.layer_names, beside.doubt.tolist(), beside.z, beside.matters, strict=True
            )
            if matters and not math.isnan(z)
        ]
        if not found:
            return None
        doubt, signal, name = max(found)
        return signal, name, 10.0 ** min(doubt, 300.0)

    @property
    def agrees(self) -> bool:
        """Whether no |z| is beyond the bound."""
        return self.largest is None or abs(self.largest[2]) <= self.bound

    @property
    def sentence(self) -> list[str]:
        """The finding in phrases."""
        if self.largest is None:
            return ["theory: nothing to compare, signals are zero or out of range"]
        signal, name, z = self.largest
        of, z = f"{_WORDS.get(signal, signal)} of {name}", round(z, 1) + 0.0
        if self.agrees:
            return [f"theory: agrees, of {self.comparisons} z the largest is {z:.1f} ({of})"]
        beside: Beside = getattr(self, signal)
        at = beside.layer_names.index(name)
        return [
            f"theory: disagrees, of {self.comparisons} z the largest is {z:.1f}",
            f"{of} have log10 {beside.measured[at]:.4f}",
            f"theory {beside.theory[at]:.4f}",
        ]

    @property
    def key(self) -> list[str]:
        """What z is, in phrases."""
        over = ["z: standard errors from log10 to that of theory"]
        if self.most_open is not None:
            signal, name, factor = self.most_open
            of = f"{_WORDS.get(signal, signal)} of {name}"
            over = [
                "z: log10 less theory's, over its standard error and what theory leaves open",
                f"here up to a factor {max(factor, 1.01):.3g} ({of})",
            ]
        return [
            *over,
            f"sound runs have one over {self.bound:.1f} once in {1 / LEVEL:g}",
        ]

    def _signals(self) -> Iterator[tuple[str, Beside]]:
        for signal in _SIGNALS:
            beside = getattr(self, signal)
            if beside is not None:
                yield signal, beside

    def __repr__(self) -> str:
        verdict = "agrees" if self.agrees else "disagrees"
        return f"<Agreement: {verdict}, {self.comparisons} z within {self.bound:.1f}>"

    def __str__(self) -> str:
        from varprop._heading import wrapped
        from varprop._numerals import deviations, known

        names = self.preactivations.layer_names
        rows = _table.shown(len(names), None)
        columns = [
            Column(_WORDS.get(signal, signal)[:-1], title, cells)
            for signal, beside in list(self._signals())[-2:]
            for title, cells in (
                ("log10", known(beside.measured)),
                ("theory", known(beside.theory)),
                ("z", deviations(beside.z)),
            )
        ]
        first, *others = (
            c._replace(cells=[_table.DOTS if i is None else c.cells[i] for i in rows])
            for c in [Column("", "layer", list(names)), *columns]
        )
        return "\n".join(
            [*_table.lines(first, others), "", *wrapped(self.sentence), *wrapped(self.key)]
        )


def agreement(run: Run) -> Agreement:
    """Return a run beside theory; see :meth:`varprop.Run.theory`."""
    if run.trials < 2:
        raise ValueError("theory needs the spread of at least two trials, got a run of one")
    net, inputs = run.network, of_inputs(run)
    found = propagate(net, inputs.mean, None)
    expected = second_moments(net, found, inputs)
    law = _exact.chain(net, inputs.features)
    digits = 1e-15 if run.dtype == "float64" else 1e-6
    rounding = digits * np.arange(1, len(net.steps) + 1)
    sides = {}
    for signal, (log, doubt) in expected.items():
        if signal == "gradients" and run.loss != "gaussian":
            continue
        logs = getattr(run, signal).per_trial.log10_second_moment * _LN10
        single = None if law is None else getattr(law, signal)
        if single is not None and signal != "gradients":
            single = single.plus(inputs.logarithm)
        whole = law is not None and law.gaussian and run.batch == 1
        doubt = np.hypot(doubt, rounding)
        sides[signal] = _beside(net.layer_names, logs, log, doubt, single, run.batch == 1, whole)
    exact = all((doubt == 0.0).all() for _, doubt in expected.values())
    return Agreement(
        found, exact, sides["preactivations"], sides["activations"], sides.get("gradients")
    )


def _beside(
    names: tuple[str, ...],
    logs: Array,
    expected: Array,
    doubt: Array,
    single: _exact.Logarithm | None,
    alone: bool,
    whole: bool,
) -> Beside:
    """Compare the mean over trials of logarithms with theory.

    Theory has the mean of x, not that of ln x, which is less: by half the variance of ln x, where
    this is normal. The trials tell the variance, whatever the batch. The law of one input tells
    how far from normal ln x is, if the examples of the batch go together; of one input to Gaussian
    weights (`whole`) it has the mean of ln x itself.
    """
    measured, theory, error, open_to, z = np.full((5, len(names)), math.nan)
    with np.errstate(invalid="ignore"):
        measured[:] = logs.mean(axis=0)
    for i, x in enumerate(logs.T):
        log, open_ = expected[i], doubt[i]
        if single is not None and alone:
            x, log = x[~np.isneginf(x)], log - single.alive[i]
        if len(x) < 2 or not np.isfinite(x).all():
            continue
        mean, off, variance = x.mean(), x - x.mean(), x.var(ddof=1)
        if single is not None and whole:
            log = single.mean[i]
        else:
            log -= 0.5 * variance
            unlike = np.mean(off**3) / 6.0  # how far from normal ln x is, for all that is known
            if single is not None:
                skew = single.skew[i] * min(1.0, variance / single.variance[i])
                log += skew
                unlike = skew if alone else unlike + skew
            open_ = math.hypot(open_, unlike)
            # A variance that few trials find too small makes theory's mean and its error wrong.
            careful = variance * (1.0 + 2.0 * math.sqrt(2.0 / (len(x) - 1)))
            of_normal = variance + 0.5 * careful**2
            off = off + 0.5 * (off**2 - np.mean(off**2))
            variance = max(off.var(ddof=1), of_normal)
        measured[i], theory[i] = mean, log
        error[i], open_to[i] = math.sqrt(variance / len(x) + open_**2), open_
        if math.isfinite(log) and math.isfinite(error[i]):
            z[i] = _normal((mean - log) / error[i], len(x) - 1)
    return Beside(names, measured / _LN10, theory / _LN10, error / _LN10, open_to / _LN10, z)


def _normal(t: float, freedom: int) -> float:
    """Return the standard normal's quantile that is as improbable as Student's t."""
    tail = max(float(special.stdtr(freedom, -abs(t))), 1e-299)
    return math.copysign(-float(special.ndtri(tail)), t)
