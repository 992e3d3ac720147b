"""What this build is and what it runs on."""

from __future__ import annotations

import platform

import numpy as np

from varprop import _core, _threads

__all__ = ["show_config"]


def show_config() -> None:
    """Print version, compiler, instruction sets built and active, and threads.

    The environment variable VARPROP_ISA forces one of the instruction sets; all give the same bits.
    """
    rows = {
        "varprop": _core.__version__,
        "Python": f"{platform.python_version()}, NumPy {np.__version__}",
        "compiler": _core.compiler,
        "OpenMP": _core.openmp or "none: one thread",
        "instruction sets": f"{', '.join(_core.built_isas())} built; "
        f"{', '.join(_core.supported_isas())} supported here; {_core.active_isa()} active",
        "threads": _threads.available(),
    }
    for name, value in rows.items():
        print(f"{name + ':':<18}{value}")
