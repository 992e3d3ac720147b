"""A progress bar on the terminal, for what takes longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[float], object]

PATIENCE = 1.0  # seconds before a bar appears


@contextmanager
def progress_bar(progress: bool | Report) -> Iterator[Report | None]:
    """Yield what to call with the fraction done: the user's function, a bar, or nothing."""
    if callable(progress):
        yield progress
    elif not progress or not sys.stderr.isatty():
        yield None
    else:
        from rich.console import Console
        from rich.progress import Progress

        start = time.monotonic()
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("working", total=1.0, visible=False)

            def report(done: float) -> None:
                visible = time.monotonic() - start > PATIENCE
                bar.update(task, completed=done, visible=visible)

            yield report
