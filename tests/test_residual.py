"""Residual stacks, with norms before the branch, after the block or none: growth with depth.

The laws are derived here. A block is y = x + b f(x), its branch f ends in a dense layer with fresh
Gaussian weights. Write m and v for mean and variance of x over units, q = m^2 + v, and s^2 = q for
what enters the branch, or 1 past a norm. Then f(x) has mean mu s and variance nu s^2, and

    m' = m + b mu s,   v' = v + b^2 nu s^2,   and past a LayerNorm m' = 0, v' = 1.

Going back, g = g' + b J^T g': weights are independent of what comes from above, and the derivative
of the branch keeps second moments (He's and LeCun's scaling), so the second moment grows by the
factor 1 + b^2; it is 1 + b^2 / v where a norm in the branch divides x by sqrt(v), and
(1 + b^2) / v' where one behind the block divides y. Hence, of blocks with mu = 0, nu = 1:

    no norm     (1 + b^2)^L both ways: 2^L, or e where b^2 = 1 / L
    pre-norm    1 + b^2 L both ways, as the product of 1 + b^2 / (1 + b^2 l) telescopes: linear
    post-norm   1 both ways

and relu at the end of a branch adds mean: post-norm blocks take it off, which shrinks their
variance from 2 to 2 - 1/pi, so that gradients explode at the rate 2 / (2 - 1/pi) = 1.19 a block.
"""

import math

import numpy as np
import pytest
from scipy import special, stats

import varprop as vp

WIDTH, DEPTH, TRIALS = 128, 200, 100


def gaussian(variance):
    return f"normal(std={math.sqrt(variance / WIDTH)!r})"


def dense(activation="linear"):
    return vp.Dense(WIDTH, activation, gaussian(2 if activation == "relu" else 1), None)


# The layers of a branch, and mean and variance of what it makes of a signal of size 1; of relu,
# with z ~ N(0, 2): E relu(z) = 1/sqrt(pi), E relu(z)^2 = 1.
BRANCHES = {
    "linear": ([dense()], 0, 1),
    "relu": ([dense("relu")], 1 / math.sqrt(math.pi), 1 - 1 / math.pi),
    "relu, linear": ([dense("relu"), dense()], 0, 1),
}


def simulated(branch, norm, scale):
    """Return a run of one example a trial: its laws are exact, as examples share the weights."""
    layers, *_ = BRANCHES[branch]
    block = [vp.Residual([vp.LayerNorm(), *layers] if norm == "pre" else layers, scale)]
    if norm == "post":
        block.append(vp.LayerNorm())
    ends = [vp.Scale(1.0)]  # the stream's first and last layer, not one within a branch
    net = vp.Network(WIDTH, [*ends, *block * DEPTH, *ends])
    return vp.simulate(net, 1, trials=TRIALS, seed=7, backward=True)


def law(branch, norm, scale):
    """Return logarithms of the growth forward and back, and of what branches alone add to it."""
    _, mu, nu = BRANCHES[branch]
    mean, variance, back, added = 0.0, 1.0, 0.0, 0.0
    for _ in range(DEPTH):
        entering = mean**2 + variance
        factor = 1 + scale**2 / (variance if norm == "pre" else 1)
        added += math.log(factor)
        back += math.log(factor)
        size = 1 if norm == "pre" else math.sqrt(entering)
        mean += scale * mu * size
        variance += scale**2 * nu * size**2
        if norm == "post":
            back -= math.log(variance)
            mean, variance = 0, 1
    return math.log(mean**2 + variance), back, added


def logarithms(signal):
    """Return natural logarithms of the second moments, (trials, layers)."""
    return signal.per_trial.log10_second_moment * math.log(10)


@pytest.mark.parametrize("scale", [1, DEPTH**-0.5], ids=["1", "1/sqrt(L)"])
@pytest.mark.parametrize("norm", ["none", "pre", "post"])
@pytest.mark.parametrize("branch", BRANCHES)
def test_growth_follows_its_law(branch, norm, scale):
    run = simulated(branch, norm, scale)
    *wanted, added = law(branch, norm, scale)
    forward, back = logarithms(run.activations), logarithms(run.gradients)[:, ::-1]
    for name, found, expected in zip(("forward", "backward"), (forward, back), wanted, strict=True):
        if (branch, norm, name) == ("relu", "none", "backward"):
            # The mean that the branch adds never leaves: the gradient along it grows as the signal
            # does (x . g is the same at both ends of a homogeneous network), and that law, of one
            # direction out of so many, is not the one above.
            continue
        factor = found[:, -1] - found[:, 0]
        # Five standard errors fail once in 10^5; and the mean logarithm of a block lies half the
        # variance of its ratio below the law, which is at most 4 log(1 + r) / n for a branch of r.
        tolerance = 5 * stats.sem(factor) + 2 * added / WIDTH
        assert abs(factor.mean() - expected) < tolerance, name
        direction = run.verdict.details[name]
        assert direction.log10_factor == pytest.approx(factor.mean() / math.log(10))
        assert direction.word == ("exploding" if expected > math.log(10) else "stable")


def test_laws_in_closed_form():
    assert law("linear", "none", 1)[:2] == pytest.approx([DEPTH * math.log(2)] * 2)
    unit = DEPTH**-0.5
    assert law("linear", "none", unit)[:2] == pytest.approx([1, 1], abs=1 / DEPTH)  # (1+1/L)^L
    assert law("linear", "pre", 1)[:2] == pytest.approx([math.log(1 + DEPTH)] * 2)
    assert law("linear", "pre", unit)[:2] == pytest.approx([math.log(2)] * 2)
    assert law("linear", "post", 1)[:2] == pytest.approx([0, 0], abs=1e-12)
    rate = math.log(2 / (2 - 1 / math.pi))
    assert law("relu", "post", 1)[:2] == pytest.approx([0, DEPTH * rate])
    # With 1/sqrt(L), (1 + 1/L)^L over (1 + (1 - 1/pi) / L)^L.
    assert law("relu", "post", unit)[1] == pytest.approx(1 / math.pi, abs=1 / DEPTH)


@pytest.mark.parametrize("scale", [1, DEPTH**-0.5], ids=["1", "1/sqrt(L)"])
def test_without_a_norm_logarithms_are_exact(scale):
    """|x + b W x|^2 / |x|^2 is b^2/n times a noncentral chi^2_n at n/b^2, whatever x was."""
    noncentrality = WIDTH / scale**2
    mixed = np.arange(*stats.poisson.interval(1 - 1e-14, noncentrality / 2))
    share = stats.poisson.pmf(mixed, noncentrality / 2)
    digamma, trigamma = (special.polygamma(k, WIDTH / 2 + mixed) for k in (0, 1))
    mean = share @ digamma
    variance = share @ (trigamma + (digamma - mean) ** 2)
    mean += math.log(2 * scale**2 / WIDTH)
    run = simulated("linear", "none", scale)
    for signal in (run.activations, run.gradients):
        found = logarithms(signal)
        factor = np.abs(found[:, -1] - found[:, 0])  # going back it is the first that is larger
        # Five standard errors: one failure in 10^6.
        assert abs(factor.mean() - DEPTH * mean) < 5 * math.sqrt(DEPTH * variance / TRIALS)


def places(run, *starts):
    """Return the positions of layers of these names that lie in no branch."""
    outer = [(i, name) for i, name in enumerate(run.layer_names) if "." not in name]
    return [i for i, name in outer if name.startswith(starts)]


def test_pre_norm_blocks_are_exact():
    """LN(x) has n for its square, so a branch adds n fresh standard normals, and going back ...

    ... W^T g' has fresh ones but along LN(x), which its Jacobian (the projector P off that and off
    the ones, over sqrt(v)) takes away: E |g|^2 / |g'|^2 = 1 + (1 - 2/n) / v given all of forward.
    """
    run = simulated("linear", "pre", 1)
    stream = places(run, "scale1", "residual")
    forward = logarithms(run.activations)[:, stream]
    # q_l is (1 + l) chi^2_n / n: exact to LayerNorm's eps, far below the standard error.
    wanted = np.log(1 + np.arange(DEPTH + 1)) + special.digamma(WIDTH / 2) + math.log(2 / WIDTH)
    error = math.sqrt(special.polygamma(1, WIDTH / 2) / TRIALS)
    assert np.abs(forward.mean(axis=0) - wanted).max() < 5 * error
    # The ratios less their means are a martingale: variances add up.
    gradients = np.exp(np.diff(-logarithms(run.gradients)[:, stream]))
    inverse = 1 / run.activations.per_trial.var[:, stream[:-1]]
    off = gradients / (1 + (1 - 2 / WIDTH) * inverse) - 1
    variances = (4 * inverse + 2 * inverse**2) / WIDTH / (1 + inverse) ** 2
    assert abs(off.sum()) < 5 * math.sqrt(variances.sum())


def test_post_norm_loses_to_the_projection_alone():
    """A gradient loses 5/(4n) of its second moment in every linear post-norm block of scale 1.

    With g = J^T (v + W^T v), v the gradient by y' = x + W x: v is orthogonal to y', which a norm
    follows, so W^T v + v has no part along x. Off x, v has 1 - 1/(2n) of its square (x lies at 45
    degrees to y'), and W^T v is fresh in n - 1 directions: 2 - 3/(2n) in all. The Jacobian J takes
    off the ones, along which W^T v has 1/n of 2, and divides by the variance of y.
    """
    run = simulated("linear", "post", 1)
    blocks = places(run, "residual")
    ratios = np.exp(np.diff(-logarithms(run.gradients)[:, blocks]))
    found = ratios * run.activations.per_trial.var[:, blocks[:-1]] / 2
    # |v + W^T v|^2 / |v|^2 has variance 6/n; to first order in 1/n, whose square is far below.
    error = math.sqrt(6 / WIDTH) / 2 / math.sqrt(found.size)
    assert abs(found.mean() - (1 - 5 / (4 * WIDTH))) < 5 * error
    assert 5 * error < 5 / (4 * WIDTH)  # the loss is seen
