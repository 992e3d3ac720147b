"""What a sweep costs beyond its simulations, and what workers add: ``python bench/sweep.py``.

Overhead: tiny points, some hundred microseconds each, in this process and on a worker; by point,
less what ``vp.simulate`` takes for the same networks in a loop. Throughput: one heavy sweep on a
cluster of one and of two single-thread workers in turn, medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import varprop as vp

TINY = {"inputs": 4, "trials": 2}
HEAVY = {"inputs": 100, "trials": 40}


def build(position: int, depth: int, width: int) -> vp.Network:
    weight = vp.Normal((1 + position * 1e-6) / width**0.5)
    return vp.mlp([width] * (depth + 1), "tanh", weight)


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as made,
        Client(made) as client,
    ):
        client.run(sys.path.insert, 0, str(Path(__file__).parent))
        client.run(vp.simulate, build(0, 3, 10), **TINY, threads=1)  # imports, once
        yield client


def seconds(points: int, client: Any, asked: dict[str, int], depth: int, width: int) -> float:
    """Return how long a sweep takes, from its call to its Dataset."""
    grid = {"position": range(points), "depth": [depth], "width": [width]}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        vp.sweep(build, grid, client=client, store=f"{folder}/a.zarr", progress=False, **asked)
        return time.perf_counter() - start


def overhead(counts: list[int]) -> None:
    print(f"{'points':>8}{'simulate':>12}{'here':>12}{'a worker':>12}   ms a point")
    with cluster(1) as client:
        seconds(20, client, TINY, 3, 10)
        for count in counts:
            few = min(count, 500)
            start = time.perf_counter()
            for position in range(few):
                vp.simulate(build(position, 3, 10), **TINY)
            own = (time.perf_counter() - start) / few
            here, there = (seconds(count, c, TINY, 3, 10) / count for c in (None, client))
            print(f"{count:8}{1e3 * own:12.3f}{1e3 * here:12.3f}{1e3 * there:12.3f}", flush=True)


def throughput(rounds: int, points: int) -> None:
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers in (1, 2):  # alone: a cluster that waits takes some percent of a core
            with cluster(workers) as client:
                seconds(2 * workers, client, HEAVY, 50, 300)
                times[workers].append(seconds(points, client, HEAVY, 50, 300))
    ratios = [a / b for a, b in zip(times[1], times[2], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    one_takes, two_take = (statistics.median(times[workers]) for workers in (1, 2))
    print(
        f"\n{points} points: one worker {one_takes:.2f} s, two {two_take:.2f} s; "
        f"ratio {middle:.2f} (quartiles {low:.2f} to {high:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=7, help="of throughput (default: 7)")
    parser.add_argument("--heavy", type=int, default=32, help="points of throughput (default: 32)")
    args = parser.parse_args()
    overhead(args.points)
    if args.rounds:
        throughput(args.rounds, args.heavy)


if __name__ == "__main__":
    main()
