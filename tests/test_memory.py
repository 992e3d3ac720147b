"""Memory: W is never a whole matrix; estimates come before allocations."""

import subprocess
import sys

import pytest

import varprop as vp
from varprop import _memory

PEAK = """
import pathlib, varprop as vp
{work}
status = pathlib.Path("/proc/self/status").read_text()
print(1024 * int(status.split("VmHWM:")[1].split()[0]))
"""


def peak(work: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", PEAK.format(work=work)], capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_of_width_8192():
    work = "vp.simulate(vp.mlp([8192] * 5, 'relu', 'he_normal'), 256, trials=1)"
    used = peak(work)
    print(f"peak {used / 1e6:.0f} MB, of which {(used - peak('pass')) / 1e6:.0f} MB for the run")
    assert used < 300e6  # one weight matrix alone is 268 MB


def test_available_memory_is_told():
    assert 1e6 < _memory.available() < 1e14


def test_readable_sizes():
    sizes = {5: "5 bytes", 1500: "1.5 kB", 2.5e6: "2.5 MB", 3e9: "3 GB", 4.2e16: "42 PB"}
    assert {size: _memory.readable(size) for size in sizes} == sizes


def test_a_run_that_would_not_fit_is_refused_before_allocating():
    net = vp.mlp([10_000_000, 10_000_000])
    with pytest.raises(MemoryError, match=r"a run of 1000000 rows and 1 trial needs about .* TB"):
        vp.simulate(net, 1_000_000, trials=1)
