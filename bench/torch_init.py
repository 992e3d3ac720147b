"""init_ of a transformer of 10^8 parameters against torch.nn.init: ``python bench/torch_init.py``.

Every side is a process that holds the model and waits. A round asks ours, then torch's, after a
pause in which idle threads stop spinning; a ratio is torch's time over ours of the same round.
Shown are medians, with the quartiles of the ratio, and the ratio wanted at least. The truncated
normal is cut where it bites, at 2 standard deviations. Shown too is ``init_`` with one law alone,
as a user calls it: biases and norms are constants then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
from sides import PAUSE, torch_on

LAYERS, WIDTH, TOKENS = 12, 768, 20_000
NORMAL, TRUNCATED = "normal(std=0.02)", "trunc_normal(std=1, a=-2, b=2)"

Fill = Callable[[Any, int], object]  # of a model, with a seed


def model() -> Any:
    from torch import nn

    layer = nn.TransformerEncoderLayer(WIDTH, 12, 4 * WIDTH, batch_first=True)
    encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    return nn.ModuleDict({"embedding": nn.Embedding(TOKENS, WIDTH), "encoder": encoder})


def varprop(law: str, threads: int, alone: bool = False) -> Fill:
    import varprop as vp

    laws = law if alone else {"*": law}
    return lambda model, seed: vp.torch.init_(model, laws, seed=seed, threads=threads)


def torch(function: str, **arguments: float) -> Fill:
    from torch import nn

    fill = getattr(nn.init, function)
    return lambda model, _: [fill(tensor, **arguments) for tensor in model.parameters()]


SIDES: dict[str, Callable[[int], Fill]] = {
    "normal": lambda threads: varprop(NORMAL, threads),
    "one law": lambda threads: varprop(NORMAL, threads, alone=True),
    "truncated": lambda threads: varprop(TRUNCATED, threads),
    "normal_": lambda _: torch("normal_", std=0.02),
    "trunc_normal_": lambda _: torch("trunc_normal_", std=1.0, a=-2.0, b=2.0),
}
ROWS = [  # ours, torch's, the ratio wanted, the share of rounds
    ("normal", "normal_", 4.0, 1.0),
    ("one law", "normal_", 4.0, 1.0),
    ("truncated", "trunc_normal_", 40.0, 0.4),
]


def work(side: str, threads: int) -> None:
    """Answer every line on standard input with a time in seconds; the body of a worker."""
    torch_on(threads)
    filled, fill, seeds = model(), SIDES[side](threads), count()
    fill(filled, next(seeds))
    print(sum(p.numel() for p in filled.parameters()), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        fill(filled, next(seeds))
        print(time.perf_counter() - start, flush=True)


class Worker:
    """A process that holds one side."""

    def __init__(self, side: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", side, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.parameters = int(self.answer())

    def answer(self) -> float:
        """Return the next number that the worker writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side failed: {self.process.args!r}")
        return float(line)

    def measure(self) -> float:
        """Return the time of one round, in seconds."""
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self.answer()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11, help="of both sides (default: 11)")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, threads = options.worker
        work(side, int(threads))
        return
    print(f"{'ours':<11}{'torch':<15}{'threads':>7}{'torch s':>9}{'our s':>8}{'ratio':>8}"
          f"{'quartiles':>14}{'least':>7}")  # fmt: skip
    for ours, theirs, least, share in ROWS:
        for threads in (1, 2):
            workers = [Worker(side, threads) for side in (ours, theirs)]
            rounds = max(3, round(share * options.rounds))
            with workers[0].process, workers[1].process:  # which closes their input: they end
                pairs = [[worker.measure() for worker in workers] for _ in range(rounds)]
            own, peer = np.transpose(pairs)
            low, ratio, high = np.quantile(peer / own, (0.25, 0.5, 0.75))
            print(
                f"{ours:<11}{theirs:<15}{threads:>7}{np.median(peer):>9.3f}{np.median(own):>8.3f}"
                f"{ratio:>8.2f}{f'{low:.2f}-{high:.2f}':>14}{least:>7g}",
                flush=True,
            )
    print(f"{workers[0].parameters / 1e6:.1f} million parameters, float32")


if __name__ == "__main__":
    main()
