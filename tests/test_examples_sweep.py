"""The examples that sweep, run as a user runs them, against recursions and chains in NumPy.

Seeds are fixed. Tolerances are five standard errors: a failure by chance has a probability under
10^-5 for each number.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_examples import NUMBER, output_of

pytest.importorskip("xarray")
pytest.importorskip("zarr")
NODES = np.linspace(-8.0, 8.0, 81)  # the trapezoid rule: exact to rounding for such functions
SHARES = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()


def edge(sigma_b):
    """Return the sigma_w at which chi_1 is 1: q = E[tanh^2] / E[tanh'^2] + sigma_b^2, bisected."""
    low, high = 1e-9, 10.0
    for _ in range(80):
        q = (low + high) / 2
        z = np.sqrt(q) * NODES
        slope = SHARES @ np.cosh(z) ** -4
        rises = SHARES @ np.tanh(z) ** 2 / slope + sigma_b**2 > q
        low, high = (q, high) if rises else (low, q)
    return slope**-0.5


def infinitely_wide(sigma_w, sigma_b, depth):
    """Return the growth of gradients a layer, and the last correlation, by recursion."""
    q, c, slopes = sigma_w**2 + sigma_b**2, sigma_b**2 / (sigma_w**2 + sigma_b**2), []
    for _ in range(depth):
        u = np.sqrt(q) * NODES
        slopes.append(sigma_w**2 * (SHARES @ np.cosh(u) ** -4))
        square = SHARES @ np.tanh(u) ** 2
        v = np.sqrt(q) * (c * NODES[:, None] + np.sqrt(1 - min(c, 1) ** 2) * NODES)
        product = SHARES @ (np.tanh(u)[:, None] * np.tanh(v)) @ SHARES
        correlation = product / square
        q = sigma_w**2 * square + sigma_b**2
        c = (sigma_w**2 * product + sigma_b**2) / q
    return np.log10(slopes[depth // 2 - 1 : -1]).mean(), correlation


def crossing(x, values, level):
    """Return where a straight line between neighbours first crosses a level."""
    below = values < level
    i = np.flatnonzero(below[1:] != below[:-1])[0]
    return x[i] + (level - values[i]) / (values[i + 1] - values[i]) * (x[i + 1] - x[i])


def test_edge_of_chaos(tmp_path):
    """Bits of two processes, stopped half way, are those of one; and the boundaries as above."""
    pytest.importorskip("distributed")
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    store, plot = tmp_path / "edge.zarr", tmp_path / "edge.png"
    text = output_of("edge_of_chaos.py", "--quick", "--workers", 2, "--store", store)
    chunks = (path for path in (store / "values").rglob("*") if path.is_file())
    points = sorted(path for path in chunks if path.name != "zarr.json")
    assert len(points) == 100
    before = {path: path.stat().st_mtime_ns for path in points[50:]}
    for path in points[:50]:
        path.unlink()
    again = output_of("edge_of_chaos.py", "--quick", "--store", store, "--plot", plot)
    assert again == text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert plot.read_bytes().startswith(b"\x89PNG")

    lines = rf"^ *({NUMBER}) +({NUMBER}) +({NUMBER}) +({NUMBER}) +({NUMBER}|-) +({NUMBER}|-)$"
    rows = re.findall(lines, text, re.MULTILINE)
    table = np.array([[x if x != "-" else "nan" for x in row] for row in rows], dtype=float)
    sigma_w, sigma_b = np.linspace(0.5, 3.0, 10), np.linspace(0.0, 1.0, 10)
    np.testing.assert_allclose(table[:, 0], sigma_b, atol=5.1e-5)
    np.testing.assert_allclose(table[:, 1], [edge(b) for b in sigma_b], atol=5.1e-5)
    np.testing.assert_allclose(table[:, 3], (table[:, 2] - table[:, 1]) * 9 / 2.5, atol=6e-3)
    assert np.isnan(table[0, 4:]).all()  # without biases inputs do not become one

    # A layer of 2000 units, 4 rows and 2 draws multiplies gradients by chi_1 up to about 2%, 30
    # layers by 0.0014 decades a layer, which is 0.005 of sigma_w.
    for row, b in zip(table, sigma_b, strict=True):
        growth, correlation = np.transpose([infinitely_wide(w, b, 60) for w in sigma_w])
        assert row[2] == pytest.approx(crossing(sigma_w, growth, 0.0), abs=0.025)
        if b:
            expected = crossing(sigma_w, correlation, 0.95)
            assert row[4] == pytest.approx(expected, abs=0.025)
    largest = re.search(rf"gradients ({NUMBER}) cells", text).group(1)
    assert float(largest) == np.abs(table[:, 3]).max() < 1
    assert "within one cell everywhere: yes" in text


def chains(width, trials, rng):
    """Return mean squares of activations and of weight gradients, in NumPy: logs and errors."""
    found = np.empty((trials, 2, 4))
    for trial in range(trials):
        entering, weights = [rng.standard_normal((32, 64))], []
        for fan_in, fan_out in ((64, width), (width, width), (width, width), (width, 10)):
            weights.append(rng.standard_normal((fan_in, fan_out)))
            y = entering[-1] @ weights[-1]
            entering.append(y if fan_out == 10 else np.maximum(y, 0))
        found[trial, 0] = [np.mean(x**2) for x in entering[1:]]
        gradient = rng.standard_normal((32, 10))
        for layer in reversed(range(4)):
            found[trial, 1, layer] = np.mean((entering[layer].T @ gradient) ** 2)
            gradient = (gradient @ weights[layer].T) * (entering[layer] > 0)
    mean, error = found.mean(axis=0), found.std(axis=0) / trials**0.5
    return np.log10(mean), error / mean / np.log(10)


def test_width_scaling(tmp_path):
    """Exponents by hand, of Yang et al.'s (2022) table 3 for muP, and those of chains in NumPy."""
    pytest.importorskip("matplotlib")
    plot = tmp_path / "width.png"
    text = output_of("width_scaling.py", "--quick", "--plot", plot)
    number = rf"(-?\d) +({NUMBER}) \+- ?({NUMBER})(  ?flat)?"
    rows = re.findall(rf"^(std 1|1/\S+|muP)? +(\d) +{number} +{number}$", text, re.MULTILINE)
    assert len(rows) == 12
    wanted = {
        "std 1": [[0, 1, 2, 3], [2, 1, 1, 2]],
        "1/sqrt(fan_in)": [[0, 0, 0, 0], [-1, -1, -1, 0]],
        "muP": [[0, 0, 0, -1], [-2, -2, -2, 0]],
    }
    widths, rng = np.array([32, 64, 128, 256]), np.random.default_rng(0)
    logs, errors = zip(*(chains(width, 40, rng) for width in widths), strict=True)
    pull = np.log10(widths) - np.log10(widths).mean()
    pull /= (pull**2).sum()
    slopes = np.tensordot(pull, logs, 1)
    spread = np.tensordot(pull**2, np.square(errors), 1) ** 0.5
    for position, row in enumerate(rows):
        law, layer = rows[position // 4 * 4][0], position % 4
        for kind, (hand, fitted, half, flat) in enumerate((row[2:6], row[6:10])):
            error = float(half) / 2
            assert int(hand) == wanted[law][kind][layer]
            assert float(fitted) == pytest.approx(int(hand), abs=5 * error)
            assert bool(flat) == (abs(float(fitted)) < float(half))
            if law == "std 1":
                tolerance = 5 * np.hypot(error, spread[kind, layer])
                assert float(fitted) == pytest.approx(slopes[kind, layer], abs=tolerance)
    assert plot.read_bytes().startswith(b"\x89PNG")
