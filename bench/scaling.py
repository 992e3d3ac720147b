"""What a run costs as it grows: ``python bench/scaling.py --picture scaling.png``.

From one middling run, width, batch, depth, trials and threads are varied one at a time. Every run
has a process of its own, which reports the best time of a few repeats, and the memory that the
first took beyond what the interpreter and the imports had before. Products alone count as GF/s.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from sides import best, repeats

CORES = len(os.sched_getaffinity(0))
START = {"width": 512, "batch": 256, "depth": 8, "trials": 4, "threads": CORES}
AXES = {
    "width": [32, 64, 128, 256, 512, 1024, 2048, 4096],
    "batch": [1, 4, 16, 64, 256, 1024, 4096],
    "depth": [1, 2, 4, 8, 16, 32, 64, 128],
    "trials": [1, 2, 4, 8, 16, 32],
    "threads": sorted({*range(1, CORES, max(1, CORES // 8)), CORES}),
}
WAYS = {"forward": 1, "both ways": 3}  # products a layer


class Cost(NamedTuple):
    """What a run took."""

    ms: float
    gflops: float  # a second
    megabytes: float

    def __str__(self) -> str:
        return f"{self.ms:>10.2f}{self.gflops:>8.0f}{self.megabytes:>10.1f}"


def work(run: dict[str, int], way: str) -> None:
    """Print what a run takes; the body of a process."""
    import varprop as vp

    width, batch, depth, trials, threads = run.values()
    net = vp.mlp([width] * (depth + 1), "tanh", weight="lecun_normal")
    backward = way == "both ways"

    def job() -> object:
        return vp.simulate(net, batch, trials=trials, threads=threads, backward=backward)

    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = memory("VmRSS")
    job()
    taken = memory("VmHWM") - before
    seconds = best(job, repeats(job))
    flops = 2 * batch * width**2 * depth * trials * WAYS[way]
    print(1e3 * seconds, 1e-9 * flops / seconds, 1e-6 * taken)


def memory(field: str) -> int:
    """Return the memory of this process, now (VmRSS) or at its most (VmHWM), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def measure(run: dict[str, int], way: str) -> Cost:
    command = [sys.executable, __file__, "--worker", json.dumps(run), way]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Cost(*map(float, answer.split()))


def draw(costs: dict[str, dict[str, list[Cost]]], path: Path) -> None:
    """Draw times and memory, a column for each thing that was varied."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(costs), 5), layout="constrained")
    panels = figure.subplots(2, len(costs), sharex="col", sharey="row", squeeze=False)
    for (axis, by_way), column in zip(costs.items(), panels.T, strict=True):
        for panel, unit in zip(column, ("ms", "megabytes"), strict=True):
            for way, found in by_way.items():
                panel.loglog(AXES[axis], [getattr(cost, unit) for cost in found], ".-", label=way)
            panel.grid(alpha=0.3)
        ticks = AXES[axis][:: 1 + len(AXES[axis]) // 5]
        column[-1].set_xticks(ticks, labels=map(str, ticks))
        column[-1].tick_params(which="minor", bottom=False, labelbottom=False)
        column[-1].set_xlabel(axis)
    panels[0, 0].set_ylabel("time (ms)")
    panels[1, 0].set_ylabel("memory (MB)")
    panels[0, 0].legend(frameon=False)
    figure.suptitle("one at a time from " + described(START))
    figure.savefig(path, dpi=150)


def described(run: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in run.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of runs of many sizes.")
    parser.add_argument("--only", choices=AXES, nargs="+", default=list(AXES), metavar="AXIS")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    args = parser.parse_args()

    title = f"{'ms':>10}{'GF/s':>8}{'MB':>10}"
    print("one at a time from " + described(START))
    costs: dict[str, dict[str, list[Cost]]] = {}
    for axis in args.only:
        costs[axis] = {way: [] for way in WAYS}
        print("\n" + " " * 10 + "".join(f"{way:>28}" for way in WAYS))
        print(f"{axis:<10}" + title * len(WAYS))
        for value in AXES[axis]:
            for way, found in costs[axis].items():
                found.append(measure({**START, axis: value}, way))
            now = (str(found[-1]) for found in costs[axis].values())
            print(f"{value:<10}" + "".join(now), flush=True)
    if args.picture:
        draw(costs, args.picture)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]), sys.argv[3])
    else:
        main()
