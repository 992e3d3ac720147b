"""reset_parameters beside what torch's own layers draw, for every layer that has parameters."""

import inspect
import warnings
from functools import partial

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")

import varprop.torch  # noqa: E402
from varprop.torch import reset_parameters  # noqa: E402

nn = torch.nn


def encoder_layer(**kwargs):
    return nn.TransformerEncoderLayer(8, 2, 16, **kwargs)


def decoder_layer():
    return nn.TransformerDecoderLayer(8, 2, 16)


# Of every class of torch.nn that has parameters; several forms where they differ in laws or names.
EXAMPLES = {
    "Linear": [lambda: nn.Linear(12, 7)],
    "Bilinear": [lambda: nn.Bilinear(5, 6, 7)],
    "Conv1d": [lambda: nn.Conv1d(6, 9, 4), lambda: nn.Conv1d(6, 9, 4, groups=3)],
    "Conv2d": [lambda: nn.Conv2d(4, 6, (3, 2)), lambda: nn.Conv2d(4, 8, 3, groups=4)],
    "Conv3d": [lambda: nn.Conv3d(2, 4, (3, 2, 1)), lambda: nn.Conv3d(2, 4, 2, groups=2)],
    "ConvTranspose1d": [
        lambda: nn.ConvTranspose1d(6, 9, 4),
        lambda: nn.ConvTranspose1d(6, 9, 4, groups=3),
    ],
    "ConvTranspose2d": [
        lambda: nn.ConvTranspose2d(4, 6, (3, 2)),
        lambda: nn.ConvTranspose2d(4, 8, 3, groups=2),
    ],
    "ConvTranspose3d": [
        lambda: nn.ConvTranspose3d(2, 4, (3, 2, 1)),
        lambda: nn.ConvTranspose3d(2, 4, 2, groups=2),
    ],
    "Embedding": [lambda: nn.Embedding(20, 6), lambda: nn.Embedding(20, 6, padding_idx=-2)],
    "EmbeddingBag": [lambda: nn.EmbeddingBag(20, 6), lambda: nn.EmbeddingBag(20, 6, padding_idx=3)],
    "RNNBase": [lambda: nn.RNNBase("LSTM", 5, 6)],
    "RNN": [lambda: nn.RNN(5, 6, num_layers=2)],
    "LSTM": [
        lambda: nn.LSTM(5, 6, bidirectional=True),
        lambda: nn.LSTM(5, 6, num_layers=2, proj_size=3),
    ],
    "GRU": [lambda: nn.GRU(5, 6, num_layers=2, bias=False)],
    "RNNCellBase": [lambda: nn.RNNCellBase(5, 6, True, 4)],
    "RNNCell": [lambda: nn.RNNCell(5, 6)],
    "LSTMCell": [lambda: nn.LSTMCell(5, 6)],
    "GRUCell": [lambda: nn.GRUCell(5, 6)],
    "MultiheadAttention": [
        lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
        lambda: nn.MultiheadAttention(8, 2, kdim=5, vdim=6),
        lambda: nn.MultiheadAttention(8, 2, bias=False),
    ],
    "TransformerEncoderLayer": [encoder_layer],
    "TransformerDecoderLayer": [decoder_layer],
    "TransformerEncoder": [
        lambda: nn.TransformerEncoder(encoder_layer(batch_first=True), 2, nn.LayerNorm(8))
    ],
    "TransformerDecoder": [lambda: nn.TransformerDecoder(decoder_layer(), 2)],
    "Transformer": [lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True)],
    "AdaptiveLogSoftmaxWithLoss": [
        lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10], head_bias=True)
    ],
    "LinearCrossEntropyLoss": [lambda: nn.LinearCrossEntropyLoss(6, 5, bias=True)],
    "BatchNorm1d": [lambda: nn.BatchNorm1d(4), lambda: nn.BatchNorm1d(4, affine=False)],
    "BatchNorm2d": [lambda: nn.BatchNorm2d(4)],
    "BatchNorm3d": [lambda: nn.BatchNorm3d(4)],
    "SyncBatchNorm": [lambda: nn.SyncBatchNorm(4)],
    "InstanceNorm1d": [lambda: nn.InstanceNorm1d(4), lambda: nn.InstanceNorm1d(4, affine=True)],
    "InstanceNorm2d": [lambda: nn.InstanceNorm2d(4, affine=True)],
    "InstanceNorm3d": [lambda: nn.InstanceNorm3d(4, affine=True, track_running_stats=True)],
    "LayerNorm": [lambda: nn.LayerNorm((3, 4)), lambda: nn.LayerNorm(4, elementwise_affine=False)],
    "GroupNorm": [lambda: nn.GroupNorm(2, 4), lambda: nn.GroupNorm(2, 4, affine=False)],
    "RMSNorm": [lambda: nn.RMSNorm(4)],
    "PReLU": [nn.PReLU, lambda: nn.PReLU(4, init=0.1)],
}
LAZY = [name for name in dir(nn) if name.startswith("Lazy")]
FORMS = [
    pytest.param(make, id=f"{name}{number or ''}")
    for name, forms in EXAMPLES.items()
    if hasattr(nn, name)  # RMSNorm and LinearCrossEntropyLoss are younger than torch 2.2
    for number, make in enumerate(forms)
]

NUMBERS, DRAWS = 5000, 120  # of each parameter at least as many numbers, of at most as many draws


@pytest.mark.parametrize("make", FORMS)
def test_laws_are_those_of_torch(make):
    """KS of both samples fails once in 10^5 for a parameter, of which there are 120 or so."""
    ours = make()
    assert reset_parameters(ours, 0) == []
    if not list(ours.parameters()):
        return
    fewest = min([p.numel() for p in ours.parameters()])
    draws = min(DRAWS, -(-NUMBERS // fewest))
    torch.manual_seed(1)
    samples = {name: ([], []) for name, _ in ours.named_parameters()}
    for seed in range(draws):
        for name, parameter in make().named_parameters():
            samples[name][0].append(parameter.detach().numpy().copy())
        reset_parameters(ours, seed)
        for name, parameter in ours.named_parameters():
            samples[name][1].append(parameter.detach().numpy().copy())
    for name, pair in samples.items():
        theirs, own = (np.stack(sample) for sample in pair)
        constant = np.ptp(theirs, axis=0) == 0  # padding too
        np.testing.assert_array_equal(own[:, constant], theirs[:, constant], err_msg=name)
        if not constant.all():
            theirs, own = theirs[:, ~constant].ravel(), own[:, ~constant].ravel()
            assert stats.ks_2samp(theirs, own, method="asymp").pvalue > 1e-5, name
            # Of n uniform numbers the largest is short of the bound by 14 / n once in 10^6.
            ratio = np.abs(own).max() / np.abs(theirs).max()
            uniform = stats.kurtosis(theirs) < -0.6  # it is -1.2 then, and 0 of a normal
            assert abs(ratio - 1) < (14 / len(own) if uniform else 0.5), name


def test_every_layer_with_parameters_has_an_example():
    """All other modules are made with a few arguments, and have none."""
    attempts = [(), (2,), (2, 2), (2, (1, 2)), (2, 2, 2), (nn.Identity(),)]
    for name, cls in vars(nn).items():
        if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
            continue
        if name in EXAMPLES or name in LAZY:
            continue
        for arguments in attempts:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    module = cls(*arguments)
            except (TypeError, ValueError, AssertionError):
                continue
            assert not list(module.parameters()), name
            break
        else:
            pytest.fail(f"{name} is not made of any of these arguments: give it an example")


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")  # of older torch
def test_lazy_layers_have_laws_once_they_have_a_shape():
    lazy = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d())
    for fill in (reset_parameters, partial(varprop.torch.init_, law="he_normal")):
        with pytest.raises(ValueError, match=r"parameter '0\.weight' has no shape yet: call"):
            fill(lazy, seed=1)
    lazy(torch.ones(3, 4))
    plain = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    assert reset_parameters(lazy, 1) == reset_parameters(plain, 1) == []
    for one, two in zip(lazy.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_what_is_not_torchs_stays_and_is_listed():
    class Own(nn.Linear):
        def reset_parameters(self):
            nn.init.ones_(self.weight)

    class Heir(nn.Linear):  # draws as its parent does
        pass

    class OwnAttention(nn.MultiheadAttention):
        def _reset_parameters(self):
            nn.init.ones_(self.in_proj_weight)

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.full((3,), 0.5))
            self.inner = nn.Linear(3, 3)

    def model():
        parts = {"a": Own(3, 2), "b": Heir(3, 2), "c": Scale(), "d": OwnAttention(4, 2)}
        return nn.ModuleDict(parts)

    torch.manual_seed(1)
    found = model()
    before = {name: p.detach().clone() for name, p in found.named_parameters()}
    left = ["a.weight", "a.bias", "c.gamma", "d.in_proj_weight", "d.in_proj_bias"]
    assert reset_parameters(found, 1) == left
    for name, parameter in found.named_parameters():
        same = torch.equal(parameter, before[name])
        assert same == (name in left), name


def test_draws_are_reproducible_and_of_their_seed_and_trial():
    def drawn(seed, **kwargs):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
        assert reset_parameters(model, seed, **kwargs) == []
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = drawn(1)
    assert torch.equal(first, drawn(1, threads=1))
    for other in (drawn(2), drawn(1, trial=1)):
        assert not set(other.tolist()) & set(first.tolist())
    # The weight has the numbers of the law's name.
    expected = varprop.weights((3, 4), "torch_linear", seed=1, name="0.weight")
    np.testing.assert_array_equal(first[:12].view(4, 3).numpy(), expected.T)


def test_running_statistics_begin_anew():
    norm = nn.BatchNorm1d(3)
    norm(torch.arange(12.0).view(4, 3))
    assert norm.num_batches_tracked == 1
    reset_parameters(norm, 1)
    fresh = nn.BatchNorm1d(3)
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, dict(fresh.named_buffers())[name]), name


def test_tied_parameters_have_the_law_of_their_first_place():
    model = nn.ModuleDict({"embedding": nn.Embedding(50, 8), "head": nn.Linear(8, 50)})
    model["head"].weight = model["embedding"].weight
    assert reset_parameters(model, 1) == []
    expected = varprop.weights((8, 50), "normal", seed=1, name="embedding.weight")
    np.testing.assert_array_equal(model["head"].weight.detach().numpy(), expected.T)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_layers_without_inputs_have_zero_biases():
    layer = torch.nn.Linear(0, 3)
    torch.nn.init.ones_(layer.bias)
    assert reset_parameters(layer, seed=0) == []
    assert (layer.bias == 0).all()  # as torch has it
