"""The 128-bit key of a tensor, from the seed and the tensor's name."""

from __future__ import annotations

import hashlib
import struct

from varprop._spec import integer

STREAM_VERSION = 1
"""Version of all draws: a published bit never changes without raising it."""

_PERSON = f"varprop-{STREAM_VERSION}".encode()


def key(seed: int, name: str) -> tuple[int, int, int, int]:
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
    text = str(integer("seed", seed)).encode() + b"\0" + name.encode()
    digest = hashlib.blake2b(text, digest_size=16, person=_PERSON).digest()
    first, second, third, fourth = struct.unpack("<4I", digest)
    return first, second, third, fourth
