"""The 128-bit key of a tensor, from the seed and the tensor's name."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from varprop._spec import integer

STREAM_VERSION = 1
"""Version of all draws: a published bit never changes without raising it."""

_PERSON = f"varprop-{STREAM_VERSION}".encode()
_WORDS = struct.Struct("<4I")


Key = tuple[int, int, int, int]


def key(seed: int, name: str) -> Key:
    """Return BLAKE2b of the seed and the name as four words of 32 bits.

    Parameters
    ----------
    seed : int
        Any integer >= 0.
    name : str
        Name of the tensor, ``"dense1.weight"`` say.

    Examples
    --------
    >>> [f"{word:08x}" for word in key(0, "dense1.weight")]
    ['f7157fda', '579e34d2', '91b2c8ff', '367880e5']
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    words: Key = _WORDS.unpack(digests(seed, [name]))
    return words


def digests(seed: int, names: Iterable[str]) -> bytes:
    """Return the keys of several tensors of one seed, 16 bytes each, words little-endian."""
    prefix = str(integer("seed", seed)).encode() + b"\0"
    start = hashlib.blake2b(prefix, digest_size=16, person=_PERSON)
    found = []
    for name in names:
        state = start.copy()
        state.update(name.encode())
        found.append(state.digest())
    return b"".join(found)
