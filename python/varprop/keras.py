"""varprop's weights for Keras 3, on any of its backends.

Needs Keras: ``pip install "varprop[keras]"``.
"""

from __future__ import annotations

from typing import Any

from varprop._extras import require
from varprop._layer import LawLike
from varprop._weights import weights
from varprop.initializers import resolve, to_value

keras: Any = require("keras", "keras")

__all__ = ["Initializer", "initializer"]


@keras.saving.register_keras_serializable("varprop")
class Initializer(keras.initializers.Initializer):
    """A Keras initializer of a law, a seed and a name: what :func:`initializer` returns."""

    def __init__(self, law: LawLike, seed: int, name: str = "") -> None:
        self.law, self.seed, self.name = resolve(law, "law"), seed, name

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return the backend's tensor of this shape."""
        kind = keras.backend.standardize_dtype(dtype)
        numbers = weights(tuple(shape), self.law, seed=self.seed, name=self.name, dtype=kind)
        return keras.ops.convert_to_tensor(numbers, kind)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments: the law is a text, or lists of numbers where these are given."""
        law = to_value(self.law)
        text = law if isinstance(law, str) else law.tolist()
        return {"law": text, "seed": self.seed, "name": self.name}


def initializer(law: LawLike, seed: int, name: str = "") -> Initializer:
    """Return a Keras initializer whose numbers are those of :func:`varprop.weights`.

    It draws ``varprop.weights(shape, law, seed=seed, name=name)`` every time that it is called:
    give every layer an initializer with a name of its own. Models that hold it save and load, where
    ``varprop.keras`` is imported.

    Parameters
    ----------
    law : str, Law, number or array
        As of :func:`varprop.weights`.
    seed : int
        Any integer >= 0.
    name : str
        Name of the tensor.

    Returns
    -------
    keras.initializers.Initializer

    Examples
    --------
    >>> import keras
    >>> import varprop as vp
    >>> init = vp.keras.initializer("he_normal", seed=1, name="dense.kernel")
    >>> layer = keras.layers.Dense(32, kernel_initializer=init)
    >>> layer.build((None, 64))
    >>> kernel = keras.ops.convert_to_numpy(layer.kernel.value)
    >>> bool((kernel == vp.weights((64, 32), "he_normal", seed=1, name="dense.kernel")).all())
    True
    """
    return Initializer(law, seed, name)
