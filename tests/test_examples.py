"""The examples, run as a user runs them: what they print, against numbers from elsewhere.

Seeds are fixed. Tolerances are five standard errors: a failure by chance has a probability under
10^-5 for each number.
"""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import varprop as vp

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBER = r"-?\d+\.?\d*(?:e[+-]\d+)?"


def output_of(example, *arguments):
    command = [sys.executable, "-W", "error", EXAMPLES / example, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done.stdout


def numpy_chains(trials):
    """Return variances of scaled chains, shape (trials, layers): the document's own code."""
    rng = np.random.default_rng(1)
    variances = np.empty((trials, 100))
    for trial in range(trials):
        X = rng.standard_normal((500, 100))
        for layer in range(100):
            X = X @ rng.normal(scale=np.sqrt(1 / 100), size=(100, 100))
            variances[trial, layer] = X.var()
    return variances


def test_hundred_layers(tmp_path):
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    trials, picture = 24, tmp_path / "hundred_layers.png"
    text = output_of("hundred_layers.py", "--quick", "--plot", picture)
    rows = re.findall(r"^  (?:mean|std) +(\S+) +(\S+) +(\S+) +(\S+) to (\S+)", text, re.MULTILINE)
    numbers = np.array([[x if x != "-" else "nan" for x in row] for row in rows])
    means, stds = numbers.astype(float).reshape(4, 2, 5).swapaxes(0, 1)

    documents = [[-4.06e95, np.nan, 0.00026, np.nan], [8.42e98, 32.76, 1.0215, np.nan]]
    np.testing.assert_array_equal([means[:, 0], stds[:, 0]], documents)  # shared/SEEDS.md
    assert text.count("yes\n") == 5
    assert "NO" not in text

    # Medians over trials, whose standard error is about 1.25 times that of a mean. Variances grow
    # by the fan_in over what they are divided by: 100-fold with weights of std 1, and by 1% where
    # the bias is not counted.
    variances = numpy_chains(trials)
    for i, growth in ((0, 100.0), (2, 1.0), (3, 1.01)):
        logs = np.log((variances * growth ** np.arange(1, 101)).mean(axis=1)) / 2
        error = 1.25 * logs.std() * np.sqrt(2 / trials)
        _, anew, median, low, high = stds[i]
        assert np.log(median) == pytest.approx(np.median(logs), abs=5 * error)
        assert np.log(anew) == pytest.approx(np.median(logs), abs=5 * logs.std())
        assert low < median < high
        assert np.all(np.abs(means[i, 1:]) < 0.1 * high)

    # Through one unit: |w| sqrt(chi^2_99 / 100), with |w|^2 a chi^2_1000.
    rng = np.random.default_rng(2)
    law = np.sqrt(rng.chisquare(1000, 10**6) * rng.chisquare(99, 10**6) / 100)
    error = 1.25 * law.std() / np.sqrt(trials)
    assert stds[1, 2] == pytest.approx(np.median(law), abs=5 * error)
    assert stds[1, 3:] == pytest.approx(np.quantile(law, (0.025, 0.975)), abs=10 * error)

    rows = re.findall(rf"std ({NUMBER}); its square x ({NUMBER}) \+- ({NUMBER})", text)
    expected, ratio, half = np.array(rows, dtype=float).T
    wanted = [1e99 / np.sqrt(0.99), np.sqrt(990), 1.0, np.sqrt(1.01**101 - 1.01)]
    np.testing.assert_allclose(expected, wanted, rtol=6e-4)
    assert np.all(np.abs(ratio - 1) < 5 * half / 1.96)
    assert text.count("theory agrees") == 4

    # Both directions: four layers halve the width. Draws vary by 2.5%, their means by 0.5%.
    pair = rf"({NUMBER}) +({NUMBER}) +({NUMBER}) \+- {NUMBER}"
    rows = re.findall(rf"^  1/fan_(?:in|out|avg) +{pair} +{pair}$", text, re.MULTILINE)
    found = np.array(rows, dtype=float).reshape(3, 2, 3)
    wanted = np.array([[1, 1 / 16], [16, 1], [(4 / 3) ** 4, (2 / 3) ** 4]])
    for column, tolerance in enumerate((5e-4, 0.13, 0.03)):
        np.testing.assert_allclose(found[:, :, column], wanted, rtol=tolerance)
    assert picture.read_bytes().startswith(b"\x89PNG")


def infinitely_wide(images, weight_var, layers):
    """Return E[tanh(z)^2] of each layer, averaged over the images: mean field, row by row."""
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    shares = shares / shares.sum()
    second, moments = np.mean(images**2, axis=1), []
    for fan_in, var in zip((64, *[1000] * (layers - 1)), weight_var, strict=True):
        variance = fan_in * var * second
        second = np.tanh(np.sqrt(variance)[:, None] * nodes) ** 2 @ shares
        moments.append(second.mean())
    return np.array(moments)


def test_digits(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("matplotlib")
    images = datasets.load_digits().data
    images = (images - images.mean()) / images.std()
    trials = 4
    text = output_of("digits.py", "--trials", trials, "--plot", tmp_path / "digits.png")
    rows = re.findall(rf"^dense(\d) +{' +'.join([f'({NUMBER})'] * 8)}$", text, re.MULTILINE)
    table = np.array(rows, dtype=float).reshape(2, 6, 9)

    fan_out = np.array([1000] * 5 + [10])
    fan_in = np.array([64] + [1000] * 5)
    # Std of log10 E[x^2] between trials is 0.007 in the first layer, 0.024 in the fifth, 0.09 in
    # the last, of ten units.
    spread = np.array([0.008, 0.012, 0.015, 0.02, 0.025, 0.1])
    for run, weight_var in zip(table, (1 / (3 * fan_in), 2 / (fan_in + fan_out)), strict=True):
        expected = np.log10(infinitely_wide(images, weight_var, 6))
        assert np.all(np.abs(run[:, 5] - expected) < 5 * spread / np.sqrt(trials))
        assert run[0, 2] == pytest.approx(np.sqrt(64 * weight_var[0]), rel=5 * 0.01 / 2)

    summary = re.findall(rf"activations ({NUMBER}) to ({NUMBER}), times ({NUMBER}) per", text)
    for run, (first, fifth, ratio) in zip(table, np.array(summary, dtype=float), strict=True):
        np.testing.assert_allclose([first, fifth], run[[0, 4], 4], rtol=0.03)  # few digits
        assert ratio == pytest.approx((run[4, 4] / run[0, 4]) ** 0.25, rel=0.005)
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_gradients(tmp_path):
    pytest.importorskip("matplotlib")
    text = output_of("gradients.py", "--trials", 4, "--plot", tmp_path / "gradients")
    rows = re.findall(rf"^ +(\d) +({NUMBER}) +({NUMBER}) +({NUMBER}) *$", text, re.MULTILINE)
    table = np.array(rows, dtype=float).reshape(2, 5, 4)
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    shares = shares / shares.sum()
    fan_in, fan_out = np.array([1024] + [1000] * 4), np.array([1000] * 5)
    for found, weight_var in zip(table, (1 / (3 * fan_in), 2 / (fan_in + fan_out)), strict=True):
        # Mean field: rows of the batch are nearly independent, gradients of the activations.
        second, slopes = np.ones(6), np.empty(5)
        for layer in range(5):
            z = np.sqrt(fan_in[layer] * weight_var[layer] * second[layer]) * nodes
            second[layer + 1] = np.tanh(z) ** 2 @ shares
            slopes[layer] = np.cosh(z) ** -4 @ shares
        np.testing.assert_allclose(found[:, 1] ** 2, second[1:], rtol=0.05)
        back = np.sqrt(1000 * weight_var[1:] * slopes[:4])
        np.testing.assert_allclose(found[:-1, 2] / found[1:, 2], back, rtol=0.03)
        weights = np.sqrt(300 * second[:-1]) * found[:, 2]
        np.testing.assert_allclose(found[:, 3], weights, rtol=0.03)
    for name in ("standard", "normalized"):
        assert (tmp_path / f"gradients_{name}.png").read_bytes().startswith(b"\x89PNG")


def losses_by_hand(torch, factors, epochs):
    """Train model 1 (factors of 1) or 2 without modules and optimizers: losses of the epochs."""
    images, _, masks = vp.datasets.shapeset(64, size=(64, 96), channels=3, masks=True)
    for image, mask in zip(images, masks, strict=True):
        for channel in np.moveaxis(image, -1, 0):
            channel *= -1 if channel[mask[:, :, 0] == 0].mean() > 0 else 1
    x, y = (torch.tensor(part.transpose(0, 3, 1, 2)) for part in (images, masks))
    shapes = {"conv1.weight": (3, 3, 3, 8), "conv2.weight": (3, 3, 8, 1)}
    weights = [
        torch.tensor(vp.weights(shape, "glorot_uniform", name=name).transpose(3, 2, 0, 1) * factor)
        for (name, shape), factor in zip(shapes.items(), factors, strict=True)
    ]
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    order, losses, step = np.random.default_rng(0), [], 0
    for _ in range(epochs):
        for chosen in order.permutation(64).reshape(2, 32):
            step += 1
            for w in weights:
                w.requires_grad_()
            hidden = torch.tanh(torch.conv2d(x[chosen], weights[0], padding=1) / factors[0])
            p = torch.sigmoid(torch.conv2d(hidden, weights[1], padding=1) / factors[1])
            loss = -torch.where(y[chosen] > 0, p.log(), (1 - p).log()).mean()
            losses.append(loss.item())
            for i, gradient in enumerate(torch.autograd.grad(loss, weights)):
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                root = (second[i] / (1 - 0.999**step)).sqrt() + 1e-7
                move = 1e-3 * first[i] / (1 - 0.9**step) / root
                weights[i] = (weights[i] - move).detach()
    return np.reshape(losses, (epochs, 2)).mean(axis=1)


def test_same_function_different_speed(tmp_path):
    """Weights r times as large: r^2 with SGD and r with Adam; then trained, with these and not."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    name = "same_function_different_speed.py"
    text = output_of(name, "--quick", "--plot", tmp_path / "models")
    assert text.count("The same function: outputs of up to") == 2
    differences = re.findall(rf"outputs of up to {NUMBER} differ by at most ({NUMBER})", text)
    assert len(differences) == 2
    assert all(float(difference) < 1e-12 for difference in differences)
    rows = re.findall(rf"^conv(\d).weight +{' +'.join([f'({NUMBER})'] * 7)}$", text, re.MULTILINE)
    assert len(rows) == 4
    for layer, *numbers in np.array(rows, dtype=float):
        r = {1: 3.0, 2: 200.0}[layer]
        wanted = [r, 1 / r, 1 / r**2, 1 / r, r**2, r, 1 / r]
        np.testing.assert_allclose(numbers, wanted, rtol=0.005)  # three digits

    # The losses that training by hand has, to the four digits that are printed.
    rows = re.findall(rf"^ +(\d) +{' +'.join([f'({NUMBER}|-)'] * 8)}$", text, re.MULTILINE)
    table = np.array([[x.replace("-", "nan") for x in row] for row in rows], dtype=float)
    assert table[:, 0].tolist() == [1, 2, 3, 4]
    one = losses_by_hand(torch, (1.0, 1.0), 4)
    two = losses_by_hand(torch, (3.0, 200.0), 4)
    wanted = np.transpose([one, two, two, one, one])
    np.testing.assert_allclose(table[:, 1:6], wanted, atol=6e-5)
    assert np.all(one < two)
    document = [  # shared/SEEDS.md
        [0.0280, 0.0111, 0.0110, 0.0105],
        [0.1059, 0.0260, 0.0187, np.nan],
        [0.1057, 0.0260, 0.0187, 0.0155],
    ]
    np.testing.assert_array_equal(table[:, 6:].T, document)

    outputs, tracking, slower = re.findall(rf"^.+ ({NUMBER}) +{NUMBER}  yes$", text, re.MULTILINE)
    assert float(outputs) < 1e-6
    assert float(tracking) < 1e-4
    assert float(slower) == pytest.approx((two / one).min(), rel=0.005)
    (coincide,) = re.findall(rf"model 1 by at most ({NUMBER}) of them", text)
    assert float(coincide) < 1e-3
    assert "(within 1%)" in text
    for picture in ("model2", "model3", "losses"):
        assert (tmp_path / f"models_{picture}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["same_function_different_speed", "glorot_bengio_2010"])
def test_training_without_torch(name):
    path = str(EXAMPLES / f"{name}.py")
    code = f"import runpy, sys; sys.modules['torch'] = None; runpy.run_path({path!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == 'The training needs PyTorch: pip install "varprop[torch]"\n'


def test_finite_width(tmp_path):
    """The exact laws by SciPy's: chi-squared of all units, or of a binomial number of them."""
    pytest.importorskip("matplotlib")
    special = pytest.importorskip("scipy.special")
    stats = pytest.importorskip("scipy.stats")
    trials, width, picture = 500, 20, tmp_path / "finite_width.png"
    text = output_of("finite_width.py", "--trials", trials, "--plot", picture)
    rows = re.findall(rf"^ +(\d+) +{' +'.join([f'({NUMBER})'] * 6)}$", text, re.MULTILINE)
    table = np.array(rows, dtype=float).reshape(2, 6, 7)
    k = np.arange(1, width + 1)
    kinds = (k == width, stats.binom.pmf(k, width, 0.5))
    for found, share, square in zip(table, kinds, (1, 2), strict=True):
        share = share / share.sum()
        means = special.digamma(k / 2) + np.log(2 * square / width)
        mean = share @ means
        variance = share @ (special.polygamma(1, k / 2) + (means - mean) ** 2)
        layers = found[:, 0]
        np.testing.assert_allclose(found[:, 1], 0.0)
        np.testing.assert_allclose(found[:, 2], layers * mean / np.log(10), atol=5.1e-5)
        std = np.sqrt(layers * variance) / np.log(10)
        np.testing.assert_allclose(found[:, 4], std, atol=5.1e-5)
        assert np.all(np.abs(found[:, 3] - found[:, 2]) < 5 * std / np.sqrt(trials))
        np.testing.assert_allclose(found[:, 5], std, rtol=5 / np.sqrt(2 * trials) * 1.2)
        assert np.all(np.abs(found[:, 6]) < 5)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_wide():
    """The spread of chi-squared sums by SciPy, of so many draws: 5 standard errors."""
    special = pytest.importorskip("scipy.special")
    stats = pytest.importorskip("scipy.stats")
    trials, depth = 400, 10
    text = output_of("wide.py", "--widest", 3000, "--depth", depth, "--trials", trials)
    rows = re.findall(rf"^ +(\d+) +{' +'.join([f'({NUMBER})'] * 4)}$", text, re.MULTILINE)
    found = np.array(rows, dtype=float)
    assert found[:, 0].tolist() == [100, 1000, 3000]
    for width, exact, forward, back, _ in found:
        k = np.arange(1, int(width) + 1)
        share = stats.binom.pmf(k, int(width), 0.5)
        mean = share @ special.digamma(k / 2)
        variance = share @ (special.polygamma(1, k / 2) + (special.digamma(k / 2) - mean) ** 2)
        assert exact == pytest.approx(np.sqrt(depth * variance) / np.log(10), abs=5.1e-6)
        for simulated in (forward, back):
            assert simulated == pytest.approx(exact, rel=5 / np.sqrt(2 * trials))


def test_transformer(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    picture = tmp_path / "transformer.png"
    text = output_of("transformer.py", "--blocks", 12, "--trials", 3, "--plot", picture)
    factors = [float(x) for x in re.findall(rf"forward: \w+, x ({NUMBER}) over 1. blocks", text)]
    defaults, plain, scaled = factors

    # What the branches add to the stream if words were independent: attention means t of them.
    # They become less so block by block, so that means shrink less and the stream grows more.
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    shares = shares / shares.sum()
    variance = 256 * 0.02**2
    gelu = np.array([0.5 * z * (1 + math.erf(z / 2**0.5)) for z in variance**0.5 * nodes])
    attention = variance * np.mean(1 / np.arange(1, 33)) * 256
    added = 0.02**2 * (attention + gelu**2 @ shares * 4 * 256)
    # The first block counts where it alone multiplies by more than ten: without the scaling.
    start, branch = 2 * 0.02**2, added / 24
    for measured, expected in (
        (plain, (start + 12 * added) / start),
        (scaled, (start + 12 * branch) / (start + branch)),
    ):
        assert expected < measured < 1.6 * expected
    assert 1 < defaults < 2
    assert "blocks.6.mlp.proj.weight: std 0.02, declared 0.00408: x 4.9" in text
    assert "1 of 149 parameters fails" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def at_initialization(law, units=100):
    """Return a tanh network's columns in NumPy: stds forth, back and of weights, Jacobians."""
    held_out, _ = vp.datasets.shapeset(300, 2**32)
    images, labels = vp.datasets.shapeset(10, 0)
    sizes = [1024, *[units] * 5, 9]
    weights = [
        vp.weights(shape, law, seed=0, name=f"dense{layer}.weight").astype(float)
        for layer, shape in enumerate(itertools.pairwise(sizes), start=1)
    ]
    forth, values, x = [], [], held_out.reshape(300, -1).astype(float)
    for weight in weights[:-1]:
        x = np.tanh(x @ weight)
        forth.append(x.std())
        values.append(np.linalg.svd(weight * (1 - x[0] ** 2), compute_uv=False).mean())
    passed = [images.reshape(10, -1).astype(float)]
    for weight in weights[:-1]:
        passed.append(np.tanh(passed[-1] @ weight))
    p = np.exp(passed[-1] @ weights[-1])
    g = (p / p.sum(axis=1, keepdims=True) - np.eye(9)[labels]) / 10
    back, by_weights = [], []
    for layer in range(5, 0, -1):
        g = g @ weights[layer].T * (1 - passed[layer] ** 2)
        back.insert(0, g.std())
        by_weights.insert(0, (passed[layer - 1].T @ g).std())
    return np.array(forth), np.array(back), np.array(by_weights), np.array(values)


def test_glorot_bengio_2010(tmp_path):
    """What is printed of initialization by NumPy, and the theory by Gauss-Hermite."""
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    text = output_of("glorot_bengio_2010.py", "--quick", "--plot", tmp_path / "glorot")
    rows = re.findall(rf"^ +(\d) +{' +'.join([f'({NUMBER})'] * 6)}$", text, re.MULTILINE)
    table = np.array(rows, dtype=float)
    assert table[:, 0].tolist() == [*[1, 2, 3, 4, 5] * 4, 1, 2, 3, 4]
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    shares = shares / shares.sum()
    rows = vp.datasets.shapeset(300, 2**32)[0].reshape(300, -1).astype(float)
    fan_in, fan_out = np.array([1024] + [100] * 4), 100
    laws = {"torch_linear": 1 / (3 * fan_in), "glorot_uniform": 2 / (fan_in + fan_out)}
    for found, (law, weight_var) in zip((table[10:15], table[15:20]), laws.items(), strict=True):
        forth, back, by_weights, values = at_initialization(law)
        np.testing.assert_allclose(found[:, 1], forth, atol=6e-5)
        np.testing.assert_allclose(found[:, 3], back, rtol=0.006)  # three digits
        np.testing.assert_allclose(found[:, 5], by_weights, rtol=0.006)
        np.testing.assert_allclose(found[:, 6], values, atol=6e-5)

        second, forth, slopes = np.mean(rows**2, axis=1), [], []
        for inputs, var in zip(fan_in, weight_var, strict=True):
            z = np.sqrt(inputs * var * second)[:, None] * nodes
            second = np.tanh(z) ** 2 @ shares
            forth.append(second.mean())
            slopes.append(np.cosh(z) ** -4 @ shares)
        factors = 100 * weight_var[1:, None] * np.array(slopes[:-1])
        ratios = np.sqrt(np.cumprod(factors[::-1], axis=0)[::-1].mean(axis=1))
        np.testing.assert_allclose(found[:, 2], np.sqrt(forth), rtol=0.01)
        np.testing.assert_allclose(found[:-1, 4] / found[-1, 4], ratios, rtol=0.015)
    for value in (8 / (3 * np.pi), 8 / (3 * np.pi) / np.sqrt(3)):  # of linear layers
        assert f"{value:.4f}" in text

    rows = re.findall(rf"^(\w+(?: N)?) +(\d) +({NUMBER}) +- +({NUMBER})$", text, re.M)
    assert [(name, depth, told) for name, depth, _, told in rows] == [  # shared/SEEDS.md
        ("softsign", "5", "16.27"),
        ("softsign N", "5", "16.06"),
        ("tanh", "5", "27.15"),
        ("tanh N", "5", "15.60"),
        ("sigmoid", "4", "82.61"),
    ]
    assert all(60 < float(here) < 95 for _, _, here, _ in rows)
    assert "N = 100 updates" in text
    assert len(re.findall(r" (?:yes|NO)$", text, re.MULTILINE)) == 8
    # The top layer falls before it has learned anything, the others stay.
    (means,) = re.findall(r"^sigmoid, mean activation\n((?: +\d+ updates.+\n)+)", text, re.M)
    first, *_, last = (np.array(line.split()[2:], dtype=float) for line in means.splitlines())
    assert last[-1] < first[-1] - 0.025
    assert np.all(np.abs(last[:-1] - first[:-1]) < 0.015)
    for picture in ("training", "tanh", "tanhN_histograms", "sigmoid"):
        assert (tmp_path / f"glorot_{picture}.png").read_bytes().startswith(b"\x89PNG")
