"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import varprop

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(varprop.__path__, "varprop.")
    if name != "varprop._core"
]

MAYBE = ("cloudpickle", "dask", "distributed", "jax", "keras", "torch", "xarray")  # installed


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module):
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        if error.name not in (
            "cloudpickle",
            "dask",
            "distributed",
            "jax",
            "keras",
            "torch",
            "xarray",
        ):
            raise
        pytest.skip(str(error))
    failures, _ = doctest.testmod(found)
    assert failures == 0
