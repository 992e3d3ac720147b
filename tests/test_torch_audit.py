"""The audit of a module's parameters: every fault is found and named, healthy models pass.

Seeds are fixed. A healthy model fails with probability 1e-5 at most, as `level` says.
"""

import copy
import math
import re
import warnings

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
nn, init = torch.nn, torch.nn.init
audit = vp.torch.audit


@pytest.fixture(autouse=True)
def seeded_torch():
    torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.fc, self.proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)


LAYERS = 6
RESIDUAL = {
    "*.weight": "normal(std=0.02)",
    "*.proj.weight": vp.Normal(0.02 / math.sqrt(2 * LAYERS)),
    "*.norm.weight": 1,
    "*.bias": 0,
}


def residual(seed=0):
    return vp.torch.init_(nn.Sequential(*(Block() for _ in range(LAYERS))), RESIDUAL, seed=seed)


def one(layer, law=None):
    """Return the only failure of a layer."""
    report = audit(layer, law)
    assert [entry.name for entry in report.failures] == ["weight"], str(report)
    return "; ".join(report.failures[0].problems)


def filled(shape, fill, seed=0):
    layer = nn.Linear(shape[1], shape[0], bias=False)
    torch.manual_seed(seed)
    with torch.no_grad():
        fill(layer.weight)
    return layer


# Healthy models


def attention():
    return nn.MultiheadAttention(48, 4, kdim=32, vdim=24, add_bias_kv=True)


def transformer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.Transformer(32, 4, 2, 2, 64)


def tied():
    model = nn.Sequential(nn.Embedding(100, 32), nn.Linear(32, 100))
    model[1].weight = model[0].weight
    return model


ARCHITECTURES = {
    "mlp": lambda: nn.Sequential(nn.Linear(100, 300), nn.LayerNorm(300), nn.PReLU(7)),
    "tiny": lambda: nn.Sequential(nn.Linear(1, 1), nn.Linear(3, 2), nn.PReLU(), nn.BatchNorm1d(3)),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 32, 7),
        nn.Conv2d(32, 64, 3, groups=4),
        nn.ConvTranspose2d(64, 16, 4, groups=2),
        nn.Conv1d(8, 8, 3, groups=8),
        nn.Conv3d(2, 4, 3),
        nn.BatchNorm2d(16),
        nn.GroupNorm(2, 16),
    ),
    "recurrent": lambda: nn.Sequential(
        nn.LSTM(32, 64, 2, bidirectional=True, proj_size=16), nn.GRU(16, 32), nn.LSTMCell(3, 5)
    ),
    "transformer": transformer,
    "attention": attention,
    "embeddings": lambda: nn.Sequential(
        nn.Embedding(1000, 32, padding_idx=0), nn.EmbeddingBag(50, 16, padding_idx=3)
    ),
    "bilinear": lambda: nn.Bilinear(20, 30, 40),
    "tied": tied,
    "no numbers": lambda: nn.Sequential(nn.Embedding(0, 4), nn.ReLU()),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_torchs_own_models_pass(name):
    for seed in range(12):  # 120 models in all
        torch.manual_seed(seed)
        report = audit(ARCHITECTURES[name]())
        assert report.ok, str(report)
        assert not report.unknown


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("how", ["made", "cast", "cast back"])
def test_torchs_own_models_of_other_dtypes_pass(kind, how):
    for seed, make in enumerate(ARCHITECTURES.values()):
        torch.manual_seed(seed)
        torch.set_default_dtype(kind if how == "made" else torch.float32)
        try:
            model = make()
        finally:
            torch.set_default_dtype(torch.float32)
        model = model.to(kind)
        model = model.float() if how == "cast back" else model
        report = audit(model)
        assert report.ok, str(report)


LAWS = [
    *("he_normal", "glorot_uniform", "kaiming_normal", "normal(std=0.02, mean=1)", "trunc_normal"),
    *("uniform(low=0, high=1)", "truncated_normal(std=1, mean=0, low=0.5, high=3)", "torch_linear"),
    *("truncated_normal(std=2, mean=0, low=-1, high=5)", "orthogonal(gain=0.5)", "zeros", 0.1),
    *("sparse(sparsity=0.3)", "eye", "scaled('orthogonal', 3)", "scaled('sparse(0.1)', 0.5)"),
    *("scaled('he_normal', 0.1)", "truncated_normal(std=0.02, mean=0, low=-0.04, high=0.04)"),
]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_models_filled_by_a_law_have_it(law, kind):
    model = nn.Sequential(nn.Linear(300, 200), nn.LayerNorm(200), nn.Linear(200, 500)).to(kind)
    vp.torch.init_(model, law, seed=3)
    report = audit(model, law)
    assert report.ok, str(report)
    other = audit(model, "normal(std=0.07)")  # no law above is near
    assert {entry.name for entry in other.failures} == {"0.weight", "2.weight"}


@pytest.mark.parametrize("law", ["delta_orthogonal", "dirac", "dirac(groups=2)"])
def test_convolutions_formed_whole(law):
    model = nn.Conv2d(8, 16, 4)
    vp.torch.init_(model, law, seed=3)
    assert audit(model, law).ok
    with torch.no_grad():
        model.weight[0, 0, 0, 0] = 0.5
    assert not audit(model, law).ok


def test_laws_of_torch_nn_init():
    cases = {
        "orthogonal": init.orthogonal_,
        "orthogonal(gain=2)": lambda w: init.orthogonal_(w, 2.0),
        "sparse(sparsity=0.25)": lambda w: init.sparse_(w, 0.25),
        "eye": init.eye_,
        "kaiming_uniform": init.kaiming_uniform_,
        "xavier_normal": init.xavier_normal_,
        "trunc_normal": init.trunc_normal_,
    }
    for law, fill in cases.items():
        report = audit(filled((300, 200), fill), law)
        assert report.ok, str(report)


def test_given_arrays():
    layer = nn.Linear(3, 2, bias=False)
    weights = np.arange(6.0).reshape(3, 2)
    vp.torch.init_(layer, weights, seed=0)
    assert audit(layer, weights).ok
    with torch.no_grad():
        layer.weight[1, 0] = 7
    assert one(layer, weights) == "1 of 6 numbers differ: 7 for 1 at (0, 1) of (*kernel, in, out)"


# Faults


def test_a_forgotten_residual_scaling():
    model = residual()
    assert audit(model, RESIDUAL).ok
    with torch.no_grad():
        model[2].proj.weight.normal_(std=0.02)
    (entry,) = audit(model, RESIDUAL).failures
    assert entry.name == "2.proj.weight"
    factor, looks = entry.problems
    assert re.fullmatch(r"std 0\.02, declared 0\.00577: x 3\.4[4-8]", factor)
    assert looks == "looks like normal(std=0.02)"


def test_a_std_off_by_five_percent():
    model = residual()
    with torch.no_grad():
        model[1].fc.weight.mul_(1.05)
        model[4].proj.weight.mul_(1 / 1.05)
    found = {entry.name: entry.problems[0] for entry in audit(model, RESIDUAL).failures}
    assert list(found) == ["1.fc.weight", "4.proj.weight"]
    assert re.fullmatch(r"std 0\.02\d*, declared 0\.02: x 1\.0[45]", found["1.fc.weight"])
    assert re.fullmatch(r"std 0\.0\d*, declared 0\.00577: x 0\.9[45]\d?", found["4.proj.weight"])


def test_power():
    # 5% of the std of 100 x 100 normal numbers is 7.1 standard errors, found beyond 4.6: a
    # probability of 0.99 each.
    found = 0
    for seed in range(40):
        layer = filled((100, 100), lambda w: init.normal_(w, std=1.05), seed)
        found += not audit(layer, "normal").ok
    assert found >= 37  # fewer with probability 1e-4


def test_a_clipped_normal_that_should_be_truncated():
    layer = filled((256, 256), lambda w: w.copy_(0.02 * torch.randn(256, 256).clamp(-2, 2)))
    found = one(layer, "truncated_normal(std=0.02, mean=0, low=-0.04, high=0.04)")
    assert found.startswith("std 0.0192, declared 0.0176: x 1.09; a normal clipped at 2")
    assert "std, not truncated: 4." in found
    assert found.endswith("% of the numbers are at the bounds")


def test_a_clipped_normal_of_the_right_std():
    numbers = torch.randn(300, 300).clamp(-2, 2)
    layer = filled((300, 300), lambda w: w.copy_(numbers / numbers.std()))
    assert "clipped" in one(layer, "he_normal")
    assert "clipped" in one(layer, "normal")


def test_a_normal_clipped_far_out():
    # 0.27% of the numbers, which neither the std nor Kolmogorov-Smirnov sees.
    layer = filled((300, 300), lambda w: w.copy_(torch.randn(300, 300).clamp(-3, 3)))
    found = one(layer, "normal")
    assert re.fullmatch(
        r"a normal clipped at 3 std: 0\.2\d% of the numbers are at the bounds", found
    )


def test_float16_next_to_zero():
    layer = nn.Linear(1000, 1000).half()
    laws = {"weight": "normal(std=1e-7)", "bias": "uniform(low=-3e-7, high=3e-7)"}
    vp.torch.init_(layer, laws, seed=0)
    report = audit(layer, laws)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("fill", "declared", "words"),
    [
        (init.kaiming_uniform_, "kaiming_normal", "looks like kaiming_uniform"),
        (lambda w: init.kaiming_uniform_(w, a=5**0.5), "he_normal", "kaiming_uniform(a=sqrt(5))"),
        (lambda w: init.trunc_normal_(w), "normal", "looks like trunc_normal(std=1)"),
        (init.xavier_normal_, "glorot_normal", "is beyond the bound 0.1"),
        (
            lambda w: init.normal_(w, 1.0, 0.3),
            "normal(std=0.3)",
            "looks like normal(std=0.299, mean=0.998)",
        ),
        (lambda w: init.uniform_(w), "uniform(low=-1, high=1)", "looks like uniform(0, 1)"),
        (
            lambda w: w.copy_(torch.rand(200, 300) + torch.rand(200, 300)),
            "normal",
            "mean 1, declared 0",
        ),
        (lambda w: init.orthogonal_(w, 1.05), "orthogonal", "gain 1.05, not 1: x 1.05"),
        (init.kaiming_normal_, "orthogonal", "not orthogonal"),
        (lambda w: init.sparse_(w, 0.1), "sparse(sparsity=0.2)", "have not 40 zeros, but 20"),
        (lambda w: init.sparse_(w, 0.2, 0.02), "sparse(sparsity=0.2)", "std 0.02, declared 0.01"),
        (init.kaiming_normal_, "zeros", "declared 0; looks like kaiming_normal"),
        (init.ones_, "normal", "all equal: 1"),
        (init.zeros_, "normal", "all zeros"),
        (init.ones_, "zeros", "all 1, declared 0"),
        (init.eye_, "normal", "std 0.0576, declared 1: x 0.0576"),
    ],
)
def test_another_law(fill, declared, words):
    assert words in one(filled((200, 300), fill), declared)


def test_half_of_the_numbers_of_another_std():
    # The std is right: only Kolmogorov-Smirnov sees it.
    def fill(weight):
        weight.normal_(std=math.sqrt(1.9))
        weight[::2].normal_(std=math.sqrt(0.1))

    assert "Kolmogorov-Smirnov distance" in one(filled((200, 301), fill), "normal")


def test_one_number_beyond_a_bound():
    layer = filled((64, 64), init.kaiming_uniform_)
    with torch.no_grad():
        layer.weight[5, 7] = 0.31  # the bound is 0.306
    assert one(layer, "kaiming_uniform") == "0.31 is beyond the bound 0.3062 (declared)"


def test_nan_and_infinities():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    with torch.no_grad():
        model[0].weight[3, :2] = math.nan
        model[1].bias[0] = -math.inf
    found = {entry.name: entry.problems for entry in audit(model).failures}
    assert found == {
        "0.weight": ["NaN: 2 of 4096 numbers"],
        "1.bias": ["infinite: 1 of 64 numbers"],
    }


# Duplicates


def seeded(fill, *shapes, kind=torch.float32):
    """Return layers whose weights are drawn from one seed."""
    model = nn.Sequential(*(nn.Linear(n, m, bias=False) for m, n in shapes)).to(kind)
    for layer in model:
        torch.manual_seed(7)
        fill(layer.weight)
    return model


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("fill", "law"),
    [(init.xavier_normal_, "xavier_normal"), (init.kaiming_uniform_, "kaiming_uniform")],
)
@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((64, 48), (64, 48), "equal to 0.weight"),
        ((64, 48), (128, 24), "times 0.weight"),
        ((64, 48), (100, 73), "its first"),
        ((100, 73), (64, 48), "numbers of 0.weight"),
    ],
)
def test_a_reused_seed(fill, law, kind, first, second, words):
    (entry,) = audit(seeded(fill, first, second, kind=kind), law).failures
    assert entry.name == "1.weight"
    (problem,) = entry.problems
    assert words in problem
    assert problem.endswith("a reused seed, or a copy")


def test_a_seed_reused_under_another_mean():
    model = seeded(init.uniform_, (64, 48), (64, 48))
    with torch.no_grad():
        model[1].weight.mul_(4).sub_(2)
    laws = {"0.*": "uniform(low=0, high=1)", "1.*": "uniform(low=-2, high=2)"}
    (entry,) = audit(model, laws).failures
    assert entry.problems == ["4 times 0.weight: a reused seed, or a copy"]


def test_a_name_used_twice():
    model = nn.Sequential(nn.Linear(64, 50), nn.Linear(40, 90))
    for layer in model:
        vp.torch.fill_(layer.weight, "he_normal", seed=0)
        vp.torch.fill_(layer.bias, "zeros", seed=0)
    (entry,) = audit(model, "he_normal").failures
    assert entry.problems == [
        "its corner (50, 40) is 1.26 times that of 0.weight: a reused seed, or a copy"
    ]


def test_layers_that_torch_copies():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    report = audit(nn.TransformerEncoder(layer, 2))
    assert [entry.name for entry in report.failures] == [
        "layers.1.self_attn.in_proj_weight",
        "layers.1.self_attn.out_proj.weight",
        "layers.1.linear1.weight",
        "layers.1.linear2.weight",
    ]
    for entry in report.failures:
        assert "nn.TransformerEncoder deep-copies its layer, so all its layers" in str(entry)
    model = vp.torch.init_(nn.TransformerEncoder(layer, 2), "xavier_uniform", seed=0)
    assert audit(model, "xavier_uniform").ok


def test_a_seed_reused_within_a_stack():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 32, batch_first=True), 2)
    vp.torch.init_(model, "normal", seed=0)
    layer = model.layers[0]
    with torch.no_grad():
        layer.linear2.weight.copy_(layer.linear1.weight)
    assert [str(entry) for entry in audit(model, "normal").failures] == [
        "layers.0.linear2.weight: equal to layers.0.linear1.weight: a reused seed, or a copy"
    ]


def test_copies_by_hand():
    layer = nn.Linear(30, 30)
    report = audit(nn.Sequential(layer, copy.deepcopy(layer)))
    assert [entry.name for entry in report.failures] == ["1.weight", "1.bias"]
    assert audit(nn.Sequential(layer, layer)).ok  # one parameter in two places


def test_constants_are_no_duplicates():
    model = nn.Sequential(nn.LayerNorm(64), nn.LayerNorm(64), nn.Linear(64, 64))
    vp.torch.init_(model, {"*": 1}, seed=0)
    assert audit(model, {"*": 1}).ok


# What is known, and what is not


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(16))
        self.table = nn.Parameter(torch.randn(8, 8))
        self.one = nn.Parameter(torch.tensor(2.0))


def test_unknown_laws():
    model = nn.Sequential(Own(), nn.Linear(20, 20))
    report = audit(model)
    assert report.ok
    assert [entry.name for entry in report.unknown] == ["0.scale", "0.table", "0.one"]
    assert report.entries[0].notes == ["all equal: 1"]
    assert "3 of unknown law" in str(report)
    with torch.no_grad():
        model[0].table[0, 0] = math.nan
    assert [entry.name for entry in audit(model).failures] == ["0.table"]
    own = Own()
    copies = audit(nn.Sequential(own, copy.deepcopy(own)))
    assert [entry.name for entry in copies.failures] == ["1.table"]


def test_what_a_mapping_leaves_has_torchs_default():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    laws = {"1.weight": "he_normal"}
    vp.torch.init_(model, laws, seed=0)
    report = audit(model, laws)
    assert report.ok
    assert [entry.declared for entry in report.entries] == [False, False, True, False]
    nn.init.zeros_(model[0].bias)
    assert [str(entry) for entry in audit(model, laws).failures] == ["0.bias: all zeros"]


def test_padding_may_be_zero_or_not():
    model = nn.Embedding(50, 40, padding_idx=49)
    vp.torch.init_(model, "normal", seed=0)
    assert audit(model, "normal").ok
    vp.torch.reset_parameters(model, seed=0)
    assert audit(model, "normal").ok
    with torch.no_grad():
        model.weight[:20] = 0
    assert not audit(model, "normal").ok


def test_numbers_left_at_zero():
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.bias.zero_()
    assert [str(entry) for entry in audit(layer).failures] == ["bias: zero"]


def test_memory_in_any_order():
    layer = nn.Conv2d(16, 32, 3).to(memory_format=torch.channels_last)
    assert audit(layer).ok
    layer = filled((200, 300), init.normal_)
    layer.weight = nn.Parameter(layer.weight.detach().T.contiguous().T)
    report = audit(layer, "normal")
    assert report.ok
    assert report.entries[0].count == 60000


def test_nothing_is_changed():
    model = residual()
    before = copy.deepcopy(model.state_dict())
    audit(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Bad input


def test_errors():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        audit(3)
    with pytest.raises(ValueError, match="'weight' is on the meta device: it has no numbers yet"):
        audit(nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 0"):
        audit(nn.Linear(2, 2), level=0)
    with pytest.raises(ValueError, match=r"declared\['1\.\*'\] matches no parameter"):
        audit(nn.Sequential(nn.Linear(2, 2)), {"1.*": "normal"})
    with pytest.raises(ValueError, match="parameter 'bias': "):
        audit(nn.Linear(2, 2), {"bias": "he_normal"})
    with pytest.raises(ValueError, match="call the lazy module once"):
        audit(nn.LazyLinear(3))
    model = nn.Module()
    model.count = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    with pytest.raises(TypeError, match=r"parameter 'count' must be float32.* got torch\.int64"):
        audit(model)


# What it prints and returns


def test_text_and_tables():
    pytest.importorskip("pandas")
    model = residual()
    with torch.no_grad():
        model[5].fc.weight.mul_(1.05)
    report = audit(model, RESIDUAL)
    assert not report.ok
    assert report.level == 1e-5
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:2] == ["5.fc.weight", "no"]
    assert lines[3].startswith("0.fc.weight")
    assert lines[-1] == "1 of 36 parameters fails (791808 numbers, level 1e-05 of the whole audit)"
    with pytest.raises(AssertionError, match=r"5\.fc\.weight: std 0\.02.*, declared 0\.02: x 1\.0"):
        report.assert_ok()
    assert "<td>5.fc.weight</td><td>no</td>" in report._repr_html_()
    frame = report.to_dataframe()
    assert list(frame["name"]) == [entry.name for entry in report.entries]
    assert frame.set_index("name")["ok"]["5.fc.weight"] == False  # noqa: E712
    fine = audit(residual(), RESIDUAL)
    fine.assert_ok()
    assert "36 parameters: ok" in repr(fine)


def test_long_names_stay_whole():
    model = nn.Module()
    inner = nn.TransformerEncoderLayer(16, 2, 32)
    model.a_rather_long_name_of_a_module = nn.ModuleDict({"encoder_of_texts": inner})
    lines = str(audit(model)).splitlines()
    assert max(map(len, lines)) <= 80
    assert len({line.split()[0] for line in lines[2:14]}) == 12


def test_no_parameters():
    report = audit(nn.ReLU())
    assert report.ok
    assert str(report).startswith("0 parameters: ok")


# The tests themselves, against SciPy


def test_kolmogorov_smirnov_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    from varprop._draw import Draw
    from varprop.torch._audit import goodness

    rng = np.random.default_rng(0)
    laws = [
        (Draw("normal", 1.0, 2.0), stats.norm(1, 2)),
        (Draw("uniform", low=-1.0, high=3.0), stats.uniform(-1, 4)),
        (Draw("truncated_normal", 1.0, 0.5, -1.0, 2.5), stats.truncnorm(-1, 2.5, 1, 0.5)),
    ]
    for draw, law in laws:
        assert goodness.moments(draw) == pytest.approx((law.mean(), law.std()), rel=1e-12)
        for count in (1, 2, 7, 100, 5000):
            sample = np.sort(law.rvs(count, random_state=rng))
            expected = stats.kstest(sample, law.cdf).statistic
            assert goodness.distance(draw, sample) == pytest.approx(expected, abs=1e-12)
    for count in (1, 2, 7, 100, 1000, 1001, 20_000, 131_072):
        for p in (1e-10, 1e-6, 1e-3, 0.1):
            far = stats.kstwo.isf(p, count)
            assert goodness.ks_pvalue(far, count) == pytest.approx(p, rel=0.1)


def test_second_moment_against_chi_square():
    stats = pytest.importorskip("scipy.stats")
    from varprop._draw import Draw
    from varprop.torch._audit.goodness import second_moment_pvalue

    for count, rel in ((1, 0.18), (5, 0.03), (100, 1e-3), (65_536, 1e-6)):
        for p in (1e-10, 1e-6, 1e-3, 0.1):
            for sums in (stats.chi2.ppf(p / 2, count), stats.chi2.isf(p / 2, count)):
                found = second_moment_pvalue(Draw("normal", std=3.0), sums / count, count)
                assert found == pytest.approx(p, rel=rel)


@pytest.mark.parametrize("count", [1, 3, 10, 100])
@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [("uniform", -1.0, 1.0), ("truncated_normal", -2.0, 2.0), ("truncated_normal", 0.0, 9.0)],
)
def test_second_moment_of_bounded_laws(distribution, low, high, count):
    stats = pytest.importorskip("scipy.stats")
    from varprop._draw import Draw
    from varprop.torch._audit.goodness import moments, second_moment_pvalue

    std = 1.0 if distribution == "truncated_normal" else 0.0
    draw = Draw(distribution, 0.0, std, low, high)
    law = stats.uniform(-1, 2) if distribution == "uniform" else stats.truncnorm(low, high)
    mean, spread = moments(draw)
    numbers = law.rvs((5_000, count), random_state=np.random.default_rng(count))
    ratios = np.square((numbers - mean) / spread).mean(axis=1)
    found = np.array([second_moment_pvalue(draw, ratio, count) for ratio in ratios])
    for level in (0.1, 0.01):
        # Never more often than the level, but for 5 standard errors, and hardly less from 10 on.
        share, error = (found < level).mean(), math.sqrt(level / 5_000)
        assert share < 1.1 * level + 5 * error
        assert share > 0.8 * level - 5 * error or count < 10
