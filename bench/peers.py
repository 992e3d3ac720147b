"""Side by side with the peers, in one run: ``python bench/peers.py`` prints ratios of times.

Every side runs in a process of its own, which warms up and then waits. A round asks one side, then
the other, after a pause in which idle thread pools stop spinning; a side answers with the best of a
few repeats. A peer that knows several ways tries them first and keeps the fastest. A ratio is the
peer's time over ours of the same round: above 1 we are faster. Shown are its median over the
rounds, its quartiles, and the ratios that we want: at least, and the aim.

A row is one entry of CASES; what its sides do is in ``sides/``, a file per subject.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from sides import (
    PAUSE,
    Side,
    best,
    chain,
    draws,
    fastest,
    images,
    layers,
    one_thread,
    repeats,
    step,
    wait,
)

PACKAGES = ("numpy", "torch", "jax", "mkl")


@dataclass(frozen=True)
class Case:
    """One row for each number of threads: a job, done by us and by a peer."""

    name: str
    peer: str  # its first word is the package that it needs; or it is ours, done otherwise
    ours: Side
    theirs: Side
    least: float | None = None  # ratios wanted
    aim: float | None = None
    threads: tuple[int, ...] = (1,)

    def __str__(self) -> str:
        return f"{self.name} against {self.peer}"

    def missing(self) -> bool:
        """Return whether the peer's package is not installed."""
        package = self.peer.split()[0]
        return package in PACKAGES and installed(package) is None


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# --- The rows ---

BOTH = (1, 2)  # threads
CHAIN, CHAINS = "chain 500 x 100, 100 layers", "chain, 64 trials"
WIDTHS = (128, 512, 1024, 2048, 4096)
CURVED = ("gelu", "gelu_tanh", "tanh", "silu", "sigmoid", "elu", "selu", "softplus", "mish",
          "erf", "softsign", "sin")  # fmt: skip

relu = layers.varprop(512, "relu")
normal, brief = draws.varprop("normal"), draws.varprop("normal", "bfloat16")
torch_normal, torch_brief = draws.torch("normal_"), draws.torch("normal_", "bfloat16")
torch_truncated = draws.torch("trunc_normal_", std=1.0, a=-2.0, b=2.0)
torch_chains = fastest({"torch bmm": chain.torch_batched(64), "torch mm": chain.torch(64)})
jax_chains = fastest({"jax vmap": chain.jax(64), "jax map": chain.jax(64, batched=False)})
products = {  # alone, of a width
    width: fastest({"torch mm": layers.torch(width), "numpy matmul": layers.numpy(width)})
    for width in WIDTHS
}
LINEAR, CURVES = ("linear", "linear"), ("tanh", "sigmoid")
torch_images = {
    curves: fastest(
        {
            f"torch {name}": images.torch(curves, channels_last=last)
            for name, last in (("NCHW", False), ("NHWC", True))
        }
    )
    for curves in (LINEAR, CURVES)
}

CASES = [
    Case(CHAIN, "numpy", chain.varprop(), chain.numpy(), 12, 18, BOTH),
    Case(CHAIN, "torch", chain.varprop(), chain.torch(), 6, 10, BOTH),
    Case(CHAIN, "jax", chain.varprop(), chain.jax(), 4, 6, BOTH),
    Case(CHAINS, "numpy", chain.varprop(64), chain.numpy(64), 14, 20, BOTH),
    Case(CHAINS, "torch", chain.varprop(64), torch_chains, 7, 12, BOTH),
    Case(CHAINS, "jax", chain.varprop(64), jax_chains, 5, 7, BOTH),
    *(
        case
        for width in WIDTHS
        for activation in ("linear", "relu")
        for name, whole in [(f"512 x {width}, {activation}", layers.varprop(width, activation))]
        for case in (
            Case(name, "torch or numpy", whole, products[width], 1, 1, BOTH),
            Case(name, "mkl sgemm", whole, layers.mkl(width), None, 1, BOTH),
        )
    ),
    Case("both ways, 5 x 1000 tanh", "torch lean", step.varprop, step.torch_lean, 2, 3, BOTH),
    Case("both ways, 5 x 1000 tanh", "torch hooks", step.varprop, step.torch_hooks, 5, 7, BOTH),
    *(
        Case(f"64x96x3, 200, 1, {curves[0]}", "torch", images.varprop(curves), side, 1, 2, BOTH)
        for curves, side in torch_images.items()
    ),
    Case("10^7 normal", "torch", normal, torch_normal, 5, 7),
    Case("10^7 normal", "numpy", normal, draws.numpy("standard_normal"), 10, 14),
    Case("10^7 normal", "mkl vsl", normal, draws.mkl_normal, 1, 1.5),
    Case("10^7 uniform", "torch", draws.varprop("uniform"), draws.torch("uniform_"), 8, 9),
    Case("10^7 uniform", "numpy", draws.varprop("uniform"), draws.numpy("random")),
    Case("10^7 truncated normal", "torch", draws.varprop("he_normal"), torch_truncated, 60, 80),
    Case("10^7 bfloat16 normal", "torch", brief, torch_brief, 5, 8),
    # Ourselves, done otherwise: what a second thread, another activation, or float64 costs.
    Case("10^7 normal", "one thread", normal, one_thread(normal), 1.8, 1.95, (2,)),
    Case(CHAIN, "one thread", chain.varprop(), one_thread(chain.varprop()), 1.8, 1.95, (2,)),
    Case(CHAINS, "one thread", chain.varprop(64), one_thread(chain.varprop(64)), 1.8, 1.95, (2,)),
    *(
        Case(f"512 x 512, {activation}", "relu", layers.varprop(512, activation), relu, 0.8, 0.91)
        for activation in CURVED
    ),
    *(
        Case(f"{name}, float64", "float32", double, single, 0.455, 0.5)
        for name, double, single in (
            ("chain", chain.varprop(dtype="float64"), chain.varprop()),
            ("512 x 512, relu", layers.varprop(512, "relu", "float64"), relu),
            ("10^7 normal", draws.varprop("normal", "float64"), normal),
        )
    ),
    Case("1000 calls, 2 layers of 16", "60 us each", layers.calls(1000), wait(0.06), 1, 2),
]


# --- The method ---


def work(case: Case, side: str, threads: int) -> None:
    """Answer every line on standard input with a time in seconds; the body of a worker."""
    job = getattr(case, side)(threads)
    number = repeats(job)
    print(getattr(job, "name", ""), flush=True)  # of a choice
    for _ in sys.stdin:
        print(best(job, number), flush=True)


class Worker:
    """A process that holds one side of a case."""

    def __init__(self, index: int, side: str, threads: int) -> None:
        # NPROC is JAX's.
        limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(index), side, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(limits, str(threads))},
        )
        self.choice = self.answer()

    def answer(self) -> str:
        """Return the next line that the worker writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side failed: {self.process.args!r}")
        return line.strip()

    def measure(self) -> float:
        """Return the time of one round, in seconds."""
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.answer())


def compare(index: int, threads: int, rounds: int) -> dict[str, Any]:
    """Measure one row; all times are kept, in seconds."""
    case = CASES[index]
    workers = [Worker(index, side, threads) for side in ("ours", "theirs")]
    with workers[0].process, workers[1].process:  # which closes their input, and so ends them
        pairs = [[worker.measure() for worker in workers] for _ in range(rounds)]
    ours, theirs = np.transpose(pairs)
    low, ratio, high = np.quantile(theirs / ours, (0.25, 0.5, 0.75)).tolist()
    return {
        "case": case.name,
        "peer": workers[1].choice or case.peer,
        "threads": threads,
        "ratio": ratio,
        "quartiles": [low, high],
        "least": case.least,
        "aim": case.aim,
        "ours": ours.tolist(),
        "theirs": theirs.tolist(),
    }


# --- The table ---

COLUMNS = {"job": "<28", "against": "<16", "threads": ">7", "peer ms": ">9", "our ms": ">9",
           "ratio": ">7", "quartiles": ">12", "least": ">6", "aim": ">6"}  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    low, high = row["quartiles"]
    return [
        *(row["case"], row["peer"], str(row["threads"])),
        *(f"{1e3 * float(np.median(row[side])):.2f}" for side in ("theirs", "ours")),
        *(figure(row["ratio"]), f"{figure(low)}-{figure(high)}"),
        *("" if row[wanted] is None else f"{row[wanted]:g}" for wanted in ("least", "aim")),
    ]


def figure(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def line(texts: list[str], markdown: bool) -> str:
    if markdown:
        return f"| {' | '.join(texts)} |"
    return "".join(f"{text:{width}}" for text, width in zip(texts, COLUMNS.values(), strict=True))


def reached(rows: list[dict[str, Any]], wanted: str) -> str:
    asked = [row for row in rows if row[wanted] is not None]
    return f"{sum(row['ratio'] >= row[wanted] for row in asked)} of {len(asked)}"


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
        **{package: installed(package) for package in PACKAGES},
        "load": load(),
    }


def load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of times, the peers' over ours.")
    parser.add_argument("--rounds", type=int, default=11, help="of both sides (default: 11)")
    parser.add_argument("--quick", action="store_true", help="3 rounds: a look, no measurement")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="rows with TEXT in 'JOB against PEER'"
    )
    parser.add_argument("--list", action="store_true", help="the rows, without measuring")
    parser.add_argument("--markdown", action="store_true", help="the table as README has it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all times, in seconds")
    args = parser.parse_args()
    wanted = [(index, case) for index, case in enumerate(CASES) if args.only in str(case)]
    if not wanted:
        parser.error(f"no row has {args.only!r} in it; --list prints them")
    if args.list:
        print(*(case for _, case in wanted), sep="\n")
        return

    about = machine()
    for name, value in about.items():
        print(f"{name + ':':<17}{value or 'not installed'}")
    print("\n" + line(list(COLUMNS), args.markdown))
    if args.markdown:
        print(line(["---"] * len(COLUMNS), True))
    rows = []
    for index, case in wanted:
        if case.missing():
            print(f"{case}: skipped, not installed")
            continue
        for threads in case.threads:
            if threads > about["cores"]:
                print(f"{case}: skipped, {threads} threads on too few cores")
                continue
            rows.append(compare(index, threads, 3 if args.quick else args.rounds))
            print(line(cells(rows[-1]), args.markdown), flush=True)
            if args.json:
                args.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1))
    print(f"\nrows that reach what is wanted at least: {reached(rows, 'least')}")
    print(f"rows that reach the aim: {reached(rows, 'aim')}\nload at the end: {load()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(CASES[int(sys.argv[2])], sys.argv[3], int(sys.argv[4]))
    else:
        main()
