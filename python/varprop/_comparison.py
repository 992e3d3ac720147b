"""What a comparison of two networks found: ratios, multipliers, and what they mean in words."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varprop import _table
from varprop._table import DOTS, WIDTH, Column, shown
from varprop.network import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["OPTIMIZERS", "Comparison", "Optimizer", "stretches"]

Array = NDArray[np.float64]


class Optimizer(NamedTuple):
    """What is compared of an optimizer.

    Attributes
    ----------
    kind : str
        Which first step it takes: momentum takes that of SGD.
    rate : float
        Its usual learning rate.
    power : int
        With which power of the weights' size the learning rate has to go.
    """

    kind: str
    rate: float
    power: int


OPTIMIZERS = {
    "sgd": Optimizer("sgd", 0.01, 2),
    "momentum": Optimizer("sgd", 0.01, 2),
    "adam": Optimizer("adam", 0.001, 1),
}
SAME = {"float64": 1e-9, "float32": 1e-4}  # of the outputs, for rounding alone
NEARLY = 1e-3  # as an eps makes them differ, in a norm behind larger weights
ALIKE = 0.01  # a ratio this near to 1 is one
_FEW = 4  # parameters that are told of in words


def stretches(weights: ArrayLike, gradients: ArrayLike) -> Array:
    """Return how many times larger the weights of b are, as their gradients tell.

    Parameters
    ----------
    weights, gradients : array
        Sizes in both networks, shape (2, parameters).

    Returns
    -------
    array
        The ratio of gradients, a to b; where one is zero that of weights, b to a; or else NaN.
    """
    w, g = np.asarray(weights), np.asarray(gradients)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_gradients, by_weights = g[0] / g[1], w[1] / w[0]
    usable = [np.isfinite(ratio) & (ratio > 0) for ratio in (by_gradients, by_weights)]
    return np.where(usable[0], by_gradients, np.where(usable[1], by_weights, np.nan))


class Comparison:
    """How two parametrizations differ, made by :func:`compare`; printed, it explains.

    Dictionaries by parameter have the names of weights and biases as keys, ``dense1.weight``;
    ratios are those of `net_b` to `net_a`. Over several trials sizes are root mean squares.

    Attributes
    ----------
    net_a, net_b : Network
    batch, trials, seed : int
    dtype, loss : str
    learning_rates : dict
        By optimizer: "sgd", "momentum", "adam".
    eps : float
        Adam's.
    parameters : tuple of str
        Names of weights and biases.
    measured : dict of ndarray
        What each trial gave, trials along the first axis.
    """

    def __init__(
        self,
        net_a: Network,
        net_b: Network,
        *,
        batch: int,
        trials: int,
        seed: int,
        dtype: str,
        loss: str,
        learning_rates: dict[str, float],
        eps: float,
        parameters: tuple[str, ...],
        measured: dict[str, Array],
    ) -> None:
        self.net_a, self.net_b = net_a, net_b
        self.batch, self.trials, self.seed = batch, trials, seed
        self.dtype, self.loss = dtype, loss
        self.learning_rates, self.eps = learning_rates, eps
        self.parameters = parameters
        self.measured = measured

    @property
    def difference(self) -> float:
        """The largest difference between the outputs."""
        return float(np.max(self.measured["difference"]))

    @property
    def same_function(self) -> bool:
        """Whether the outputs differ by rounding alone: 1e-9 of the largest (float32: 1e-4)."""
        return self.difference <= SAME[self.dtype] * float(np.max(self.measured["size"]))

    @property
    def layer_differences(self) -> dict[str, float]:
        """Largest difference of what follows each layer with weights, relative to its size.

        Of all signals between one such layer and the next those two that are nearest: scales and
        activations may be layers of their own in one of the networks.
        """
        found = np.max(self.measured["layer_difference"], axis=0)
        return dict(zip(self.net_a.weight_names, found.tolist(), strict=True))

    @property
    def weight_ratio(self) -> dict[str, float]:
        """Size of the weights and biases; NaN where they are zeros."""
        return self._ratio("weights")

    @property
    def gradient_ratio(self) -> dict[str, float]:
        """Size of the gradients by them."""
        return self._ratio("gradients")

    @property
    def effective_rate_ratio(self) -> dict[str, dict[str, float]]:
        """By optimizer, how far a step of each parameter moves the outputs.

        Measured with small steps of one parameter alone, at equal learning rates.
        """
        return {name: self._ratio(f"sensitivity {o.kind}") for name, o in OPTIMIZERS.items()}

    @property
    def relative_updates(self) -> dict[str, dict[str, tuple[float, float]]]:
        """By optimizer, |dw| / |w| of the first step, of a and of b; inf where w is zeros."""
        weights, found = self._sizes("weights"), {}
        for name, optimizer in OPTIMIZERS.items():
            with np.errstate(divide="ignore", invalid="ignore"):
                steps = self.learning_rates[name] * self._sizes(f"direction {optimizer.kind}")
                pairs = [(a, b) for a, b in (steps / weights).T.tolist()]
            found[name] = dict(zip(self.parameters, pairs, strict=True))
        return found

    @property
    def multipliers(self) -> dict[str, dict[str, float]]:
        """By optimizer, what the learning rate of each parameter of b is to be multiplied by.

        NaN of a parameter of zeros that no gradient reaches: this draw does not tell.
        """
        r = self._stretches()
        return {name: self._by_parameter(r**o.power) for name, o in OPTIMIZERS.items()}

    @property
    def eps_multipliers(self) -> dict[str, float]:
        """What Adam's eps is to be multiplied by, in b."""
        return self._by_parameter(1.0 / self._stretches())

    @property
    def mismatch(self) -> dict[str, tuple[float, float]]:
        """By optimizer, how differently one step of all parameters moves the outputs.

        |df_b - df_a| / |df_a|, as it is and with the multipliers; the largest of the trials.
        """
        found = {name: np.max(self.measured[f"mismatch {name}"], axis=0) for name in OPTIMIZERS}
        return {name: (float(before), float(after)) for name, (before, after) in found.items()}

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw effective learning rates, and the first step's relative updates.

        Momentum has the ratios of SGD and is left out.

        Needs Matplotlib: ``pip install "varprop[plot]"``.
        """
        from varprop.plot._comparison import draw

        return draw(self, figure)

    def __repr__(self) -> str:
        same = "the same function" if self.same_function else "different functions"
        return f"<Comparison of {self.net_a!r} and {self.net_b!r}: {same}>"

    def __str__(self) -> str:
        return "\n".join((*self._words(), "", *self._ratios(), "", *self._first_steps()))

    # --- sizes and ratios ---

    def _sizes(self, key: str) -> Array:
        """Return root mean squares over the trials, shape (2, parameters)."""
        return np.asarray(np.sqrt(np.mean(np.square(self.measured[key]), axis=0)))

    def _ratio(self, key: str) -> dict[str, float]:
        a, b = self._sizes(key)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._by_parameter(b / a)

    def _stretches(self) -> Array:
        return stretches(self._sizes("weights"), self._sizes("gradients"))

    def _by_parameter(self, values: Array) -> dict[str, float]:
        return dict(zip(self.parameters, values.tolist(), strict=True))

    # --- for people ---

    def _words(self) -> list[str]:
        size = float(np.max(self.measured["size"]))
        nearly = self.difference <= NEARLY * size
        same = "The same" if self.same_function else "Nearly the same" if nearly else "Not the same"
        draws = f"{self.trials} draw{'s' * (self.trials > 1)} of the weights"
        settings = f"{self.batch} examples, {draws}, seed {self.seed}, {self.dtype}"
        outputs = f"outputs of up to {size:.3g} differ by at most {self.difference:.2g}"
        lines = _wrapped(f"{same} function: {outputs} ({settings}).")
        apart = [name for name, d in self.layer_differences.items() if not d <= SAME[self.dtype]]
        if apart and not self.same_function:
            lines += _wrapped(f"They part at layer {apart[0]!r}.")
        r = self._stretches()
        known = ~np.isnan(r)
        if not known.any():
            return [*lines, "No gradient reaches any weight: nothing to compare."]
        unlike = [self.parameters[i] for i in np.flatnonzero(known & (np.abs(r - 1) >= ALIKE))]
        if not unlike:
            return [*lines, "They train alike: their gradients are equally large."]
        if nearly:
            lines += _wrapped(
                "They do not train alike: weights r times larger have gradients r times smaller. "
                "At the same learning rate SGD and momentum move the outputs r^2 times less, and "
                "Adam, whose step does not know the size of the gradient, r times less (where "
                "gradients are well above its eps)."
            )
        else:
            lines += _wrapped(
                "No multiplier makes them train alike. Those below give the step of each parameter "
                "the effect on the loss that it has in a, to first order."
            )
        weights, rates = self.weight_ratio, self.effective_rate_ratio
        told = [name for name in unlike if np.isfinite(rates["sgd"][name])][:_FEW]
        for name in told:
            larger = f" x {weights[name]:.4g}" if np.isfinite(weights[name]) else ""
            lines += _wrapped(
                f"{name}{larger}: a step moves the outputs x {rates['sgd'][name]:.3g} (SGD), "
                f"x {rates['adam'][name]:.3g} (Adam)"
            )
        return lines + [f"and {len(unlike) - len(told)} more"] * (len(unlike) > len(told))

    def _ratios(self) -> list[str]:
        rates, multipliers = self.effective_rate_ratio, self.multipliers
        return self._lines(
            ("b / a", "weights", self.weight_ratio),
            ("b / a", "gradients", self.gradient_ratio),
            ("rate, b / a", "sgd", rates["sgd"]),
            ("rate, b / a", "adam", rates["adam"]),
            ("multiply b by", "sgd", multipliers["sgd"]),
            ("multiply b by", "adam", multipliers["adam"]),
            ("multiply b by", "eps", self.eps_multipliers),
        )

    def _first_steps(self) -> list[str]:
        columns = [
            (f"{optimizer}, rate {self.learning_rates[optimizer]:g}", net, by_parameter)
            for optimizer, updates in self.relative_updates.items()
            for side, net in enumerate("ab")
            for by_parameter in [{name: pair[side] for name, pair in updates.items()}]
        ]
        as_it_is, multiplied = (
            ", ".join(f"{_small(pair[i])} ({name})" for name, pair in self.mismatch.items())
            for i in (0, 1)
        )
        return [
            "rate: the effective one, how far a step of that parameter moves the outputs",
            "multiply b by: the learning rates of SGD and momentum, of Adam, and Adam's eps",
            "",
            "|dw| / |w| of the first step:",
            *self._lines(*columns),
            "",
            *_wrapped(
                "That step of all parameters moves the outputs of b otherwise than those of a, "
                f"|df_b - df_a| / |df_a|, by {as_it_is}; multiplied as above by {multiplied}."
            ),
        ]

    def _lines(self, *columns: tuple[str, str, dict[str, float]]) -> list[str]:
        rows = shown(len(self.parameters), None)
        names = [DOTS if i is None else self.parameters[i] for i in rows]
        return _table.lines(
            Column("", "parameter", names),
            [
                Column(group, title, [DOTS if n == DOTS else _cell(values[n]) for n in names])
                for group, title, values in columns
            ],
        )


def _cell(value: float) -> str:
    """Write a number; "-" for a ratio to zero."""
    return f"{value:.3g}" if np.isfinite(value) else "-"


def _small(value: float) -> str:
    """Write a relative difference; what rounding leaves has no digits worth to be told."""
    return "under 1e-9" if value < 1e-9 else f"{value:.2g}"


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH)
