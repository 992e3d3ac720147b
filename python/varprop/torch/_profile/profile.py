"""Any model's signals and gradients, over random draws of its weights."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from varprop import _catalogue, _spec
from varprop._keys import key
from varprop._laws import Law
from varprop._module import Drawn, Module
from varprop._progress import progress_bar
from varprop._threads import thread_count
from varprop.network import Network
from varprop.run import Run
from varprop.torch import _door, _shards
from varprop.torch._initialize import zero_padding
from varprop.torch._names import Parameter, parameters
from varprop.torch._profile.arguments import Arguments
from varprop.torch._profile.lent import lent
from varprop.torch._profile.objective import Loss, Objective
from varprop.torch._profile.observation import Observation, check_same, observed, out_of_range
from varprop.torch._profile.trunk import Told, told
from varprop.torch._profile.watch import Watch
from varprop.torch._rules import Laws, assign

_STATISTICS = ("moments", "extremes", "kurtosis")  # that the core's moments have


def profile(
    model: nn.Module,
    inputs: Any,
    *,
    init: Laws | None = None,
    trials: int = 20,
    seed: int = 0,
    loss: Loss | None = None,
    targets: Any = None,
    first_trial: int = 0,
    statistics: str | Iterable[str] = ("moments",),
    threads: int | None = None,
    progress: bool | Callable[[float], object] = False,
) -> Run:
    """Push inputs through any model, over many draws of its weights, and gradients back.

    The model is called as it is, in the mode that it is in; PyTorch computes its layers, varprop
    draws the weights and takes the statistics. Afterwards it is as before, to the bit: parameters,
    gradients, buffers, modes, hooks and PyTorch's random state, also where an error or Ctrl-C ends
    the call.

    Parameters
    ----------
    model : Module
    inputs : Tensor, array, tuple or mapping
        What the model is called with: a tuple holds several arguments, a mapping those by keyword.
        The same in each trial; the first axis is the batch. Arrays of real numbers come in the
        dtype of the model.
    init : law or mapping, optional
        As of :func:`init_`; by default torch's own laws. Parameters that it says nothing of keep
        their values: {} profiles a model as it is, a trained one say.
    trials, first_trial : int
        Weights are those of ``init_(model, init, seed=seed, trial=t)`` for so many trials t.
    seed : int
        Any integer >= 0. Dropout and the like draw from PyTorch's generators, seeded from it.
    loss : str or callable, optional
        As of :func:`varprop.simulate`: "gaussian" (the default) sends standard normals back from
        the output; "mse", "softmax_cross_entropy" (classes on the last axis), "bce"; or a function
        of the output, and of the targets where there are any, that returns one number. Of a tuple
        or a mapping losses by name take the first tensor.
    targets : Tensor or array, optional
        What the loss compares with, of the output's shape, or labels of all positions; else
        drawn, of a loss by name.
    statistics : str or iterable of str
        "moments" always; "extremes" and "kurtosis".
    threads : int, optional
        Of the draws, by default as many as there are cores; PyTorch has its own number.
    progress : bool or callable
        A bar on the terminal, or a function of the fraction done.

    Returns
    -------
    Run
        Layers are the modules in the order in which they return, by their qualified names; a
        second call of one has ":2" at its name. Modules that only chain others, as Sequential
        does, are left out. Of a module that returns several tensors the first counts. Gradients
        are 0 where none came back, NaN within ``torch.no_grad()``, where none can.
        ``weight_gradients`` are of all parameters of two or more dimensions of a module. The
        verdict follows the repeated blocks, where the model has some.

    Raises
    ------
    ValueError, TypeError
        An argument that does not fit; the model's own errors come through.

    Examples
    --------
    >>> import torch, varprop as vp
    >>> layer = torch.nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    >>> model = torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    >>> run = vp.torch.profile(model, torch.randn(8, 10, 64), trials=4)
    >>> run.verdict.forward, run.layer_names[-1]
    ('stable', 'layers.2')
    """
    found = parameters(model)
    _check_kind(model, found)
    model = getattr(model, "_orig_mod", model)  # of torch.compile, which calls no hooks
    laws = assign(model, init, "init")
    trials = _spec.integer("trials", trials, least=1)
    first_trial = _spec.integer("first_trial", first_trial)
    seed, count = _spec.integer("seed", seed), thread_count(threads)
    collected = _collected(statistics)
    objective = Objective(loss, targets, seed)
    _check(found, laws, quietly=init == {})
    arguments = Arguments(inputs, found[0].tensor)
    observations = []
    with (
        lent(model, found, set(laws)) as loan,
        Watch(model) as watch,
        progress_bar(progress) as report,
    ):
        for trial in range(first_trial, first_trial + trials):
            loan.begin(_random(seed, trial))
            for parameter in found:
                if parameter.name in laws:
                    law = laws[parameter.name]
                    tensor, name = parameter.tensor.data, parameter.name
                    _door.fill(tensor, law, seed=seed, name=name, trial=trial, threads=count)
                    if init is None:
                        zero_padding(parameter)
            output = watch.forward(*arguments.fresh())
            objective.backward(output, trial)
            steps = told(watch.calls, found)
            observations.append(Observation(steps, arguments.leaf))
            if trial == first_trial:
                network = _network(steps, laws, arguments.first)
            del output, steps  # and what autograd keeps
            if report is not None:
                report((trial + 1 - first_trial) / trials)
    check_same(observations, first_trial)
    return Run(
        network,
        inputs=arguments.kept(),
        seed=seed,
        trials=trials,
        first_trial=first_trial,
        dtype=_dtype(found),
        statistics=collected,
        observed=observed(observations, collected),
        loss=objective.name,
        targets=objective.kept(),
        out_of_range=out_of_range(observations, first_trial),
    )


def _collected(statistics: str | Iterable[str]) -> tuple[str, ...]:
    """Return the statistics, or the error of one that a profile does not take."""
    collected = _catalogue.resolve(statistics)
    for name in collected:
        if name not in _STATISTICS:
            raise _spec.unknown("statistics of a profile", name, _STATISTICS)
    return collected


def _check_kind(model: nn.Module, found: list[Parameter]) -> None:
    """Raise the error of a model that has no parameters yet, or that hooks cannot watch."""
    if not found:
        raise ValueError("model must have parameters, got none")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError("model must be as it was before torch.jit, whose modules have no hooks")
    for parameter in found:
        if isinstance(parameter.tensor, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"parameter {parameter.name!r} has no shape yet: call the lazy module once"
            )


def _check(found: list[Parameter], laws: dict[str, Law], quietly: bool) -> None:
    """Raise the error of a parameter that cannot be drawn, before the model is touched."""
    for parameter in found:
        name, tensor = parameter.name, parameter.tensor
        if tensor.is_inference():
            raise ValueError(f"parameter {name!r} must not be made in torch.inference_mode()")
        if _shards.is_meta(tensor):
            raise ValueError(f"parameter {name!r} has no values: init_ gives it some")
        _shards.held(tensor, name)
        _door.kind(tensor, name)
        if name in laws:
            _door.check(tensor, laws[name], name)
    left = [p.name for p in found if p.name not in laws and p.tensor.dim() > 1]
    if left and not quietly:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        warnings.warn(
            f"no law is known of {', '.join(left[:5])}{more}, the same values in all trials: "
            "init can name them",
            stacklevel=3,
        )


def _random(seed: int, trial: int) -> int:
    """Return the seed of torch's generators in a trial."""
    high, low, *_ = key(seed, f"torch/{trial}")
    return (high << 32 | low) >> 1


def _dtype(found: list[Parameter]) -> str:
    """Return the dtype of most of the parameters."""
    sizes: Counter[str] = Counter()
    for parameter in found:
        sizes[_door.DTYPES[parameter.tensor.dtype]] += parameter.tensor.numel()
    return sizes.most_common(1)[0][0]


def _network(steps: list[Told], laws: dict[str, Law], inputs: torch.Tensor) -> Network:
    """Return the model as a run knows it: the modules of a pass."""
    batch = len(inputs) if inputs.dim() else 1
    layers = [
        Module(
            name=step.call.name,
            type=step.type,
            shape=_of_one(step.call.shape, batch),
            pointwise=step.call.pointwise,
            stretch=step.stretch,
            drawn=tuple(
                Drawn(
                    own.name,
                    laws.get(own.name),
                    _door.our_shape(tuple(own.tensor.shape)),
                )
                for own in step.owned
            ),
        )
        for step in steps
    ]
    return Network(_of_one(tuple(inputs.shape), batch), layers)


def _of_one(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """Return the shape of one example among a batch, of an image with its channels last."""
    ours = tuple(shape[axis] for axis in _door.last_channels(len(shape)))
    if ours and ours[0] == batch:
        return ours[1:] or (1,)
    if ours and ours[0] % batch == 0:  # rows of all examples
        return ours[0] // batch, *ours[1:]
    return ours or (1,)
