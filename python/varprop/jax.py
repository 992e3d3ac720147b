"""varprop's weights for JAX: an initializer as Flax, Equinox and ``jax.nn.initializers`` know it.

Needs JAX: ``pip install "varprop[jax]"``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop._extras import require
from varprop._layer import LawLike
from varprop._weights import dtype_name, weights
from varprop.initializers import resolve

jax: Any = require("jax", "jax")

__all__ = ["initializer"]


def initializer(law: LawLike) -> Callable[..., Any]:
    """Return ``init(key, shape, dtype=jnp.float32)``, whose numbers are :func:`varprop.weights`'.

    Parameters
    ----------
    law : str, Law, number or array
        As of :func:`varprop.weights`.

    Returns
    -------
    callable
        The key's bits are the seed, its first word the most significant: ``jax.random.key(7)``
        is seed 7. The dtype is float32, float64 (where JAX has it), float16 or bfloat16. Under
        ``jit``, ``vmap`` and their like the numbers are drawn on the host when the function runs;
        they are the same.

    Examples
    --------
    >>> import jax
    >>> import varprop as vp
    >>> init = vp.jax.initializer("he_normal")
    >>> weight = init(jax.random.key(7), (64, 32))
    >>> bool((weight == vp.weights((64, 32), "he_normal", seed=7)).all())
    True
    """
    chosen = resolve(law, "law")

    def init(key: Any, shape: tuple[int, ...], dtype: Any = jax.numpy.float32) -> Any:
        sizes = tuple(shape)
        kind = jax.dtypes.canonicalize_dtype(dtype)
        dtype_name(kind)  # these raise their errors here, not while the code of jit runs
        chosen.compile(sizes)

        def draw(words: Any) -> NDArray[Any]:
            return weights(sizes, chosen, seed=_seed(words), dtype=kind)

        words = jax.random.key_data(key)
        if not isinstance(words, jax.core.Tracer):
            return jax.numpy.asarray(draw(words))
        result = jax.ShapeDtypeStruct(sizes, kind)
        return jax.pure_callback(draw, result, words, vmap_method="sequential")

    return init


def _seed(words: Any) -> int:
    return int.from_bytes(np.asarray(words).astype(">u4").tobytes(), "big")
