"""Minimax polynomials of the kernels: computes them and writes cpp/kernels/coefficients.inl."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpmath import mp, mpf
from numpy.typing import NDArray

Array = NDArray[np.floating]
Real = list[mpf]

OUTPUT = Path(__file__).parents[1] / "cpp" / "kernels" / "coefficients.inl"
GRID = 25  # grid points for each coefficient: they find the extrema to a part in 10^3
mp.dps = 80


class Format:
    """A binary format: rounding to it, and on arrays what the kernels compute in it."""

    def __init__(self, suffix: str, dtype: type[np.floating]) -> None:
        self.suffix, self.dtype, self.precision = suffix, dtype, np.finfo(dtype).nmant + 1

    def round(self, value: mpf) -> mpf:
        """Round to nearest."""
        with mp.workprec(self.precision):
            return +value

    def literal(self, value: mpf) -> str:
        """Write a value of the format for C++."""
        text = f"{float(value):.9g}" if self.dtype is np.float32 else repr(float(value))
        text += "" if any(c in text for c in ".e") else ".0"
        return text + "f" if self.dtype is np.float32 else text

    def fma(self, a: Array, b: Array, c: Array) -> Array:
        """Compute a b + c with one rounding (a rare tie may break wrongly)."""
        if self.dtype is np.float32:
            return (a.astype(np.float64) * b + c).astype(np.float32)
        (a1, a2), (b1, b2) = halves(a), halves(b)
        product = a * b
        low = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
        total = product + c
        rest = total - product
        return total + (((product - (total - rest)) + (c - rest)) + low)

    def horner(self, coefficients: Real, t: Array) -> Array:
        """Evaluate a polynomial by Horner's rule, lowest degree first."""
        value = np.full_like(t, float(coefficients[-1]))
        for coefficient in reversed(coefficients[:-1]):
            value = self.fma(value, t, self.dtype(coefficient))
        return value


def halves(a: Array) -> tuple[Array, Array]:
    """Split float64 after Veltkamp into halves whose products are exact."""
    scaled = a * 134217729.0
    high = scaled - (scaled - a)
    return high, a - high


FORMATS = (Format("F32", np.float32), Format("F64", np.float64))


@dataclass(frozen=True)
class Form:
    """head + x^power R(t), where t = sign (x^argument - centre), and head is x or 0."""

    power: int
    head: bool = False
    argument: int = 1
    centre: float = 0.0
    sign: int = 1


RATIO_FORM = "x N(t) / D(t), t = 1 - x^2"
CENTRAL_FORM = "x N(t) / D(t), t = (27/64)^2 - x^2"
TAIL_FORM = "N(t) / D(t), t = x - 9/4"
FORMS = {
    "P(x^2)": Form(0, argument=2),
    "x P(x)": Form(1),
    "x P(x - 2)": Form(1, centre=2.0),
    "x P(x^2)": Form(1, argument=2),
    "x + x^2 P(x)": Form(2, head=True),
    "x + x^3 P(x^2)": Form(3, head=True, argument=2),
    RATIO_FORM: Form(1, argument=2, centre=1.0, sign=-1),
    CENTRAL_FORM: Form(1, argument=2, centre=(27 / 64) ** 2, sign=-1),
    TAIL_FORM: Form(0, centre=2.25),
}


@dataclass(frozen=True)
class Kernel:
    """A function, the form that computes it, and for float32 and float64 how well."""

    name: str
    text: str
    function: Callable[[mpf], mpf]
    span: tuple[mpf, mpf]
    formula: str  # of FORMS
    bits: tuple[float, float]  # the error allowed is 2^-bits tolerance(x)
    counts: tuple[int, int]  # of the coefficients of P or N; none: no array
    below: tuple[int, int] = (0, 0)  # of the coefficients of D after its first, 1
    first: tuple[int, ...] = ()  # the first coefficient, where it has to be exact
    tolerance: Callable[[mpf], mpf] | None = None  # by default |f(x)|
    error: str = "relative error"

    def bound(self, x: mpf, value: mpf) -> mpf:
        """Give the unit of the error at x, where f(x) = value."""
        return self.tolerance(x) if self.tolerance else abs(value)

    def evaluate(self, form: Format, above: Real, below: Real, x: Array) -> Array:
        """Compute f(x) as a kernel does in the format."""
        shape, centre = FORMS[self.formula], form.dtype(FORMS[self.formula].centre)
        square = shape.argument == 2
        t = form.fma(shape.sign * x, x, -shape.sign * centre) if square else x - centre
        ratio = form.horner(above, t)
        if len(below) > 1:
            ratio = ratio / form.horner(below, t)
        if shape.head:
            return form.fma(x**2 if shape.power == 2 else x**2 * x, ratio, x)
        return x * ratio if shape.power else ratio


def remez(t: Real, target: Real, weight: Real, above: int, below: int = 0) -> tuple[Real, Real]:
    """Find N and D = 1 + ... of the least max |weight (N(t) / D(t) - target)|.

    N has `above` coefficients, and D has `below` after its first.
    """
    count = above + below
    chosen = [round((len(t) - 1) * i / count) for i in range(count + 1)]
    best: tuple[mpf, Real, Real] = (mp.inf, [], [])
    level, d = mpf(0), [mpf(1)] * len(t)
    for _ in range(40):
        for _ in range(10):  # N - (target + level / weight) D = 0, linear but for level D
            system, right = mp.matrix(count + 1, count + 1), mp.matrix(count + 1, 1)
            for row, i in enumerate(chosen):
                signed = (-1) ** row * level
                powers = [weight[i] * t[i] ** k for k in range(max(above, below + 1))]
                system[row, :above] = mp.matrix([powers[:above]])
                for k in range(below):
                    system[row, above + k] = -(target[i] + signed / weight[i]) * powers[k + 1]
                system[row, count] = -((-1) ** row) * d[i]
                right[row] = weight[i] * target[i] + signed * (1 - d[i])
            solution = list(mp.lu_solve(system, right))
            numerator, denominator = solution[:above], [mpf(1), *solution[above:count]]
            change, level = abs(solution[count] - level), solution[count]
            d = [mp.polyval(denominator[::-1], s) for s in t]
            if not below or change <= abs(level) * mpf("1e-4"):
                break
        ratio = [mp.polyval(numerator[::-1], s) / q for s, q in zip(t, d, strict=True)]
        error = [w * (r - f) for w, r, f in zip(weight, ratio, target, strict=True)]
        largest = max(map(abs, error))
        if largest < best[0] and min(d) > 0:
            best = (largest, numerator, denominator)
        chosen = alternation(error, count + 1)
        if len(chosen) <= count or largest <= abs(level) * mpf("1.001"):
            break
    return best[1], best[2]


def alternation(error: Real, count: int) -> list[int]:
    """Find where the error has its `count` largest extrema of alternating sign, or fewer."""
    runs: list[int] = []
    for i, e in enumerate(error):
        if runs and (error[runs[-1]] > 0) == (e > 0):
            runs[-1] = max(runs[-1], i, key=lambda j: abs(error[j]))
        else:
            runs.append(i)
    while len(runs) > count:
        if len(runs) == count + 1:
            runs.pop(0 if abs(error[runs[0]]) < abs(error[runs[-1]]) else -1)
        else:
            sizes = [abs(error[i]) for i in runs]
            low = min(range(len(runs) - 1), key=lambda j: max(sizes[j], sizes[j + 1]))
            del runs[low : low + 2]
    return runs


def fit(kernel: Kernel, index: int) -> tuple[Real, Real, mpf]:
    """Find N and D in the format and their largest error.

    For a polynomial D is 1, and each coefficient is rounded from a fit to those rounded before.
    """
    form, shape = FORMATS[index], FORMS[kernel.formula]
    above, below = kernel.counts[index], kernel.below[index]
    middle, half = sum(kernel.span) / 2, (kernel.span[1] - kernel.span[0]) / 2
    steps = GRID * (above + below)
    x = [middle - half * mp.cos(mp.pi * i / steps) for i in range(steps + 1)]
    x = [v if abs(v) > mpf("1e-12") else mpf("1e-12") for v in x]  # forms are 0 / 0 at zero
    t = [shape.sign * (v**shape.argument - mpf(shape.centre)) for v in x]
    value = [kernel.function(v) for v in x]
    scale = [v**shape.power for v in x]
    target = [(f - shape.head * v) / s for f, v, s in zip(value, x, scale, strict=True)]
    weight = [abs(s) / kernel.bound(v, f) for s, v, f in zip(scale, x, value, strict=True)]

    def refit(fixed: Real) -> Real:
        """Find the coefficients after the fixed ones."""
        near = max(map(abs, t)) / 100 if fixed else -1  # there the others cannot help
        used = [i for i in range(len(t)) if abs(t[i]) > near]
        power = {i: t[i] ** len(fixed) for i in used}
        rest = [(target[i] - sum(c * t[i] ** k for k, c in enumerate(fixed))) for i in used]
        return remez(
            [t[i] for i in used],
            [r / power[i] for r, i in zip(rest, used, strict=True)],
            [weight[i] * abs(power[i]) for i in used],
            above - len(fixed),
        )[0]

    if below:
        order = sorted(range(len(t)), key=lambda i: t[i])
        fitted = remez(*([s[i] for i in order] for s in (t, target, weight)), above, below)
        numerator, denominator = ([form.round(c) for c in p] for p in fitted)
    else:
        numerator, denominator = [mpf(c) for c in kernel.first], [mpf(1)]
        while len(numerator) < above:
            numerator.append(form.round(refit(numerator)[0]))
    ratio = [mp.polyval(numerator[::-1], s) / mp.polyval(denominator[::-1], s) for s in t]
    error = max(w * abs(r - f) for w, r, f in zip(weight, ratio, target, strict=True))
    if error > mpf(2) ** -kernel.bits[index]:
        raise ArithmeticError(f"{kernel.name}{form.suffix}: {mp.nstr(mp.log(error, 2), 5)}")
    return numerator, denominator, error


def measure(kernel: Kernel, form: Format, above: Real, below: Real) -> mpf:
    """Find the largest error of what the format computes, at many points."""
    x = np.linspace(*map(float, kernel.span), 4001).astype(form.dtype)
    x = x[x != 0]
    worst = mpf(0)
    for a, b in zip(x.tolist(), kernel.evaluate(form, above, below, x).tolist(), strict=True):
        f = kernel.function(mpf(a))
        worst = max(worst, abs(mpf(b) - f) / kernel.bound(mpf(a), f))
    return worst


def write(kernel: Kernel, index: int) -> str:
    """Write the arrays of a kernel in a format, with a comment."""
    form = FORMATS[index]
    above, below, error = fit(kernel, index)
    low, high = (f"{float(v):.5g}" for v in kernel.span)
    errors = (error, measure(kernel, form, above, below))
    bits, computed = (f"2^{float(mp.log(e, 2)):.1f}" for e in errors)
    if kernel.name == "TruncatedNormal" and form.suffix == "F32":
        check_truncated(kernel, above, below)
    lines = [f"// {kernel.text} = {kernel.formula}"]
    lines.append(f"// on [{low}, {high}]: {kernel.error} {bits}, as computed {computed}.")
    type_name = "float" if form.dtype is np.float32 else "double"
    parts = {"Numerator": above, "Denominator": below} if len(below) > 1 else {"": above}
    for part, p in parts.items():
        name = f"k{kernel.name}{part}{form.suffix}"
        print(f"{name:32} {len(p):3} {bits:>8} {computed:>8}", flush=True)
        values = ",".join(f"\n    {form.literal(c)}" for c in p)
        lines.append(f"constexpr {type_name} {name}[] = {{{values}}};")
    return "\n".join(lines) + "\n"


def check_truncated(kernel: Kernel, above: Real, below: Real) -> None:
    """Check all odd multiples of 2^-24 in float32: z < 2, and order but for rounding."""
    u = ((2 * np.arange(2**23) + 1) * 2.0**-24).astype(np.float32)
    z = kernel.evaluate(FORMATS[0], above, below, u)
    fall = float(np.min(np.diff(z)))
    print(f"z < 2 by {(2 - float(z.max())) * 2**23:g} units of 2^-23; least step {fall:g}")
    if z.max() >= 2 or fall < -3e-7:
        raise ArithmeticError("truncated normal out of range or order")


def quantile(s: mpf) -> mpf:
    """Find the z > 0 that a standard normal exceeds with probability exp(-s^2 / 2)."""
    z = s
    for _ in range(100):
        tail = mp.erfc(z / ROOT) / 2
        step = (mp.log(tail) + s * s / 2) * tail / mp.npdf(z)
        z += step
        if abs(step) < mpf("1e-40"):
            break
    return z


Case = tuple[str, Callable[[mpf], mpf]]
ROOT = mp.sqrt(2)
OCTAVE, HALF_OCTAVE = (1 / ROOT - 1, ROOT - 1), (-mp.ln2 / 2, mp.ln2 / 2)
UNIT, HALF, RIGHT = (mpf(0), mpf(1)), (mpf(0), mpf(0.5)), (mpf(0), mp.pi / 2 + mpf("1e-4"))
CENTRE, TAIL = (mpf(0), mpf(27) / 64), (mpf(2.255), mpf(37.65))
NORMAL_LOG: Case = ("-2 ln(1 + x)", lambda x: -2 * mp.log1p(x))
SINE: Case = ("sin(x pi/2)", lambda x: mp.sinpi(x / 2))
COSINE: Case = ("cos(x pi/2)", lambda x: mp.cospi(x / 2))
TRUNCATED: Case = ("sqrt(2) erfinv(x erf(sqrt(2)))", lambda x: ROOT * mp.erfinv(x * mp.erf(ROOT)))
ERFC: Case = ("-ln(erfc(x))", lambda z: -mp.log(mp.erfc(z)))
CENTRAL: Case = ("sqrt(2) erfinv(2 x)", lambda q: ROOT * mp.erfinv(2 * q))
ABSOLUTE = (lambda _: mpf(1), "absolute error")
# Of ln(erfc): an error that is 1 relative to erf, or 4 (float32) or 16 relative to erfc.
ERFC4, ERFC16 = (
    (
        lambda z, ratio=ratio: min(mp.erf(z) / mp.erfc(z), mpf(ratio)),
        f"error relative to erf (of erfc: {ratio} times it)",
    )
    for ratio in (4, 16)
)
NONE = (0, 0)
KERNELS = (
    Kernel("NormalLog", *NORMAL_LOG, OCTAVE, "x P(x)", (22.4, 51), (8, 19), first=(-2,)),
    Kernel("SinQuarter", *SINE, HALF, "x P(x^2)", (23.5, 52.5), (4, 8)),
    Kernel("CosQuarter", *COSINE, HALF, "P(x^2)", (24, 53), (4, 7), NONE, (1,), *ABSOLUTE),
    Kernel("TruncatedNormal", *TRUNCATED, UNIT, RATIO_FORM, (22.5, 48), (5, 9), (4, 9)),
    Kernel("Expm1", "exp(x) - 1", mp.expm1, HALF_OCTAVE, "x + x^2 P(x)", (25, 54), (5, 10)),
    Kernel("Log1p", "ln(1 + x)", mp.log1p, UNIT, "x P(x)", (24, 52), (9, 20)),
    Kernel("Erfc", *ERFC, (mpf(0), mpf(4)), "x P(x - 2)", (23, 0), (11, 0), NONE, (), *ERFC4),
    Kernel("Erfc", *ERFC, (mpf(0), mpf(5.7)), "x P(x - 2)", (0, 50), (0, 28), NONE, (), *ERFC16),
    Kernel("SinPi", "sin(x)", mp.sin, RIGHT, "x + x^3 P(x^2)", (24, 53), (4, 8)),
)
QUANTILES = (
    Kernel("QuantileCentral", *CENTRAL, CENTRE, CENTRAL_FORM, (0, 50), (0, 7), (0, 7)),
    Kernel("QuantileTail", "z(x)", quantile, TAIL, TAIL_FORM, (0, 49), (0, 10), (0, 9)),
)
RECIPE = """\
// The z below which the standard normal has probability p <= 1/2, down to the least normal double:
// where p >= kQuantileSeam: x = p - 1/2, z = x N(t) / D(t) of QuantileCentral,
//   t = fma(-x, x, kQuantileCentralOrigin);
// elsewhere: x = sqrt(-2 ln p), z = -N(t) / D(t) of QuantileTail, t = x - kQuantileTailOrigin.
// No coefficient or t is negative. One division serves both if N and D are selected before it.
constexpr double kQuantileSeam = 0.078125;  // 1/2 - 27/64
constexpr double kQuantileCentralOrigin = 0.177978515625;  // (27/64)^2
constexpr double kQuantileTailOrigin = 2.25;
"""


def main() -> None:
    """Write all arrays."""
    first = """\
// Minimax polynomials, written by tools/polynomials.py: lowest degree first.
#pragma once

namespace {
"""
    arrays = [write(k, i) for k in KERNELS for i in (0, 1) if k.counts[i]]
    quantiles = [write(k, 1) for k in QUANTILES]
    off, on = "// clang-format off\n", "// clang-format on\n\n}  // namespace\n"
    OUTPUT.write_text("\n".join([first, off, *arrays, RECIPE, *quantiles, on]))


if __name__ == "__main__":
    main()
