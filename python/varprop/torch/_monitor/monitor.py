"""A monitor around any training loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from varprop import _spec
from varprop.torch._monitor.draft import Draft
from varprop.torch._monitor.history import History, NonFinite, _Saved, load_monitor
from varprop.torch._monitor.listen import Ear, pushed
from varprop.torch._monitor.options import (
    Layers,
    inside,
    is_compiled,
    select,
    signals_of,
    statistics_of,
    weights_of,
)
from varprop.torch._monitor.record import SIGNALS
from varprop.torch._monitor.steps import Parameters, Steps
from varprop.torch._names import parameters
from varprop.torch._profile.arguments import Arguments

_SMALL = 4096  # numbers that cost nothing to look at in each step


class Monitor(History):
    """Watch a model while it trains: statistics of every layer, every so many steps.

    Entered around any training loop, it counts the steps of the optimizers that hold parameters of
    the model. The training's numbers stay what they are, to the bit.

    Parameters
    ----------
    model : Module
    every : int
        Steps from one record to the next. The first is of step 0, before any.
    on : Tensor, array, tuple or mapping, optional
        What the activations are those of: a batch that the model is called with at each record,
        without gradients, in the mode that it is in; buffers and random state are put back. A tuple
        holds several arguments, a mapping those by keyword. By default the training's own batch of
        that step.
    layers : str, type or iterable of these, optional
        Patterns of qualified names, ``"layers.*"``, and types of modules; by default all.
    statistics : str or iterable of str
        Of "extremes", "kurtosis", "histogram" (with percentiles) and "saturation", which may have
        a threshold: ``"saturation(threshold=0.05)"``. Moments always.
    signals : iterable of str
        Of "activations", "gradients", "weight_gradients" and "weights".
    path : str or path, optional
        Where every record is appended to as soon as it is complete: see :meth:`save`.
    first_step : int
        Steps that the model was trained before, where a training goes on.

    Attributes
    ----------
    records : list of Record
        What a record of step s holds is of the weights after s steps: activations, the gradients of
        the last backward pass before step s + 1, those that the optimizer took, and how far that
        step moved the weights. It is complete when the step after has begun, or at the end.
    first_nonfinite : (step, layer, signal) or None
        Where the first NaN or infinity was.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit.

    Notes
    -----
    Layers are modules by their qualified names, as of :func:`varprop.torch.profile`. Of a record's
    gradients by pre-activations the last pass before the step counts, where there are several. A
    model that torch.compile has compiled is pushed `on` as it was before; of its own passes nothing
    is heard, so that there are no gradients by pre-activations.

    Examples
    --------
    >>> import torch, varprop as vp
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with vp.torch.Monitor(model, every=10, on=torch.randn(50, 4)) as m:
    ...     for _ in range(30):
    ...         optimizer.zero_grad()
    ...         model(torch.randn(16, 4)).square().mean().backward()
    ...         optimizer.step()
    >>> m.steps.tolist(), m.activations.std.shape, m.weights.layer_names
    ([0, 10, 20, 30], (4, 3), ('0', '2'))
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 100,
        on: Any = None,
        *,
        layers: Layers | None = None,
        statistics: str | Iterable[str] = ("extremes", "histogram", "saturation"),
        signals: Iterable[str] = SIGNALS,
        path: str | PathLike[str] | None = None,
        first_step: int = 0,
    ) -> None:
        found = parameters(model)
        if not found:
            raise ValueError("model must have parameters, got none")
        self._model = inside(model)
        super().__init__(type(self._model).__name__, statistics_of(statistics))
        self.every = _spec.integer("every", every, least=1)
        self._signals = signals_of(signals)
        self._wanted = select(self._model, layers)
        self._on = None if on is None else Arguments(on, found[0].tensor, "on")
        self._deaf = is_compiled(model)
        if self._deaf:
            self._without_hooks()
        self._count = self._start = _spec.integer("first_step", first_step)
        self._tensors: Parameters = [p.tensor for p in found]
        self._weights = weights_of(self._model, self._wanted)
        self._steps = Steps(
            self._tensors, self._begin, self._before, self._differentiated, self._after
        )
        self._by_hand: bool | None = None
        self._counted = True  # whether the present step is
        self._going: Draft | None = None  # of the step that optimizers are in
        self._coming: Draft | None = None  # of the weights as they are, due
        self._smallest: dict[int, torch.Tensor] = {}
        self._path = path
        self._saved: _Saved | None = None
        self._state = "new"

    load = staticmethod(load_monitor)

    def __repr__(self) -> str:
        return f"<Monitor of {self.model}: {len(self._records)} records in {self._count} steps>"

    def __enter__(self) -> Monitor:
        if self._state != "new":
            raise RuntimeError("a Monitor watches one training: make another")
        try:
            self._start_anew()
            if self._path is not None:
                self._open(self._path)
            if not self._steps.start():
                warnings.warn(
                    "torch.compile has switched the hooks of optimizers off: call step()",
                    stacklevel=2,
                )
        except BaseException:
            self._end()
            raise
        self._state = "running"
        return self

    def __exit__(self, *_: object) -> None:
        self._state = "ended"
        try:
            self._close(self._going)
            self._close(self._coming)
            if self.first_nonfinite is None and not all(map(_is_finite, self._tensors)):
                self._examine("weights")
        finally:
            self._end()

    def _end(self) -> None:
        """Take all hooks off, and close the file."""
        self._steps.stop()
        for draft in (self._going, self._coming):
            if draft is not None:
                draft.hush()
        self._going = self._coming = None
        if self._saved is not None:
            self._saved.appender.close()

    def step(self) -> None:
        """Count a step of a loop without torch.optim, after the weights have moved."""
        self._check_running()
        if self._by_hand is False:
            raise RuntimeError("step() must not be called where optimizers of torch.optim step")
        self._by_hand = True
        self._begin()
        self._differentiated(self._tensors)
        self._after(self._tensors)

    def log(self, *, loss: float | torch.Tensor) -> None:
        """Note the loss of this step, before it or after; one that is not finite is looked into."""
        self._check_running()
        number = float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        coming = self._coming
        if coming is not None and coming.ear is not None and not coming.ear.passes:
            coming = None  # its step has not come: the loss is that of the step before
        for draft in (self._going, coming):
            if draft is not None and draft.loss is None:
                draft.loss = number
                break
        if not math.isfinite(number) and self.first_nonfinite is None:
            self._examine("loss")

    def _check_running(self) -> None:
        if self._state != "running":
            raise RuntimeError("the Monitor must be entered: with Monitor(...) as m")

    # What optimizers do.

    def _begin(self) -> None:
        """Let a step begin: what was due has been heard, what was going is complete."""
        self._close(self._going)
        self._going, self._coming = self._coming, None
        self._counted = False

    def _before(self, held: Parameters) -> None:
        self._by_hand = False
        if self._going is not None:
            self._going.copy(set(held))

    def _differentiated(self, held: Parameters) -> None:
        if self._going is not None:
            self._going.settle()
            self._going.differentiated(set(held))
        if self.first_nonfinite is None and self._is_lost(held):
            self._examine("weight_gradients")

    def _after(self, held: Parameters) -> None:
        if self._going is not None:
            self._going.moved(set(held))
        if not self._counted:
            self._count, self._counted = self._count + 1, True
        if self._count % self.every == 0:
            self._start_anew()

    # What is recorded.

    def _start_anew(self) -> None:
        """Begin a record of the weights as they are, instead of one before they all had moved."""
        if self._coming is not None:
            self._coming.hush()
        self._coming = draft = Draft(self._count, self._weights, self.statistics, self._signals)
        if self._on is not None and "activations" in self._signals:
            draft.activations = pushed(self._model, self._on, self._wanted, self.statistics)
        if self._by_hand is not False:
            draft.copy(set(self._tensors))
        listens = self._on is None or "gradients" in self._signals
        if listens and not self._deaf:
            forward = self._on is None and "activations" in self._signals
            draft.ear = Ear(self._model, self._wanted, self.statistics, forward)
            draft.ear.__enter__()
        self._notice(draft)

    def _close(self, draft: Draft | None) -> None:
        """Make a draft a record."""
        record = None if draft is None else draft.record()
        if draft is None or record is None:
            return
        self._records.append(record)
        self._notice(draft)
        self._write()

    def _write(self) -> None:
        if self._saved is None:
            return
        try:
            self._saved.write(self)
        except OSError as error:
            self._saved.appender.close()
            self._saved = None
            warnings.warn(
                f"records are not saved from step {self._count} on, but kept: {error}", stacklevel=2
            )

    def _open(self, path: str | PathLike[str]) -> None:
        saved = _Saved(path, self)
        if saved.last >= 0 and not self._start:
            raise ValueError(
                f"path holds records up to step {saved.last}: first_step continues them, or else "
                f"take another than {str(path)!r}"
            )
        self._saved = self._files[Path(path).absolute()] = saved
        self._write()

    # Where numbers are lost.

    def _notice(self, draft: Draft) -> None:
        found = None if self.first_nonfinite is not None else draft.nonfinite()
        if found is not None:
            self._lost(NonFinite(draft.step, *found))

    def _is_lost(self, held: Parameters) -> bool:
        """Look at a small gradient of the first layers: what is lost on the way back gets there."""
        smallest = self._smallest.get(id(held[0]))
        if smallest is None:
            small = (p for p in held if p.numel() <= _SMALL)
            smallest = next(small, min(held, key=torch.numel))
            self._smallest[id(held[0])] = smallest
        gradient = smallest.grad
        on_host = gradient is not None and gradient.device.type == "cpu"
        return on_host and gradient is not None and not _is_finite(gradient)

    def _examine(self, signal: str) -> None:
        """Find where a signal lost its numbers, in all layers: by `on`, and by the gradients."""
        every = select(self._model, None)
        draft = Draft(self._count, weights_of(self._model, every), ("moments",), SIGNALS)
        if self._on is not None:
            draft.activations = pushed(self._model, self._on, every, ("moments",))
        draft.differentiated(set(self._tensors))
        draft.copy(set(self._tensors))
        self._lost(NonFinite(draft.step, *(draft.nonfinite() or (None, signal))))

    def _lost(self, where: NonFinite) -> None:
        self.first_nonfinite = where
        self._write()
        warnings.warn(str(where), RuntimeWarning, stacklevel=2)

    def _without_hooks(self) -> None:
        if self._on is None and "activations" in self._signals:
            raise ValueError("on must be given of a compiled model, whose own passes call no hooks")
        if "gradients" in self._signals:
            self._signals = tuple(name for name in self._signals if name != "gradients")
            warnings.warn(
                "a compiled model calls no hooks: gradients by pre-activations are not recorded",
                stacklevel=3,
            )


def _is_finite(tensor: torch.Tensor) -> bool:
    numbers = tensor.detach()
    return bool(torch.isfinite(numbers._values() if numbers.is_sparse else numbers).all())
