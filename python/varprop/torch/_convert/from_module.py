"""A Sequential of PyTorch's modules as a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from varprop._laws import Law
from varprop._laws_whole import Given
from varprop._layer import Layer, Shape
from varprop.layers import Residual, Sequential
from varprop.network import Network
from varprop.torch import _door, modules
from varprop.torch._convert import shapes
from varprop.torch._convert.readers import READERS, LawOf, kind_of, leaves, named
from varprop.torch._names import parameters
from varprop.torch._rules import Laws, assign

__all__ = ["from_module"]


def from_module(
    module: nn.Module,
    input_shape: int | Sequence[int] | None = None,
    *,
    init: Laws | None = None,
    values: bool = False,
) -> Network:
    """Return a Sequential of PyTorch's modules as a network.

    Every module becomes a layer of the same name, so that weights are drawn under the qualified
    names of its parameters: what ``simulate(..., seed=1)`` uses, ``init_(module, ..., seed=1)``
    fills in.

    Parameters
    ----------
    module : Module
        A Sequential, nested ones too, of Linear, Conv2d, activations, Identity, Flatten, Dropout,
        AvgPool2d, AdaptiveAvgPool2d, BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm, and of
        :mod:`varprop.torch.modules`; or one of these alone, which is called by its type's name.
    input_shape : int or sequence of int, optional
        (features,), or (channels, height, width). Where it is not given, and `module` has no
        attribute of this name, the modules have to tell it: images are square then, of the size
        that the first Linear needs; of several that fit, that which can be halved most often.
    init : law or mapping, optional
        As of :func:`varprop.torch.init_`; by default torch's own default laws. Parameters that
        get none keep their present values.
    values : bool
        All parameters keep their present values.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        A module that no layer of varprop is like: the first one, by its name and type; a norm
        whose weight is not 1 or whose bias is not 0; a parameter in two places, of which a network
        would draw two; an input shape that is neither given nor told.

    Notes
    -----
    As at the start of training: BatchNorm takes the statistics of the batch, Dropout drops.
    Images are (height, width, channels) in a network: inputs must be permuted.

    Examples
    --------
    >>> import varprop as vp
    >>> module = nn.Sequential(nn.Linear(64, 100), nn.Tanh(), nn.Linear(100, 10))
    >>> net = vp.torch.from_module(module)
    >>> net.layer_names, str(net.layers[0].weight)
    (('0', '1', '2'), 'torch_linear')
    >>> vp.torch.from_module(module, init="xavier_normal").layers[2].weight.mode
    'fan_avg'
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if values and init is not None:
        raise ValueError("init must be None where values=True keeps the present ones")
    found = list(leaves(module))
    laws = {} if values else assign(module, init, "init")
    for one in parameters(module):
        if len(one.places) > 1 and one.name in laws:
            first, second = (place.name for place in one.places[:2])
            raise ValueError(
                f"parameters {first!r} and {second!r} are one, of which a network would draw two: "
                "values=True keeps what they are"
            )
    shape = shapes.given(module, input_shape) or shapes.told(found)
    layers = _Reader(module, laws).network(shape)
    return Network(shape[0] if len(shape) == 1 else shape, layers)


class _Reader:
    """Layers from modules, with the laws of their parameters, or else their values."""

    def __init__(self, module: nn.Module, laws: dict[str, Law]) -> None:
        self.module, self.laws = module, laws

    def network(self, shape: Shape) -> list[Layer]:
        """Return the layers of the module that is read."""
        if kind_of(self.module) is nn.Sequential:
            return self._children(self.module, "", shape)[0]
        layer, _ = self._layer(self.module, "", shape)
        return [layer.renamed(type(self.module).__name__)]

    def _children(self, module: nn.Module, name: str, shape: Shape) -> tuple[list[Layer], Shape]:
        layers = []
        for part, child in module._modules.items():
            assert child is not None
            layer, shape = self._layer(child, f"{name}.{part}" if name else part, shape)
            layers.append(layer.renamed(part))
        return layers, shape

    def _layer(self, module: nn.Module, name: str, shape: Shape) -> tuple[Layer, Shape]:
        """Return a layer, and the shape that leaves it."""
        kind = kind_of(module)
        if kind is nn.Sequential:
            layers, out = self._children(module, name, shape)
            return Sequential(layers), out
        if isinstance(module, modules.Residual):
            branch, _ = self._children(module, name, shape)
        try:
            if isinstance(module, modules.Residual):
                layer: Layer = Residual(branch, module.branch_scale, module.skip_scale)
            else:
                layer = READERS[kind](module, shape, self._law_of(module, name))
            return layer, layer.output_shape(shape)
        except (ValueError, TypeError) as error:
            raise named(module, name, error) from None

    def _law_of(self, module: nn.Module, name: str) -> LawOf:
        def law(part: str) -> Law | None:
            tensor = getattr(module, part, None)
            if tensor is None:
                return None
            found = self.laws.get(f"{name}.{part}" if name else part)
            return _given(tensor) if found is None else found

        return law


def _given(tensor: Tensor) -> Given:
    """Return the values of a parameter, axes as ours."""
    if tensor.is_meta:
        raise ValueError("parameters on the meta device have no values")
    if not tensor.is_floating_point():
        raise ValueError(f"parameters must be real numbers, got {tensor.dtype}")
    plain = tensor.detach().cpu()
    numbers = (plain if plain.element_size() > 2 else plain.float()).numpy()
    return Given(np.transpose(numbers, _door.our_order(numbers.ndim)))
