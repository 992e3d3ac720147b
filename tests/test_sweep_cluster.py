"""Sweeps on Dask clusters: the bits of one process, whatever becomes of workers and clients."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Timer

import numpy as np
import pytest

import varprop as vp
from varprop._sweep.task import Task

xarray = pytest.importorskip("xarray")
pytest.importorskip("zarr")
distributed = pytest.importorskip("distributed")
from sweeps import chain  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # Dask's own, and of what tests kill

HERE = Path(__file__).parent
GRID = {"sigma_w": [0.5, 1.0, 2.0], "depth": [3, 30], "width": [10, 60]}
ASKED = {"inputs": 6, "trials": 7, "quantities": ("var", "correlation"), "progress": False}


@contextmanager
def cluster(workers, threads=1, **how):
    """Give the client of a cluster on this machine, and close both."""
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=None, **how
        ) as made,
        distributed.Client(made) as client,
    ):
        client.run(sys.path.insert, 0, str(HERE))
        yield client


@pytest.fixture(scope="module")
def whole():
    return vp.sweep(chain, GRID, store=None, **ASKED)


@pytest.fixture(scope="module")
def pair():
    with cluster(2) as client:
        yield client


@pytest.mark.parametrize("workers", [(1, 1), (4, 1), (1, 3)])
def test_same_bits_whatever_the_workers(workers, whole):
    with cluster(*workers) as client:
        found = vp.sweep(chain, GRID, client=client, store=None, **ASKED)
    xarray.testing.assert_identical(found, whole)


def test_workers_of_its_own(whole):
    """A script, since such workers import it; it prints nothing else, and leaves nobody behind."""
    script = f"""
import sys, varprop as vp
sys.path.insert(0, {str(HERE)!r})
from sweeps import chain
if __name__ == "__main__":
    asked = {ASKED!r}
    print(vp.sweep(chain, {GRID!r}, workers=2, store=None, **asked)["var"].values.tobytes().hex())
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    )
    assert run.stderr == ""
    assert bytes.fromhex(run.stdout) == whole["var"].values.tobytes()


def test_a_script_without_its_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import varprop as vp\n"
        "vp.sweep(lambda n: vp.mlp([n, n]), {'n': [3, 4]}, workers=1, store=None)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert run.returncode == 1
    *_, last = run.stderr.splitlines()
    assert last.startswith(
        "RuntimeError: workers did not start: a script must keep this call under"
    )
    assert len(run.stderr.splitlines()) < 25


def test_the_client_of_several(pair, whole):
    """Each client has a loop of its own."""
    with cluster(1) as latest:
        for client in (pair, latest, pair):
            found = vp.sweep(chain, GRID, client=client, store=None, **ASKED)
            xarray.testing.assert_identical(found, whole)


def test_functions_of_the_session_travel(pair):
    width = 12
    found = vp.sweep(lambda n: vp.mlp([width] * n), {"n": [2, 3]}, client=pair, store=None, **ASKED)
    here = vp.sweep(lambda n: vp.mlp([12] * n), {"n": [2, 3]}, store=None, **ASKED)
    np.testing.assert_array_equal(found["var"], here["var"])


def test_heavy_points_are_split(pair, tmp_path, monkeypatch):
    """Each worker has blocks of one point, and the point is that of one go."""
    monkeypatch.setattr("varprop._sweep.agenda._LEAST", 0.05)
    asked = {**ASKED, "trials": 4000, "inputs": 50}
    log = tmp_path / "log"

    def build(width):
        with log.open("a") as file:
            print(os.getpid(), file=file)
        return chain(1.0, 20, width)

    found = vp.sweep(build, {"width": [50]}, client=pair, store=None, **asked)
    here = vp.sweep(build, {"width": [50]}, store=None, **asked)
    xarray.testing.assert_identical(found.drop_attrs(), here.drop_attrs())
    pids = log.read_text().split()
    assert len(set(pids) - {str(os.getpid())}) == 2
    assert len(pids) >= 1 + 4


@pytest.mark.parametrize("workers", [2, 1])
def test_a_worker_killed_in_the_middle(workers, whole):
    """Where it was the only one, all that workers had of the sweep is lost with it."""
    with cluster(workers) as client:
        pids = list(client.run(os.getpid).values())[:1]

        def kill(done):
            if done > 0.3 and pids:
                os.kill(pids.pop(), signal.SIGKILL)

        asked = {**ASKED, "progress": kill}
        found = vp.sweep(chain, GRID, client=client, store=None, **asked)
        assert not pids
    xarray.testing.assert_identical(found, whole)


class MuteError(Exception):
    """An error that cannot be pickled."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def only_here(pid):
    """Return a function whose networks are built in one process alone."""

    def build(n):
        if os.getpid() != pid and n == 2:
            raise MuteError(n, "no more")
        return vp.mlp([4] * (n + 1))

    return build


def test_errors_of_workers(pair, tmp_path):
    asked = {**ASKED, "client": pair, "store": tmp_path / "a.zarr"}
    build = only_here(os.getpid())
    with pytest.raises(vp.PointError, match=r"at n=2: RuntimeError: MuteError: 2 and no more"):
        vp.sweep(build, {"n": [1, 2, 3]}, **asked)
    found = vp.sweep(build, {"n": [1, 2, 3]}, errors="record", **asked)
    assert found["error"].values.tolist() == [
        "",
        "RuntimeError: MuteError: 2 and no more",
        "",
    ]
    assert np.isfinite(found["var"].sel(n=3, statistic="mean")).all()


def test_functions_that_workers_do_not_have(pair, monkeypatch, tmp_path):
    (tmp_path / "only_here.py").write_text(
        "import varprop\ndef build(n): return varprop.mlp([n, n])"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from only_here import build

    with pytest.raises(vp.PointError, match=r"at n=.*: ModuleNotFoundError: .*only_here"):
        vp.sweep(build, {"n": [1, 2]}, client=pair, store=None, **ASKED)


def test_a_point_that_kills_its_worker(tmp_path):
    """Those that wait at the same worker are not to blame."""
    here = os.getpid()

    def deadly(n):
        if n == 2 and os.getpid() != here:
            os._exit(1)
        return vp.mlp([4] * (n + 1))

    with cluster(1) as client:
        found = vp.sweep(
            deadly, {"n": [1, 2, 3, 4, 5]}, client=client, errors="record", store=None, **ASKED
        )
    assert "KilledWorker" in str(found["error"].sel(n=2).values)
    others = found.sel(n=[1, 3, 4, 5])
    assert (others["error"] == "").all()
    assert np.isfinite(others["var"].sel(layer=1, statistic="mean")).all()


def test_a_cluster_without_workers(whole, monkeypatch):
    monkeypatch.setattr("varprop._sweep.cluster._PATIENCE", 0.2)
    with cluster(0) as client:
        Timer(1.0, client.cluster.scale, (1,)).start()
        with pytest.warns(UserWarning, match="has no workers: the sweep waits"):
            found = vp.sweep(chain, GRID, client=client, store=None, **ASKED)
    xarray.testing.assert_identical(found, whole)


def test_networks_that_differ_on_workers(pair, tmp_path):
    here = os.getpid()
    with pytest.raises(vp.PointError, match="the same network each time, and on workers too"):
        vp.sweep(
            lambda n: vp.mlp([n, 4 + (os.getpid() == here)]),
            {"n": [1, 2]}, client=pair, store=tmp_path / "a.zarr", **ASKED,
        )  # fmt: skip


def test_what_cannot_be_sent(pair, tmp_path):
    lock = Lock()
    with pytest.raises(TypeError, match="pickle"):
        vp.sweep(
            lambda n: lock and vp.mlp([n, n]), {"n": [1]},
            client=pair, store=tmp_path / "a.zarr", **ASKED,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_cluster_that_ends(tmp_path):
    with cluster(1) as client:

        def close(done):
            if 0.2 < done < 1:
                client.cluster.close()

        with pytest.raises((ConnectionError, RuntimeError)):
            vp.sweep(
                chain,
                GRID,
                client=client,
                store=tmp_path / "a.zarr",
                **{**ASKED, "progress": close},
            )
    found = vp.sweep(chain, GRID, store=tmp_path / "a.zarr", **ASKED)
    xarray.testing.assert_identical(found, vp.sweep(chain, GRID, store=None, **ASKED))


def test_threads_and_memory_are_the_workers(monkeypatch):
    """A block has one thread, and its share of the worker's memory."""
    given = []
    run = Task.run

    def watched(self, *point, **how):
        given.append((how["threads"], how["memory"]))
        return run(self, *point, **how)

    monkeypatch.setattr(Task, "run", watched)
    with cluster(1, 2, processes=False, memory_limit="400MB") as client:
        vp.sweep(chain, GRID, client=client, store=None, **ASKED)
    assert set(given) == {(1, 140_000_000)}


@pytest.mark.slow
def test_client_killed_five_times(tmp_path):
    """Its cluster dies with it; what was done stays as it is, and the end is that of one go."""
    store, log = tmp_path / "a.zarr", tmp_path / "log"
    script = f"""
import os, sys, varprop as vp
sys.path.insert(0, {str(HERE)!r})
from sweeps import chain
from distributed import Client, LocalCluster
here = os.getpid()
def build(**point):
    if os.getpid() != here:
        with open({str(log)!r}, "a") as file:
            print(point, file=file)
    return chain(**point)
if __name__ == "__main__":
    grid = {{"sigma_w": [i / 8 for i in range(1, 25)], "depth": [40, 60]}}
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.run(sys.path.insert, 0, {str(HERE)!r})
            vp.sweep(build, grid, inputs=50, trials=1000, client=client, store={str(store)!r})
"""
    chance = random.Random(1)
    seen, kills = {}, 0
    while True:
        begun = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
        if kills < 5:
            while process.poll() is None and (not log.exists() or log.stat().st_size == begun):
                time.sleep(0.005)
            time.sleep(0.3 * chance.random())
            if process.poll() is None:
                process.kill()
                kills += 1
        code = process.wait(timeout=200)
        found = {
            path: path.stat().st_mtime_ns
            for path in (store / "values").glob("c.*")
            if "partial" not in path.name
        }
        assert seen.items() <= found.items()
        seen = found
        if code == 0:
            break
    assert kills == 5
    assert len(seen) == 48
    blocks = len(log.read_text().splitlines())
    assert blocks <= 48 + 5 * 2 * (1 + 3)  # those in flight, with the ones that wait for a worker
    grid = {"sigma_w": [i / 8 for i in range(1, 25)], "depth": [40, 60]}
    whole = vp.sweep(chain, grid, inputs=50, trials=1000, store=None, progress=False)
    xarray.testing.assert_identical(vp.open_sweep(store).drop_attrs(), whole.drop_attrs())
