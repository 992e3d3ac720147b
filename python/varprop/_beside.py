"""Theory beside a run: where there is some, and what a report says where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from varprop._extras import require

if TYPE_CHECKING:
    from varprop.run import Run
    from varprop.theory import Agreement


def theory(run: Run) -> Agreement:
    """Return theory beside a run; see :meth:`Run.theory`."""
    if run.network.is_profiled:
        raise NotImplementedError("there is no theory of modules that were profiled")
    require("scipy", "scipy")
    from varprop.theory._agreement import agreement

    return agreement(run)


def reported(run: Run) -> tuple[Agreement | None, str]:
    """Return what a report has of theory, and why it has none where that is worth saying."""
    # A user's function is not called for a report: it may be slow, or warn far from zero.
    own = [step.name for step in run.network.steps if step.kind == "elementwise"]
    if run.trials < 2 or run.network.is_profiled:
        return None, ""
    try:
        if own:
            require("scipy", "scipy")
            return None, f"theory: run.theory() has it, by calls of the function of {own[0]}"
        return run.theory(), ""
    except ImportError:
        return None, ""
    except (NotImplementedError, ValueError) as error:
        reason = str(error)
        return None, reason if reason.startswith("no theory") else f"no theory: {reason}"
