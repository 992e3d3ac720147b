"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import varprop

MODULES = [name for _, name, _ in pkgutil.iter_modules(varprop.__path__) if name != "_core"]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module):
    failures, _ = doctest.testmod(importlib.import_module(f"varprop.{module}"))
    assert failures == 0
