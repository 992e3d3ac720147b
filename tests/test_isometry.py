"""Deep linear chains of orthogonal weights keep every norm and every angle, forward and back."""

import math

import numpy as np
import pytest

import varprop as vp

DEPTH = 100


def chain(kind, gain=1.0):
    """Return a chain of so many layers, and the shape of its inputs."""
    if kind == "dense":
        shape, layer = (48,), vp.Dense(48, weight=f"orthogonal(gain={gain})", bias=None)
    else:
        # Zeros around the image are without effect: of a kernel all but the centre is zero too.
        weight = f"delta_orthogonal(gain={gain})"
        shape, layer = (4, 5, 24), vp.Conv2d(24, 3, weight=weight, bias=None)
    return vp.Network(shape if len(shape) > 1 else shape[0], [layer] * DEPTH), shape


KINDS = ("dense", "conv")
# An orthogonal matrix of the dtype is one to a few eps; errors of layers add up as a random walk.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def inputs(shape, count, seed):
    """Return examples of very different norms, in general position."""
    rng = np.random.default_rng(seed)
    norms = np.geomspace(1e-2, 1e2, count).reshape(-1, *[1] * len(shape))
    return norms * rng.normal(0.3, 1, (count, *shape))


def mean_cosine(x):
    rows = x.reshape(len(x), -1)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    count = len(rows)
    return ((rows @ rows.T).sum() - count) / (count * (count - 1))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_every_norm_stays(kind, dtype):
    """Of one example at a time, whose second moment is its norm, at every layer."""
    net, shape = chain(kind)
    for x in inputs(shape, 4, seed=1):
        run = vp.simulate(net, x[None], trials=2, seed=2, dtype=dtype, backward=True)
        wanted = np.mean(x**2)
        moments = run.activations.per_trial.second_moment
        assert moments.shape == (2, DEPTH)
        np.testing.assert_allclose(moments, wanted, rtol=2 * TOLERANCE[dtype])
        gradients = run.gradients.per_trial.second_moment
        last = gradients[:, -1:]
        np.testing.assert_allclose(gradients, last * np.ones(DEPTH), rtol=2 * TOLERANCE[dtype])
        # The gradient by the inputs goes through the first layer as well.
        by_inputs = run.input_gradients.per_trial.second_moment
        np.testing.assert_allclose(by_inputs, last, rtol=2 * TOLERANCE[dtype])
        assert run.verdict.forward == run.verdict.backward == "stable"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_angles_stay(kind, dtype):
    net, shape = chain(kind)
    x = inputs(shape, 6, seed=3)
    run = vp.simulate(
        net,
        x,
        trials=2,
        seed=4,
        dtype=dtype,
        backward=True,
        statistics=("correlation", "gradient_correlation"),
    )
    wanted = mean_cosine(x)
    assert 0.05 < wanted < 0.5  # neither parallel nor orthogonal
    found = run.activations.per_trial.correlation
    np.testing.assert_allclose(found, np.full((2, DEPTH), wanted), atol=TOLERANCE[dtype])
    found = run.gradients.per_trial.correlation
    np.testing.assert_allclose(found, found[:, -1:] * np.ones(DEPTH), atol=TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_a_gain_is_all_the_growth(kind):
    """Both ways by 20 a layer: 20^200 = 1e260 is far beyond the range of float32."""
    net, shape = chain(kind, 20)
    x = inputs(shape, 1, seed=5)
    run = vp.simulate(net, x, trials=2, seed=6, backward=True)
    steps = 2 * np.arange(1, DEPTH + 1) * math.log10(20)
    moments = run.activations.per_trial.log10_second_moment
    tolerance = TOLERANCE["float32"]
    np.testing.assert_allclose(moments - np.log10(np.mean(x**2)), [steps] * 2, atol=tolerance)
    gradients = run.gradients.per_trial.log10_second_moment
    np.testing.assert_allclose(
        gradients - gradients[:, -1:], [steps[-1] - steps] * 2, atol=tolerance
    )
