"""The sides of bench/peers.py: the same jobs, done by varprop and by its peers."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import files
from typing import Any

Job = Callable[[], object]
Side = Callable[[int], Job]  # makes what is timed, for a number of threads

PAUSE = 0.3  # seconds: longer than OpenMP and MKL let idle threads spin
SPELL = 0.3  # seconds of repeats that a side may take in one round


def best(job: Job, repeats: int) -> float:
    """Return the shortest time of a job, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def repeats(job: Job) -> int:
    """Warm a job up and return how often it can be done in one round."""
    job()
    return max(1, min(50, round(SPELL / best(job, 2))))


@dataclass
class Choice:
    """A job that was the fastest of several, and its name."""

    name: str
    job: Job

    def __call__(self) -> object:
        """Do the job."""
        return self.job()


def fastest(sides: dict[str, Side]) -> Side:
    """Return a side that tries several ways when it is made, and keeps the fastest."""

    def side(threads: int) -> Job:
        jobs = {name: make(threads) for name, make in sides.items()}
        times = {}
        for name, job in jobs.items():
            time.sleep(PAUSE)
            times[name] = best(job, repeats(job))
        name = min(times, key=times.__getitem__)
        return Choice(name, jobs[name])

    return side


def one_thread(side: Side) -> Side:
    """Return the same side, with one thread whatever the row's number."""
    return lambda _: side(1)


def wait(duration: float) -> Side:
    """Return a side that takes a number of seconds: what a time itself is held against."""
    return lambda _: lambda: time.sleep(duration)


def torch_on(threads: int) -> Any:
    torch = import_module("torch")  # untyped here: the peers may be missing
    torch.set_num_threads(threads)
    return torch


def mkl_on(threads: int) -> Any:
    """Return the library of the wheel called mkl, which is no module."""
    library = next(file for file in files("mkl") or () if "mkl_rt" in file.name)
    mkl = ctypes.CDLL(str(library.locate()))
    mkl.MKL_Set_Num_Threads(threads)
    return mkl
