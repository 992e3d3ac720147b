"""Sweeps in stores: resumed after any end, refused where they are others', damaged, fought over."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import varprop as vp
from varprop._sweep import store as _store
from varprop._sweep.digest import digest

xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")
from sweeps import GRID, QUIET, SMALL, chain, chunks, same, watched  # noqa: E402


@pytest.fixture
def calls(monkeypatch):
    return watched(monkeypatch)


def test_goes_on(tmp_path, calls):
    store = tmp_path / "a.zarr"

    def stops(sigma_w, depth):
        if len(calls) == 4:
            raise KeyboardInterrupt
        return chain(sigma_w, depth)

    with pytest.raises(KeyboardInterrupt):
        vp.sweep(stops, GRID, store=store, **SMALL)
    partly = vp.open_sweep(store)
    done = np.isfinite(partly["log10_second_moment"].sel(statistic="mean", layer=1))
    assert done.sum() == 3
    whole = vp.sweep(chain, GRID, **QUIET)
    calls.clear()
    found = vp.sweep(chain, GRID, store=store, **SMALL)
    assert len(calls) == 3
    assert same(found.drop_attrs(), whole.drop_attrs())
    calls.clear()
    assert same(vp.sweep(chain, GRID, store=store, **SMALL), found)
    assert not calls
    assert same(vp.open_sweep(str(store)), found)


def test_killed_at_any_moment(tmp_path):
    """Five times SIGKILL; what was done stays as it is, and the end is that of one go."""
    log = tmp_path / "log"
    script = f"""
import varprop as vp, sys
sys.path.insert(0, {os.fspath(Path(__file__).parent)!r})
from sweeps import chain
def build(**point):
    with open({os.fspath(log)!r}, "a") as file:
        print(point, file=file)
    return chain(**point)
grid = {{"sigma_w": [i / 8 for i in range(1, 25)], "depth": [40, 60]}}
vp.sweep(build, grid, inputs=50, trials=20, store={os.fspath(tmp_path / "a.zarr")!r}, threads=1)
"""
    chance = random.Random(1)
    seen = {}
    kills = 0
    for _ in range(40):
        process = subprocess.Popen([sys.executable, "-c", script])
        if kills < 5:
            begun = log.stat().st_size if log.exists() else 0
            while process.poll() is None and (
                not log.exists() or log.stat().st_size < begun + 48 * 32
            ):  # until it simulates
                time.sleep(0.005)
            time.sleep(0.1 * chance.random())
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        code = process.wait(timeout=120)
        found = {path: path.stat().st_mtime_ns for path in chunks(tmp_path / "a.zarr")}
        assert seen.items() <= found.items()
        seen = found
        if code == 0:
            break
    assert kills >= 3  # a fast machine may have ended before
    assert len(seen) == 48
    points = log.read_text().splitlines()
    simulated = len(points) - 48 * (kills + 1)  # the others were looked at before
    assert simulated <= 48 + kills
    grid = {"sigma_w": [i / 8 for i in range(1, 25)], "depth": [40, 60]}
    whole = vp.sweep(chain, grid, inputs=50, trials=20, store=None, progress=False)
    assert same(vp.open_sweep(tmp_path / "a.zarr").drop_attrs(), whole.drop_attrs())


def test_a_damaged_chunk_is_done_again(tmp_path, calls):
    store = tmp_path / "a.zarr"
    whole = vp.sweep(chain, GRID, store=store, **SMALL)
    one, other, *_ = chunks(store)
    one.write_bytes(b"")  # a power cut
    data = bytearray(other.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    calls.clear()
    assert same(vp.sweep(chain, GRID, store=store, **SMALL), whole)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"trials": 4}, "trials was 3, is 4"),
        ({"inputs": 5}, "inputs was 4, is 5"),
        ({"inputs": np.ones((4, 10))}, "inputs was 4, is given, 4 x 10"),
        ({"dtype": "float64"}, "dtype was float32, is float64"),
        ({"backward": True}, "backward was False, is True"),
        ({"quantities": ("var",)}, "quantities was log10_second_moment, is var"),
        ({"method": "implicit"}, "method was explicit, is implicit"),
        ({"grid": {"sigma_w": [0.5, 1.0, 3.0], "depth": [3, 6]}},
         r"grid\['sigma_w'\]\[2\] was 2.0, is 3.0"),
        ({"grid": {"sigma_w": [0.5, 1.0], "depth": [3, 6]}},
         r"grid\['sigma_w'\] had 3 values, has 2"),
        ({"grid": {"sigma_w": [0.5, 1.0, 2.0], "width": [3, 6]}},
         "grid was of sigma_w, depth, is of sigma_w, width"),
        ({"build": lambda sigma_w, depth: chain(sigma_w, depth, 10 + (sigma_w == 1.0))},
         "the network at sigma_w=1.0, depth=3 is another"),
    ],
)  # fmt: skip
def test_another_sweep_is_refused(tmp_path, change, message):
    store = tmp_path / "a.zarr"
    whole = vp.sweep(chain, GRID, store=store, **SMALL)
    asked = {"build": chain, "grid": GRID, "store": store, **SMALL, **change}
    with pytest.raises(ValueError, match=f"belongs to another sweep: {message}"):
        vp.sweep(asked.pop("build"), asked.pop("grid"), **asked)
    assert same(vp.open_sweep(store), whole)


def test_no_resume(tmp_path):
    vp.sweep(chain, GRID, store=tmp_path / "a.zarr", **SMALL)
    with pytest.raises(FileExistsError, match="holds a sweep already"):
        vp.sweep(chain, GRID, store=tmp_path / "a.zarr", resume=False, **SMALL)


def test_what_is_no_sweep_is_left_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("dear")
    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("x", shape=2, dtype="f8")
    (tmp_path / "file").write_text("dear")
    for name, message in (
        ("folder", "is neither"), ("other.zarr", "something else"), ("file", "is neither"),
    ):  # fmt: skip
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=message):
            vp.sweep(chain, GRID, store=tmp_path / name, **SMALL)
        with pytest.raises(ValueError, match=message):
            vp.open_sweep(tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(FileNotFoundError, match="no sweep"):
        vp.open_sweep(tmp_path / "nothing.zarr")


def test_two_begin_at_once(tmp_path, monkeypatch):
    """One sweep twice: both have all its numbers. Two sweeps: the later one is refused."""
    whole = vp.sweep(chain, GRID, **QUIET)
    create = _store.create
    asked = {**SMALL, "store": tmp_path / "a.zarr"}

    def late(*arguments):
        monkeypatch.undo()
        vp.sweep(chain, GRID, **asked)  # between the look and the leap of the other
        return create(*arguments)

    monkeypatch.setattr(_store, "create", late)
    assert same(vp.sweep(chain, GRID, **asked), whole)
    asked["store"] = tmp_path / "b.zarr"
    monkeypatch.setattr(_store, "create", late)
    with pytest.raises(ValueError, match="belongs to another sweep: seed was 0, is 1"):
        vp.sweep(chain, GRID, seed=1, **asked)
    assert same(vp.open_sweep(tmp_path / "b.zarr"), whole)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zarr", "b.zarr"}


def test_killed_while_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr("zarr.core.attributes.Attributes.update", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vp.sweep(chain, GRID, store=tmp_path / "a.zarr", **SMALL)
    assert not list(tmp_path.iterdir())


def test_a_store_that_goes_away(tmp_path):
    def remove(done):
        if done > 0.4:
            shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)

    with pytest.raises((RuntimeError, OSError)):
        vp.sweep(chain, GRID, store=tmp_path / "a.zarr", **{**SMALL, "progress": remove})


def test_damage_elsewhere(tmp_path):
    asked = {"store": tmp_path / "a.zarr", "errors": "record", **SMALL}
    found = vp.sweep(lambda k: 1 / 0 if k == 2 else vp.mlp([5, 5]), {"k": [1, 2]}, **asked)
    assert "ZeroDivisionError" in str(found["error"].sel(k=2).values)
    (chunk,) = (tmp_path / "a.zarr" / "error").glob("c.*")
    chunk.write_bytes(b"")
    again = vp.open_sweep(tmp_path / "a.zarr")
    assert "error" not in again
    assert same(again["log10_second_moment"], found["log10_second_moment"])
    (tmp_path / "a.zarr" / "zarr.json").write_text("")
    with pytest.raises(ValueError, match="cannot be read as that of a sweep"):
        vp.open_sweep(tmp_path / "a.zarr")


def test_where_a_store_may_be(tmp_path, monkeypatch):
    whole = vp.sweep(chain, GRID, **QUIET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def away(done):
        os.chdir(tmp_path / "elsewhere")

    assert same(vp.sweep(chain, GRID, store="a b.zarr", **{**SMALL, "progress": away}), whole)
    assert len(chunks(tmp_path / "a b.zarr")) == 6
    monkeypatch.chdir(tmp_path)
    address = (tmp_path / "new" / "c.zarr").as_uri()
    assert same(vp.sweep(chain, GRID, store=address, **SMALL), whole)
    assert len(chunks(tmp_path / "new" / "c.zarr")) == 6
    memory = zarr.storage.MemoryStore()
    assert same(vp.sweep(chain, GRID, store=memory, **SMALL), whole)
    assert same(vp.open_sweep(memory), whole)
    with pytest.raises(ValueError, match="belongs to another sweep"):
        vp.sweep(chain, GRID, store=memory, seed=1, **SMALL)


def test_networks_mended_later(tmp_path):
    asked = {"store": tmp_path / "a.zarr", **SMALL}
    vp.sweep(lambda k: 1 / k and vp.mlp([5, 5]), {"k": [0, 1]}, errors="record", **asked)
    mended = vp.sweep(lambda k: vp.mlp([5, 5 + 0 * k]), {"k": [0, 1]}, **asked)
    assert "error" not in mended
    with pytest.raises(ValueError, match="the network at k=0 is another"):
        vp.sweep(lambda k: vp.mlp([5, 5 + (k == 0)]), {"k": [0, 1]}, **asked)


class Power:
    """A function that is an object."""

    def __init__(self, power):
        self.power = power

    def __call__(self, x):
        return x**self.power


def by_default(x, power=2):
    return x**power


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.sin, np.cosh),
        (lambda x: np.sin(x), lambda x: np.cosh(x)),
        (Power(2), Power(3)),
        (partial(by_default, power=2), partial(by_default, power=3)),
        (np.vectorize(lambda x: x + 1), np.vectorize(lambda x: x + 2)),
        (*((lambda x, n=n: x**n) for n in (2, 3)),),
    ],
)
def test_functions_that_differ(one, other):
    def made(function):
        return digest(vp.Network(4, [vp.Dense(4), vp.Elementwise(function)]))

    assert made(one) == made(one)
    assert made(one) != made(other)


def test_digests_are_those_of_other_processes():
    code = """
import sys, numpy as np, varprop as vp
from varprop._sweep.digest import digest
inner = lambda x: [f(x) for f in (lambda y: y in {1.0, 2.0}, np.tanh)][1]
layers = [vp.Dense(4, "leaky_relu(slope=0.3)"), vp.Elementwise(inner), vp.Residual([vp.Dense(4)])]
print(digest(vp.Network(4, [*layers, vp.Dense(2, weight=np.eye(4, 2))])).hex())
"""
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2)
    }  # fmt: skip
    assert len(seen) == 1
    assert len(seen.pop().strip()) == 32
