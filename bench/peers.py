"""Side by side with the peers, in one run: ``python bench/peers.py`` prints ratios of times.

Every side runs in a process of its own, which warms up and then waits. A round asks one side, then
the other, after a pause in which idle thread pools stop spinning; a side answers with the best of a
few repeats. A ratio is the peer's time over ours of the same round: above 1 we are faster. Shown
are its median over the rounds and its quartiles. A row is one entry of CASES.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

Job = Callable[[], object]
Side = Callable[[int], Job]  # makes what is timed, for a number of threads

PAUSE = 0.3  # seconds: longer than OpenMP and MKL let idle threads spin
SPELL = 0.3  # seconds of repeats that a side may take in one round


@dataclass(frozen=True)
class Case:
    """One row for each number of threads: a job, done by us and by a peer."""

    name: str
    peer: str  # the module that the peer's side needs
    ours: Side
    theirs: Side
    threads: tuple[int, ...] = (1,)

    def __str__(self) -> str:
        return f"{self.name} against {self.peer}"


# --- A chain: 500 rows through 100 linear layers of 100, and the mean and variance of each ---


def chain_varprop(threads: int) -> Job:
    import varprop as vp

    net = vp.mlp([100] * 101, activation="linear", weight="normal(std=0.1)")
    seeds = count()

    def job() -> object:
        run = vp.simulate(net, inputs=500, trials=1, seed=next(seeds), threads=threads)
        return run.depth_average()

    return job


def chain_numpy(_: int) -> Job:
    def job() -> object:  # as in the document, in float64; its threads are those of the BLAS
        mean = var = 0.0
        X = np.random.normal(size=(500, 100))  # noqa: NPY002
        for _ in range(100):
            W = np.random.normal(size=(100, 100), scale=np.sqrt(1 / 100))  # noqa: NPY002
            X = X @ W
            mean += X.mean()
            var += X.var()
        return mean / 100, np.sqrt(var / 100)

    return job


# --- Both ways through 5 layers of 1000 tanh, batch 300: mean and variance of every layer's
# pre-activations, activations, gradients, weight and bias gradients ---

BATCH, WIDTH, DEPTH = 300, 1000, 5


def step_varprop(threads: int) -> Job:
    import varprop as vp

    net = vp.mlp([WIDTH] * (DEPTH + 1), "tanh", weight="torch_linear")
    seeds = count()
    return lambda: vp.simulate(
        net, BATCH, trials=1, seed=next(seeds), backward=True, threads=threads
    )


def step_torch(threads: int) -> Job:
    """Take the step by hand, into tensors that are there already: faster than autograd."""
    torch = torch_on(threads)
    x = [torch.empty(BATCH, WIDTH) for _ in range(DEPTH + 1)]
    w = [torch.empty(WIDTH, WIDTH) for _ in range(DEPTH)]
    y, delta, product = (torch.empty(BATCH, WIDTH) for _ in range(3))
    by_weight = torch.empty(WIDTH, WIDTH)
    bound = WIDTH**-0.5

    def job() -> object:
        seen = []
        x[0].normal_()
        for layer in range(DEPTH):
            w[layer].uniform_(-bound, bound)
            torch.mm(x[layer], w[layer], out=y)
            torch.tanh(y, out=x[layer + 1])
            seen += [torch.var_mean(y), torch.var_mean(x[layer + 1])]
        product.normal_()
        for layer in reversed(range(DEPTH)):
            torch.addcmul(product, product * x[layer + 1], x[layer + 1], value=-1, out=delta)
            torch.mm(x[layer].T, delta, out=by_weight)
            bias = delta.sum(0)
            seen += [torch.var_mean(delta), torch.var_mean(by_weight), torch.var_mean(bias)]
            torch.mm(delta, w[layer].T, out=product)
        return [*seen, torch.var_mean(product)]

    def without_gradients() -> object:
        with torch.no_grad():
            return job()

    return without_gradients


# --- Draws: 10^7 float32 numbers into an array that is there already ---

SHAPE = (2500, 4000)


def draw_varprop(law: str) -> Side:
    def side(threads: int) -> Job:
        import varprop as vp

        out = np.zeros(SHAPE, np.float32)
        seeds = count()
        return lambda: vp.weights(SHAPE, law, seed=next(seeds), out=out, threads=threads)

    return side


def draw_numpy(method: str) -> Side:
    def side(_: int) -> Job:
        draw = getattr(np.random.default_rng(0), method)
        out = np.zeros(SHAPE, np.float32)
        return lambda: draw(dtype=np.float32, out=out)

    return side


def draw_torch(method: str, **arguments: float) -> Side:
    def side(threads: int) -> Job:
        torch = torch_on(threads)
        out = torch.zeros(SHAPE)
        fill = getattr(torch.nn.init, method)  # these call Tensor.normal_ and so on, without grad
        return lambda: fill(out, **arguments)

    return side


def torch_on(threads: int) -> Any:
    torch = import_module("torch")  # untyped here: the peers may be missing
    torch.set_num_threads(threads)
    return torch


CASES = [
    Case("chain 500 x 100, 100 layers", "numpy", chain_varprop, chain_numpy, threads=(1, 2)),
    Case("both ways, 5 x 1000 tanh", "torch", step_varprop, step_torch, threads=(1, 2)),
    Case("10^7 normal", "numpy", draw_varprop("normal"), draw_numpy("standard_normal")),
    Case("10^7 normal", "torch", draw_varprop("normal"), draw_torch("normal_")),
    Case("10^7 uniform", "numpy", draw_varprop("uniform"), draw_numpy("random")),
    Case("10^7 uniform", "torch", draw_varprop("uniform"), draw_torch("uniform_")),
    Case(
        "10^7 truncated normal",
        "torch",
        draw_varprop("he_normal"),
        draw_torch("trunc_normal_", std=1.0, a=-2.0, b=2.0),
    ),
]


# --- The method ---


def work(case: Case, side: str, threads: int) -> None:
    """Answer every line on standard input with a time in seconds; the body of a worker."""
    job: Job = getattr(case, side)(threads)

    def once() -> float:
        start = time.perf_counter()
        job()
        return time.perf_counter() - start

    once()
    typical = min(once() for _ in range(3))
    repeats = max(2, min(50, round(SPELL / typical)))
    print("ready", flush=True)
    for _ in sys.stdin:
        print(min(once() for _ in range(repeats)), flush=True)


class Worker:
    """A process that holds one side of a case."""

    def __init__(self, index: int, side: str, threads: int) -> None:
        limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(index), side, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(limits, str(threads))},
        )
        self.answer()

    def answer(self) -> str:
        """Return the next line that the worker writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side failed: {self.process.args!r}")
        return line

    def measure(self) -> float:
        """Return the time of one round, in seconds."""
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.answer())


def compare(index: int, threads: int, rounds: int) -> dict[str, list[float]]:
    """Return the times of both sides in every round."""
    ours, theirs = Worker(index, "ours", threads), Worker(index, "theirs", threads)
    with ours.process, theirs.process:  # which closes their input, and so ends them
        pairs = [(ours.measure(), theirs.measure()) for _ in range(rounds)]
    mine, peers = zip(*pairs, strict=True)
    return {"ours": list(mine), "theirs": list(peers)}


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    from varprop import _core

    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction set": _core.active_isa(),
        "varprop": f"{_core.__version__}, {_core.compiler}",
        "python": platform.python_version(),
        **{name: installed(name) for name in sorted({"numpy", *(case.peer for case in CASES)})},
        "load": load(),
    }


def installed(name: str) -> str | None:
    return version(name) if find_spec(name) else None


def load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of times, the peers' over ours.")
    parser.add_argument("--rounds", type=int, default=11, help="of both sides (default: 11)")
    parser.add_argument("--quick", action="store_true", help="3 rounds: a look, no measurement")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="cases whose name has NAME in it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all times, in seconds")
    args = parser.parse_args()
    if not any(args.only in str(case) for case in CASES):
        parser.error(f"no case has {args.only!r} in it; there are: {', '.join(map(str, CASES))}")

    about = machine()
    print(
        *(f"{name + ':':<17}{value or 'not installed'}" for name, value in about.items()), sep="\n"
    )
    title = f"{'case':<29}{'peer':<8}threads   peer ms    our ms   ratio  quartiles"
    print(f"\n{title}")
    rows = []
    for index, case in enumerate(CASES):
        if args.only not in str(case):
            continue
        if about[case.peer] is None:
            print(f"{case.name:<29}{case.peer:<8}skipped: not installed")
            continue
        for threads in case.threads:
            times = compare(index, threads, 3 if args.quick else args.rounds)
            ratios = np.divide(times["theirs"], times["ours"])
            low, ratio, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
            ours, theirs = (1e3 * float(np.median(times[side])) for side in ("ours", "theirs"))
            print(
                f"{case.name:<29}{case.peer:<8}{threads:>7}{theirs:>10.3f}{ours:>10.3f}"
                f"{ratio:>8.2f}  {low:.2f} to {high:.2f}",
                flush=True,
            )
            row = {"case": case.name, "peer": case.peer, "threads": threads, **times}
            rows.append({**row, "ratio": ratio, "quartiles": [low, high]})
    print(f"\nload at the end: {load()}")
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(CASES[int(sys.argv[2])], sys.argv[3], int(sys.argv[4]))
    else:
        main()
