"""Optional dependencies: imported where they are used, and named where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import a module that only an extra of varprop installs.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    extra : str
        The extra that brings it, as in ``pip install "varprop[plot]"``.

    Raises
    ------
    ImportError
        The module is missing; the message names the extra.

    Examples
    --------
    >>> require("math", "plot").sqrt(4.0)
    2.0
    >>> require("no_such_module", "plot")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ImportError: no_such_module is not installed; it comes with the extra "plot": ...
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:  # it is there, but lacks another
            raise
        message = (
            f'{package} is not installed; it comes with the extra "{extra}": '
            f'pip install "varprop[{extra}]", or pip install {package}'
        )
        raise ImportError(message, name=package) from None
