"""Sweeps in one process: beside simulations by hand, what comes back, what fails."""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import varprop as vp
from varprop._sweep.agenda import Agenda

xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")
from sweeps import GRID, QUIET, SMALL, chain, chunks, depth_of, same, watched  # noqa: E402


@pytest.fixture
def calls(monkeypatch):
    return watched(monkeypatch)


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

            def do(self, blocks, report):
                blocks = list(blocks)
                assert len(blocks) > 3 * 6
                assert max(block.trials for block in blocks) < trials
                shuffled.shuffle(blocks)
                return super().do(iter(blocks), report)

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
        pytest.importorskip("matplotlib")
        for one in (read, found):
            one.isel(depth=0).varprop.phase_diagram("sigma_w", "layer")
        assert abs(read.varprop.scaling_exponent("depth").slope[0, 0, 0]) < 1e-12

    def test_says_how_it_was_built(self):
        built = partial(vp.mean_field_mlp, 10, sigma_b=0.5)
        found = vp.sweep(built, {"depth": [2]}, **QUIET)
        assert found.build == (
            "functools.partial(varprop._mean_field.mean_field_mlp, 10, sigma_b=0.5)"
        )

    @pytest.mark.parametrize(
        ("build", "grid", "activations"),
        [
            (chain, {"sigma_w": [1.0]}, "tanh"),
            (lambda phi: vp.mlp([4] * 4, phi), {"phi": ["erf", "relu"]}, "erf, relu"),
            (lambda n: vp.mlp([4] * n, "relu", output_activation="tanh"), {"n": [4, 5]}, "relu"),
            (lambda n: vp.mlp([4] * 5, "tanh" if n else "relu"), {"n": [0, 1]}, "relu, tanh"),
            (lambda n: vp.Network(4, [vp.Dense(4, "tanh")] * 2 + [vp.LayerNorm()] * n),
             {"n": [0, 1]}, ""),
            (lambda n: vp.Network(4, [vp.Dense(4, a) for a in ("tanh", "relu", "tanh")][:n]),
             {"n": [2, 3]}, ""),
        ],
    )  # fmt: skip
    def test_says_which_activations_all_networks_have(self, build, grid, activations):
        assert vp.sweep(build, grid, **QUIET).activations == activations

    def test_values_of_all_kinds(self):
        values = [np.float32(0.5), np.array(1), True and 2.5, xarray.DataArray(3.5)]
        found = vp.sweep(chain, {"sigma_w": values}, **QUIET)
        assert found.sigma_w.values.tolist() == [0.5, 1.0, 2.5, 3.5]

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
    for code in page.split("```python\n")[1:3]:
        exec(compile(code.split("```")[0], "sweeps.md", "exec"), names)
    assert set(names["wide"].varprop.scaling_exponent("width")) == {
        "slope", "low", "high", "flat", "misfit",
    }  # fmt: skip
    assert names["found"]["correlation"].sel(statistic="mean", layer=50).shape == (9, 3)
    assert (tmp_path / "phase.png").stat().st_size > 10_000


def fragile(sigma_w, depth):
    if sigma_w == 1.0:
        raise ArithmeticError(f"no {sigma_w} at {depth}")
    weight = "normal(std=1e300)" if (sigma_w, depth) == (2.0, 6) else "lecun_normal"
    return vp.mlp([10] * (depth + 1), "tanh", weight=weight)


class TestErrors:
    def test_a_build_that_is_not_deterministic(self):
        sizes = iter(range(5, 99))
        with pytest.raises(vp.PointError, match="at k=1: ValueError: build must return the same"):
            vp.sweep(lambda k: vp.mlp([k, next(sizes)]), {"k": [1]}, **QUIET)
        depths = iter(range(3, 99))
        found = vp.sweep(
            lambda k: vp.mlp([k] * (next(depths) if k == 1 else 3)), {"k": [1, 2]},
            errors="record", **QUIET,
        )  # fmt: skip
        assert "build must return the same network" in str(found["error"].sel(k=1).values)
        assert found["error"].sel(k=2) == ""

    def test_an_error_of_progress_is_not_the_points(self, tmp_path):
        def broken(done):
            raise OverflowError(done)

        asked = {**SMALL, "store": tmp_path / "a.zarr", "errors": "record"}
        with pytest.raises(OverflowError):
            vp.sweep(chain, GRID, **{**asked, "progress": broken})
        assert "error" not in vp.open_sweep(tmp_path / "a.zarr")

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
        assert (mended["error"] == "").all()
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
            ({"grid": {"sigma_w": [1.0, 2.0, 1]}}, ValueError, "each value once, got 1.0 again"),
            ({"grid": {"sigma_w": [float("nan")]}}, ValueError, "must be finite"),
            ({"grid": {"layer": [1]}}, ValueError, "one of the result's own"),
            ({"grid": {"last_layer": [1]}}, ValueError, "one of the result's own"),
            ({"grid": {"var": [1]}, "quantities": "var"}, ValueError, "name of a quantity"),
            ({"grid": {"depth": [2, print, lambda: 0]}}, ValueError, "must be told by its text"),
            ({"grid": {"depth": [2**53, 2**53 + 1, 0.5]}}, ValueError, "each value once"),
            ({"inputs": np.full((3, 10), np.nan)}, ValueError, "inputs must be finite"),
            ({"threads": 0}, ValueError, "threads must be an integer >= 1"),
            ({"progress": 3}, TypeError, "progress must be"),
            ({"resume": 1}, TypeError, "resume must be"),
            ({"store": 3}, TypeError, "store must be"),
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
