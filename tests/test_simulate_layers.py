"""Every kind of layer in the core: against the NumPy reference, and to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from networks import BIAS, NETWORKS, STATISTICS, conv, dense, flat, network, numbers

import varprop as vp
from varprop import _job, reference
from varprop._job import Job, Plan
from varprop.layers import Layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_the_reference(name: str, dtype: str) -> None:
    net = network(name)
    options = {"trials": 2, "backward": True, "dtype": dtype, "statistics": STATISTICS, "seed": 5}
    run = vp.simulate(net, 10, **options)
    wanted = reference.simulate(net, 10, **options)
    # Elementwise without a derivative is a difference of float64's, in the reference too, at
    # numbers that differ in the last digit.
    tolerance = 2e-4 if dtype == "float32" else 1e-10
    for signal, observed in run.observed.items():
        expected = wanted[signal]
        size = np.sqrt(expected["variance"] + expected["mean"] ** 2)
        for key, power in (("mean", 1), ("variance", 2), ("m3", 3), ("m4", 4)):
            found = np.ldexp(observed[key], power * observed["exponent"])
            # m4 is that of the numbers around their mean, never far above their size.
            most = np.maximum(np.abs(expected[key]), size**power)
            error = np.abs(found - expected[key]) / np.where(most == 0, 1, most)
            assert np.max(error, initial=0) < tolerance, (signal, key)
        if "correlation" in observed:
            np.testing.assert_allclose(
                observed["correlation"], expected["correlation"], atol=tolerance, err_msg=signal
            )
    for share in ("zero_slope", "dead"):
        np.testing.assert_allclose(
            run.observed["activations"][share], wanted["activations"][share], atol=1e-12
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_percentiles_are_those_of_the_numbers(name: str) -> None:
    """A bin is a sixteenth of an octave wide; numbers near zero share one."""
    net = network(name)
    options = {"seed": 5, "dtype": "float64"}
    run = vp.simulate(net, 10, trials=1, backward=True, statistics="histogram", **options)
    forward = list(reference.chain(net, 10, **options))
    back = list(reference.backward(net, 10, **options))[::-1]
    for signal, layers in (("activations", forward), ("gradients", back)):
        for position, layer in enumerate(layers):
            numbers = layer.activations if signal == "activations" else layer.preactivations
            found = getattr(run, signal)
            size = np.sqrt(np.mean(numbers**2))
            numbers, n = np.sort(numbers, axis=None), numbers.size
            for field, share in (("p02", 0.02), ("p98", 0.98)):
                # Of few numbers the rank may be a neighbour's.
                ranks = np.clip([int(share * n) - 1, int(share * n) + 1], 0, n - 1)
                low, high = numbers[ranks]
                value = getattr(found, field)[position]
                slack = 0.07 * max(abs(low), abs(high)) + 2e-3 * size
                assert low - slack <= value <= high + slack, (signal, position, field)


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_and_what_is_kept_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(name)
    options = {"trials": 3, "backward": True, "statistics": STATISTICS}
    expected = flat(vp.simulate(net, 60, threads=1, **options))
    for threads in (2, 3):
        assert flat(vp.simulate(net, 60, threads=threads, **options)) == expected
    for kept in range(1, len(net.steps)):
        monkeypatch.setattr(
            Job, "plan", lambda _, core, *__, kept=kept: Plan(False, max(kept, core.fewest_kept))
        )
        assert flat(vp.simulate(net, 60, threads=2, **options)) == expected


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("layer", ["narrow", "wide", "depthwise"])
def test_images_given_as_arrays(layer: str, channels: int) -> None:
    """Their rows are next to each other, without room between or after them."""
    images = numbers(3, 4, 5, channels)
    width = {"narrow": 2, "wide": 70, "depthwise": channels}[layer]
    groups = channels if layer == "depthwise" else 1
    net = vp.Network(images.shape[1:], [conv(width, 3, groups=groups)])
    options = {"trials": 2, "backward": True, "dtype": "float64", "seed": 5}
    run = vp.simulate(net, images, **options)
    wanted = reference.simulate(net, images, **options)
    for signal in ("preactivations", "gradients", "weight_gradients", "input_gradients"):
        observed = run.observed[signal]
        for key, power in (("mean", 1), ("variance", 2)):
            found = np.ldexp(observed[key], power * observed["exponent"])
            np.testing.assert_allclose(found, wanted[signal][key], rtol=1e-9, atol=1e-12)


def test_functions_that_fail_are_named() -> None:
    net = vp.Network(5, [vp.Dense(4), vp.Elementwise(lambda x: x[:1])])
    with pytest.raises(ValueError, match=r"layer 'elementwise1': function must return shape"):
        vp.simulate(net, 3, trials=1)
    net = vp.Network(5, [vp.Elementwise(np.exp, np.log)])
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="derivative must return"):
        vp.simulate(net, 3, trials=1, backward=True)


def test_deep_residual_growth_does_not_overflow() -> None:
    """Without a norm the second moment doubles with every block: 2^2000 is no float."""
    blocks = [vp.Residual([vp.Dense(30, weight="lecun_normal")]) for _ in range(2000)]
    run = vp.simulate(vp.Network(30, blocks), 20, trials=2, backward=True)
    growth = np.diff(run.activations.log10_second_moment[1::2]).mean()
    assert abs(growth - np.log10(2)) < 0.02
    assert np.isfinite(run.gradients.log10_second_moment).all()


@pytest.mark.parametrize("norm", [vp.LayerNorm, vp.RMSNorm, vp.BatchNorm])
@pytest.mark.parametrize("width", [3, 15, 16, 50, 64, 67])
def test_norms_of_given_rows(norm: type[Layer], width: int) -> None:
    """Rows that no zeros pad, of a mean far above their spread."""
    inputs = 1000 + np.random.default_rng(width).normal(0, 0.1, (30, width))
    net = vp.Network(width, [norm(), vp.Scale(2.0)])
    options = {"trials": 1, "backward": True, "dtype": "float64", "seed": 3}
    run = vp.simulate(net, inputs, **options)
    wanted = reference.simulate(net, inputs, **options)
    for signal in ("activations", "gradients", "input_gradients"):
        observed, expected = run.observed[signal], wanted[signal]
        size = np.sqrt(expected["variance"] + expected["mean"] ** 2)
        for key, power in (("mean", 1), ("variance", 2)):
            found = np.ldexp(observed[key], power * observed["exponent"])
            # Of numbers of 1000 +- 0.1 the last 4 digits are lost, of 16.
            assert np.all(np.abs(found - expected[key]) <= 1e-9 * size**power), (signal, key)


@pytest.mark.parametrize("norm", [vp.LayerNorm, vp.RMSNorm, vp.BatchNorm])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_of_signals_far_below_the_floats(norm: type[Layer], dtype: str) -> None:
    """Far below sqrt(eps) a norm is a scale, 1/sqrt(eps), and its gradient too, however far."""

    def both_ways(scales: int) -> list[np.ndarray]:
        net = vp.Network(50, [*[vp.Scale(1e-30)] * scales, norm(eps=1e-4), vp.Scale(1.0)])
        run = vp.simulate(net, 20, trials=3, backward=True, dtype=dtype)
        return [
            np.diff(signal.per_trial.log10_second_moment[:, scales - 1 :])
            for signal in (run.activations, run.gradients)
        ]

    forward, backward = both_ways(1)
    # A norm takes the mean off at most, of 50 numbers or of 20 normal ones.
    assert np.abs(forward[:, 0] - 4).max() < 0.1
    assert np.abs(backward[:, 1] + 4).max() < 0.1
    for found, expected in zip(both_ways(30), (forward, backward), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


ZEROS = {
    "branches that end in zeros": [
        vp.Residual([dense(30, "relu"), dense(30, "relu"), vp.Dense(30, weight="zeros")])
    ]
    * 3,
    "a long branch that ends in zeros": [
        vp.Residual([*[dense(30, "relu")] * 8, vp.Dense(30, weight="zeros")])
    ],
    "a branch that ends too small for floats": [vp.Residual([vp.Scale(1e-25)] * 8)],
    "zeros beside a small skip": [
        *[vp.Scale(1e-30)] * 6,
        vp.Residual([vp.LayerNorm(), vp.Dense(30, weight="zeros")]),
    ],
    "zeros beside a large skip": [
        *[vp.Scale(1e30)] * 4,
        vp.Residual([vp.LayerNorm(), vp.Dense(30, weight="zeros")]),
    ],
    "zeros of a large signal": [*[vp.Scale(1e30)] * 4, vp.Scale(0.0), vp.Bias(BIAS)],
    "zeros of a large signal, normalized": [*[vp.Scale(1e30)] * 4, vp.Scale(0.0), vp.BatchNorm()],
    "a tiny eps": [dense(30), vp.LayerNorm(eps=1e-20)],
    "a tiny rate": [dense(30), vp.Dropout(1e-30)],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ZEROS)
def test_zeros_have_any_scale(name: str, dtype: str) -> None:
    """As branches that begin as nothing have them: nothing leaves the range of the dtype."""
    net = vp.Network(30, [*ZEROS[name], vp.Dense(30)])
    run = vp.simulate(net, 7, trials=2, backward=True, dtype=dtype, seed=3)
    assert run.out_of_range == []
    wanted = reference.simulate(net, 7, trials=2, backward=True, dtype=dtype, seed=3)
    for signal in ("activations", "gradients", "weight_gradients", "input_gradients"):
        expected = wanted[signal]
        with np.errstate(divide="ignore"):
            logs = np.log10(expected["variance"] + expected["mean"] ** 2)
        found = getattr(run, signal).per_trial.log10_second_moment
        known = np.isfinite(logs) & (logs > -290)
        np.testing.assert_allclose(found[known], logs[known], atol=1e-4, err_msg=signal)
        assert not np.isnan(found).any()


def test_a_matrix_that_cannot_be_formed_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before was smaller; where memory is watched, this is a read past its end."""
    net = vp.Network(16, [vp.Dense(16, weight="orthogonal"), vp.Dense(500, weight="orthogonal")])
    plain, calls = _job.weights, []

    def form(*arguments: object, **options: object) -> np.ndarray:
        calls.append(options["name"])
        if options["name"] == "dense2.weight":
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    monkeypatch.setattr(_job, "weights", form)
    for threads in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            vp.simulate(net, 90, trials=1, threads=threads)
    assert calls == ["dense1.weight", "dense2.weight"] * 2
