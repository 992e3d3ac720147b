"""Why random weights are divided by the square root of fan_in: a hundred layers, drawn again.

A question of 2019 asks why a book divides its random weights by the square root of the number of
inputs. The answer simulates it in NumPy, a single draw each: 500 rows through 100 linear layers of
100 units explode with weights of std 1, and keep their size with 1/sqrt(100); one unit of 1000
inputs has a std near sqrt(1000). And it says that both directions matter. Here is every snippet:
as the document prints it, as NumPy prints it anew, and as varprop has it over many draws of the
weights, beside what theory expects. Needs SciPy, and Matplotlib for a picture:
``python examples/hundred_layers.py --plot hundred_layers.png``.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from typing import NamedTuple

import numpy as np

import varprop as vp


class Snippet(NamedTuple):
    """A linear chain, and what the document prints of it: the mean, and the standard deviation."""

    title: str
    rows: int
    sizes: list[int]
    std: float
    mean: float | None = None
    spread: float | None = None


SNIPPETS = (
    Snippet("100 layers of 100 units, std 1", 500, [100] * 101, 1.0, -4.06e95, 8.42e98),
    Snippet("1000 inputs to one unit, std 1", 100, [1000, 1], 1.0, None, 32.76),
    Snippet("100 layers of 100 units, std 1/sqrt(100)", 500, [100] * 101, 0.1, 0.00026, 1.0215),
    Snippet("the book's line: 101 x 101 with the bias, std 1/sqrt(100)", 500, [101] * 101, 0.1),
)
NARROWING = [800, 400, 200, 100, 50]
MODES = {
    "fan_in": lambda fan_in, _: fan_in,
    "fan_out": lambda _, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}


def in_numpy(snippet: Snippet, rng: np.random.Generator) -> tuple[float, float]:
    """Return what the document's snippets print: the mean and std, averaged over the layers."""
    X = rng.normal(size=(snippet.rows, snippet.sizes[0]))
    mean = var = 0.0
    for shape in pairwise(snippet.sizes):
        X = X @ rng.normal(scale=snippet.std, size=shape)
        mean += X.mean()
        var += X.var()
    layers = len(snippet.sizes) - 1
    return mean / layers, np.sqrt(var / layers)


def in_varprop(snippet: Snippet, trials: int) -> vp.Run:
    """Return the same chain over many draws."""
    net = vp.mlp(snippet.sizes, "linear", vp.Normal(snippet.std), None)
    return vp.simulate(net, snippet.rows, trials=trials)


def printed(run: vp.Run) -> tuple[np.ndarray, np.ndarray]:
    """Return what each trial's snippet would print."""
    each = run.preactivations.per_trial
    return each.mean.mean(axis=1), np.sqrt(each.var.mean(axis=1))


def expected(snippet: Snippet) -> np.ndarray:
    """Return the expectation over draws of each layer's variance, exact at any width.

    A layer multiplies the mean square by fan_in std^2. The square of the mean, which is not in the
    variance, is expected to be so many times smaller as there are numbers.
    """
    fan_in, units = np.array(list(pairwise(snippet.sizes)), float).T
    return np.cumprod(fan_in * snippet.std**2) * (1 - 1 / (snippet.rows * units))


def compare(snippet: Snippet, run: vp.Run, numpy: tuple[float, float]) -> None:
    """Print one snippet's numbers side by side."""
    print(snippet.title)
    document = (snippet.mean, snippet.spread)
    for name, told, anew, draws in zip(("mean", "std"), document, numpy, printed(run), strict=True):
        low, median, high = np.quantile(draws, (0.025, 0.5, 0.975))
        shown, agrees = "-", ""
        if told is not None:
            shown, agrees = f"{told:.5g}", "yes" if low <= told <= high else "NO"
        interval = f"{low:.3g} to {high:.3g}"
        print(
            f"  {name:6}{shown:>11}{anew:>11.3g}{median:>11.3g}{interval:>26}{agrees:>9}".rstrip()
        )
    root = np.sqrt(expected(snippet).mean())
    ratio = (draws / root) ** 2
    theory = run.theory()
    _, layer, z = theory.largest
    print(
        f"  expected std {root:.4g}; its square x {ratio.mean():.3f} +- "
        f"{half_interval(ratio):.3f} in the draws' mean\n"
        f"  layer by layer theory {'agrees' if theory.agrees else 'DISAGREES'}, "
        f"the largest z is {z:.1f} ({layer})\n"
    )


def half_interval(draws: np.ndarray) -> float:
    """Return half the mean's 95% interval."""
    return 1.96 * float(np.std(draws, ddof=1)) / len(draws) ** 0.5


def back_and_forth(mode: str, rng: np.random.Generator) -> tuple[float, float]:
    """Return the variance of outputs and of the inputs' gradients, one draw in NumPy."""
    weights = []
    for fan_in, fan_out in pairwise(NARROWING):
        scale = np.sqrt(1 / MODES[mode](fan_in, fan_out))
        weights.append(rng.normal(scale=scale, size=(fan_in, fan_out)))
    X, gradient = (rng.normal(size=(500, width)) for width in (NARROWING[0], NARROWING[-1]))
    for W in weights:
        X = X @ W
    for W in reversed(weights):
        gradient = gradient @ W.T
    return X.var(), gradient.var()


def both_directions(trials: int, rng: np.random.Generator) -> None:
    """Print how variances go forward and gradients back, where layers are not equally wide."""
    print(f"both directions: variance behind linear layers of {NARROWING} units")
    print(f"{'the outputs':>34}{'the gradients of the inputs':>42}")
    print(" " * 12 + 2 * f"{'expected':>9}{'NumPy':>7}{'varprop':>18}")
    for mode, fan in MODES.items():
        law = vp.VarianceScaling(1, mode, "untruncated_normal")
        net = vp.mlp(NARROWING, "linear", law, None)
        run = vp.simulate(net, 500, trials=trials, backward=True)
        fans = np.array([fan(*shape) for shape in pairwise(NARROWING)])
        fan_in, fan_out = np.array(list(pairwise(NARROWING))).T
        line = f"  1/{mode:8}"
        for expectation, numpy, draws in zip(
            (np.prod(fan_in / fans), np.prod(fan_out / fans)),
            back_and_forth(mode, rng),
            (run.activations.per_trial.var[:, -1], run.input_gradients.per_trial.var[:, 0]),
            strict=True,
        ):
            ours = f"{draws.mean():.4g} +- {half_interval(draws):.1g}"
            line += f"{expectation:9.4g}{numpy:7.3g}{ours:>18}"
        print(line)


def picture(runs: list[vp.Run], numpy: list[tuple[float, float]], path: str) -> None:
    """Draw the std of all layers, and how what the snippets print spreads over the draws."""
    from matplotlib.figure import Figure

    figure = Figure((9, 4), layout="constrained")
    layers, spread = figure.subplots(1, 2)
    depth = np.arange(1, 101)
    drawn = (
        (0, "C3", "std 1: 1e100 at the end"),
        (3, "C1", "std 1/sqrt(100), a bias among the units"),
        (2, "C0", "std 1/sqrt(100)"),
    )
    for i, colour, name in drawn:
        std = np.sqrt(runs[i].preactivations.per_trial.var)
        ends = np.quantile(std, (0.025, 0.975), axis=0)
        layers.fill_between(depth, *ends, color=colour, alpha=0.3, linewidth=0)
        layers.plot(depth, np.sqrt(expected(SNIPPETS[i])), color=colour, label=name)
        if i:
            bins = np.linspace(0.4, 2.6, 45)
            spread.hist(printed(runs[i])[1], bins, color=colour, alpha=0.6, density=True)
    spread.axvline(SNIPPETS[2].spread, color="k", linewidth=1, label="the document: 1.0215")
    anew = numpy[2][1]
    spread.axvline(anew, color="k", ls="--", linewidth=1, label=f"NumPy anew: {anew:.4f}")
    layers.set(xlabel="layer", ylabel="std of X", yscale="log", ylim=(0.2, 100))
    layers.set_title("expected, and where 95% of the draws are", fontsize="medium")
    spread.set(xlabel="std that the snippet prints", yticks=[])
    spread.set_title(f"{runs[2].trials} draws", fontsize="medium")
    for axes in (layers, spread):
        axes.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="draws (default: 200)")
    parser.add_argument("--quick", action="store_true", help="24 draws")
    parser.add_argument("--full", action="store_true", help="2000 draws")
    parser.add_argument("--plot", metavar="FILE", help="save the picture")
    args = parser.parse_args()
    trials = 24 if args.quick else 2000 if args.full else args.trials

    if trials < 2:
        parser.error("--trials must be at least 2, for intervals")

    rng = np.random.default_rng(0)
    print(f"{f'varprop, {trials} draws':>60}")
    print(f"{'document':>19}{'NumPy':>11}{'median':>11}{'central 95%':>26}{'agrees':>9}")
    runs, numpy = [], []
    for snippet in SNIPPETS:
        runs.append(in_varprop(snippet, trials))
        numpy.append(in_numpy(snippet, rng))
        compare(snippet, runs[-1], numpy[-1])
    both_directions(trials, rng)
    low, high = np.quantile(printed(runs[2])[1], (0.025, 0.975))
    print(
        "\nUndivided the signal explodes, divided it keeps its size, and the document's\n"
        "numbers are draws like any other. That its 1.0215 is so near to 1 is luck: draws\n"
        f"go from {low:.2f} to {high:.2f}. The book's line has one input more, the bias, than it\n"
        "divides by: 1% of variance a layer. Where widths differ, 1 / fan_in keeps the\n"
        "variance of the signal, 1 / fan_out that of the gradient, their mean neither."
    )
    if args.plot:
        picture(runs, numpy, args.plot)


if __name__ == "__main__":
    main()
