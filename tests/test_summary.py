"""Summaries: parameters and FLOPs counted by hand, by PyTorch, by the product's own loops."""

import numpy as np
import pytest

import varprop as vp


def mixed():
    return vp.Network(
        (64, 96, 3),
        [
            vp.Conv2d(200, 3, stride=2, activation="relu", name="stem"),
            vp.Residual([vp.LayerNorm(), vp.Conv2d(200, 3, groups=4, bias=None), vp.Dropout(0.2)]),
            vp.AvgPool2d(2),
            vp.Dense(8),
            vp.Flatten(),
            vp.Dense(10, bias="normal(std=0.1)"),
            vp.Bias("ones"),
        ],
    )


def test_counts_by_hand():
    summary = mixed().summary(10)
    counts = {row.name: (row.parameters, row.flops) for row in summary.rows if row.parameters}
    assert counts == {
        "stem": (3 * 3 * 3 * 200 + 200, 2 * 10 * 32 * 48 * 200 * 27),
        "residual1.conv1": (3 * 3 * 50 * 200, 2 * 10 * 32 * 48 * 200 * 9 * 50),
        "dense1": (200 * 8 + 8, 2 * 10 * 16 * 24 * 8 * 200),
        "dense2": (16 * 24 * 8 * 10 + 10, 2 * 10 * 16 * 24 * 8 * 10),
        "bias1": (10, 0),
    }
    assert summary.parameters == sum(number for number, _ in counts.values())
    assert summary.flops == sum(flops for _, flops in counts.values())
    assert summary.bytes == 4 * summary.parameters
    assert [row.output_shape for row in summary.rows] == [s.output_shape for s in mixed().steps]


def test_parameters_are_pytorchs():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(
        torch.nn.Conv2d(6, 8, (3, 5), groups=2),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 10 * 8, 7, bias=False),
    )
    layers = [vp.Conv2d(8, (3, 5), padding="valid", groups=2), vp.Flatten(), vp.Dense(7, bias=None)]
    found = vp.Network((12, 12, 6), layers).summary()
    assert found.parameters == sum(p.numel() for p in model.parameters())
    flops = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode(display=False)
    with flops:
        model(torch.zeros(1, 6, 12, 12))
    assert found.flops == flops.get_total_flops()


def test_what_is_printed():
    net = vp.Network(784, [vp.Dense(1000, "tanh", "he_normal"), vp.LayerNorm(), vp.Dense(10)])
    assert (
        str(net.summary(100))
        == """\
layer       kind       output  law           parameters  FLOPs
dense1      dense      1000    he_normal        785,000  157 M
layernorm1  layernorm  1000
dense2      dense      10      lecun_normal      10,010    2 M

795,010 parameters, 3.18 MB in float32
159 M FLOPs forward for 100 examples
FLOPs: two for each multiply-add of the products, nothing else is counted"""
    )
    assert repr(net.summary()).startswith("<Summary of <Network: 3 layers")


def test_tables_are_at_most_80_columns_wide():
    layer = vp.Dense(3)
    for _ in range(18):
        law = "variance_scaling(3.14159265358979, mode='fan_geo_avg')"
        layer = vp.Residual([layer, vp.Dense(3, weight=law)], name="a_residual_of_a_long_name")
    net = vp.Network((1, 1, 3), [layer, vp.GlobalAvgPool(), vp.Dense(2**31 - 1)])
    for text in (str(net.summary(10**10)), str(mixed().summary())):
        assert max(map(len, text.splitlines())) <= 80
    assert "..." in str(net.summary())
    assert len(net.summary().rows) == len(net.steps)


def test_given_weights_have_a_law():
    net = vp.Network(3, [vp.Dense(2, weight=np.ones((3, 2)))])
    assert net.summary().rows[0].law == "given array (3, 2)"


@pytest.mark.parametrize("batch", [0, -1])
def test_batches_are_positive(batch):
    with pytest.raises(ValueError, match="batch must be an integer >= 1"):
        mixed().summary(batch)
