"""What a simulation found: the statistics of every layer, and what they were taken from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from varprop import _beside, _catalogue, _loss, _report, _weights
from varprop._catalogue import SIGNALS
from varprop._extras import require
from varprop._spec import integer
from varprop._statistics import Observed, Statistics, average, common_exponent
from varprop._verdict import UnhealthySignal, Verdict
from varprop.initializers import Law, Normal
from varprop.network import Network, Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from varprop.theory import Agreement

__all__ = ["SIGNALS", "Run", "Statistics", "UnhealthySignal", "Verdict"]


class Run:
    """The statistics of every layer of a network, over trials of its random weights.

    Made by :func:`simulate`, :func:`concat` and :func:`load`; printed, it is a report.

    Attributes
    ----------
    network : Network
        What was simulated.
    batch : int
        Number of examples among the inputs.
    given_inputs : ndarray or None
        The inputs, shape (batch, features) or (batch, height, width, channels), where they were
        given, not drawn.
    seed : int
        Seed of all draws.
    trials, first_trial : int
        The run holds trials first_trial, ..., first_trial + trials - 1.
    dtype : str
        Type of weights and signals.
    statistics : tuple of str
        What was collected: "moments", "saturation(threshold=0.05)" ...
    loss : str or None
        Whose gradients came back; None without a backward pass.
    given_targets : ndarray or None
        The targets of the loss where they were given, not drawn.
    precision : float or None
        The width that the 95% interval of each layer's mean ``log10_second_moment`` was to have,
        where trials were added for it.
    method : {"explicit", "implicit"}
        Whether weights were drawn, or only what they do.
    out_of_range : list of (str, int)
        Layers and trials where a value left the range of the dtype.
    observed : dict
        What the trials gave, by signal: "preactivations" and "activations", and after a backward
        pass "gradients", "weight_gradients", "bias_gradients" and "input_gradients"; of a profile
        "block_inputs". The
        statistics are computed from it when asked for.

    Examples
    --------
    >>> import varprop as vp
    >>> run = vp.simulate(vp.mlp([100] * 11, "tanh"), inputs=50, trials=4)
    >>> run.activations.var.shape, run.activations.per_trial.var.shape
    ((10,), (4, 10))
    >>> run.weights("dense2", trial=3).shape
    (100, 100)
    """

    def __init__(
        self,
        network: Network,
        *,
        inputs: int | NDArray[Any],
        seed: int,
        trials: int,
        first_trial: int,
        dtype: str,
        statistics: Iterable[str],
        observed: Mapping[str, Observed],
        loss: str | None = None,
        targets: NDArray[Any] | None = None,
        precision: float | None = None,
        method: str = "explicit",
        out_of_range: Iterable[tuple[str, int]] = (),
    ) -> None:
        self.network = network
        self.given_inputs = None if isinstance(inputs, int) else inputs
        self.batch = inputs if isinstance(inputs, int) else len(inputs)
        self.seed = seed
        self.trials = trials
        self.first_trial = first_trial
        self.dtype = dtype
        self.statistics = tuple(statistics)
        self.out_of_range = list(out_of_range)
        self.loss = loss
        self.given_targets = targets
        self.precision = precision
        self.method = method
        self.observed = {
            signal: {
                key: observed[signal][key]
                for key in _catalogue.keys(self.statistics, signal, method)
            }
            for signal in SIGNALS
            if signal in observed
        }

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in order of execution, nested ones joined by dots."""
        return self.network.layer_names

    @cached_property
    def preactivations(self) -> Statistics:
        """Statistics of X W + b, layer by layer.

        Of activations, normalizations and dropout as layers of their own, of what enters them; of
        the others, of what leaves them.
        """
        return Statistics(self.observed["preactivations"], self.layer_names)

    @cached_property
    def activations(self) -> Statistics:
        """Statistics of phi(X W + b), layer by layer: of what leaves a layer."""
        return Statistics(self.observed["activations"], self.layer_names)

    @cached_property
    def gradients(self) -> Statistics:
        """Statistics of the cost's gradient by the pre-activations, first layer to last.

        Glorot and Bengio's (2010) back-propagated gradient; as the others, it needs a simulation
        with ``backward=True``.
        """
        return self._back("gradients")

    @cached_property
    def weight_gradients(self) -> Statistics:
        """Statistics of the cost's gradient by W, summed over the batch.

        Of the layers that have weights: ``weight_gradients.layer_names``.
        """
        return self._back("weight_gradients")

    @cached_property
    def bias_gradients(self) -> Statistics:
        """Statistics of the cost's gradient by b (zeros where there is none).

        Of the layers that add biases: ``bias_gradients.layer_names``.
        """
        return self._back("bias_gradients")

    @cached_property
    def input_gradients(self) -> Statistics:
        """Statistics of the cost's gradient by the inputs: arrays of one layer."""
        return self._back("input_gradients")

    @cached_property
    def block_inputs(self) -> Statistics:
        """Statistics of what enters the blocks of a model, as a profile has them."""
        if "block_inputs" not in self.observed:
            raise ValueError("not collected: it is of models with blocks, by varprop.torch.profile")
        return Statistics(self.observed["block_inputs"], self.network.names("block_inputs"))

    def _back(self, signal: str) -> Statistics:
        if signal not in self.observed:
            raise ValueError("not collected: simulate with backward=True")
        method = self.method if signal == "weight_gradients" else "explicit"
        return Statistics(self.observed[signal], self.network.names(signal), method)

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the signal survives going forward, and the gradient coming back.

        See :class:`Verdict`; at a factor of 10 and with intervals of 95%.
        """
        return Verdict.of(self)

    def assert_healthy(self, max_factor: float = 10, level: float = 0.95) -> None:
        """Raise :class:`UnhealthySignal` if the signal or its gradient vanishes or explodes.

        That is where the interval of the mean over trials of the logarithm of the factor over the
        whole depth, see :class:`Verdict`, lies beyond `max_factor` to either side; in a single
        trial, the logarithm itself.

        Parameters
        ----------
        max_factor : float
            By which the second moment may grow or shrink, at least 1.
        level : float
            Probability that the interval covers, in (0, 1).

        Examples
        --------
        >>> import varprop as vp
        >>> net = vp.mlp([100] * 11, "tanh", weight="normal(std=0.01)")
        >>> vp.simulate(net, inputs=50, trials=4).assert_healthy()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        varprop.UnhealthySignal: forward vanishing: beyond a factor of 10, at level 0.95
        ...
        """
        verdict = Verdict.of(self, max_factor, level)
        if failed := verdict.failed():
            certainty = f", at level {level:g}" if self.trials > 1 else ""
            raise UnhealthySignal(
                f"{', '.join(failed)}: beyond a factor of {max_factor:g}{certainty}"
                f"\n\n{verdict}\n\n{self.table()}"
            )

    def theory(self) -> Agreement:
        """Return theory beside the run: each layer's second moment, measured and in theory, and z.

        z is the difference over its standard error, of the trials and of what theory leaves open.
        Theory is that of infinite width (:func:`varprop.theory.propagate`) with, for chains of
        dense layers, its first order in 1/width; linear and ReLU-family chains without biases have
        their expectation at every width, and for one Gaussian input to Gaussian weights the
        whole law. Elsewhere a width may do what it does not tell, about 1/fan_in a layer: `doubt`
        has it, z allows for it, and the printed report says where that matters.

        Needs SciPy: ``pip install "varprop[scipy]"``.

        Returns
        -------
        Agreement
            ``agrees``, ``largest``, and for each signal ``measured``, ``theory``, ``error``,
            ``doubt`` and ``z``.

        Raises
        ------
        NotImplementedError
            There is no theory of a layer, or of given inputs to a layer that is not dense.
        ValueError
            The run has one trial, or theory leaves the range of float64.

        Examples
        --------
        >>> import varprop as vp
        >>> net = vp.mlp([200] * 6, "tanh", weight="lecun_normal")
        >>> vp.simulate(net, inputs=20, trials=40, backward=True).theory().agrees
        True
        """
        return self._theory

    @cached_property
    def beside_theory(self) -> Agreement | None:
        """What :meth:`theory` returns, for reports: None where it raises, or would be slow."""
        return self._reported[0]

    @property
    def without_theory(self) -> str:
        """Why a report has no theory; empty where it has, needs SciPy, or has but one trial."""
        return self._reported[1]

    @cached_property
    def _reported(self) -> tuple[Agreement | None, str]:
        return _beside.reported(self)

    @cached_property
    def _theory(self) -> Agreement:
        return _beside.theory(self)

    def weights(self, layer: str | int, trial: int | None = None) -> NDArray[Any]:
        """Return the weights of a layer, exactly as they were used.

        Parameters
        ----------
        layer : str or int
            Name or position of the layer: ``"residual1.dense1"``.
        trial : int, optional
            One of the run's trials, by default the first.

        Returns
        -------
        ndarray
            Shape (fan_in, fan_out); of a convolution (height, width, channels in / groups, out).

        Raises
        ------
        ValueError
            The layer has no weights, or they are implicit: ``method="implicit"`` draws none.
        """
        if self.method == "implicit":
            raise ValueError(
                "there are no weights: method='implicit' draws what they do, not themselves; "
                "simulate with method='explicit'"
            )
        step, trial = self._step(layer, "weights", self.network.weight_names), self._trial(trial)
        parameters = step.layer.parameters(step.input_shape)
        if "weight" not in parameters:  # of a module that was profiled
            drawn = ", ".join(parameters) or "none"
            raise ValueError(f"layer {step.name!r} has no drawn parameter 'weight': it has {drawn}")
        return self._draw(step.qualified("weight"), *parameters["weight"], trial)

    def bias(self, layer: str | int, trial: int | None = None) -> NDArray[Any] | None:
        """Return the biases of a layer, shape (fan_out,), exactly as used; None where they are.

        Raises
        ------
        ValueError
            The layer is of a kind that has no biases.
        """
        step, trial = self._step(layer, "biases", self.network.bias_names), self._trial(trial)
        parameters = step.layer.parameters(step.input_shape)
        if "bias" not in parameters:
            return None
        return self._draw(step.qualified("bias"), *parameters["bias"], trial)

    def _step(self, layer: str | int, what: str, names: tuple[str, ...]) -> Step:
        step = self.network.steps[self.network.index(layer)]
        if step.name not in names:
            have = f"{', '.join(names) or 'no layers'} have some"
            raise ValueError(f"layer {step.name!r} ({step.kind}) has no {what}: {have}")
        return step

    def inputs(self, trial: int | None = None) -> NDArray[Any]:
        """Return the inputs exactly as they were used: (batch, features), or a batch of images."""
        trial = self._trial(trial)
        if self.given_inputs is not None:
            return self.given_inputs
        if self.network.is_profiled:
            raise ValueError("a profile keeps its inputs only where they are one tensor")
        return self._draw("input", Normal(), (self.batch, *self.network.input_shape), trial)

    def cotangent(self, trial: int | None = None) -> NDArray[Any]:
        """Return the gradient of the cost by the last activations that loss="gaussian" drew."""
        return self._compared(trial, "gaussian")

    def targets(self, trial: int | None = None) -> NDArray[Any]:
        """Return the targets of the loss, exactly as they were used.

        Returns
        -------
        ndarray
            Shape of the last activations; labels of softmax_cross_entropy, shape (batch,).
        """
        return self._compared(trial, "mse", "softmax_cross_entropy", "bce")

    def _compared(self, trial: int | None, *losses: str) -> NDArray[Any]:
        trial = self._trial(trial)
        if self.given_targets is not None and "gaussian" not in losses:
            return self.given_targets
        if self.loss is None or self.loss not in losses:
            raise ValueError(f"loss must have been {' or '.join(losses)}, it was {self.loss}")
        return _loss.drawn(
            self.network, self.loss, self.batch, seed=self.seed, trial=trial, dtype=self.dtype
        )

    def _draw(self, name: str, law: Law, shape: tuple[int, ...], trial: int) -> NDArray[Any]:
        return _weights.weights(
            shape, law, seed=self.seed, name=name, trial=trial, dtype=self.dtype
        )

    def _trial(self, trial: int | None) -> int:
        first, last = self.first_trial, self.first_trial + self.trials - 1
        trial = first if trial is None else integer("trial", trial)
        if not first <= trial <= last:
            raise ValueError(f"trial must be one of the run's, {first} to {last}, got {trial}")
        return trial

    def depth_average(self) -> tuple[float, float]:
        """Average the pre-activations over the depth.

        Returns
        -------
        mean : float
            Mean over layers of their means.
        std : float
            Square root of the mean over layers of their variances.
        """
        observed = self.preactivations.observed
        exponent = common_exponent(observed)
        shift = observed["exponent"] - exponent
        with np.errstate(over="ignore", under="ignore"):
            mean = average(np.ldexp(observed["mean"], shift))
            std = np.sqrt(average(np.ldexp(observed["variance"], 2 * shift)))
            return float(np.ldexp(mean, exponent)), float(np.ldexp(std, exponent))

    def table(self, every: int | None = None) -> str:
        """Return the table of layers as text, 80 columns wide.

        Mean, std and var are those of all trials pooled. The columns of logarithms tell of the
        typical trial: the mean over trials of ``log10_second_moment`` and, for more than one, half
        the width of its 95% interval. After a backward pass these are there for activations,
        gradients and weight gradients, and less is shown of the rest. Where :meth:`theory` is of
        use there is z, how many standard errors the logarithm is from what theory has.

        Parameters
        ----------
        every : int, optional
            Show every so many layers, and the last: 1 shows all. By default the first and the last
            ten of a deep network.
        """
        return _report.table(self, every)

    def __str__(self) -> str:
        return _report.text(self)

    def __repr__(self) -> str:
        last = self.first_trial + self.trials - 1
        return (
            f"Run({len(self.layer_names)} layers, trials {self.first_trial} to {last}, "
            f"seed {self.seed}, {self.dtype})"
        )

    def _repr_html_(self) -> str:
        return _report.html(self)

    def settings(self) -> dict[str, Any]:
        """Return all but the statistics as plain Python values; given arrays stay arrays."""
        return {
            "network": self.network.to_dict(),
            "inputs": self.batch if self.given_inputs is None else self.given_inputs,
            "seed": self.seed,
            "trials": self.trials,
            "first_trial": self.first_trial,
            "dtype": self.dtype,
            "statistics": list(self.statistics),
            "loss": self.loss,
            "targets": self.given_targets,
            "precision": self.precision,
            "method": self.method,
            "out_of_range": [list(event) for event in self.out_of_range],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the settings and the pooled statistics as plain Python values.

        Given arrays (inputs, weights, targets) stay arrays. The trials' own values are in
        ``per_trial`` and in what :meth:`save` writes. Signals of fewer layers than "layer_names"
        have their own.
        """
        record = self.settings() | {"layer_names": list(self.layer_names)}
        for signal in self.observed:
            names = self.network.names(signal)
            few = signal != "input_gradients" and names != self.layer_names
            record[signal] = {
                **({"layer_names": list(names)} if few else {}),
                **{field: values.tolist() for field, values in self._fields(signal).items()},
            }
        return record

    def to_dataframe(self) -> DataFrame:
        """Return the pooled statistics as a table, one row for each signal of each layer.

        The layer of the input gradients is called "input".

        Needs pandas: ``pip install "varprop[dataframe]"``.
        """
        pandas = require("pandas", "dataframe")
        frames = [
            pandas.DataFrame(
                {"layer": self.network.names(signal), "signal": signal, **self._fields(signal)}
            )
            for signal in self.observed
        ]
        frame: DataFrame = pandas.concat(frames, ignore_index=True)
        return frame

    def _fields(self, signal: str) -> dict[str, NDArray[Any]]:
        """Return the pooled statistics that were collected, by name."""
        collected = getattr(self, signal)
        names = _catalogue.fields(self.statistics, signal, self.method)
        return {name: getattr(collected, name) for name in names}

    def save(self, path: str | PathLike[str]) -> None:
        """Write the run to ``*.json`` or ``*.npz``, whole or not at all; :func:`load` reads it."""
        from varprop import _files

        _files.save(self, path)

    def plot(
        self,
        signal: Literal["preactivations", "activations"] = "activations",
        *,
        kind: Literal["variance", "histograms", "saturation", "weight_gradients"] = "variance",
        theory: bool = False,
        figure: Figure | None = None,
    ) -> Figure:
        """Draw the layers: variance and mean, or what `kind` says; see :func:`varprop.plot.plot`.

        Needs Matplotlib: ``pip install "varprop[plot]"``; for `theory`, SciPy too.
        """
        from varprop.plot import plot

        if not isinstance(theory, bool):
            raise TypeError(f"theory must be True or False, got {theory!r}")
        return plot(self, signal, kind=kind, theory=theory, figure=figure)
