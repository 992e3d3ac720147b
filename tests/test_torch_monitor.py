"""varprop.torch.Monitor against plain hooks and NumPy, and against a training without it."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import nullcontext

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
from training_torch import Noisy, batches, held_out, mlp, sgd, train  # noqa: E402

import varprop.torch  # noqa: E402

nn, F = torch.nn, torch.nn.functional

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")


def plain(model, steps, every, on, slope):
    """Train with hooks of torch's own, and return arrays of all that a record has of a step."""
    linears = [i for i, module in enumerate(model) if isinstance(module, nn.Linear)]
    records, optimizer = [], sgd(model)

    def hook(kept, name, tensor):
        kept[name] = tensor
        if tensor.requires_grad:
            tensor.retain_grad()

    def outputs(x):
        kept = {}
        handles = [
            module.register_forward_hook(lambda _m, _args, out, name=str(i): hook(kept, name, out))
            for i, module in enumerate(model)
        ]
        out = model(x)
        for handle in handles:
            handle.remove()
        return out, kept

    for step, (x, y) in enumerate(batches(steps)):
        found = {}
        with torch.no_grad():
            found["activations"] = {k: v.numpy() for k, v in outputs(on)[1].items()}
        optimizer.zero_grad()
        out, kept = outputs(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        found["loss"] = loss.item()
        # Of a Tanh the pre-activations are what the Linear before it gave.
        own = {name: tensor.grad.numpy().copy() for name, tensor in kept.items()}
        found["gradients"] = {
            str(i): own[str(i if i in linears else i - 1)] for i in range(len(model))
        }
        before = {str(i): model[i].weight.detach().numpy().copy() for i in linears}
        found["weights"] = before
        found["weight_gradients"] = {str(i): model[i].weight.grad.numpy().copy() for i in linears}
        optimizer.step()
        found["update_ratio"] = {
            name: np.linalg.norm(model[int(name)].weight.detach().numpy() - w) / np.linalg.norm(w)
            for name, w in before.items()
        }
        found["slopes"] = {
            str(i): slope(found["activations"][str(i - 1)])
            for i in range(len(model))
            if i not in linears
        }
        if step % every == 0:
            records.append(found)
    return records


@pytest.mark.parametrize(
    ("activation", "slope"),
    [
        (nn.Tanh, lambda z: 1 - np.tanh(z.astype(np.float64)) ** 2),
        (nn.ReLU, lambda z: (z > 0).astype(np.float64)),
    ],
)
def test_every_number(activation, slope):
    on = held_out()
    with vp.torch.Monitor(mlp(activation), 20, on) as m:
        train(m._model, sgd(m._model), 61, m)
    expected = plain(mlp(activation), 61, 20, on, slope)
    assert m.steps.tolist() == [0, 20, 40, 60]
    assert m.losses == pytest.approx([found["loss"] for found in expected], rel=1e-6)
    for record, found in zip(m.records, expected, strict=True):
        for name in ("activations", "gradients", "weight_gradients", "weights"):
            ours = record.of(name)
            assert ours.layer_names == tuple(found[name])
            for i, numbers in enumerate(found[name].values()):
                numbers = numbers.astype(np.float64)
                assert ours.count[i] == numbers.size
                assert ours.mean[i] == pytest.approx(numbers.mean(), rel=1e-9, abs=1e-12)
                assert ours.std[i] == pytest.approx(numbers.std(), rel=1e-9)
                assert (ours.min[i], ours.max[i]) == (numbers.min(), numbers.max())
                for q, value in (("p02", 2), ("p98", 98)):
                    # Right to a bin: a sixteenth of an octave, and 2^-10 of the size near zero.
                    low, high = np.percentile(numbers, (value - 0.5, value + 0.5))
                    room = abs(low) / 16, abs(high) / 16
                    near = 2**-9 * np.sqrt(np.mean(numbers**2))
                    assert low - room[0] - near <= getattr(ours, q)[i] <= high + room[1] + near
                counts, edges = (part[i] for part in ours.histogram())
                np.testing.assert_array_equal(counts, plain_histogram(numbers, edges))
        for name, slopes in found["slopes"].items():
            i = record.activations.of(name)
            sure = np.abs(np.abs(slopes) - 0.1) > 1e-5  # float32 may see others on the other side
            share = np.mean(np.abs(slopes) < 0.1)
            assert record.activations.saturation[i] == pytest.approx(
                share, abs=np.mean(~sure) + 1e-12
            )
            assert record.activations.zero_slope[i] == pytest.approx(np.mean(slopes == 0))
            assert record.activations.dead[i] == pytest.approx(np.mean((slopes == 0).all(axis=0)))
        linear = [record.activations.of(name) for name in found["weights"]]
        assert np.isnan(record.activations.saturation[linear]).all()
        np.testing.assert_allclose(
            record.weights.update_ratio, list(found["update_ratio"].values()), rtol=1e-5
        )
    assert m.hidden == ("1", "3")
    if activation is nn.ReLU:
        assert (m.activations.zero_slope[:, [1, 3]] > 0.2).all()


def plain_histogram(numbers, edges):
    """Count as the bins say: a negative number belongs to the bin whose lower end it is."""
    magnitudes = np.abs(numbers)
    up, down = numbers[numbers >= 0], magnitudes[numbers < 0]
    ends = edges[edges > 0]
    above, below = (np.searchsorted(ends, part, side="right") for part in (up, down))
    counts = np.zeros(len(edges) - 1, np.int64)
    middle = len(counts) // 2
    np.add.at(counts, middle + above, 1)
    np.add.at(counts, middle - below, 1)
    return counts


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("make", [sgd, lambda m: torch.optim.Adam(m.parameters(), lr=0.01)])
def test_training_is_unchanged_to_the_bit(given, make):
    def trained(watch):
        torch.manual_seed(0)
        model = Noisy()
        optimizer = make(model)
        monitor = vp.torch.Monitor(model, 7, held_out() if given else None)
        with monitor if watch else nullcontext() as m:
            for step, (x, y) in enumerate(batches(300)):
                if step % 50 == 49:  # the user's own evaluation
                    model.eval()
                    with torch.no_grad():
                        model(x)
                    model.train()
                optimizer.zero_grad(set_to_none=step % 2 == 0)
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        return model, torch.get_rng_state(), m

    (alone, state, _), (watched, same, m) = trained(False), trained(True)
    assert torch.equal(state, same)
    assert alone.calls == watched.calls
    for (name, one), (_, two) in zip(
        alone.state_dict().items(), watched.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two), name
    assert len(m.records) == 43
    assert np.isfinite(m.gradients.std[:-1]).all()
    for module in watched.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_the_batch_of_training_itself():
    """Without `on` the activations are those of the step's own batch."""
    model = mlp()
    with vp.torch.Monitor(model, 4) as m:
        train(model, sgd(model), 9)
    model, optimizer = mlp(), None
    for step, (x, y) in enumerate(batches(9)):
        optimizer = optimizer or sgd(model)
        if step % 4 == 0:
            with torch.no_grad():
                hidden = model[:2](x).numpy()
            assert m.activations.std[step // 4, 1] == pytest.approx(hidden.std(), rel=1e-6)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert m.steps.tolist() == [0, 4, 8]  # of 9 steps: no pass follows the last


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_images_and_dtypes(dtype):
    """Of images units are channels; numbers of every dtype are counted as they are."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).to(dtype)
    with torch.no_grad():
        model[0].bias[1:3] = -100.0
    images = torch.randn(5, 2, 8, 8).to(dtype)
    with vp.torch.Monitor(model, on={"input": images}) as m:
        model(images).sum().backward()
        sgd(model, 0.01).step()
    record = m.records[0]
    assert record.activations.dead[1] == 0.5
    assert record.activations.zero_slope[1] >= 0.5
    assert record.activations.count.tolist() == [5 * 4 * 36, 5 * 4 * 36, 5 * 3 * 16]
    gradient = model[2].weight.grad.double().numpy()
    assert record.weight_gradients.std[1] == pytest.approx(gradient.std(), rel=1e-9)
    counts, edges = (part[1] for part in record.weight_gradients.histogram())
    np.testing.assert_array_equal(counts, plain_histogram(gradient.ravel(), edges))


def test_a_transformer():
    """Blocks are layers; weights are those of their owner, called or not."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    tokens = torch.randn(4, 6, 16)
    optimizer = torch.optim.AdamW(model.parameters())
    with vp.torch.Monitor(model, on=(tokens,), every=1) as m:
        for _ in range(2):
            optimizer.zero_grad()
            model(tokens).square().mean().backward()
            optimizer.step()
    assert {"layers.0", "layers.1", "layers.0.self_attn"} <= set(m.activations.layer_names)
    assert "layers.0.self_attn" in m.weights.layer_names
    assert "layers.0.self_attn.out_proj" in m.weights.layer_names
    assert (m.weights.update_ratio[:2] > 0).all()
    assert np.isfinite(m.gradients.std[:2]).all()
    for block in ("layers.0", "layers.1"):
        assert m.activations.std[0, m.activations.of(block)] == pytest.approx(1, abs=0.1)


def test_layers_signals_and_statistics():
    model = Noisy()
    with vp.torch.Monitor(model, on=held_out(), layers=["body.*", nn.Linear]) as m:
        pass
    names = ("body.0", "body.1", "body.2", "body.3", "branch", "head")
    assert m.activations.layer_names == names
    assert m.weights.layer_names == ("body.0", "branch", "head")
    with vp.torch.Monitor(
        model, on=held_out(), layers="branch", statistics=(), signals="activations"
    ) as m:
        train(model, sgd(model), 1)
    assert m.records[0].layer_names == {"activations": ("branch",)}
    for ask in (
        lambda: m.gradients,
        lambda: m.activations.p98,
        lambda: m.activations.saturation,
        lambda: m.records[0].weights,
    ):
        with pytest.raises(ValueError, match=r"not recorded|unknown signal"):
            ask()
    with vp.torch.Monitor(
        mlp(), on=held_out(), statistics=("kurtosis", "saturation(threshold=0.5)")
    ) as m:
        pass
    with torch.no_grad():
        z = mlp()[0](held_out()).numpy().astype(np.float64)
    share = np.mean(1 - np.tanh(z) ** 2 < 0.5)
    assert m.activations.saturation[0, 1] == pytest.approx(share, abs=2e-3)
    fourth = np.mean((z - z.mean()) ** 4) / z.var() ** 2
    assert m.activations.kurtosis[0, 0] == pytest.approx(fourth, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": "bdy.*"}, ValueError, "'bdy.*' matches no module: the nearest is 'body.3'"),
        ({"layers": nn.GELU}, ValueError, "GELU matches no module: there are Noisy, Sequential"),
        ({"layers": 3}, TypeError, "layers"),
        ({"layers": [3]}, TypeError, "patterns of names or types of modules, got 3"),
        ({"every": 0}, ValueError, "every must be an integer >= 1"),
        ({"on": "text"}, TypeError, "on must hold a tensor"),
        ({"on": torch.full((2, 20), torch.nan)}, ValueError, "on must be finite"),
        ({"statistics": "correlation"}, ValueError, "unknown statistics of a Monitor"),
        ({"signals": "weight"}, ValueError, "did you mean 'weights'"),
        ({"first_step": -1}, ValueError, "first_step"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error) as caught:
        vp.torch.Monitor(Noisy(), **arguments)
    assert message in str(caught.value)


def test_tables():
    pandas = pytest.importorskip("pandas")
    model = mlp()
    with vp.torch.Monitor(model, 2, held_out()) as m:
        train(model, sgd(model), 4)
    frame = m.to_dataframe()
    assert len(frame) == 3 * (5 + 3 + 3) + 2 * 5  # nothing came back after the last step
    one = frame[(frame.step == 2) & (frame.layer == "1") & (frame.signal == "activations")]
    assert one["std"].item() == m.activations.std[1, 1]
    assert one["p98"].item() == m.activations.p98[1, 1]
    assert frame[frame.signal == "weights"].update_ratio.notna().sum() == 6
    assert isinstance(frame, pandas.DataFrame)


def test_pictures():
    pytest.importorskip("matplotlib")
    model = mlp()
    with vp.torch.Monitor(model, 2, held_out()) as m:
        train(model, sgd(model), 6)
    axes = m.plot("percentiles").axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["3"].get_xdata(), [0, 2, 4, 6])
    np.testing.assert_allclose(lines["3"].get_ydata(), m.activations.std[:, 3])
    assert any(np.array_equal(one.get_ydata(), m.activations.p98[:, 3]) for one in axes.lines)
    (bars, _) = m.plot("activations", layers="1").axes[0].containers[0], None
    np.testing.assert_allclose(bars[0].get_ydata(), m.activations.mean[:, 1])
    assert len(m.plot().axes) == 4
    for kind in ("gradients", "weight_gradients", "updates", "saturation"):
        m.plot(kind)
    for one in m.plot("histograms", signal="weight_gradients", steps=[0, 2, 4]).axes:
        for line_ in one.lines:  # a density
            x, y = line_.get_data()
            assert np.sum((y[1:] + y[:-1]) / 2 * np.diff(x)) == pytest.approx(1, abs=0.05)
    last = m.plot("histograms", signal="weight_gradients").axes[-1]  # step 6 has none
    assert last.lines
    assert last.get_xlabel() == "weight gradient, step 4"
    for arguments, message in (
        ({"kind": "std"}, "unknown kind 'std'"),
        ({"kind": "histograms", "steps": 3}, "3 is not recorded, the nearest is"),
        ({"kind": "histograms", "signal": "noise"}, "unknown signal"),
        ({"kind": "gradients", "steps": 3}, "of kind 'histograms' alone"),
        ({"kind": "gradients", "layers": "7"}, "unknown layer '7'"),
    ):
        with pytest.raises(ValueError, match=message):
            m.plot(**arguments)


def test_picture_of_layers_far_apart_with_long_names():
    pytest.importorskip("matplotlib")
    names = [f"a_layer_of_a_name{i}" for i in range(5)]
    model = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in names))
    model = nn.Sequential(OrderedDict(zip(names, model, strict=True)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(100.0)  # gradients of the first are 1e8 times those of the last
    with vp.torch.Monitor(model, 1, torch.randn(8, 16)) as m:
        model(torch.randn(8, 16)).square().mean().backward()
        sgd(model, lr=0.0).step()
    axes = m.plot("histograms", signal="gradients", steps=0).axes[0]
    assert axes.get_xlabel().endswith("/ root mean square of its layer, step 0")
    for line in axes.lines:
        x, y = line.get_data()
        assert 0.5 < np.sqrt(np.average(x**2, weights=y)) < 2
    figure = m.plot()
    figure.draw_without_rendering()
    left, right = (one.get_legend().get_window_extent() for one in figure.axes[:2])
    assert 0 <= left.x0 < left.x1 < right.x0 < right.x1 <= figure.bbox.width
