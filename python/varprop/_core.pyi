from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varprop._draw import Draw
from varprop.network import Operation

__version__: str
compiler: str
openmp: int

_Words = tuple[int, int, int, int]
_Floats = NDArray[np.float64]

def built_isas() -> list[str]: ...
def supported_isas() -> list[str]: ...
def active_isa() -> str: ...
def available_threads() -> int: ...
def threefry(key: _Words, counter: _Words) -> list[int]: ...
def activate(values: NDArray[Any], activation: int, parameter: float, derivative: bool) -> None: ...
def draw(
    draw: Draw,
    key: _Words,
    trial: int,
    first: tuple[int, int],
    steps: list[int],
    out: NDArray[Any],
    dtype: str,
    threads: int,
    progress: Callable[[float], object] | None,
) -> None: ...

class Layers:
    def __init__(self, operations: tuple[Operation, ...]) -> None: ...

class Simulation:
    def __init__(
        self,
        layers: Layers,
        keys: bytes,
        given: dict[int, NDArray[Any]],
        batch: int,
        inputs: NDArray[Any] | None,
        input_key: _Words,
        input_rms: float,
        first_trial: int,
        trials: int,
        cost: tuple[str, _Words, NDArray[Any] | None] | None,
        wanted: tuple[bool, bool, bool, bool, float | None],
        threads: int,
        dtype: str,
        implicit: bool,
    ) -> None: ...
    @property
    def fewest_kept(self) -> int: ...
    def memory(self, by_trial: bool, kept: int) -> int: ...
    def run(
        self,
        by_trial: bool,
        kept: int,
        progress: Callable[[float], object] | None,
        form: Callable[[int, int], tuple[NDArray[Any], float]],
        apply: Callable[[int, bool, NDArray[np.float64]], None],
        whole_activations: Sequence[int],
        whole_gradients: bool,
        whole_parameters: bool,
    ) -> dict[str, Any]: ...

class Accumulators:
    def __init__(self, count: int) -> None: ...
    def __len__(self) -> int: ...
    def update(self, array: NDArray[Any], kept: int, dtype: str) -> None: ...
    def merge(self, other: Accumulators) -> None: ...
    @property
    def count(self) -> _Floats: ...
    @property
    def mean(self) -> _Floats: ...
    @property
    def m2(self) -> _Floats: ...
    @property
    def m3(self) -> _Floats: ...
    @property
    def m4(self) -> _Floats: ...
    @property
    def minimum(self) -> _Floats: ...
    @property
    def maximum(self) -> _Floats: ...
