"""Sweeps in one process: beside simulations by hand, resumed, refused, failing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import varprop as vp
from varprop._sweep.agenda import Agenda
from varprop._sweep.task import Task

xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")
from sweeps import chain, depth_of  # noqa: E402

GRID = {"sigma_w": [0.5, 1.0, 2.0], "depth": [3, 6]}
SMALL = {"inputs": 4, "trials": 3, "progress": False}
QUIET = {**SMALL, "store": None}


def same(one, other):
    """Tell whether two results are the same to the bit, whatever they were named."""
    xarray.testing.assert_identical(one, other)
    return True


def chunks(store):
    """Return the files of the points that are done."""
    return [
        path
        for path in (store / "values").glob("c.*")
        if path.is_file() and "partial" not in path.name
    ]


@pytest.fixture
def calls(monkeypatch):
    """Return a list of the points that are simulated."""
    done = []
    run = Task.run

    def counted(self, point, first, trials, **how):
        done.append((*point.values(), first, trials))
        return run(self, point, first, trials, **how)

    monkeypatch.setattr(Task, "run", counted)
    return done


class TestNumbers:
    QUANTITIES = (
        "log10_second_moment",
        "var",
        "correlation",
        "saturation",
        "p98",
        "preactivations.mean",
        "gradients.std",
        "weight_gradients.log10_var",
    )

    @pytest.mark.parametrize("seed", [0, 7])
    def test_beside_simulate(self, seed):
        found = vp.sweep(
            chain, GRID, inputs=5, trials=4, seed=seed, backward=True, quantities=self.QUANTITIES,
            store=None, progress=False,
        )  # fmt: skip
        assert found["var"].dims == ("sigma_w", "depth", "layer", "statistic")
        for sigma_w in GRID["sigma_w"]:
            for depth in GRID["depth"]:
                run = vp.simulate(
                    chain(sigma_w, depth), 5, trials=4, seed=seed, backward=True,
                    statistics=("correlation", "saturation", "histogram"),
                )  # fmt: skip
                for name in self.QUANTITIES:
                    signal_name, _, field = name.rpartition(".")
                    statistics = getattr(run, signal_name or "activations")
                    each = getattr(statistics.per_trial, field)
                    low, high = statistics.interval(field)
                    here = found[name].sel(sigma_w=sigma_w, depth=depth)
                    assert np.isnan(here[depth:]).all()
                    here = here[:depth]
                    np.testing.assert_array_equal(here.sel(statistic="low"), low)
                    np.testing.assert_array_equal(here.sel(statistic="high"), high)
                    np.testing.assert_allclose(here.sel(statistic="mean"), each.mean(0), rtol=1e-14)
                    np.testing.assert_allclose(
                        here.sel(statistic="std"), each.std(0, ddof=1), rtol=1e-13, atol=1e-16
                    )

    def test_very_many_trials_beside_simulate(self):
        """They come in groups, which are joined: right to rounding."""
        found = vp.sweep(
            chain, {"sigma_w": [1.5]}, quantities=("var", "correlation"), **{**QUIET, "trials": 777}
        )
        run = vp.simulate(chain(1.5), 4, trials=777, statistics="correlation")
        for name in ("var", "correlation"):
            each = getattr(run.activations.per_trial, name)
            low, high = run.activations.interval(name)
            wanted = [each.mean(0), each.std(0, ddof=1), low, high]
            np.testing.assert_allclose(found[name][0].T, wanted, rtol=1e-12)

    def test_layers_without_the_signal(self):
        found = vp.sweep(
            depth_of,
            {"position": [0, 2]},
            backward=True,
            quantities="weight_gradients.var",
            **QUIET,
        )
        have = np.isfinite(found["weight_gradients.var"].sel(statistic="mean"))
        np.testing.assert_array_equal(have, [[1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0]])

    def test_given_inputs_and_one_trial(self):
        rows = np.random.default_rng(0).normal(size=(7, 10))
        found = vp.sweep(chain, {"sigma_w": [1.0]}, inputs=rows, trials=1, store=None)
        run = vp.simulate(chain(1.0), rows, trials=1)
        mean = found["log10_second_moment"].sel(statistic="mean")[0]
        np.testing.assert_array_equal(mean, run.activations.log10_second_moment)
        assert np.isnan(found["log10_second_moment"].sel(statistic=["std", "low", "high"])).all()
        assert "given, 7 x 10, float64" in found.inputs

    def test_signals_that_leave_the_range(self):
        found = vp.sweep(
            lambda std: vp.Network(4, [vp.Dense(4, "squared_relu", f"normal(std={std})")] * 12),
            {"std": [1.0, 1e6]}, quantities=("var", "log10_second_moment"), **QUIET,
        )  # fmt: skip
        assert not np.isfinite(found["var"].sel(std=1e6, layer=12, statistic="mean"))
        assert np.isfinite(found["var"].sel(std=1.0, layer=1, statistic="mean"))

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_same_bits_whatever_the_threads(self, threads):
        assert same(vp.sweep(chain, GRID, threads=threads, **QUIET), vp.sweep(chain, GRID, **QUIET))

    @pytest.mark.parametrize("trials", [11, 250])
    def test_same_bits_in_blocks_of_any_size_and_order(self, monkeypatch, trials):
        asked = {**QUIET, "trials": trials, "quantities": ("var", "p02")}
        whole = vp.sweep(chain, GRID, **asked)
        shuffled = random.Random(0)

        module = sys.modules["varprop._sweep.sweep"]

        class Crowd(module.ThisProcess):
            slots = 5

            def do(self, task, grid, blocks, report):
                blocks = list(blocks)
                assert len(blocks) > 3 * 6
                assert max(block.trials for block in blocks) < trials
                shuffled.shuffle(blocks)
                return super().do(task, grid, iter(blocks), report)

        monkeypatch.setattr(module, "ThisProcess", Crowd)
        monkeypatch.setattr("varprop._sweep.agenda._LEAST", 0.0)
        monkeypatch.setattr("varprop._sweep.agenda._PASSED", 0.0)
        assert same(vp.sweep(chain, GRID, **asked), whole)

    def test_heavy_points_first(self, calls):
        vp.sweep(chain, {"sigma_w": [1.0], "width": [5, 80, 20], "depth": [3, 30]}, **QUIET)
        assert [call[1:3] for call in calls] == [
            (80, 30), (20, 30), (80, 3), (5, 30), (20, 3), (5, 3),
        ]  # fmt: skip

    def test_values_that_are_no_numbers(self):
        found = vp.sweep(
            lambda activation, law: vp.mlp([6, 6], activation, law),
            {"activation": ["tanh", "relu"], "law": [vp.Normal(0.5), "ones"]}, **QUIET,
        )  # fmt: skip
        assert found.activation.values.tolist() == ["tanh", "relu"]
        assert found.law.values.tolist() == ["normal(std=0.5)", "ones"]


class TestResult:
    def test_says_what_it_is_of(self, tmp_path):
        found = vp.sweep(chain, GRID, **QUIET, seed=3, quantities=("var", "gradients.log10_var"),
                         backward=True)  # fmt: skip
        assert found["var"].attrs["units"] == "1"
        assert found["gradients.log10_var"].attrs["units"] == "decades"
        assert found["gradients.log10_var"].attrs["long_name"] == "log10 of var of gradients"
        assert (found.seed, found.trials, found.inputs, found.backward) == (3, 3, 4, 1)
        assert found.varprop_version == vp.__version__
        assert found.layer_name.values.tolist()[-1] == "dense6"
        assert found.last_layer.values.tolist() == [[3, 6]] * 3
        assert found.build.startswith("def chain(sigma_w")
        again = vp.Network.from_dict(__import__("json").loads(found.network))
        assert again == chain(0.5, 3)
        found.to_netcdf(tmp_path / "found.nc", engine="scipy")
        read = xarray.load_dataset(tmp_path / "found.nc", engine="scipy")
        np.testing.assert_array_equal(read["var"], found["var"])

    def test_says_how_it_was_built(self):
        built = partial(vp.mean_field_mlp, 10, sigma_b=0.5)
        found = vp.sweep(built, {"depth": [2]}, **QUIET)
        assert found.build == (
            "functools.partial(varprop._mean_field.mean_field_mlp, 10, sigma_b=0.5)"
        )

    def test_progress(self):
        told = []
        vp.sweep(chain, GRID, **{**QUIET, "progress": told.append})
        assert told == sorted(told)
        assert len(told) >= 6
        assert told[-1] == 1.0

    def test_one_chunk_for_each_point(self, tmp_path):
        vp.sweep(chain, GRID, **SMALL, quantities=("var", "mean"), store=tmp_path / "a.zarr")
        values = zarr.open_group(tmp_path / "a.zarr", mode="r")["values"]
        assert values.chunks == (1, 1, 2, 5, 6)
        assert len(chunks(tmp_path / "a.zarr")) == 6
        assert xarray.open_zarr(tmp_path / "a.zarr", consolidated=False)["values"].dims[:2] == (
            "sigma_w", "depth",
        )  # fmt: skip


def test_the_page_of_the_docs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text()
    names = {}
    exec(compile(page.split("```python\n")[1].split("```")[0], "sweeps.md", "exec"), names)
    assert names["found"]["correlation"].sel(statistic="mean", layer=50).shape == (9, 3)
    assert (tmp_path / "phase.png").stat().st_size > 10_000


class TestResumed:
    def test_goes_on(self, tmp_path, calls):
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

    def test_killed_at_any_moment(self, tmp_path):
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
                    not log.exists() or log.stat().st_size < begun + 49 * 30
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
        simulated = len(points) - 48 * (kills + 1) - (kills + 1)  # the others were outlined
        assert simulated <= 48 + kills
        grid = {"sigma_w": [i / 8 for i in range(1, 25)], "depth": [40, 60]}
        whole = vp.sweep(chain, grid, inputs=50, trials=20, store=None, progress=False)
        assert same(vp.open_sweep(tmp_path / "a.zarr").drop_attrs(), whole.drop_attrs())

    def test_a_damaged_chunk_is_done_again(self, tmp_path, calls):
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
    def test_another_sweep_is_refused(self, tmp_path, change, message):
        store = tmp_path / "a.zarr"
        whole = vp.sweep(chain, GRID, store=store, **SMALL)
        asked = {"build": chain, "grid": GRID, "store": store, **SMALL, **change}
        with pytest.raises(ValueError, match=f"belongs to another sweep: {message}"):
            vp.sweep(asked.pop("build"), asked.pop("grid"), **asked)
        assert same(vp.open_sweep(store), whole)

    def test_no_resume(self, tmp_path):
        vp.sweep(chain, GRID, store=tmp_path / "a.zarr", **SMALL)
        with pytest.raises(FileExistsError, match="resume=True"):
            vp.sweep(chain, GRID, store=tmp_path / "a.zarr", resume=False, **SMALL)

    def test_what_is_no_sweep_is_left_alone(self, tmp_path):
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

    def test_a_store_that_was_never_begun(self, tmp_path, monkeypatch):
        monkeypatch.setattr("zarr.core.attributes.Attributes.update", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            vp.sweep(chain, GRID, store=tmp_path / "a.zarr", **SMALL)
        monkeypatch.undo()
        found = vp.sweep(chain, GRID, store=tmp_path / "a.zarr", **SMALL)
        assert same(found, vp.sweep(chain, GRID, **QUIET))


def fragile(sigma_w, depth):
    if sigma_w == 1.0:
        raise ArithmeticError(f"no {sigma_w} at {depth}")
    weight = "normal(std=1e300)" if (sigma_w, depth) == (2.0, 6) else "lecun_normal"
    return vp.mlp([10] * (depth + 1), "tanh", weight=weight)


class TestErrors:
    def test_raised(self, tmp_path):
        with pytest.raises(vp.PointError, match=r"^at sigma_w=1.0, depth=3: ArithmeticError: no"):
            vp.sweep(fragile, GRID, store=tmp_path / "a.zarr", **SMALL)
        assert not (tmp_path / "a.zarr").exists()

    def test_raised_while_it_simulates(self, tmp_path):
        def cubes(sigma_w, depth):
            cube = vp.Elementwise(lambda x: x**3 if depth == 3 else x[:-1])
            return vp.Network(4, [cube] * depth)

        with pytest.raises(vp.PointError, match=r"at sigma_w=0\.5, depth=6") as caught:
            vp.sweep(cubes, GRID, store=tmp_path / "a.zarr", **SMALL)
        assert isinstance(caught.value.__cause__, ValueError)

    def test_recorded(self, tmp_path):
        asked = {"store": tmp_path / "a.zarr", "errors": "record", **SMALL}
        found = vp.sweep(fragile, GRID, **asked)
        assert found["error"].sel(sigma_w=1.0, depth=6) == "ArithmeticError: no 1.0 at 6"
        assert "out of the range of float32" in str(found["error"].sel(sigma_w=2.0, depth=6).values)
        assert found["error"].sel(sigma_w=0.5, depth=6) == ""
        mean = found["log10_second_moment"].sel(statistic="mean", layer=1)
        np.testing.assert_array_equal(np.isnan(mean), [[0, 0], [1, 1], [0, 1]])
        mended = vp.sweep(chain_or_lecun, GRID, **asked)  # tries again what failed, and only that
        assert "error" not in mended
        assert np.isfinite(mended["log10_second_moment"].sel(statistic="mean", layer=1)).all()
        xarray.testing.assert_identical(
            mended["log10_second_moment"].sel(sigma_w=0.5),
            found["log10_second_moment"].sel(sigma_w=0.5),
        )

    def test_all_points_fail(self):
        found = vp.sweep(lambda x: x, {"x": [1, 2]}, errors="record", **QUIET)
        assert (
            found["error"].values.tolist()
            == ["TypeError: build must return a Network, got int"] * 2
        )

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"build": 3}, TypeError, "build must be a function"),
            ({"grid": [1]}, TypeError, "grid must be a mapping"),
            ({"grid": {}}, ValueError, "at least one name"),
            ({"grid": {"sigma_w": []}}, ValueError, "at least one value"),
            ({"grid": {"sigma_w": 3}}, TypeError, "must be a list of values"),
            ({"grid": {"sigma_w": "abc"}}, TypeError, "must be a list of values"),
            ({"grid": {"sigma_w": [1.0, 2.0, 1]}}, ValueError, "each value once, got 1 again"),
            ({"grid": {"sigma_w": [float("nan")]}}, ValueError, "must be finite"),
            ({"grid": {"layer": [1]}}, ValueError, "one of the result's own"),
            ({"grid": {"a b": [1]}}, ValueError, "names that an argument can have"),
            ({"grid": {"sigma_q": [1.0]}}, vp.PointError, "at sigma_q=1.0: TypeError"),
            ({"quantities": ()}, ValueError, "at least one name"),
            ({"quantities": "vra"}, ValueError, "did you mean 'var'"),
            ({"quantities": "gradient.var"}, ValueError, "did you mean 'gradients'"),
            ({"quantities": "gradients.var"}, ValueError, "needs backward=True"),
            ({"quantities": "preactivations.saturation"}, ValueError, "unknown quantity"),
            ({"quantities": ("var", "var")}, ValueError, "each name once"),
            ({"quantities": 3}, TypeError, "tuple of names"),
            ({"trials": 0}, ValueError, "trials must be an integer >= 1"),
            ({"trials": "auto"}, TypeError, "trials must be an integer"),
            ({"errors": "ignore"}, ValueError, "unknown errors 'ignore'"),
            ({"method": "exact"}, ValueError, "unknown method"),
            ({"loss": "hinge"}, ValueError, "unknown loss"),
            ({"backward": 1}, TypeError, "backward must be"),
            ({"inputs": np.ones((3, 4))}, vp.PointError, "inputs must have shape"),
            ({"inputs": "rows"}, TypeError, "inputs must hold real numbers"),
            ({"inputs": [1.0, 2.0]}, ValueError, "inputs must have rows"),
            ({"inputs": 0}, ValueError, "inputs must be an integer >= 1"),
            ({"quantities": "correlation", "inputs": 1}, vp.PointError, "at least 2 rows"),
            ({"workers": 0}, ValueError, "workers must be an integer >= 1"),
            ({"workers": 2, "client": 3}, ValueError, "client or workers, not both"),
            ({"client": "tcp://1.2.3.4:5"}, TypeError, "client must be a synchronous"),
        ],
    )  # fmt: skip
    def test_bad_arguments(self, tmp_path, arguments, error, message):
        if "client" in arguments:
            pytest.importorskip("distributed")
        asked = {"build": chain, "grid": GRID, "store": tmp_path / "a.zarr", **SMALL, **arguments}
        with pytest.raises(error, match=message):
            vp.sweep(asked.pop("build"), asked.pop("grid"), **asked)
        assert not list(tmp_path.iterdir())


def chain_or_lecun(sigma_w, depth):
    return vp.mlp([10] * (depth + 1), "tanh")


class TestAgenda:
    def test_splits_what_is_heavy_beside_the_rest(self):
        agenda = Agenda({0: 1.0, 1: 0.001, 2: 0.001}, 100, lambda: 4)
        blocks = list(agenda.blocks())
        heavy = [block.trials for block in blocks if block.position == 0]
        assert sum(heavy) == 100
        assert 16 <= len(heavy) <= 17  # four rounds of four
        assert [block.position for block in blocks[-2:]] == [1, 2]

    def test_one_worker_splits_nothing(self):
        assert len(list(Agenda({0: 1.0, 1: 2.0}, 100, lambda: 1).blocks())) == 2
