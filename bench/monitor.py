"""What a Monitor costs a training: ``python bench/monitor.py``.

Two processes train the same network by the same batches, one of them within a Monitor. A round asks
each for as many steps as there are from one record to the next, so for one record; the ratio is of
the same round. Shown are medians, with the quartiles of the ratio, and the ratio of the
processors' times, which others on a shared machine hardly change.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
from sides import PAUSE, torch_on

# Without these the C library maps and unmaps memory in each step, until a Monitor's larger blocks
# have taught it not to: a training would be faster within one.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}

LAYERS, WIDTH, BATCH, HELD_OUT = 5, 1000, 128, 300


def network() -> Any:
    from torch import nn

    hidden = [m for _ in range(LAYERS) for m in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, 10))


def work(side: str, every: int, threads: int) -> None:
    """Train so many steps for every line on standard input; the body of a worker."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    import varprop as vp

    torch_on(threads)
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs, labels = torch.randn(BATCH, WIDTH), torch.randint(10, (BATCH,))
    watching = vp.torch.Monitor(model, every, on=torch.randn(HELD_OUT, WIDTH))

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    with watching if side == "monitor" else nullcontext():
        train(10)
        print(flush=True)
        for _ in sys.stdin:
            start, cpu = time.perf_counter(), time.process_time()
            train(every)
            print(time.perf_counter() - start, time.process_time() - cpu, flush=True)


class Worker:
    """A process that holds one side."""

    def __init__(self, side: str, every: int, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", side, str(every), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | MEMORY,
            text=True,
        )
        self.answer()

    def answer(self) -> str:
        """Return the next line that the worker writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side failed: {self.process.args!r}")
        return line

    def measure(self) -> list[float]:
        """Return the time of one round, and that of the processors, in seconds."""
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return [float(text) for text in self.answer().split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11, help="of both sides (default: 11)")
    parser.add_argument("--every", type=int, default=100, help="steps of a round (default: 100)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, every, threads = options.worker
        work(side, int(every), int(threads))
        return
    print(
        f"{LAYERS} x {WIDTH} tanh, batch {BATCH}, {HELD_OUT} rows watched in {options.every} steps"
    )
    print(f"{'threads':>7}{'alone s':>9}{'watched s':>11}{'ratio':>8}{'quartiles':>15}{'cpu':>8}")
    for threads in options.threads:
        workers = [Worker(side, options.every, threads) for side in ("alone", "monitor")]
        with workers[0].process, workers[1].process:  # which closes their input: they end
            pairs = [[worker.measure() for worker in workers] for _ in range(options.rounds)]
        alone, watched = np.moveaxis(pairs, 1, 0)  # rounds, and both times
        low, ratio, high = np.quantile((watched / alone)[:, 0], (0.25, 0.5, 0.75))
        alone_s, watched_s = np.median(alone[:, 0]), np.median(watched[:, 0])
        cpu = np.median((watched / alone)[:, 1])
        print(
            f"{threads:>7}{alone_s:>9.3f}{watched_s:>11.3f}{ratio:>8.3f}"
            f"{f'{low:.3f}-{high:.3f}':>15}{cpu:>8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
