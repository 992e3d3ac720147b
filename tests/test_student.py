"""Student's t against SciPy, the exact cases of one and two degrees of freedom, and the normal."""

import math

import pytest
from scipy import stats

from varprop._student import critical


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 19, 49, 50, 99, 999, 1000, 1001, 10**6])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999])
def test_agrees_with_scipy(level, freedom):
    expected = stats.t.isf((1 - level) / 2, freedom)
    assert critical(level, freedom) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.95, 0.999])
def test_closed_forms(level):
    cauchy = math.tan(math.pi * level / 2)
    assert critical(level, 1) == pytest.approx(cauchy, rel=1e-12)
    assert critical(level, 2) == pytest.approx(level * math.sqrt(2 / (1 - level**2)), rel=1e-12)


def test_ends_of_the_range():
    assert critical(1e-12, 5) > 0
    assert critical(1 - 1e-9, 1) == pytest.approx(2e9 / math.pi, rel=1e-6)
    assert critical(0.95, 10**15) == pytest.approx(stats.norm.isf(0.025), rel=1e-12)
