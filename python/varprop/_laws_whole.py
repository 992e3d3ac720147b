"""Laws of tensors that are formed whole: orthogonal, sparse, identity, given ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from varprop import _spec
from varprop._laws import Array, Law, Normal, Shape, Source, Uniform


@dataclass(frozen=True)
class Orthogonal(Law):
    """Uniform (Haar) over the matrices with orthonormal rows or columns, times `gain`.

    The matrix has prod(shape[:-1]) rows and shape[-1] columns. It is the Q of a normal matrix,
    with signs that make the diagonal of R positive (Mezzadri 2007).
    """

    gain: float = 1.0
    iid = False

    def __post_init__(self) -> None:
        self._real("gain")

    def compile(self, shape: Shape, /) -> None:
        self._require(len(shape) >= 2, "at least 2 dimensions", shape)

    def form(self, shape: Shape, draw: Source, /) -> Array:
        matrix = draw((math.prod(shape[:-1]), shape[-1]), Normal())
        wide = matrix.shape[0] < matrix.shape[1]
        q, r = np.linalg.qr(matrix.T if wide else matrix)
        q = self.gain * q * np.where(np.diag(r) < 0.0, -1.0, 1.0)
        return (q.T if wide else q).reshape(shape)


@dataclass(frozen=True)
class DeltaOrthogonal(Law):
    """Convolution by an orthogonal matrix at the kernel's centre (k - 1) // 2, times `gain`.

    Shape (*kernel, in, out) of 3 to 5 dimensions with in <= out (Xiao et al. 2018).
    """

    gain: float = 1.0
    iid = False

    def __post_init__(self) -> None:
        self._real("gain")

    def compile(self, shape: Shape, /) -> None:
        self._require(3 <= len(shape) <= 5, "3 to 5 dimensions", shape)
        self._require(shape[-2] <= shape[-1], "(*kernel, in, out) with in <= out", shape)

    def form(self, shape: Shape, draw: Source, /) -> Array:
        tensor = np.zeros(shape)
        centre = tuple((size - 1) // 2 for size in shape[:-2])
        tensor[centre] = Orthogonal(self.gain).form(shape[-2:], draw)
        return tensor


@dataclass(frozen=True)
class Sparse(Law):
    """Normal of `std`, where ceil(sparsity * fan_out) outgoing weights of each input are 0.

    The zeros are at the smallest of uniform numbers drawn for each weight (Martens 2010).
    """

    sparsity: float
    std: float = 0.01
    iid = False

    def __post_init__(self) -> None:
        self._real("sparsity", least=0.0, most=1.0)
        self._real("std", least=0.0)

    def compile(self, shape: Shape, /) -> None:
        self._require(len(shape) == 2, "2 dimensions", shape)

    def form(self, shape: Shape, draw: Source, /) -> Array:
        matrix = draw(shape, Normal(self.std))
        order = draw(shape, Uniform(-1.0, 1.0), "sparse").argsort(axis=1, kind="stable")
        zeros = order[:, : math.ceil(self.sparsity * shape[1])]
        np.put_along_axis(matrix, zeros, 0.0, axis=1)
        return matrix


@dataclass(frozen=True)
class Identity(Law):
    """`gain` on the diagonal of a matrix, 0 elsewhere."""

    gain: float = 1.0
    iid = False

    def __post_init__(self) -> None:
        self._real("gain")

    def compile(self, shape: Shape, /) -> None:
        self._require(len(shape) == 2, "2 dimensions", shape)

    def form(self, shape: Shape, _draw: Source, /) -> Array:
        return np.eye(shape[0], shape[1]) * self.gain


@dataclass(frozen=True)
class Dirac(Law):
    """Convolution that copies channels: ones at the kernel's centre k // 2 (PyTorch).

    Shape (*kernel, in, out) of 3 to 5 dimensions; `groups` divides out, and in each group channel
    i is copied to channel i as long as both exist.
    """

    groups: int = 1
    iid = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _spec.integer("groups", self.groups, least=1))

    def compile(self, shape: Shape, /) -> None:
        self._require(3 <= len(shape) <= 5, "3 to 5 dimensions", shape)
        self._require(shape[-1] % self.groups == 0, f"outputs in {self.groups} groups", shape)

    def form(self, shape: Shape, _draw: Source, /) -> Array:
        tensor = np.zeros(shape)
        centre = tuple(size // 2 for size in shape[:-2])
        inputs, outputs = shape[-2:]
        tensor[centre] = np.tile(np.eye(inputs, outputs // self.groups), self.groups)
        return tensor


@dataclass(frozen=True, eq=False)
class Given(Law):
    """The weights themselves, kept as a read-only copy; of a float dtype, float64 by default."""

    array: NDArray[np.floating]
    iid = False

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.dtype.kind not in "fiuV":  # V: bfloat16
            raise TypeError(f"array must hold real numbers, got dtype {array.dtype}")
        keeps = array.dtype.kind == "f" and array.itemsize <= 8
        array = np.array(array, array.dtype.newbyteorder("=") if keeps else np.float64, order="C")
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            where = tuple(int(i) for i in wrong[0])
            raise ValueError(f"array must be finite, got {array[where]} at {where}")
        array.flags.writeable = False
        object.__setattr__(self, "array", array)

    def compile(self, shape: Shape, /) -> None:
        self._require(shape == self.array.shape, "its own shape", shape)

    def form(self, _shape: Shape, _draw: Source, /) -> Array:
        return self.array.astype(np.float64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash(self.array.shape)

    def __str__(self) -> str:
        return f"given array {self.array.shape}"

    def __repr__(self) -> str:
        return f"<{self}>"
