"""What keeps its size as a network gets wider? A coordinate check at initialization.

Three parametrizations of one ReLU network, from 32 to 2048 units a layer: the exponents with which
activations and weight gradients scale with the width, fitted and derived by hand. What is flat
needs no new learning rate at another width. Yang et al. (2022, appendix D) check a maximal update
parametrization so, muP, over the steps of a training; here it is before the first one.

    python examples/width_scaling.py [--trials 40] [--plot width_scaling.png]

Needs xarray and Zarr, and Matplotlib for a picture: pip install "varprop[sweep,plot]".
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import varprop as vp

FEATURES, CLASSES, LAYERS = 64, 10, 4
ACTIVATIONS, GRADIENTS = "second_moment", "weight_gradients.second_moment"
LAWS = {  # standard deviations of the weights: of the first three layers, and of the readout
    "std 1": (lambda _: 1.0, lambda _: 1.0),
    "1/sqrt(fan_in)": (lambda fan_in: (2 / fan_in) ** 0.5, lambda fan_in: fan_in**-0.5),
    "muP": (lambda fan_in: (2 / fan_in) ** 0.5, lambda fan_in: 1 / fan_in),
}


def network(parametrization: str, width: int) -> vp.Network:
    """Return three ReLU layers and a linear readout."""
    hidden, readout = LAWS[parametrization]
    sizes = [FEATURES, *[width] * (LAYERS - 1), CLASSES]
    layers = []
    for number, fan_in in enumerate(sizes[:-1], start=1):
        last = number == LAYERS
        weight = vp.Normal(readout(fan_in) if last else hidden(fan_in))
        activation = "linear" if last else "relu"
        layers.append(vp.Dense(sizes[number], activation=activation, weight=weight, bias=None))
    return vp.Network(FEATURES, layers)


def by_hand(parametrization: str) -> dict[str, np.ndarray]:
    """Return exponents of the width in mean squares, layer by layer.

    A layer multiplies the activations' by fan_in times the variance of its weights, going back
    the gradients' by fan_out times it; a weight's gradient is the product of both, of the
    activation that enters and of the gradient that comes back. Inputs, and gradients of the
    outputs, do not know the width.
    """
    variance = np.array([0, 0, 0, 0])
    if parametrization != "std 1":
        variance = np.array([0, -1, -1, -2 if parametrization == "muP" else -1])
    forward = np.cumsum(np.array([0, 1, 1, 1]) + variance)
    back = np.cumsum((np.array([1, 1, 1, 0]) + variance)[:0:-1])[::-1]
    entering, coming = np.r_[0, forward[:-1]], np.r_[back, 0]
    return {ACTIVATIONS: forward, GRADIENTS: entering + coming}


def compare(found: Any) -> None:
    """Print fitted exponents beside those by hand, and which are flat."""
    words = {ACTIVATIONS: "activations", GRADIENTS: "weight gradients"}
    print(" " * 20 + "".join(f"{name:^29}" for name in words.values()).rstrip())
    heads = f"{'by hand':>8}{'fitted':>8}{'95%':>7}{'':6}" * 2
    print(f"{'':14}{'layer':>6}{heads}".rstrip())
    within = count = 0
    for law in LAWS:
        hand = by_hand(law)
        for layer in range(1, LAYERS + 1):
            line = f"{law if layer == 1 else '':14}{layer:6}"
            for name in words:
                one = found.sel(quantity=name, parametrization=law, layer=layer)
                half = float(one.high - one.low) / 2
                expected = int(hand[name][layer - 1])
                line += f"{expected:8}{float(one.slope):8.3f} +-{half:5.3f}"
                line += " flat" if bool(one.flat) else "     "
                within += bool(one.low <= expected <= one.high)
                count += 1
            print(line.rstrip())
    print(
        f"\n{within} of {count} exponents by hand are in the 95% intervals (the laws share draws)"
    )


def picture(dataset: Any, path: str) -> None:
    """Draw mean squares against the width, with lines of the exponents by hand."""
    from matplotlib.figure import Figure

    figure = Figure((9.5, 5.6), layout="constrained")
    rows = figure.subplots(2, len(LAWS), sharex=True, sharey="row")
    widths = dataset.width.values.astype(float)
    x = np.log10(widths) - np.log10(widths).mean()
    for axes, name in zip(rows, (ACTIVATIONS, GRADIENTS), strict=True):
        for panel, law in zip(axes, LAWS, strict=True):
            for layer in range(1, LAYERS + 1):
                one = dataset[name].sel(parametrization=law, layer=layer, statistic="mean").values
                exponent = by_hand(law)[name][layer - 1]
                line = 10 ** (np.log10(one).mean() + exponent * x)
                colour, size = f"C{layer - 1}", 11 - 2 * layer  # some lie on each other
                label = f"layer {layer}" + (" (readout)" if layer == LAYERS else "")
                panel.plot(widths, one, "o", color=colour, markersize=size, label=label)
                hand = {"label": "by hand"} if layer == LAYERS else {}
                panel.plot(widths, line, color="0.4", linewidth=1, zorder=1, **hand)
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(widths[::2], [f"{width:g}" for width in widths[::2]])
            panel.minorticks_off()
    for panel, law in zip(rows[0], LAWS, strict=True):
        panel.set_title(law, fontsize="medium")
    for panel in rows[1]:
        panel.set_xlabel("width")
    rows[0, 0].set_ylabel("mean square of activations")
    rows[1, 0].set_ylabel("... of weight gradients")
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=LAYERS + 1, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widest", type=int, default=2048, help="units (default: 2048)")
    parser.add_argument("--trials", type=int, default=40, help="draws of all weights (default: 40)")
    parser.add_argument("--quick", action="store_true", help="up to 256 units")
    parser.add_argument("--plot", metavar="FILE", help="save the picture")
    args = parser.parse_args()
    widest = 256 if args.quick else args.widest
    if widest < 64:
        parser.error("--widest must be at least 64, for a second width")
    widths = [2**power for power in range(5, 31) if 2**power <= widest]

    dataset = vp.sweep(
        network,
        {"parametrization": list(LAWS), "width": widths},
        inputs=32,
        trials=args.trials,
        quantities=(ACTIVATIONS, GRADIENTS),
        backward=True,
        store=None,
    )
    found = dataset.varprop.scaling_exponent("width")
    print(
        f"mean square ~ width^exponent, widths {widths[0]} to {widths[-1]}, {args.trials} draws\n"
    )
    compare(found)
    print(
        "\nBy hand, with weights of std 1 nothing is flat behind the first layer; divided\n"
        "by sqrt(fan_in) all activations are. A step of SGD moves the pre-activations of\n"
        "a hidden layer by a sum over fan_in of activation times weight gradient, in\n"
        "mean square by width^(0 - 1 + 2) there, and by width^(0 - 2 + 2) in muP: one\n"
        "learning rate fits all widths. At muP's inputs it has to grow with the\n"
        "width, at the readout to fall with it."
    )
    if args.plot:
        picture(dataset, args.plot)


if __name__ == "__main__":
    main()
