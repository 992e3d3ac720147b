"""Where does order end and chaos begin? A phase diagram of deep tanh networks, beside theory.

1600 networks of 100 layers, over the sizes of their weights and of their biases. In the ordered
phase all inputs become one and gradients vanish, in the chaotic phase inputs part and gradients
explode; between them is the edge of chaos, where deep networks train (Schoenholz et al. 2017).
Layers are 10,000 wide and no weight is drawn: ``method="implicit"`` draws what they would do.

    python examples/edge_of_chaos.py [--workers 2] [--store NAME.zarr] [--plot edge_of_chaos.png]

The sweep is kept as it goes: stopped, the same command goes on. Needs SciPy, xarray and Zarr, for
--workers Dask, for a picture Matplotlib: pip install "varprop[sweep,scipy,plot]".
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np

import varprop as vp
from varprop import theory

GRADIENTS = "gradients.log10_second_moment"
LEAVES = 0.95  # a correlation under it is not 1


def sweep(args: argparse.Namespace) -> Any:
    """Return the Dataset of all points, on this process's threads or on workers."""
    grid = {
        "sigma_w": np.linspace(0.5, 3.0, args.points),
        "sigma_b": np.linspace(0.0, 1.0, args.points),
    }
    return vp.sweep(
        partial(vp.mean_field_mlp, args.width, args.depth, "tanh"),
        grid,
        inputs=args.inputs,
        trials=args.trials,
        quantities=("correlation", GRADIENTS),
        backward=True,
        method="implicit",
        workers=args.workers,
        store=args.store,
    )


def growth_of(dataset: Any) -> Any:
    """Return by how many decades gradients grow a layer, going back through the deeper half.

    There the forward variance has settled, and the mean square grows by chi_1 a layer.
    """
    depth = dataset.sizes["layer"]
    gradients = dataset[GRADIENTS].sel(statistic="mean")
    grown = gradients.sel(layer=depth // 2) - gradients.sel(layer=depth)
    return grown / (depth - depth // 2)


def compare(by_gradients: Any, by_correlation: Any, edge: np.ndarray, cell: float) -> None:
    """Print the boundaries beside theory's, and how far they are away, in cells of the grid."""
    print(f"{'gradients neither':>36}{'correlation':>22}")
    print(f"{'theory':>17}{'grow nor shrink':>19}{'leaves 1':>21}")
    print("sigma_b" + f"{'sigma_w':>10}" + 2 * f"{'sigma_w':>13}{'cells':>8}")
    every = max(1, len(edge) // 13)
    away = [(found.values - edge) / cell for found in (by_gradients, by_correlation)]
    for i in range(0, len(edge), every):
        line = f"{by_gradients.sigma_b.values[i]:7.4f}{edge[i]:10.4f}"
        for found, cells in zip((by_gradients, by_correlation), away, strict=True):
            known = np.isfinite(cells[i])
            line += f"{found.values[i]:13.4f}{cells[i]:8.2f}" if known else f"{'-':>13}{'-':>8}"
        print(line)
    first, rest = (float(np.abs(part).max()) for part in (away[0][:1], away[0][1:]))
    print(f"\none cell: {cell:.4f} of sigma_w; table: every {every} of {len(edge)} sigma_b")
    print("largest difference from theory, over all sigma_b:")
    print(f"  gradients {max(first, rest):.2f} cells ({first:.2f} without biases, else {rest:.2f})")
    print(f"  correlation {np.nanmax(np.abs(away[1])):.2f} cells, where it was 1 at all")
    print(f"within one cell everywhere: {'yes' if max(first, rest) <= 1 else 'NO'}")
    print(
        "\nGradients find theory's edge. Without biases they find it late: signals die out\n"
        "there as slowly as 1 / layer, and as long as they do, chi_1 has not settled. The\n"
        "correlation is the worse guide: near the edge it nears its end as slowly, and\n"
        "without biases nothing in the ordered phase makes inputs one: all of them die."
    )


def picture(dataset: Any, growth: Any, found: Any, path: str) -> None:
    """Draw what becomes of two inputs and of gradients, theory's edge, and the simulated one."""
    from matplotlib import patheffects
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    figure = Figure((9.5, 4.2), layout="constrained")
    correlation = dataset.varprop.last("correlation").sel(statistic="mean")
    sigma_b = np.linspace(0.0, 1.0, 101)
    edge = [theory.critical("tanh", b).sigma_w for b in sigma_b]
    most = float(np.abs(growth.where(growth > 0)).max())
    diverging = TwoSlopeNorm(0.0, -2 * most, most)
    for axes, values, name, style, extend in zip(
        figure.subplots(1, 2, sharey=True),
        (correlation, growth),
        (
            "correlation of two inputs, last layer",
            "growth of gradients going back, decades a layer",
        ),
        ({"vmin": 0, "vmax": 1}, {"norm": diverging, "cmap": "RdBu_r"}),
        ("neither", "min"),
        strict=True,
    ):
        axes.set_title(name, fontsize="medium")
        x, y = dataset.sigma_w, dataset.sigma_b
        numbers = values.transpose("sigma_b", "sigma_w")
        mesh = axes.pcolormesh(x, y, numbers, shading="nearest", rasterized=True, **style)
        figure.colorbar(mesh, ax=axes, extend=extend)
        halo = [patheffects.Stroke(linewidth=3.5, foreground="white"), patheffects.Normal()]
        axes.plot(edge, sigma_b, "k", lw=1.5, path_effects=halo, label="theory: edge of chaos")
        dots = {"color": "w", "markeredgecolor": "k", "markersize": 3.5, "clip_on": False}
        axes.plot(found, y, "o", label="simulated: gradients keep their size", **dots)
        axes.set_xlabel("sigma_w")
    figure.axes[0].set_ylabel("sigma_b")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=40, help="of each axis (default: 40)")
    parser.add_argument("--width", type=int, default=10_000, help="units (default: 10,000)")
    parser.add_argument("--depth", type=int, default=100, help="layers (default: 100)")
    parser.add_argument("--inputs", type=int, default=10, help="rows (default: 10)")
    parser.add_argument("--trials", type=int, default=2, help="draws of all weights (default: 2)")
    parser.add_argument("--workers", type=int, help="processes of one thread each")
    parser.add_argument("--store", help="where the sweep is kept (default: edge_of_chaos.zarr)")
    parser.add_argument("--quick", action="store_true", help="10 x 10 networks, 60 x 2000 units")
    parser.add_argument("--plot", metavar="FILE", help="save the picture")
    args = parser.parse_args()
    if args.points < 2:
        parser.error("--points must be at least 2, for a boundary between them")
    if args.quick:
        args.points, args.width, args.depth, args.inputs = 10, 2000, 60, 4
    args.store = args.store or f"edge_of_chaos{'_quick' if args.quick else ''}.zarr"

    dataset = sweep(args)
    growth = growth_of(dataset)
    by_gradients = dataset.varprop.boundary("sigma_w", growth)
    by_correlation = dataset.varprop.boundary("sigma_w", "correlation", LEAVES)
    edge = np.array([theory.critical("tanh", b).sigma_w for b in dataset.sigma_b.values])
    print(
        f"{args.points} x {args.points} tanh networks, {args.depth} layers of {args.width} units, "
        f"{args.inputs} inputs, {args.trials} draws:\n"
        "where order becomes chaos\n"
    )
    compare(by_gradients, by_correlation, edge, float(np.diff(dataset.sigma_w).mean()))
    if args.plot:
        picture(dataset, growth, by_gradients, args.plot)


if __name__ == "__main__":
    main()
