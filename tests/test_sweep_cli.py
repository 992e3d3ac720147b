"""Sweeps on the command line: the bits of Python, clusters, Ctrl-C, reports and pictures."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

import varprop as vp
from varprop.cli import app

xarray = pytest.importorskip("xarray")
pytest.importorskip("zarr")

COMMAND = [sys.executable, "-c", "from varprop.cli import main; main()"]
LIMIT = 120  # seconds, of processes that hang

SMALL = """\
inputs = 6
trials = 3
seed = 4
quantities = ["var", "log10_second_moment"]

[grid]
sigma_w = {start = 0.5, stop = 2.0, count = 4}
sigma_b = [0.0, 0.3]

[network]
width = 12
depth = 3
activation = "erf"
"""

FAILING = """\
trials = 2

[grid]
depth = [2, 0, 3, -1]

[network]
width = 5
"""

SLOW = """\
trials = 100
quantities = "var"
grid.sigma_w = {start = 1, stop = 2.0, count = 8}
network = {width = 150, depth = 20}
"""


def small(store):
    """Return the same sweep by Python, networks written in another way."""

    def build(sigma_w, sigma_b):
        weight = f"variance_scaling({sigma_w**2}, distribution='untruncated_normal')"
        return vp.mlp([12] * 4, "erf", weight, f"normal(std={sigma_b})")

    grid = {"sigma_w": [0.5, 1.0, 1.5, 2.0], "sigma_b": [0.0, 0.3]}
    quantities = ("var", "log10_second_moment")
    return vp.sweep(build, grid, inputs=6, trials=3, seed=4, quantities=quantities, store=store)


def same(one, other):
    """Return whether two Datasets have the same bits."""
    return one.equals(other) and all(
        one[name].values.tobytes() == other[name].values.tobytes() for name in one
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "sweep.toml").write_text(SMALL)
    return tmp_path


def invoke(code, *words):
    """Run a command in this process, and return what it printed, after looking at its lines."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    return result


def succeed(*words):
    result = invoke(0, *words)
    assert not result.stderr
    return result.stdout


def fail(*words):
    """Return the one line of an error."""
    result = invoke(1, *words)
    assert not result.stdout
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def run(*words):
    """Run a command in a process of its own: dask's are not to see this one's warnings."""
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=LIMIT)


# --- sweep --------------------------------------------------------------------------------------


def test_it_keeps_what_python_would(folder):
    text = succeed("sweep", "sweep.toml")
    assert re.fullmatch(
        r"sweep\.zarr: 8 of 8 points of 3 trials, in [\d.e-]+ s\n"
        r"next: varprop plot sweep\.zarr --kind phase\n",
        text,
    )
    found = vp.open_sweep("sweep.zarr")
    assert same(found, small(None))
    assert found.attrs["build"] == SMALL
    assert found.attrs["seed"] == 4


def test_it_goes_on_and_refuses(folder):
    succeed("sweep", "sweep.toml", "--store", "a.zarr", "--threads", 1)
    assert "; 8 were there before\n" in succeed("sweep", "sweep.toml", "--store", "a.zarr")
    message = fail("sweep", "sweep.toml", "--store", "a.zarr", "--no-resume")
    assert "a.zarr holds a sweep" in message
    (folder / "sweep.toml").write_text(SMALL.replace("seed = 4", "seed = 5"))
    message = fail("sweep", "sweep.toml", "--store", "a.zarr")
    assert "a.zarr belongs to another sweep: seed was 4, is 5" in message
    assert same(vp.open_sweep("a.zarr"), small(None))


def test_points_that_fail(folder):
    (folder / "sweep.toml").write_text(FAILING)
    message = fail("sweep", "sweep.toml")
    assert "at depth=0: ValueError: network.depth must be an integer >= 1, got 0" in message
    assert not (folder / "sweep.zarr").exists()
    text = invoke(1, "sweep", "sweep.toml", "--keep-going").stdout
    assert text.startswith("sweep.zarr: 2 of 4 points of 2 trials, in ")
    assert "2 points failed:\n  depth=0: ValueError: network.depth must be" in text
    (folder / "sweep.toml").write_text(f'errors = "record"\n{FAILING}')
    assert "; 2 were there before\n2 points failed:\n" in invoke(1, "sweep", "sweep.toml").stdout
    found = vp.open_sweep("sweep.zarr")
    assert found["error"].values.astype(bool).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials = 3", "trials = 0", "trials must be an integer >= 1, got 0"),
        ("inputs = 6", "inputs = 'rows'", "inputs must end in .npy, .npz, .csv"),
        ("seed = 4", "seed = -4", "seed must be"),
        ("seed = 4", 'method = "implict"', "unknown method 'implict'"),
        ("seed = 4", 'dtype = "float23"', "unknown dtype 'float23'"),
        ("seed = 4", 'backward = "yes"', "backward must be True or False"),
        ("seed = 4", 'errors = "keep"', "unknown errors 'keep'. One of: raise, record"),
        ('"var"', '"gradients.var"', "'gradients.var' needs backward=True"),
        ('"erf"', '"erff"', "unknown network.activation 'erff': did you mean 'erf'?"),
        (
            "[grid]",
            "[grid]\nwdith = [3]",
            "sweep.toml: unknown argument of network in grid 'wdith'",
        ),
    ],
)
def test_failures_write_nothing(folder, old, new, message):
    (folder / "sweep.toml").write_text(SMALL.replace(old, new))
    assert message in fail("sweep", "sweep.toml")
    assert [path.name for path in folder.iterdir()] == ["sweep.toml"]


def test_files_that_are_not_there(folder):
    assert "no such file or directory: no.toml" in fail("sweep", "no.toml")
    assert "no sweep in no.zarr" in fail("sweep-status", "no.zarr")
    assert "no sweep in no.zarr" in fail("plot", "no.zarr")
    (folder / "other").mkdir()
    (folder / "other" / "file").touch()
    for words in (["sweep", "sweep.toml", "--store", "other"], ["sweep-status", "other"]):
        assert "other is neither" in fail(*words)


def test_an_extra_that_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert '"varprop[sweep]"' in fail("sweep", "sweep.toml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2", "--scheduler", "tcp://a:1"], "give --workers or --scheduler, not both"),
        (["--workers", "0"], "Invalid value for '--workers'"),
        (["--threads", "0"], "Invalid value for '--threads'"),
    ],
)
def test_options_that_do_not_fit(folder, words, message):
    result = invoke(2, "sweep", "sweep.toml", *words)
    assert message in " ".join(result.stderr.split())
    assert all(len(line) <= 80 for line in result.stderr.splitlines())


# --- clusters -----------------------------------------------------------------------------------


def test_processes_of_its_own(folder):
    pytest.importorskip("distributed")
    done = run("sweep", "sweep.toml", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert done.stdout.startswith("sweep.zarr: 8 of 8 points of 3 trials, in ")
    assert same(vp.open_sweep("sweep.zarr"), small(None))


CLUSTER = """
from distributed import LocalCluster
if __name__ == "__main__":
    how = dict(scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}, dashboard_address=None)
    how |= dict(processes=False, protocol="tcp://")  # an address that other processes can reach
    with LocalCluster(n_workers=1, threads_per_worker=2, **how) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


@contextmanager
def cluster():
    """Yield the address of a scheduler."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.write("\n")
            process.stdin.close()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def test_a_cluster_of_somebody_else(folder):
    pytest.importorskip("distributed")
    with cluster() as address:
        assert address.startswith("tcp://")
        done = run("sweep", "sweep.toml", "--scheduler", address)
        assert done.returncode == 0, done.stderr
        assert same(vp.open_sweep("sweep.zarr"), small(None))


def test_a_scheduler_that_does_not_answer(folder):
    pytest.importorskip("distributed")
    code = "from varprop import cli; cli.sweep._PATIENCE = 1; cli.main()"
    words = ["sweep", "sweep.toml", "--scheduler", "tcp://127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 1
    assert done.stderr == "error: Timed out trying to connect to tcp://127.0.0.1:9 after 1 s\n"
    assert [path.name for path in folder.iterdir()] == ["sweep.toml"]


# --- interruptions ------------------------------------------------------------------------------


def points(store):
    return len(list((store / "values").glob("c.*"))) if store.exists() else 0


@pytest.fixture(scope="module")
def whole():
    """Return what nobody interrupted."""
    return vp.sweep(
        lambda sigma_w: vp.mean_field_mlp(150, 20, "tanh", sigma_w),
        {"sigma_w": np.linspace(1, 2, 8)},
        trials=100,
        quantities="var",
        store=None,
    )


@pytest.mark.parametrize("workers", [None, 2])
def test_interrupted_it_goes_on(folder, whole, workers):
    words = [] if workers is None else ["--workers", str(workers)]
    if workers is not None:
        pytest.importorskip("distributed")
    (folder / "sweep.toml").write_text(SLOW)
    store = folder / "sweep.zarr"
    with subprocess.Popen(
        [*COMMAND, "sweep", "sweep.toml", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            began = time.monotonic()
            while points(store) < 2 and process.poll() is None:
                assert time.monotonic() - began < LIMIT
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C: the workers, too
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == 130
    assert not out
    kept = int(re.fullmatch(r"sweep\.zarr keeps (\d+) points; .* goes on\ninterrupted\n", err)[1])
    assert 2 <= kept < 8
    assert f"sweep.zarr: {kept} of 8 points\n" in succeed("sweep-status", "sweep.zarr")
    assert f"; {kept} were there before\n" in succeed("sweep", "sweep.toml")
    assert "8 of 8 points\n" in succeed("sweep-status", "sweep.zarr")
    assert same(vp.open_sweep("sweep.zarr"), whole)


# --- sweep-status -------------------------------------------------------------------------------


def contents(store):
    return {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_status(folder):
    (folder / "sweep.toml").write_text(f'backward = true\nerrors = "record"\n{FAILING}')
    invoke(1, "sweep", "sweep.toml")
    store = folder / "sweep.zarr"
    before = contents(store)
    newest = max(path.stat().st_mtime for path in (store / "values").glob("c.*"))
    newest = max(newest, *(path.stat().st_mtime for path in (store / "error").glob("c.*")))
    text = succeed("sweep-status", "sweep.zarr")
    assert contents(store) == before
    size = sum(map(len, before.values()))
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(newest))
    assert re.fullmatch(
        rf"""sweep\.zarr: 2 of 4 points, 2 failed
  grid:        depth: 4 values, -1 to 3
  each point:  2 trials of 100 rows, forward and backward \(loss gaussian\), seed
               0, float32, explicit
  quantities:  log10_second_moment
  on disk:     {size / 1000:.3g} kB
  last point:  {when}, \d+ s ago
2 points failed:
  depth=0: ValueError: network.depth must be an integer >= 1, got 0
  depth=-1: ValueError: network.depth must be an integer >= 1, got -1
""",
        text,
    )


def test_status_of_much(folder):
    names = [f'"leaky_relu(slope=0.{i})"' for i in range(1, 8)]
    text = SMALL.replace("sigma_b = [", f"activation = [{', '.join(names)}]\nsigma_b = [")
    (folder / "sweep.toml").write_text(text.replace("depth = 3", "depth = 0"))
    found = invoke(1, "sweep", "sweep.toml", "--keep-going").stdout
    assert found.startswith("sweep.zarr: 0 of 56 points of 3 trials")
    assert "56 points failed:\n" in found
    assert found.endswith("  and 51 points more\n")
    found = " ".join(succeed("sweep-status", "sweep.zarr").split())
    assert "activation: 7 values, leaky_relu(slope=0.1), leaky_relu(slope=0.2), " in found
    assert "leaky_relu(slope=0.5), ... sigma_b: 2 values, 0.0, 0.3 each point" in found


# --- plot ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Return the store of a sweep of three names."""
    folder = tmp_path_factory.mktemp("three")
    text = SMALL.replace("sigma_b = [", 'activation = ["erf", "relu"]\nsigma_b = [')
    (folder / "three.toml").write_text(text)
    result = CliRunner().invoke(app, ["sweep", str(folder / "three.toml")])
    assert result.exit_code == 0, result.output
    command = "next: varprop plot .*three.zarr --kind phase --select activation=erf\n"
    assert re.search(command, result.output)
    return folder / "three.zarr"


def figures(monkeypatch):
    """Return a list that will have all figures that are saved."""
    from matplotlib.figure import Figure

    found, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, *args, **kw: (found.append(self), savefig(self, *args, **kw)),
    )
    return found


def test_pictures(folder, three, monkeypatch):
    pytest.importorskip("matplotlib")
    shutil.copytree(three, folder / "three.zarr")
    drawn = figures(monkeypatch)
    assert succeed("plot", "three.zarr", "--select", "activation=erf") == "three_phase.png\n"
    assert (folder / "three_phase.png").read_bytes().startswith(b"\x89PNG")
    assert [drawn[0].axes[0].get_xlabel(), drawn[0].axes[0].get_ylabel()] == ["sigma_w", "sigma_b"]
    words = ["--select", "activation=relu", "-x", "sigma_b", "-y", "sigma_w", "--layer", 2]
    words += ["--value", "var", "--statistic", "std", "--no-theory", "--to", "a.SVG"]
    assert succeed("plot", "three.zarr", "--kind", "phase", *words) == "a.SVG\n"
    assert b"<svg" in (folder / "a.SVG").read_bytes()
    assert drawn[1].axes[0].get_xlabel() == "sigma_b"
    words = ["--select", "activation=erf", "--select", "sigma_b=0.28", "--over", "sigma_w"]
    assert succeed("plot", "three.zarr", "--kind", "depth", *words) == (
        "sigma_b = 0.3, the nearest to 0.28\nthree_depth.png\n"
    )
    curves = [line for line in drawn[2].axes[0].lines if len(line.get_xdata()) == 3]
    values = vp.open_sweep("three.zarr")["var"].sel(activation="erf", sigma_b=0.3, statistic="mean")
    assert len(curves) >= 4
    assert any(np.array_equal(curve.get_ydata(), values.values[1]) for curve in curves)


def test_pictures_of_runs(folder):
    pytest.importorskip("matplotlib")
    vp.simulate(vp.mlp([5] * 4), 4, statistics="histogram").save("run.npz")
    assert succeed("plot", "run.npz") == "run_variance.png\n"
    assert succeed("plot", "run.npz", "--kind", "histograms", "--to", "a.pdf") == "a.pdf\n"
    assert (folder / "a.pdf").read_bytes().startswith(b"%PDF")
    assert "unknown kind of a run 'phase'. One of: variance" in fail(
        "plot", "run.npz", "--kind", "phase"
    )
    assert "not collected" in fail("plot", "run.npz", "--kind", "saturation")
    assert {path.name for path in folder.iterdir()} == {
        *("run.npz", "run_variance.png", "a.pdf", "sweep.toml")
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "phases"], "unknown kind of a sweep 'phases': did you mean 'phase'?"),
        ([], "--kind phase shows 2 dimensions, not sigma_w, activation, sigma_b: choose"),
        (["--kind", "depth", "--over", "sigma_b"], "--kind depth shows 1 dimension, not sigma_b,"),
        (["--select", "sigma_d=1"], "unknown dimension 'sigma_d': did you mean 'sigma_w'?"),
        (["--select", "activation=erff"], "unknown activation 'erff': did you mean 'erf'?"),
        (["--select", "sigma_b=2"], "sigma_b is from 0 to 0.3, got 2"),
        (["--select", "sigma_b=x"], "unknown sigma_b 'x'. One of: 0.0, 0.3"),
        (["--select", "activation=erf", "--value", "vars"], "unknown value 'vars'"),
        (["--to", "a.bmp"], "--to must end in .png, .pdf, .svg, got 'a.bmp'"),
        (["--to", "/no/such/a.png"], "no such directory: /no/such"),
    ],
)
def test_failures_of_plot(folder, three, words, message):
    pytest.importorskip("matplotlib")
    assert message in fail("plot", three, *words)
    assert [path.name for path in folder.iterdir()] == ["sweep.toml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--over", "sigma_w"], "--over is not for --kind phase"),
        (["--kind", "depth", "--layer", "2"], "--layer is not for --kind depth"),
        (["--select", "sigma_w"], "--select must be NAME=VALUE, got 'sigma_w'"),
    ],
)
def test_options_of_plot_that_do_not_fit(folder, three, words, message):
    result = invoke(2, "plot", three, *words)
    assert message in " ".join(result.stderr.split())
