"""Fixtures that several subjects share."""

import signal
import statistics
import subprocess
import sys
import textwrap
import time

import pytest


@pytest.fixture
def interrupted_after():
    """Run `work` in a process of its own, interrupt it, and return the seconds until it stopped.

    The median of three: a neighbour may hold the machine for longer than the work does.
    """

    def measure(work: str) -> float:
        code = f"""\
import time
import numpy as np
import varprop as vp
vp.simulate(vp.mlp([10, 10]), 5, trials=1)
print("ready", flush=True)
try:
{textwrap.indent(textwrap.dedent(work), "    ")}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
vp.simulate(vp.mlp([10, 10]), 5, trials=1)  # the core is usable afterwards
"""
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.4)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            stopped = float(process.stdout.readline())
            assert process.wait() == 0
        return stopped - sent

    return lambda work: statistics.median(measure(work) for _ in range(3))


@pytest.fixture
def one_thread_of_torch():
    """Have small networks train on one thread: several wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
