"""The command line: its options, its files, its exit codes, and one line where it fails."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
from typer.testing import CliRunner

import varprop as vp
from varprop.cli import app

SMALL = ["--depth", "3", "--width", "5", "--batch", "4"]
COMMAND = [sys.executable, "-c", "from varprop.cli import main; main()"]


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def succeed(*words):
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    return result.stdout


def fail(code, *words):
    """Return the line of the error, after looking that it is one and no traceback."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert not result.stdout
    assert "Traceback" not in result.stderr
    if code == 1:
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    return " ".join(result.stderr.split())


def report_of(output):
    """Split the output into the report and the time taken, its last line."""
    report, seconds = output.rsplit("\n\n", 1)
    assert re.fullmatch(r"\d+ trials? in [\d.e-]+ s\n", seconds)
    return report


def test_the_first_command_of_the_readme():
    output = succeed("simulate", "--depth", 100, "--width", 100)
    assert report_of(output) == str(vp.simulate(vp.mlp([100] * 101), 100, trials=10))


def test_simulate_has_the_options_of_python():
    options = "--trials 3 --seed 7 --dtype float64 --threads 1 --activation leaky_relu(slope=0.3)"
    laws = ["--weight", "normal(std=0.2)", "--bias", "uniform(low=-1)"]
    output = succeed("simulate", *SMALL, *options.split(), *laws)
    net = vp.mlp([5] * 4, "leaky_relu(slope=0.3)", "normal(std=0.2)", "uniform(low=-1)")
    assert report_of(output) == str(vp.simulate(net, 4, trials=3, seed=7, dtype="float64"))


def test_simulate_goes_back():
    output = succeed(
        *("simulate", "--sizes", "6,5,4", "--batch", 9, "--trials", 3, "--activation", "tanh"),
        *("--last", "sigmoid", "--backward", "--loss", "bce"),
        *("--stat", "saturation(threshold=0.2)"),
        *("--stat", "histogram", "--memory", "1MB"),
    )
    statistics = ("histogram", "saturation(threshold=0.2)")
    net = vp.mlp([6, 5, 4], "tanh", output_activation="sigmoid")
    run = vp.simulate(net, 9, trials=3, statistics=statistics, backward=True, loss="bce")
    assert report_of(output) == str(run)
    assert "backward: " in output


@pytest.mark.parametrize("depth", [1, 30])  # what is narrow enough, and what never is
def test_trials_until_intervals_are_narrow(depth, monkeypatch):
    simulate = vp.simulate
    monkeypatch.setattr(vp, "simulate", lambda *args, **kw: simulate(*args, **kw, max_trials=99))
    output = succeed("simulate", "--depth", depth, "--width", 10, "--trials", "auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = simulate(vp.mlp([10] * (depth + 1)), 100, trials="auto", max_trials=99)
    assert report_of(output) == str(run)
    assert output.rsplit("\n\n")[-1].startswith(f"{run.trials} trials in")


def test_jacobian():
    options = ["--depth", 3, "--width", 6, "--activation", "tanh", "--bias", "normal(std=0.1)"]
    output = succeed("jacobian", *options)
    net = vp.mlp([6] * 4, "tanh", bias="normal(std=0.1)")
    assert report_of(output) == str(vp.jacobian(net))
    more = "--layers all --method moments --batch 4 --trials 2 --seed 3 --dtype float64"
    output = succeed("jacobian", *options, *more.split())
    named = {"layers": "all", "method": "moments", "dtype": "float64"}
    assert report_of(output) == str(vp.jacobian(net, 4, trials=2, seed=3, **named))


def test_jacobian_of_files_and_its_picture(tmp_path):
    rows, picture = tmp_path / "rows.npy", tmp_path / "values.pdf"
    np.save(rows, ROWS)
    output = succeed("jacobian", "--input", rows, "--sizes", "3,5,4", "--plot", picture)
    assert report_of(output) == str(vp.jacobian(vp.mlp([3, 5, 4]), ROWS))
    assert picture.read_bytes().startswith(b"%PDF")


def test_sizes_and_no_bias():
    output = succeed("simulate", "--sizes", "6,5,4", "--batch", 3, "--bias", "none", "--trials", 1)
    net = vp.mlp([6, 5, 4], bias=None)
    assert report_of(output) == str(vp.simulate(net, 3, trials=1))


def test_gain():
    assert succeed("gain") == f"{vp.gain_table()}\n"
    output = succeed("gain", "leaky_relu(0.2)", "gelu", "--sigma-b", 0.5, "--depth", 20)
    assert output == f"{vp.gain_table(['leaky_relu(0.2)', 'gelu'], sigma_b=0.5, depth=20)}\n"


def test_tune(tmp_path):
    source, target = tmp_path / "net.toml", tmp_path / "tuned.toml"
    net = vp.mlp([6, 50, 40], "tanh", "normal(std=0.01)")
    net.to_toml(source)
    assert succeed("tune", source, "--out", target) == f"{vp.tune(net).report}\n"
    assert vp.Network.from_toml(target) == vp.tune(net)
    measured = vp.tune(net, method="measured", inputs=30, trials=4, seed=2)
    options = ["--method", "measured", "--batch", 30, "--trials", 4, "--seed", 2]
    assert succeed("tune", source, *options) == f"{measured.report}\n"
    output = succeed("tune", "--sizes", "6,7,8", "--activation", "gelu", "--goal", "critical")
    assert output == f"{vp.tune(vp.mlp([6, 7, 8], 'gelu'), 'critical').report}\n"


def test_theory():
    options = ["--depth", 4, "--weight", "normal(std=0.12)", "--bias", "normal(std=0.1)"]
    output = succeed("theory", *options, "--activation", "tanh", "--last", "linear")
    net = vp.mlp([100] * 5, "tanh", "normal(std=0.12)", "normal(std=0.1)", "linear")
    report, ends = output.rsplit("\n\n", 1)
    assert report == str(vp.theory.propagate(net))
    found = vp.theory.fixed_points("tanh", 1.2, 0.1)
    assert ends.startswith("layers of tanh with sigma_w = 1.2, sigma_b = 0.1:\n  chaotic: they end")
    numbers = found.q, found.c, found.chi_1, found.xi_q, found.xi_c
    assert [float(word) for word in re.findall(r"= ([\d.]+)", ends)[2:7]] == pytest.approx(
        numbers, rel=1e-3
    )
    edge = vp.theory.critical("tanh", 0.1)
    assert f"edge of chaos: sigma_w = {edge.sigma_w:.6g}, there q = {edge.q:.6g}" in ends
    assert "gelu has no edge of chaos" in succeed("theory", "--activation", "gelu", "--depth", 2)
    unbounded = succeed("theory", "--weight", "normal", "--depth", 2)
    assert "grow without bound" in unbounded


def test_theory_of_files(tmp_path):
    rows = tmp_path / "rows.npy"
    np.save(rows, ROWS + 1)
    output = succeed("theory", "--input", rows, "--sizes", "3,5,4,4", "--activation", "tanh")
    data = ROWS + 1
    q, pairs = np.mean(data**2), data @ data.T / 3
    c = pairs[~np.eye(7, dtype=bool)].mean() / q
    found = vp.theory.propagate(vp.mlp([3, 5, 4, 4], "tanh"), q, c, mean=data.mean())
    assert output.startswith(str(found)[:60])
    net = vp.Network(5, [vp.Dense(5, "tanh"), vp.LayerNorm(), vp.Dense(5)])
    net.to_toml(tmp_path / "net.toml")
    assert succeed("theory", tmp_path / "net.toml") == f"{vp.theory.propagate(net)}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gain", "rellu"], "unknown activation 'rellu': did you mean 'relu'?"),
        (["gain", "--sigma-b", "-1"], "sigma_b must be a finite number >= 0"),
        (["tune", "--out", "net.json"], "--output must end in .toml, got 'net.json'"),
        (["tune", "--out", "/no/such/net.toml"], "no such directory: /no/such"),
        (["tune", "--goal", "unit"], "unknown goal 'unit'"),
        (["tune", "--goal", "critical", "--method", "measured"], "needs method='theory'"),
        (["tune", "--weight", "eye"], "layer 'dense1': no theory of identity"),
        (["theory", "--weight", "uniform"], "no theory of weights whose mean is not 0"),
        (["theory", "missing.toml"], "missing.toml"),
    ],
)
def test_failures_of_theory(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in fail(1, *words)
    assert not list(tmp_path.iterdir())


ROWS = np.random.default_rng(0).normal(size=(7, 3))


def write_csv(path, header=""):
    np.savetxt(path, ROWS, delimiter=",", header=header, comments="", encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.npy", lambda path: np.save(path, ROWS)),
        ("rows.npz", lambda path: np.savez(path, anything=ROWS)),
        ("rows.csv", write_csv),
        ("head.csv", lambda path: write_csv(path, "length,width,a name")),
    ],
)
def test_input_files(tmp_path, name, write):
    write(tmp_path / name)
    output = succeed("simulate", "--input", tmp_path / name, "--depth", 2, "--width", 4)
    assert report_of(output) == str(vp.simulate(vp.mlp([3, 4, 4]), ROWS))


def test_output_and_plot(tmp_path):
    run, picture = tmp_path / "run.json", tmp_path / "run.png"
    succeed("simulate", *SMALL, "--output", run, "--plot", picture)
    assert str(vp.load(run)) == str(vp.simulate(vp.mlp([5] * 4), 4))
    assert picture.read_bytes().startswith(b"\x89PNG")
    succeed("simulate", *SMALL, "--output", tmp_path / "run.npz", "--plot", tmp_path / "run.pdf")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("run.json", "run.npz", "run.png", "run.pdf")
    }


def test_suffixes_in_capitals(tmp_path):
    rows = tmp_path / "ROWS.CSV"
    write_csv(rows)
    files = ["--output", tmp_path / "RUN.JSON", "--plot", tmp_path / "RUN.PNG"]
    succeed("simulate", "--input", rows, "--depth", 2, *files)
    assert vp.load(tmp_path / "RUN.JSON").batch == len(ROWS)
    succeed("weights", "normal", "3,4", "--output", tmp_path / "W.NPY")


@pytest.mark.parametrize("shape", ["3,4", "3x4", "2x3x4"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_weights(tmp_path, shape, dtype):
    path = tmp_path / "w.npy"
    options = ["--seed", 5, "--name", "dense1.weight", "--trial", 2, "--dtype", dtype]
    output = succeed("weights", "uniform(-1, 1)", shape, "--output", path, *options)
    sizes = tuple(int(size) for size in re.split("[,x]", shape))
    named = {"seed": 5, "name": "dense1.weight", "trial": 2, "dtype": dtype}
    array = np.load(path)
    array = array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array
    assert np.array_equal(array, vp.weights(sizes, "uniform(-1, 1)", **named))
    assert "w.npy" in output
    assert dtype in output


def test_info_and_version():
    assert vp.__version__ in succeed("info")
    text = succeed("info")
    assert "instruction sets" in text
    words = set(text.replace(",", " ").split())
    assert words.issuperset((*vp.initializers.LAWS, *vp.activations.NAMES))
    assert max(map(len, text.split("laws:")[1].splitlines())) <= 80
    assert succeed("--version") == f"varprop {vp.__version__}\n"


def test_help_names_every_command_and_default():
    assert re.search(
        "simulate.*jacobian.*theory.*tune.*gain.*weights.*sweep.*sweep-status.*plot.*info",
        succeed("--help"),
        re.DOTALL,
    )
    text = succeed("simulate", "--help")
    assert succeed("simulate", "-h") == text
    assert text.count("info lists them") == 2
    assert set(re.findall("--([a-z]+)", text)) == {
        *("input", "batch", "depth", "width", "sizes", "activation", "last", "weight", "bias"),
        *("trials", "backward", "loss", "stat", "memory"),
        *("seed", "dtype", "threads", "plot", "output", "dry", "method", "help"),
    }
    assert text.count("[default: ") == 17
    text = succeed("jacobian", "--help")
    assert set(re.findall("--([a-z]+)", text)) == {
        *("input", "batch", "depth", "width", "sizes", "activation", "last", "weight", "bias"),
        *("layers", "method", "trials", "seed", "dtype", "plot", "help"),
    }
    assert text.count("[default: ") == 14


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--activation", "rellu"], "unknown activation 'rellu': did you mean 'relu'?"),
        (["--weight", "normal(std=-1)"], "std"),
        (["--weight", "__import__('os')"], "weight"),
        (["--bias", "he_normal"], "needs at least 2 dimensions"),
        (["--dtype", "float23"], "unknown dtype 'float23'"),
        (["--width", "2000000000", "--depth", "2", "--batch", "100000"], "needs about"),
        (["--output", "run.txt"], "must end in .json or .npz, got 'run.txt'"),
        (["--output", "/no/such/run.json"], "no such directory: /no/such"),
        (["--plot", "run.bmp"], "--plot must end in .png, .pdf, .svg, got 'run.bmp'"),
        (["--plot", "/no/such/run.png"], "no such directory: /no/such"),
        (["--input", "missing.npy"], "no such file: missing.npy"),
        (["--depth", "99999999999"], "a network of 99999999999 layers needs about"),
        (["--stat", "histograms"], "unknown statistics 'histograms': did you mean 'histogram'?"),
        (["--stat", "gradient_correlation"], "needs backward=True"),
        (["--loss", "mse"], "loss and targets need backward=True"),
        (["--backward", "--loss", "bse"], "unknown loss 'bse'"),
        (["--backward", "--loss", "bce"], "needs a sigmoid as the last activation"),
        (["--memory", "a lot"], "memory must be bytes, or a text such as '500MB'"),
        (["--backward", "--memory", "9kB"], "memory must be at least"),
        (["--input", "rows.parquet"], "--input must end in .npy, .npz, .csv"),
    ],
)
def test_failures(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in fail(1, "simulate", *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "each"], "unknown layers 'each'. One of: end_to_end, all"),
        (["--method", "svds"], "unknown method 'svds': did you mean 'svd'?"),
        (["--sizes", "9000,9000"], "use method='extreme' or method='moments'"),
        (["--weight", "norml"], "did you mean 'normal'?"),
        (["--plot", "values.bmp"], "--plot must end in .png, .pdf, .svg"),
        (["--input", "missing.npy"], "no such file: missing.npy"),
    ],
)
def test_failures_of_jacobian(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in fail(1, "jacobian", *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"1,2\n3,x\n", "a.csv must hold numbers separated by commas: could not convert"),
        ("a.csv", b"1,2\n3\n", "number of columns changed"),
        ("a.csv", b"1,,2\n", "could not convert string ''"),
        ("a.csv", b"", "must hold a (batch, features) array"),
        ("a.csv", b"a,b\n", "must hold a (batch, features) array"),
        ("a.csv", b"\xff\xfe\x00", "separated by commas"),
        ("a.csv", b"1,nan\n", "inputs must be finite"),
        ("a.npy", b"", "is no NumPy array file"),
        ("a.npy", b"not an array", "is no NumPy array file"),
        ("a.npz", b"PK\x03\x04", "is no NumPy array file"),
    ],
)
def test_damaged_inputs(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in fail(1, "simulate", "--input", tmp_path / name)


def test_inputs_that_do_not_fit(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    message = fail(1, "simulate", "--input", tmp_path / "a.npy", "--sizes", "4,5")
    assert "inputs must have shape (batch, 4), got (7, 3)" in message
    np.save(tmp_path / "b.npy", np.ones(3))
    assert "got shape (3,)" in fail(1, "simulate", "--input", tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz", x=ROWS, y=ROWS)
    assert "holds 2 arrays (x, y), one is needed" in fail(
        1, "simulate", "--input", tmp_path / "c.npz"
    )
    np.save(tmp_path / "d.npy", np.array([{}]), allow_pickle=True)
    assert "holds objects" in fail(1, "simulate", "--input", tmp_path / "d.npy")


def test_failures_of_weights(tmp_path):
    path = tmp_path / "w.npy"
    assert "at least 2 dimensions" in fail(1, "weights", "he_normal", "5", "--output", path)
    assert "must end in .npy" in fail(1, "weights", "zeros", "5", "--output", tmp_path / "w.txt")
    assert "did you mean 'he_normal'" in fail(1, "weights", "he_norml", "5,5", "--output", path)
    assert "needs about" in fail(1, "weights", "normal", "99999999,99999", "--output", path)
    assert not list(tmp_path.iterdir())


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert '"varprop[plot]"' in fail(1, "simulate", *SMALL, "--plot", "run.png")


@pytest.mark.parametrize(
    "words",
    [
        ["simulate", "--depth", "0"],
        ["simulate", "--trials", "many"],
        ["simulate", "--trials", "0"],
        ["simulate", "--trials", "1.5"],
        ["simulate", "--trials", "-3"],
        ["jacobian", "--trials", "auto"],
        ["jacobian", "--batch", "0"],
        ["jacobian", "--sizes", "5,5", "--width", "3"],
        ["jacobian", "--input", "a.npy", "--batch", "3"],
        ["jacobian", "--plot", "a.png", "--method", "moments"],
        ["simulate", "--seed", "-1"],
        ["simulate", "--threads", "0"],
        ["simulate", "--sizes", "5,a"],
        ["simulate", "--sizes", "5,5", "--depth", "3"],
        ["simulate", "--input", "a.npy", "--batch", "3"],
        ["simulate", "--no-such-option"],
        ["simulate", "surplus"],
        ["tune", "--trials", "0"],
        ["theory", "net.json"],
        ["gain", "--depth", "0"],
        ["weights", "zeros"],
        ["weights", "zeros", "5"],
        ["weights", "zeros", "5;5", "--output", "w.npy"],
        ["no-such-command"],
    ],
)
def test_usage(words):
    assert "Usage:" in fail(2, *words)


def test_a_real_process(tmp_path):
    done = subprocess.run(
        [*COMMAND, "simulate", *SMALL], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert not done.stderr
    assert report_of(done.stdout) == str(vp.simulate(vp.mlp([5] * 4), 4))
    failed = subprocess.run(
        [*COMMAND, "simulate", "--weight", "norml"], capture_output=True, text=True, check=False
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: ")


def test_interruption(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(vp, "simulate", interrupted)
    result = invoke("simulate")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_a_closed_output():
    line = f"{sys.executable} -m varprop simulate {' '.join(SMALL)} >&-"
    done = subprocess.run(line, shell=True, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


HASTY = "import varprop._progress as p; p.PATIENCE = 0; from varprop.cli import main; main()"
LONG = [sys.executable, "-c", HASTY, "simulate", "--trials", "200"]


def test_no_progress_on_a_pipe():
    piped = subprocess.run(LONG, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    assert piped.stdout.isascii()
    assert "\x1b" not in piped.stdout


def test_no_progress_where_only_the_errors_go_to_a_terminal():
    assert b"working" not in on_a_terminal(stdout=subprocess.DEVNULL)


def test_progress_on_a_terminal():
    assert b"working" in on_a_terminal()


def on_a_terminal(**streams):
    """Return what a process with a pseudo-terminal shows on it."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(LONG, **{"stdout": theirs, "stderr": theirs, **streams}) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError), os.fdopen(ours, "rb", 0) as terminal:
            while part := terminal.read(1 << 16):  # OSError: the other end has closed
                shown += part
    assert process.returncode == 0
    return shown


def test_implicit_weights():
    options = ("--width", "3000", "--depth", "3", "--batch", "4", "--method", "implicit")
    run = succeed("simulate", *options, "--weight", "kaiming_normal", "--backward")
    assert "implicit weights" in run
    assert "normal(std=" in fail(1, "simulate", *options)


def test_theory_of_data_that_do_not_fit(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 3)))
    words = ("theory", "--sizes", "4,4", "--input", tmp_path / "x.npy")
    assert "inputs must have shape (batch, 4), got (5, 3)" in fail(1, *words)
    np.save(tmp_path / "x.npy", np.full((5, 4), np.nan))
    assert "inputs must be finite" in fail(1, *words)


def test_theory_of_he_normal():
    options = ("--sizes", "64,128,32,10", "--activation", "relu", "--weight", "he_normal")
    assert "they end at q = 2, c = 1" in succeed("theory", *options)
    assert "grow without bound" in succeed("theory", *options, "--bias", "normal(std=0.1)")


def test_a_file_that_is_not_there():
    assert fail(1, "theory", "not_there.toml") == "error: no such file or directory: not_there.toml"
