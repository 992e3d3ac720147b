"""Moments at infinite width: closed forms, fixed points, and simulations of wide networks."""

import math

import numpy as np
import pytest

import varprop as vp
from varprop import theory
from varprop.theory import _law_moments

SIGNALS = ("preactivations", "activations", "gradients")


def normal(sigma, fan_in):
    return vp.Normal(sigma / math.sqrt(fan_in))


# --- closed forms -------------------------------------------------------------------------------


def test_correlations_of_relu():
    found = theory.propagate(vp.mlp([10] * 101, "relu", weight="he_normal"))
    after = found.activations.correlation
    np.testing.assert_allclose(after[:3], [0.31830989, 0.49373109, 0.60482572], atol=6e-9)
    np.testing.assert_allclose(after[[9, 99]], [0.87153551602, 0.99642314668], atol=6e-12)
    np.testing.assert_allclose(found.c[1:], after[:-1], rtol=1e-14)
    for moments in (found.q / 2, found.activations.second_moment, found.chi_1):
        np.testing.assert_allclose(moments, 1.0, rtol=1e-13)
    np.testing.assert_allclose(found.gradients.second_moment, 0.5, rtol=1e-13)
    np.testing.assert_allclose(found.activations.mean, 1 / math.sqrt(math.pi), rtol=1e-13)


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(1.3, 0.3), (2.5, 0.3)])
def test_deep_networks_come_to_the_fixed_points(sigma_w, sigma_b):
    net = vp.mlp([50] * 61, "tanh", normal(sigma_w, 50), vp.Normal(sigma_b))
    found, ends = theory.propagate(net), theory.fixed_points("tanh", sigma_w, sigma_b)
    assert found.q[-1] == pytest.approx(ends.q, rel=1e-12)
    assert found.chi_1[-1] == pytest.approx(ends.chi_1, rel=1e-12)
    # The correlation comes nearer by exp(-1 / xi_c) a layer, gradients by chi_1.
    assert found.c[-1] == pytest.approx(ends.c, abs=2 * math.exp(-60 / ends.xi_c))
    off = np.abs(found.c - ends.c)
    assert off[39] / off[38] == pytest.approx(math.exp(-1 / ends.xi_c), rel=0.02)
    gradients = found.gradients.second_moment
    assert gradients[39] / gradients[40] == pytest.approx(ends.chi_1, rel=1e-6)


def test_gelu_layer_by_layer():
    """Two layers by hand, with the quadrature as the only tool, and a mean from the bias."""
    net = vp.mlp([7, 11, 13], "gelu", "normal(std=0.4)", "constant(0.25)")
    found = theory.propagate(net, q=2.0, c=0.3)
    phi = vp.activations.resolve("gelu")
    q, cross = 7 * 0.16 * 2.0, 7 * 0.16 * 2.0 * 0.3  # variances, about a mean of 1/4
    square = theory.expectation(lambda u: phi.value(u) ** 2, q, 0.25).value
    product = theory.expectation2(phi.value, phi.value, q, cross / q, 0.25).value
    assert found.q[0] == pytest.approx(q + 0.0625)
    assert found.c[0] == pytest.approx((cross + 0.0625) / (q + 0.0625))
    assert found.preactivations.var[0] == pytest.approx(q)
    assert found.activations.second_moment[0] == pytest.approx(square, rel=1e-12)
    assert found.activations.correlation[0] == pytest.approx(product / square, rel=1e-12)
    q2 = 11 * 0.16 * square
    slopes = [theory.expectation(lambda u: phi.derivative(u) ** 2, v, 0.25).value for v in (q, q2)]
    assert found.q[1] == pytest.approx(q2 + 0.0625)
    assert found.gradients.second_moment[1] == pytest.approx(slopes[1], rel=1e-12)
    back = 0.16 * 13 * slopes[1]
    assert found.gradients.second_moment[0] == pytest.approx(back * slopes[0], rel=1e-12)
    by_inputs = 0.16 * 11 * back * slopes[0]
    assert found.input_gradients.second_moment == pytest.approx([by_inputs], rel=1e-12)
    assert found.chi_1 == pytest.approx([7 * 0.16 * slopes[0], 11 * 0.16 * slopes[1]], rel=1e-12)


DEPTH = 50


@pytest.mark.parametrize("scale", [1.0, DEPTH**-0.5])
@pytest.mark.parametrize("norm", ["none", "pre", "post"])
@pytest.mark.parametrize("branch", ["linear", "relu", "relu, linear"])
def test_residual_stacks(branch, norm, scale):
    """The laws that tests/test_residual.py derives."""
    width = 32
    relu = [vp.Dense(width, "relu", normal(math.sqrt(2), width), None)]
    linear = [vp.Dense(width, "linear", normal(1, width), None)]
    layers = {"linear": linear, "relu": relu, "relu, linear": relu + linear}[branch]
    mu, nu = (math.pi**-0.5, 1 - 1 / math.pi) if branch == "relu" else (0.0, 1.0)
    block = [vp.Residual([vp.LayerNorm(0.0), *layers] if norm == "pre" else layers, scale)]
    if norm == "post":
        block.append(vp.LayerNorm(0.0))
    found = theory.propagate(vp.Network(width, block * DEPTH), c=0.5)
    mean, variance, back = 0.0, 1.0, 1.0
    for _ in range(DEPTH):
        size = 1.0 if norm == "pre" else mean**2 + variance
        back *= 1 + scale**2 / (variance if norm == "pre" else 1)
        mean += scale * mu * math.sqrt(size)
        variance += scale**2 * nu * size
        if norm == "post":
            back /= variance
            mean, variance = 0.0, 1.0
    assert found.activations.mean[-1] == pytest.approx(mean, rel=1e-11, abs=1e-12)
    assert found.activations.var[-1] == pytest.approx(variance, rel=1e-11)
    assert found.input_gradients.second_moment[0] == pytest.approx(back, rel=1e-11)
    if norm != "pre":
        return
    # The branch takes its slopes at a variance of 1, whatever the stream's.
    streams = [i for i, name in enumerate(found.layer_names) if "." not in name]
    assert found.chi_1[streams].prod() == pytest.approx(back, rel=1e-11)


def test_a_norm_of_one_width():
    net = vp.Network(9, [vp.Dense(9, "relu"), vp.LayerNorm(0.1), vp.RMSNorm(0.2), vp.Scale(-3.0)])
    found = theory.propagate(net, c=None)
    variance = (0.5 - 0.5 / math.pi) / (0.5 - 0.5 / math.pi + 0.1)
    exact = [0.5, variance, variance / (variance + 0.2), 9 * variance / (variance + 0.2)]
    np.testing.assert_allclose(found.activations.second_moment, exact, rtol=1e-13)
    assert np.isnan(found.c).all()
    factors = [0.5, 1 / (0.5 - 0.5 / math.pi + 0.1), 1 / (variance + 0.2), 9.0]
    np.testing.assert_allclose(found.chi_1, factors, rtol=1e-13)
    by_scale = 1.0
    by_rms = 9 * by_scale * factors[2]
    by_layer = by_rms * factors[1]
    np.testing.assert_allclose(
        found.gradients.second_moment, [by_layer / 2, by_layer, by_rms, by_scale], rtol=1e-12
    )


def test_padding_takes_its_share():
    """A 3 x 3 kernel on h x w finds (3h - 2)(3w - 2) of 9hw numbers inside the image."""
    share = (3 * 5 - 2) * (3 * 7 - 2) / (9 * 5 * 7)
    same = vp.Network((5, 7, 4), [vp.Conv2d(6, 3, weight="normal(std=0.5)")])
    found = theory.propagate(same)
    assert found.q[0] == pytest.approx(36 * 0.25 * share)
    assert found.input_gradients.second_moment[0] == pytest.approx(54 * 0.25 * share)
    assert found.chi_1[0] == pytest.approx(36 * 0.25)
    valid = vp.Network((5, 7, 4), [vp.Conv2d(6, 3, padding="valid", groups=2, weight="he_normal")])
    found = theory.propagate(valid)
    assert found.q[0] == pytest.approx(2.0)
    one = vp.Network((5, 7, 4), [vp.Conv2d(6, 3, weight="delta_orthogonal", groups=1)])
    assert theory.propagate(one).q[0] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    "law",
    [
        *("he_normal", "torch_linear", "glorot_uniform", "trunc_normal", "orthogonal(gain=1.5)"),
        *("sparse(0.9, std=0.5)", "truncated_normal(std=0.2, low=-0.1, high=0.4)", "uniform(1, 2)"),
    ],
)
@pytest.mark.parametrize("shape", [(300, 400), (400, 300)])
def test_moments_of_laws(law, shape):
    """One of 10^5 weights each; 5.5 standard errors, which are rough, fail once in 10^7."""
    law = vp.initializers.resolve(law)
    drawn = vp.weights(shape, law, seed=5, dtype="float64")
    mean, variance = _law_moments.moments(law, shape)
    assert drawn.mean() == pytest.approx(mean, abs=5.5 * math.sqrt(variance / drawn.size))
    spread = np.std((drawn - mean) ** 2) / math.sqrt(drawn.size)
    assert ((drawn - mean) ** 2).mean() == pytest.approx(variance, abs=5.5 * spread)
    scaled = vp.Scaled(law, 3.0)
    assert _law_moments.moments(scaled, shape) == pytest.approx((3 * mean, 9 * variance))


# --- simulations --------------------------------------------------------------------------------

N = 1000
TRIALS = 200
M = 300  # where matrices are formed whole


def chain(activation, sigma_w=1.2, sigma_b=0.1):
    return vp.mlp([N] * 5, activation, normal(sigma_w, N), vp.Normal(sigma_b))


def own(x):
    return np.where(x > 0, x, np.sin(x))


BLOCKS = {
    "tanh": chain("tanh", 1.5, 0.3),
    "relu": chain("relu"),
    "gelu": chain("gelu"),
    "softplus": chain("softplus", 0.7),
    "orthogonal": vp.mlp([M] * 5, "silu", "orthogonal(gain=1.3)", "normal(std=0.2)"),
    "sparse": vp.mlp([M] * 4, "elu", "sparse(0.9, std=0.2)"),
    "own": vp.Network(N, [vp.Dense(N), vp.Elementwise(own), vp.Dense(N), vp.Elementwise(own)]),
    "narrowing": vp.mlp([N, N // 2, 2 * N, N], "erf", "glorot_normal"),
    "pre-norm": vp.Network(
        N,
        [vp.Dense(N, weight="lecun_normal")]
        + [vp.Residual([vp.LayerNorm(), vp.Dense(N, "gelu"), vp.Dense(N)], 0.7, 0.9)] * 2,
    ),
    "pre-activation": vp.Network(
        N,
        [vp.Dense(N), *[vp.Residual([vp.Activation("relu"), vp.Dense(N, weight="he_normal")])] * 3],
    ),
    "post-norm": vp.Network(
        N, [vp.Residual([vp.Dense(N, "relu", "he_normal")]), vp.LayerNorm()] * 3
    ),
    "nested": vp.Network(
        N,
        [
            vp.Dense(N),
            vp.Residual([vp.RMSNorm(), vp.Residual([vp.Dense(N, "tanh")]), vp.Dense(N, "silu")]),
            vp.Dense(N, "relu"),
        ],
    ),
    "bits": vp.Network(
        N,
        [
            vp.Dense(N),
            vp.Bias("normal(std=0.2, mean=0.3)"),
            vp.Activation("mish"),
            vp.Scale(1.7),
            vp.Dropout(0.2),
            vp.Dense(N, "hard_tanh", bias="constant(0.1)"),
        ],
    ),
    "images": vp.Network(
        (6, 6, 32),
        [
            vp.Conv2d(300, 3, activation="relu", weight="he_normal"),
            vp.Conv2d(300, 3, stride=2, activation="tanh", weight="he_normal", groups=2),
            vp.LayerNorm(),
            vp.Dense(200),
            vp.Activation("silu"),
            vp.Flatten(),
            vp.Dense(300, "relu"),
        ],
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_wide_networks(name):
    """Within 5.5 standard errors of the mean over trials, and twice layers / width.

    The first, in some 60 numbers of each of 14 networks, is passed once in 10^4; the second bounds
    what a finite width leaves of the limit.
    """
    net = BLOCKS[name]
    theirs = theory.propagate(net)
    run = vp.simulate(net, 2, trials=TRIALS, seed=3, backward=True, statistics="correlation")
    assert theirs.layer_names == run.layer_names
    bias = 2 * len(net.steps) / (M if name in ("images", "orthogonal", "sparse") else N)
    for signal in SIGNALS:
        ours, found = getattr(theirs, signal), getattr(run, signal)
        checks = [("second_moment", ours.second_moment), ("mean", np.sqrt(ours.second_moment))]
        if signal != "gradients":
            checks.append(("correlation", np.ones(len(net.steps))))
        for statistic, size in checks:
            values = getattr(found.per_trial, statistic)
            error = values.std(axis=0, ddof=1) / math.sqrt(TRIALS)
            off = np.abs(values.mean(axis=0) - getattr(ours, statistic))
            worst = off / (5.5 * error + bias * size)
            assert worst.max() < 1, (signal, statistic, worst)


def test_the_check_would_see_a_wrong_law():
    """Leaving out sigma_b changes more than a finite width does."""
    net = BLOCKS["tanh"]
    without = theory.propagate(vp.mlp([N] * 5, "tanh", normal(1.5, N)))
    run = vp.simulate(net, 2, trials=TRIALS, seed=3)
    found = run.preactivations.per_trial.second_moment
    error = found.std(axis=0, ddof=1) / math.sqrt(TRIALS)
    off = np.abs(found.mean(axis=0) - without.q)
    assert (off[1:] > 5.5 * error[1:] + 8 / N * without.q[1:]).all()


# --- errors -------------------------------------------------------------------------------------

MATRIX = np.eye(4)


@pytest.mark.parametrize(
    ("inputs", "layers", "message"),
    [
        ((4, 4, 2), [vp.AvgPool2d(2)], "layer 'avgpool1': no theory of avgpool layers"),
        ((4, 4, 2), [vp.GlobalAvgPool()], "layer 'globalavgpool1': no theory of globalavgpool"),
        (4, [vp.Dense(4), vp.BatchNorm()], "layer 'batchnorm1': no theory of batchnorm layers"),
        (4, [vp.Dense(4, weight=MATRIX)], "layer 'dense1': no theory of given weights"),
        (4, [vp.Dense(4, weight=vp.Scaled(vp.Identity(), 2.0))], "layer 'dense1': no theory of id"),
        (4, [vp.Dense(4, weight="uniform(0, 1)")], "layer 'dense1': no theory of weights whose"),
        (4, [vp.Dense(4, weight="ones")], "layer 'dense1': no theory of weights whose mean is not"),
        (4, [vp.Dense(4, "relu"), vp.Activation("tanh")], "layer 'activation1': no theory of an"),
        (
            4,
            [vp.Residual([vp.Dense(4, "relu")]), vp.Activation("relu", name="out")],
            "layer 'out': no theory of an activation of what is not normal over the units",
        ),
        (4, [vp.Residual([vp.Scale(2.0)])], "layer 'residual1': no theory of a branch"),
        (4, [vp.Residual([vp.Residual([vp.Dense(4)])])], "layer 'residual1': no theory of a branc"),
    ],
)
def test_what_has_no_theory(inputs, layers, message):
    with pytest.raises(NotImplementedError, match=f"^{message}"):
        theory.propagate(vp.Network(inputs, layers))


def test_errors():
    net = vp.mlp([4, 4])
    with pytest.raises(ValueError, match=r"^mean must be at most sqrt\(q\) in magnitude"):
        theory.propagate(net, 1.0, mean=2.0)
    with pytest.raises(ValueError, match=r"^c must be a finite number .*, got 1\.5"):
        theory.propagate(net, 1.0, 1.5)
    with pytest.raises(ValueError, match=r"^c must be at least 2 mean\^2 / q - 1, got 0\.0"):
        theory.propagate(net, 1.0, mean=0.9)
    with pytest.raises(ValueError, match=r"^layer 'dense9': the second moment leaves the range"):
        theory.propagate(vp.mlp([10] * 20, weight="normal(std=1e17)"))


def test_no_signal_stays_none():
    found = theory.propagate(vp.mlp([4] * 4, "relu", "zeros"))
    assert (found.q == 0).all()
    assert (found.preactivations.log10_second_moment == -np.inf).all()
    assert np.isnan(found.c).all()
