"""Which well-known law numbers look like, where they lack the one they should have."""

from __future__ import annotations

import math
from functools import lru_cache

from varprop import initializers
from varprop._draw import Draw
from varprop._laws import STD_CUT_AT_2, Law, Shape
from varprop.torch._audit.fit import out_of_bounds, pvalues
from varprop.torch._audit.measure import Measured

_LEAST = 1e-3  # p-value of a law that numbers may be of
_FEWEST = 200  # numbers that tell laws apart

_NAMES = {
    "torch_linear": "kaiming_uniform(a=sqrt(5)), torch's of Linear",
    "kaiming_uniform": "kaiming_uniform",
    "kaiming_normal": "kaiming_normal",
    "kaiming_uniform(mode='fan_out')": "kaiming_uniform(mode='fan_out')",
    "kaiming_normal(mode='fan_out')": "kaiming_normal(mode='fan_out')",
    "xavier_uniform": "xavier_uniform",
    "xavier_normal": "xavier_normal",
    "lecun_uniform": "lecun_uniform",
    "lecun_normal": "lecun_normal, truncated",
    "he_normal": "he_normal, truncated",
    "glorot_normal": "glorot_normal, truncated",
    "variance_scaling(1.0, 'fan_in', 'untruncated_normal')": "normal(std=1/sqrt(fan_in))",
    "normal(std=1.0)": "normal(std=1)",
    "normal(std=0.02)": "normal(std=0.02)",
    "normal(std=0.01)": "normal(std=0.01)",
    "keras_truncated_normal(stddev=0.02)": "truncated_normal(std=0.02) cut at 2 std",
    "keras_truncated_normal(stddev=1.0)": "trunc_normal(std=1)",
    "random_normal": "Keras's random_normal",
    "random_uniform": "Keras's random_uniform",
    "uniform(low=0.0, high=1.0)": "uniform(0, 1)",
}


@lru_cache
def _catalogue() -> list[tuple[str, Law]]:
    return [(words, initializers.resolve(text)) for text, words in _NAMES.items()]


def likely(numbers: Measured, shape: Shape) -> str:
    """Return the law of a small catalogue that fits best, or a family that fits; "" if none does.

    Parameters
    ----------
    shape : tuple of int
        Of our layout, for fans.
    """
    if numbers.count < _FEWEST or not 0.0 < numbers.std < math.inf:
        return ""
    fits = []
    for words, law in _catalogue():
        try:
            draw = law.compile(shape)
        except ValueError:  # it has no fans
            continue
        if draw is not None and (p := _fits(draw, numbers)) > _LEAST:
            fits.append((p, words))
    if fits:
        return max(fits, key=lambda fit: fit[0])[1]
    mean = numbers.mean if abs(numbers.mean) > 6.0 * numbers.std / numbers.count**0.5 else 0.0
    half = max(abs(numbers.low - mean), abs(numbers.high - mean))
    around = f", mean={mean:.3g}" if mean else ""
    families = {
        f"normal(std={numbers.std:.3g}{around})": Draw("normal", mean, numbers.std),
        f"uniform({mean - half:.3g}, {mean + half:.3g})": Draw(
            "uniform", low=mean - half, high=mean + half
        ),
        f"a normal truncated at 2 std, of std {numbers.std:.3g} after the cut{around}": Draw(
            "truncated_normal", mean, numbers.std / STD_CUT_AT_2, -2.0, 2.0
        ),
    }
    best = max(families, key=lambda words: _fits(families[words], numbers))
    return best if _fits(families[best], numbers) > _LEAST else ""


def _fits(draw: Draw, numbers: Measured) -> float:
    return 0.0 if out_of_bounds(draw, numbers) else min(pvalues(draw, numbers))
