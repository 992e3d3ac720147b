"""init_, fill_: which law every parameter gets, and that its numbers are varprop.weights'."""

import math
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

from varprop.torch import _door  # noqa: E402

nn = torch.nn


def bits(numbers):
    """A tensor or an array as it lies in memory, so that bfloat16 compares too."""
    if isinstance(numbers, torch.Tensor):
        numbers = _door.numbers(numbers)
    return numbers.view(np.uint16) if numbers.dtype.itemsize == 2 else numbers


def assert_is(tensor, *args, **kwargs):
    """A tensor has the bits of varprop.weights, transposed to torch's layout."""
    shape = tuple(tensor.shape)
    if len(shape) > 1:
        out, inputs, *kernel = shape
        expected = vp.weights((*kernel, inputs, out), *args, **kwargs)
        expected = expected.transpose(-1, -2, *range(len(kernel)))
    else:
        expected = vp.weights(shape, *args, **kwargs)
    np.testing.assert_array_equal(bits(tensor), bits(expected))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.second = nn.Linear(5, 4, bias=False)

    def forward(self, x):
        return self.second(self.norm(self.first(x)))


def named(module):
    return dict(module.named_parameters())


def copied(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_same(one, two):
    one, two = (x if isinstance(x, dict) else x.state_dict() for x in (one, two))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


# --- Numbers ---

LAYERS = {
    "linear": lambda: nn.Linear(17, 70),
    "wide": lambda: nn.Linear(300, 3),
    "conv1d": lambda: nn.Conv1d(6, 9, 4),
    "conv2d": lambda: nn.Conv2d(6, 70, (3, 5)),
    "grouped": lambda: nn.Conv2d(6, 9, 3, groups=3),
    "conv3d": lambda: nn.Conv3d(4, 6, (3, 2, 1)),
    "transposed1d": lambda: nn.ConvTranspose1d(6, 9, 4),
    "transposed2d": lambda: nn.ConvTranspose2d(6, 9, 3, groups=3),
    "transposed3d": lambda: nn.ConvTranspose3d(4, 6, (3, 2, 1)),
    "embedding": lambda: nn.Embedding(40, 12),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("law", ["he_normal", "glorot_uniform", "normal(std=0.02)", "orthogonal"])
def test_a_weight_is_the_transpose_of_ours(layer, dtype, law):
    module = nn.ModuleDict({"a": LAYERS[layer]()}).to(getattr(torch, dtype))
    assert vp.torch.init_(module, law, seed=5, trial=2) is module
    assert_is(module["a"].weight, law, seed=5, name="a.weight", trial=2, dtype=dtype)
    assert not any(module["a"].bias.tolist() if hasattr(module["a"], "bias") else [])


def test_a_vector_of_its_own_law():
    module = nn.Linear(6, 50)
    vp.torch.init_(module, {"*": "normal(std=0.1)"}, seed=5)
    assert_is(module.bias, "normal(std=0.1)", seed=5, name="bias")


def test_given_weights():
    array = np.arange(12.0).reshape(3, 4)
    module = nn.Linear(3, 4)
    vp.torch.init_(
        module,
        {
            "weight": array,
            "bias": np.arange(4),
        },
        seed=0,
    )
    assert (module.weight.detach().numpy() == array.T).all()
    assert module.bias.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("stride", ["transposed", "channels_last", "sliced"])
def test_strided_memory(stride):
    shape = (8, 6, 3, 5)
    tensor = {
        "transposed": lambda: torch.full(shape[::-1], math.nan).permute(3, 2, 1, 0),
        "channels_last": lambda: torch.full(shape, math.nan).to(memory_format=torch.channels_last),
        "sliced": lambda: torch.full((16, 7, 3, 5), math.nan)[::2, 1:],
    }[stride]()
    vp.torch.fill_(tensor, "he_normal", seed=1, name="w")
    assert torch.equal(tensor, vp.torch.fill_(torch.empty(shape), "he_normal", seed=1, name="w"))


def test_scalars_and_empty_tensors():
    scalar = vp.torch.fill_(torch.empty(()), "normal", seed=1)
    assert scalar.item() == vp.weights(1, "normal", seed=1)[0]
    empty = torch.empty(0, 5)
    assert vp.torch.fill_(empty, "he_normal", seed=1) is empty


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_order_and_threads_change_nothing(threads):
    one, two = Block(), Block()
    vp.torch.init_(one, {"*": "normal"}, seed=1)
    two._modules = dict(reversed(two._modules.items()))
    vp.torch.init_(two, {"*": "normal"}, seed=1, threads=threads)
    assert_same(copied(one), {name: copied(two)[name] for name in copied(one)})
    assert_is(two.first.weight, "normal", seed=1, name="first.weight")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch.compile's imports
@pytest.mark.parametrize("wrapper", ["compile", "data parallel", "checkpoint", "two"])
def test_wrappers_change_nothing(wrapper):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    plain, inner = (nn.Sequential(Block(), nn.Linear(4, 2)) for _ in range(2))
    if wrapper == "checkpoint":
        inner[0] = checkpoint_wrapper(inner[0])
    wrapped = {
        "compile": lambda: torch.compile(inner),
        "data parallel": lambda: nn.DataParallel(inner),
        "checkpoint": lambda: inner,
        "two": lambda: nn.DataParallel(torch.compile(inner)),
    }[wrapper]()
    laws = {"0.first.*": "normal", "0.norm.weight": "ones", "*.bias": 0.5, "1.weight": "he_normal"}
    vp.torch.init_(plain, laws | {"0.second.weight": "orthogonal"}, seed=1)
    vp.torch.init_(wrapped, laws | {"0.second.weight": "orthogonal"}, seed=1)
    for one, two in zip(plain.parameters(), inner.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_module_called_module_is_no_wrapper():
    model = nn.ModuleDict({"module": nn.Linear(3, 2)})
    vp.torch.init_(model, "he_normal", seed=1)
    assert_is(model["module"].weight, "he_normal", seed=1, name="module.weight")


def test_tied_parameters_are_drawn_once_under_their_first_name():
    model = nn.ModuleDict({"embedding": nn.Embedding(20, 8), "head": nn.Linear(8, 20, bias=False)})
    model["head"].weight = model["embedding"].weight
    vp.torch.init_(model, {"head.weight": "he_normal"}, seed=3)
    assert model["head"].weight is model["embedding"].weight
    assert_is(model["head"].weight, "he_normal", seed=3, name="embedding.weight")


# --- One law alone ---


def test_one_law_alone():
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "norm": nn.BatchNorm2d(4),
            "act": nn.PReLU(4, init=0.1),
            "attention": nn.MultiheadAttention(8, 2),
            "rnn": nn.LSTM(4, 3),
        }
    )
    vp.torch.init_(model, {"*": 7.0}, seed=1)
    vp.torch.init_(model, "lecun_normal", seed=1)  # without a warning: all have a law
    for name, tensor in named(model).items():
        if tensor.dim() > 1:
            assert_is(tensor, "lecun_normal", seed=1, name=name)
        else:
            expected = {"norm.weight": 1.0, "act.weight": 0.1}.get(name, 0.0)
            assert (tensor == torch.tensor(expected)).all(), name


def test_one_law_leaves_other_vectors_and_says_so():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.full((3,), 0.5))
            self.inner = nn.Linear(3, 3)

    class RMSNorm(nn.Module):  # of the user's, called so
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((3,), 0.5))

    model = nn.ModuleDict({"a": Scaled(), "b": RMSNorm()})
    with pytest.warns(UserWarning, match=r"one law leaves a\.gamma as it is"):
        vp.torch.init_(model, "he_normal", seed=1)
    assert model["a"].gamma.tolist() == [0.5] * 3
    assert model["b"].weight.tolist() == [1.0] * 3
    assert_is(model["a"].inner.weight, "he_normal", seed=1, name="a.inner.weight")


# --- Mappings ---


def test_the_last_entry_that_matches_counts():
    model = Block()
    before = copied(model)
    laws = {"*": 3.0, "*.weight": "normal", "second.weight": "he_normal", "norm.*": 2.0}
    vp.torch.init_(model, laws, seed=1)
    assert_is(model.first.weight, "normal", seed=1, name="first.weight")
    assert_is(model.second.weight, "he_normal", seed=1, name="second.weight")
    assert set(model.first.bias.tolist()) == {3.0}
    assert set(model.norm.weight.tolist() + model.norm.bias.tolist()) == {2.0}
    # What a mapping does not match stays.
    model.load_state_dict(before)
    vp.torch.init_(model, MappingProxyType({"first.weight": "normal"}), seed=1)
    assert_same(copied(model), before | {"first.weight": model.first.weight.detach()})
    assert not torch.equal(model.first.weight, before["first.weight"])


def test_types_of_modules_are_keys():
    model = nn.Sequential(Block(), nn.Linear(4, 2), nn.Conv1d(2, 2, 2))
    before = copied(model)
    vp.torch.init_(model, {nn.Linear: "normal", nn.LayerNorm: 2.0, "1.*": 5.0}, seed=1)
    assert_is(model[0].first.weight, "normal", seed=1, name="0.first.weight")
    assert_is(model[0].second.weight, "normal", seed=1, name="0.second.weight")
    assert not model[0].first.bias.any()
    assert set(model[0].norm.weight.tolist()) == {2.0}
    assert not model[0].norm.bias.any()
    assert set(model[1].bias.tolist()) == {5.0}
    assert torch.equal(model[2].weight, before["2.weight"])
    # A module that holds others: as one law does within it.
    vp.torch.init_(model, {Block: "orthogonal"}, seed=2)
    assert_is(model[0].second.weight, "orthogonal", seed=2, name="0.second.weight")
    assert set(model[0].norm.weight.tolist()) == {1.0}


@pytest.mark.parametrize(
    ("laws", "message"),
    [
        ({"frist.weight": "normal"}, r"\['frist.weight'\] matches no .*nearest is 'first.weight'"),
        ({"zzz": "normal"}, "matches no parameter: there are first.weight, first.bias"),
        ({nn.Conv2d: "normal"}, r"law\[Conv2d\] matches no parameter: there are Linear, LayerNorm"),
        ({"first.weight": "normal", "*": 0.0}, r"law\['first.weight'\] decides nothing"),
        ({"first.weight": "he_norml"}, r"unknown law\['first.weight'\] .*you mean 'he_normal'"),
        ({"*": "he_normal"}, "parameter 'first.bias': he_normal needs at least 2 dimensions"),
        ({"*": "normal", "first.weight": "dirac"}, "parameter 'first.weight': dirac needs 3 to 5"),
        ({"first.weight": np.zeros((5, 6))}, "parameter 'first.weight': given array"),
        ({"second.weight": "normal(std=1e200)"}, "out of the range of float32"),
    ],
)  # fmt: skip
def test_mappings_that_do_not_fit(laws, message):
    model = Block()
    before = copied(model)
    with pytest.raises(ValueError, match=message):
        vp.torch.init_(model, laws, seed=1)
    assert_same(model, before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"law": {3: "normal"}}, TypeError, "patterns of names and types of modules"),
        ({"law": {int: "normal"}}, TypeError, "patterns of names and types of modules"),
        ({"law": object()}, TypeError, "law must be a name"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
        ({"trial": -1}, ValueError, "trial must be"),
        ({"trial": 2**63}, ValueError, "trial must be"),
        ({"threads": 0}, ValueError, "threads must be"),
        ({"module": [1]}, TypeError, "module must be a torch.nn.Module, got list"),
        ({"region": [1]}, TypeError, "region must map names"),
        ({"region": {"first.wieght": 0}}, ValueError, "did you mean 'first.weight'"),
        ({"region": {"first.weight": 3}}, TypeError, "must be .whole shape, slices"),
        ({"region": {"first.weight": ((10, 6), (slice(0, 4),))}}, ValueError, r"got \(4, 6\)"),
        ({"region": {"first.weight": ((10, 6), (3,))}}, TypeError, "a tuple of slices"),
        ({"region": {"second.weight": ((4, 5), (slice(None),) * 3)}}, ValueError, "at most 2"),
        ({"region": {"second.weight": ((4, 5), (slice(0, 9),))}}, ValueError, "within 0 to 4"),
    ],
)
def test_nothing_is_written_when_anything_is_wrong(arguments, error, message):
    model = Block()
    before = copied(model)
    arguments = {"module": model, "law": "normal", "seed": 1} | arguments
    with pytest.raises(error, match=message):
        vp.torch.init_(arguments.pop("module"), arguments.pop("law"), **arguments)
    assert_same(model, before)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")  # of older torch
def test_parameters_that_hold_no_weights():
    model = nn.Sequential(nn.Linear(3, 2), nn.Module())
    before = copied(model)
    model[1].codes = nn.Parameter(torch.zeros(4, dtype=torch.int8), requires_grad=False)
    for laws in ({"*": "normal"}, "normal"):
        with pytest.raises(TypeError, match=r"parameter '1\.codes' must be float32.*torch\.int8"):
            vp.torch.init_(model, laws, seed=1)
    present = model[0].bias.detach().numpy()
    vp.torch.init_(model, {"0.bias": present}, seed=1)  # which has nothing to do with it
    del model[1].codes
    model[1].wide = nn.Parameter(torch.zeros(1, 3).expand(4, 3))
    with pytest.raises(ValueError, match=r"parameter '1\.wide' must not share memory with itself"):
        vp.torch.init_(model, "normal", seed=1)
    model[1].wide = nn.Parameter(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match=r"parameter '1\.wide' must be strided"):
        vp.torch.init_(model, "normal", seed=1)
    del model[1].wide
    assert_same(model, before)
    with pytest.raises(ValueError, match=r"parameter 'weight' has no shape yet: call the lazy"):
        vp.torch.init_(nn.LazyLinear(3), {"*": "normal"}, seed=1)


# --- Autograd and devices ---


def test_autograd_sees_that_parameters_were_written():
    model = nn.Linear(3, 2)
    loss = (model(torch.ones(1, 3)) * model.weight.square().sum()).sum()
    version = model.weight._version
    vp.torch.init_(model, "normal", seed=1)
    assert model.weight._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert model.weight.requires_grad
    assert model.weight.grad is None
    frozen = nn.Linear(3, 2).requires_grad_(False)
    vp.torch.init_(frozen, "normal", seed=1)
    assert not frozen.weight.requires_grad
    assert torch.equal(frozen.weight, model.weight)


def test_other_devices_are_drawn_on_the_host(monkeypatch):
    """A stand-in for a tensor on an accelerator: what is copied to it, and that it is said once."""
    monkeypatch.setattr(_door, "_said", set())
    memory = torch.empty(4, 3)
    remote = SimpleNamespace(
        shape=memory.shape,
        dtype=memory.dtype,
        device=torch.device("cuda"),
        is_meta=False,
        numel=memory.numel,
        copy_=memory.copy_,
    )
    law = vp.Normal()
    with pytest.warns(UserWarning, match="tensors on cuda are drawn on the host and copied"):
        _door.fill(remote, law, seed=1, name="w")
    assert_is(memory, "normal", seed=1, name="w")
    with torch.device("meta"):  # whatever the default device; a second warning would be an error
        _door.fill(remote, law, seed=2, name="w")
    assert_is(memory, "normal", seed=2, name="w")


def test_meta_models_come_to_life_with_their_values():
    def model():
        parts = {
            "embedding": nn.Embedding(20, 8),
            "rnn": nn.LSTM(8, 6, num_layers=2, bidirectional=True),
            "norm": nn.BatchNorm1d(12),
            "head": nn.Linear(8, 20),
        }
        module = nn.ModuleDict(parts)
        module["head"].weight = module["embedding"].weight
        module["head"].bias.requires_grad_(False)
        return module

    with torch.device("meta"):
        born = model()
    real = model()
    for module in (born, real):
        vp.torch.init_(module, {"*": "normal(std=0.1)"}, seed=1)
    assert_same(born, real)
    assert born["norm"].num_batches_tracked.dtype == torch.int64
    assert born["head"].weight is born["embedding"].weight
    assert not born["head"].bias.requires_grad
    x = torch.ones(3, 2, 8)
    assert torch.equal(born["rnn"](x)[0], real["rnn"](x)[0])
    born["norm"](born["rnn"](x)[0].flatten(0, 1)).sum().backward()
    with torch.device("meta"):
        born = model()
    vp.torch.reset_parameters(born, 1)
    vp.torch.reset_parameters(real, 1)
    assert_same(born, real)


def test_meta_models_say_what_they_cannot_know():
    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)
            self.register_buffer("angles", torch.ones(3))

    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(ValueError, match=r"parameter 'inner\.bias' is on the meta device and has"):
        vp.torch.init_(model, {"inner.weight": "normal"}, seed=1)
    assert model.inner.weight.is_meta
    with pytest.raises(ValueError, match="needs 3 to 5"):
        vp.torch.init_(model, "dirac", seed=1)
    assert model.inner.weight.is_meta
    with pytest.raises(ValueError, match="trial must be under"):
        vp.torch.init_(model, "normal", seed=1, trial=2**63)
    assert model.inner.weight.is_meta
    with pytest.warns(UserWarning, match="angles stays on the meta device"):
        vp.torch.init_(model, "normal", seed=1)
    assert_is(model.inner.weight, "normal", seed=1, name="inner.weight")


# --- Regions ---


@pytest.mark.parametrize("law", ["he_normal", "orthogonal"])
def test_a_shard_is_a_part_of_the_whole(law):
    whole = vp.torch.fill_(torch.empty(10, 6, 3), law, seed=1, name="w")
    for slices in [(slice(2, 7),), (slice(None), slice(1, 4)), (slice(1, 9, 3), slice(0, 6, 2))]:
        shard = torch.empty_like(whole[slices])
        vp.torch.fill_(shard, law, seed=1, name="w", region=((10, 6, 3), slices))
        assert torch.equal(shard, whole[slices])


def test_shards_of_a_module():
    whole, shard = nn.Linear(6, 10), nn.Linear(6, 5)
    laws = {"weight": "he_normal", "bias": "normal"}
    vp.torch.init_(whole, laws, seed=1)
    region = {"weight": ((10, 6), (slice(5, 10),)), "bias": ((10,), (slice(5, 10),))}
    vp.torch.init_(shard, laws, seed=1, region=region)
    assert torch.equal(shard.weight, whole.weight[5:])
    assert torch.equal(shard.bias, whole.bias[5:])


@pytest.mark.parametrize(
    ("region", "error", "message"),
    [
        (
            ((10, 6), (slice(0, 4),)),
            ValueError,
            r"region of tensor must have the tensor's shape \(5, 6\)",
        ),
        (((10, 6), (slice(0, 5),) * 3), ValueError, "at most 2 slices"),
        (((10, 0), (slice(0, 5),)), ValueError, "shape of region"),
        (3, TypeError, "whole shape, slices"),
    ],
)
def test_regions_that_do_not_fit(region, error, message):
    tensor = torch.full((5, 6), 7.0)
    with pytest.raises(error, match=message):
        vp.torch.fill_(tensor, "normal", seed=1, region=region)
    assert (tensor == 7.0).all()


def test_parts_of_a_parametrized_weight_are_no_weights():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    before = layer.parametrizations.weight.original0.detach().clone()
    with pytest.warns(UserWarning, match=r"leaves parametrizations\.weight\.original0"):
        vp.torch.init_(layer, "he_normal", seed=1)
    assert (layer.parametrizations.weight.original0 == before).all()


def test_a_module_in_the_place_of_a_pattern_is_told():
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"it is a module, '0\.\*' are its parameters"):
        vp.torch.init_(model, {"0": "normal"}, seed=1)
