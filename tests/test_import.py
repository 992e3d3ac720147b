"""Importing the package: NumPy and the core, nothing else."""

import subprocess
import sys

import varprop

HEAVY = (
    "dask",
    "distributed",
    "jax",
    "keras",
    "matplotlib",
    "ml_dtypes",
    "pandas",
    "rich",
    "scipy",
    "torch",
    "typer",
    "xarray",
    "zarr",
)


def test_import_needs_numpy_only():
    code = f"import sys, varprop; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_public_names_are_there_and_documented():
    for name in varprop.__all__:
        assert getattr(varprop, name).__doc__, name


def test_show_config(capsys):
    varprop.show_config()
    printed = capsys.readouterr().out
    for word in (varprop.__version__, "instruction sets", "active", "threads", "compiler"):
        assert word in printed
