"""varprop.torch.init beside torch.nn.init: names, arguments, laws, fans, errors."""

import inspect
import math
import re

import numpy as np
import pytest
from scipy import stats

import varprop as vp

torch = pytest.importorskip("torch")

from varprop.torch import init  # noqa: E402

nn = torch.nn
SEEDED = {"seed": 1, "name": "w"}


def ours(name, tensor, *args, **kwargs):
    return getattr(init, name)(tensor, *args, **SEEDED, **kwargs)


def theirs(name, tensor, *args, **kwargs):
    torch.manual_seed(2)
    return getattr(nn.init, name)(tensor, *args, **kwargs)


# --- Names and arguments ---

NAMES = sorted(name for name in dir(nn.init) if re.fullmatch(r"[a-z]\w*_", name))


def test_every_function_of_torch_is_there():
    assert sorted(init.__all__) == sorted([*NAMES, "calculate_gain"])


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_those_of_torch(name):
    def told(function, without):
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in found if p.name not in without]

    function = getattr(init, name)
    assert told(function, ("seed", "name")) == told(getattr(nn.init, name), ("generator",))
    own = inspect.signature(function).parameters
    assert {own[key].kind for key in ("seed", "name")} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", NAMES)
def test_the_tensor_is_filled_in_place_and_returned(name):
    shape = (6, 4, 3) if name == "dirac_" else (6, 4)
    arguments = {"constant_": (0.5,), "sparse_": (0.5,)}.get(name, ())
    leaf = nn.Parameter(torch.full(shape, math.nan))
    before = leaf._version
    assert ours(name, leaf, *arguments) is leaf
    assert torch.isfinite(leaf).all()
    assert leaf.requires_grad
    assert leaf.is_leaf
    assert leaf._version > before
    # Strided the other way round in memory: the same numbers.
    turned = torch.full(shape[::-1], math.nan).permute(*range(len(shape))[::-1])
    before = turned._version
    ours(name, turned, *arguments)
    assert torch.equal(turned, leaf)
    assert turned._version > before


def test_the_numbers_are_those_of_varprop_weights():
    weight = init.kaiming_uniform_(torch.empty(8, 6, 3, 5), math.sqrt(5), seed=3, name="conv")
    expected = vp.weights((3, 5, 6, 8), "torch_linear", seed=3, name="conv")
    np.testing.assert_array_equal(weight.numpy(), expected.transpose(3, 2, 0, 1))
    assert not torch.equal(weight, init.kaiming_uniform_(weight.clone(), 5**0.5, seed=3))
    assert not torch.equal(
        weight, init.kaiming_uniform_(weight.clone(), 5**0.5, seed=4, name="conv")
    )


# --- Laws: 10^6 numbers of each ---

LAWS = [
    ("uniform_", (), {}),
    ("uniform_", (-0.25, 3.0), {}),
    ("normal_", (), {}),
    ("normal_", (0.7, 0.02), {}),
    ("trunc_normal_", (), {}),
    ("trunc_normal_", (0.5, 1.5, -1.0, 4.0), {}),
    ("trunc_normal_", (0.0, 1.0, 1.5, 2.5), {}),  # in a tail
    ("xavier_uniform_", (), {}),
    ("xavier_uniform_", (5 / 3,), {}),
    ("xavier_normal_", (2.0,), {}),
    ("kaiming_uniform_", (), {}),
    ("kaiming_uniform_", (math.sqrt(5),), {}),
    ("kaiming_normal_", (), {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", (0.2, "FAN_IN"), {"nonlinearity": "leaky_relu"}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), LAWS)
def test_law(name, args, kwargs):
    """Of two samples of one law: each comparison fails once in 10^4 (KS) or 10^6 (the others)."""
    one = ours(name, torch.empty(2000, 500), *args, **kwargs).double().numpy().ravel()
    two = theirs(name, torch.empty(2000, 500), *args, **kwargs).double().numpy().ravel()
    assert stats.ks_2samp(one, two, method="asymp").pvalue > 1e-4
    assert abs(stats.ttest_ind(one, two).statistic) < 4.9
    # Of squares the variance is finite in all of these, and their means are normal.
    centred = [(x - one.mean()) ** 2 for x in (one, two)]
    assert abs(stats.ttest_ind(*centred).statistic) < 4.9
    if "normal" not in name or "trunc" in name:  # bounds: the ends of 10^6 numbers lie within 3e-5
        width = two.max() - two.min()
        assert one.min() == pytest.approx(two.min(), abs=3e-5 * width)
        assert one.max() == pytest.approx(two.max(), abs=3e-5 * width)


def test_orthogonal():
    """Entries of a Haar matrix: KS of 300 matrices fails once in 10^4."""
    for shape in [(20, 50), (50, 20), (8, 3, 2, 5), (40, 2, 3, 2, 1, 2)]:
        matrix = ours("orthogonal_", torch.empty(shape, dtype=torch.float64), 1.5).flatten(1)
        gram = matrix @ matrix.T if shape[0] <= matrix.shape[1] else matrix.T @ matrix
        torch.testing.assert_close(gram, 2.25 * torch.eye(len(gram), dtype=torch.float64))
    draws = [
        [function(seed, torch.empty(4, 6))[1, 2].item() for seed in range(300)]
        for function in (
            lambda seed, w: init.orthogonal_(w, seed=seed),
            lambda seed, w: (torch.manual_seed(seed), nn.init.orthogonal_(w))[1],
        )
    ]
    assert stats.ks_2samp(*draws).pvalue > 1e-4


def test_sparse():
    """Each column of (out, in) has as many zeros as torch's; KS of the rest fails once in 10^4."""
    one = ours("sparse_", torch.empty(1003, 1000), 0.3)
    two = theirs("sparse_", torch.empty(1003, 1000), 0.3)
    assert ((one == 0).sum(0) == (two == 0).sum(0)).all()
    assert stats.ks_2samp(one[one != 0].numpy(), two[two != 0].numpy()).pvalue > 1e-4
    # Zeros of a row are binomial: 6 standard deviations, once in 10^6 for the 1003.
    zeros = (one == 0).sum(1)
    assert (zeros - 300.1).abs().max() < 6 * math.sqrt(1000 * 0.3 * 0.7)


CONSTANT = [
    ("constant_", (4, 5), (-1.5,)),
    ("constant_", (), (2,)),
    ("ones_", (7,), ()),
    ("zeros_", (2, 3, 4, 5, 6, 7), ()),
    ("eye_", (3, 5), ()),
    ("eye_", (5, 3), ()),
    ("dirac_", (6, 4, 3), ()),
    ("dirac_", (6, 2, 4, 5), (3,)),
    ("dirac_", (6, 4, 3, 2, 1), (2,)),
]


@pytest.mark.parametrize(("name", "shape", "args"), CONSTANT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_what_is_not_random_equals_torch(name, shape, args, dtype):
    expected = theirs(name, torch.full(shape, 9.0), *args).to(dtype)
    assert torch.equal(ours(name, torch.full(shape, 9.0, dtype=dtype), *args), expected)
    without = getattr(init, name)(torch.full(shape, 9.0, dtype=dtype), *args)
    assert torch.equal(without, expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_constants_of_other_dtypes(dtype):
    assert torch.equal(init.ones_(torch.zeros(3, dtype=dtype)), torch.ones(3, dtype=dtype))


# --- Fans ---

LAYERS = [
    nn.Linear(7, 30),
    nn.Linear(30, 7),
    nn.Conv1d(6, 9, 4),
    nn.Conv2d(6, 9, (3, 5)),
    nn.Conv3d(4, 6, (3, 2, 1)),
    nn.Conv1d(6, 9, 4, groups=3),
    nn.Conv2d(8, 8, 3, groups=8),
    nn.Conv3d(4, 6, 2, groups=2),
    nn.ConvTranspose1d(6, 9, 4),
    nn.ConvTranspose2d(6, 9, (3, 5)),
    nn.ConvTranspose3d(4, 6, (3, 2, 1)),
    nn.ConvTranspose1d(6, 9, 4, groups=3),
    nn.ConvTranspose2d(8, 16, 3, groups=8),
    nn.ConvTranspose3d(4, 6, 2, groups=2),
]
FANNED = [
    ("xavier_uniform_", (1.3,)),
    ("xavier_normal_", (1.3,)),
    ("kaiming_uniform_", (0.3, "fan_in")),
    ("kaiming_uniform_", (0.3, "fan_out")),
    ("kaiming_normal_", (0.3, "fan_in", "tanh")),
    ("kaiming_normal_", (0.3, "fan_out", "selu")),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize(("name", "args"), FANNED)
def test_fans_are_those_of_torch(monkeypatch, layer, name, args):
    """The bounds or std that torch asks of a tensor's methods, against ours: no randomness."""
    asked = {}
    for method in ("uniform_", "normal_"):

        def note(self, one, two, generator=None, method=method):
            asked[method] = (one, two)
            return self

        monkeypatch.setattr(torch.Tensor, method, note)
    getattr(nn.init, name)(layer.weight.detach(), *args)
    ((method, (one, two)),) = asked.items()

    weight = layer.weight.detach().double()
    ours(name, weight, *args)
    # The same draws of the standard law: what is left is the scale.
    unit = init.uniform_ if method == "uniform_" else init.normal_
    standard = unit(torch.empty_like(weight), *((-1, 1) if method == "uniform_" else ()), **SEEDED)
    torch.testing.assert_close(weight, two * standard, rtol=1e-12, atol=0)
    assert one == (-two if method == "uniform_" else 0)


# --- Special cases and errors ---


def test_degenerate_laws():
    w = torch.empty(3, 4)
    assert (init.uniform_(w, 2, 2, seed=1) == 2).all()
    assert (init.trunc_normal_(w, a=1.0, b=1.0, seed=1) == 1).all()
    assert (init.normal_(w, 3.0, 0.0, seed=1) == 3).all()
    assert (init.xavier_uniform_(w, 0.0, seed=1) == 0).all()
    assert (init.orthogonal_(w, 0.0, seed=1) == 0).all()
    assert (init.sparse_(w, 1.0, seed=1) == 0).all()
    assert (init.sparse_(w, 0.0, seed=1) != 0).all()


@pytest.mark.parametrize("name", ["uniform_", "normal_", "trunc_normal_"])
def test_laws_without_fans_take_any_shape(name):
    scalar, vector = ours(name, torch.empty(())), ours(name, torch.empty(5))
    assert scalar == vector[0]
    assert len(set(vector.tolist())) == 5
    assert ours(name, torch.empty(2, 3, 2, 3, 2, 3)).unique().numel() == 216


@pytest.mark.parametrize("name", NAMES)
def test_tensors_without_elements_or_memory_stay(name):
    arguments = {"constant_": (0.5,), "sparse_": (0.5,)}.get(name, ())
    kernel = (3,) if name == "dirac_" else ()
    for empty in (torch.empty(0, 4, *kernel), torch.empty(4, 0, *kernel)):
        assert ours(name, empty, *arguments) is empty
    meta = torch.empty(6, 4, *kernel, device="meta")
    assert ours(name, meta, *arguments) is meta


BOTH_REFUSE = [
    ("eye_", (3,), {}),
    ("eye_", (3, 3, 3), {}),
    ("eye_", (0, 3, 3), {}),
    ("dirac_", (3, 3), {}),
    ("dirac_", (3, 3, 3, 3, 3, 3), {}),
    ("dirac_", (4, 3, 3), {"groups": 3}),
    ("xavier_uniform_", (3,), {}),
    ("xavier_normal_", (), {}),
    ("kaiming_uniform_", (3,), {}),
    ("kaiming_normal_", (), {}),
    ("kaiming_normal_", (3, 3), {"mode": "fan_avg"}),
    ("kaiming_uniform_", (3, 3), {"nonlinearity": "gelu"}),
    ("kaiming_uniform_", (3, 3), {"a": "0.1"}),
    ("orthogonal_", (3,), {}),
    ("sparse_", (3, 3, 3), {"sparsity": 0.5}),
]


@pytest.mark.parametrize(("name", "shape", "kwargs"), BOTH_REFUSE)
def test_what_torch_refuses_is_a_value_error(name, shape, kwargs):
    with pytest.raises(ValueError, match=r"."):
        theirs(name, torch.empty(shape), **kwargs)
    tensor = torch.full(shape, 7.0)
    with pytest.raises(ValueError, match=r"must|unknown"):
        ours(name, tensor, **kwargs)
    assert (tensor == 7.0).all()


WE_REFUSE = [
    ("uniform_", {"a": 1.0, "b": 0.0}, "a must be at most b, got 1.0 and 0.0"),
    ("normal_", {"std": -1.0}, "std must be a finite number >= 0, got -1.0"),
    ("trunc_normal_", {"a": 3.0, "b": 2.0}, "a must be at most b"),
    ("trunc_normal_", {"std": 0.0}, "std of a truncated normal must be > 0"),
    ("xavier_normal_", {"gain": -1.0}, "gain must be a finite number >= 0"),
    ("sparse_", {"sparsity": 1.5}, "sparsity must be a finite number >= 0 and <= 1"),
    ("normal_", {"std": math.nan}, "std must be"),
]


@pytest.mark.parametrize(("name", "kwargs", "message"), WE_REFUSE)
def test_arguments_that_make_no_law(name, kwargs, message):
    tensor = torch.full((3, 3), 7.0)
    with pytest.raises(ValueError, match=message):
        ours(name, tensor, **kwargs)
    assert (tensor == 7.0).all()


def test_tensors_that_cannot_be_filled():
    with pytest.raises(TypeError, match=r"tensor must be float32, .*got torch.int64"):
        init.normal_(torch.zeros(3, dtype=torch.int64), seed=1)
    with pytest.raises(TypeError, match="parameter 'w' must be"):
        init.normal_(torch.zeros(3, dtype=torch.complex64), seed=1, name="w")
    with pytest.raises(ValueError, match="must not share memory with itself"):
        init.normal_(torch.zeros(1, 3).expand(2, 3), seed=1)
    with pytest.raises(TypeError, match="tensor must be a torch"):
        init.normal_(np.zeros(3), seed=1)
    with pytest.raises(TypeError, match="seed"):
        init.normal_(torch.zeros(3))


@pytest.mark.parametrize(
    ("nonlinearity", "param"),
    [
        *((name, None) for name in ("linear", "conv3d", "conv_transpose1d", "sigmoid", "tanh")),
        *((name, None) for name in ("relu", "leaky_relu", "selu")),
        ("leaky_relu", 0.2),
        ("leaky_relu", 2),
    ],
)
def test_calculate_gain(nonlinearity, param):
    expected = nn.init.calculate_gain(nonlinearity, param)
    assert init.calculate_gain(nonlinearity, param) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(("nonlinearity", "param"), [("gelu", None), ("leaky_relu", True)])
def test_calculate_gain_refuses_what_torch_does(nonlinearity, param):
    for function in (nn.init.calculate_gain, init.calculate_gain):
        with pytest.raises(ValueError, match=r"."):
            function(nonlinearity, param)
