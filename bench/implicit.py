"""Implicit weights against explicit ones and PyTorch, over the width: ``python bench/implicit.py``.

A batch of 16 through tanh layers of one width and back again, with the moments of every signal.
Every cell is a process of its own: seconds a layer, the median of a few runs, and the most memory
that it held. PyTorch draws its weights, keeps them, and takes no moments. Last stands the network
of a million units in each of a hundred layers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

BATCH = 16
WIDTHS = {  # widths and depths
    "implicit": {10_000: 10, 30_000: 10, 100_000: 10, 300_000: 10, 1_000_000: 10},
    "explicit": {10_000: 10, 30_000: 3},
    "torch": {10_000: 10, 30_000: 2},
}
LARGEST = (1_000_000, 100)
REPEATS = 3


def varprop_run(method: str, width: int, depth: int, threads: int) -> Callable[[], object]:
    import varprop as vp

    net = vp.mlp([width] * (depth + 1), "tanh", weight=f"normal(std={width**-0.5})", bias=None)
    return lambda: vp.simulate(net, BATCH, trials=1, backward=True, method=method, threads=threads)


def torch_run(width: int, depth: int, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)

    def run() -> object:
        x = torch.randn(BATCH, width, requires_grad=True)
        y, weights = x, []
        for _ in range(depth):
            weights.append(torch.randn(width, width).mul_(width**-0.5).requires_grad_())
            y = torch.tanh(y @ weights[-1])
        y.backward(torch.randn(BATCH, width))
        return x.grad

    return run


def cell(side: str, width: int, depth: int, threads: int, repeats: int) -> None:
    """Measure in this process, and print the seconds and bytes."""
    if side == "torch":
        run = torch_run(width, depth, threads)
    else:
        run = varprop_run(side, width, depth, threads)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([statistics.median(seconds), most]))


def measured(*arguments: object) -> tuple[float, float] | None:
    command = [sys.executable, __file__, "--cell", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return None
    seconds, most = json.loads(run.stdout)
    return seconds, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cell", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        side, *numbers = options.cell
        cell(side, *map(int, numbers))
        return
    sides = [side for side in WIDTHS if side != "torch" or importlib.util.find_spec("torch")]
    print(f"{options.threads} threads, batch {BATCH}, both ways, float32")
    print(f"{'width':>10}" + "".join(f"{side + ': s a layer':>24}{'GB':>7}" for side in sides))
    for width in WIDTHS["implicit"]:
        line = f"{width:>10}"
        for side in sides:
            depth = WIDTHS[side].get(width)
            found = depth and measured(side, width, depth, options.threads, REPEATS)
            line += f"{found[0] / depth:>24.4f}{found[1] / 1e9:>7.2f}" if found else " " * 31
        print(line, flush=True)
    width, depth = LARGEST
    found = measured("implicit", width, depth, options.threads, 1)
    assert found is not None
    print(f"width {width}, depth {depth}: {found[0]:.1f} s, {found[1] / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
