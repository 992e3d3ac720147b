"""The multipliers of vp.compare in PyTorch's own optimizers, on the second document's three models.

Model 2 divides each layer's output before its activation, model 3 its input, by 3 and by 200, and
their weights are larger by as much (shared/SEEDS.md); smaller images and fewer filters here, to be
quick.
"""

from __future__ import annotations

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
F = torch.nn.functional

FACTORS = {"conv1": 3.0, "conv2": 200.0}
NET = vp.Network(
    (8, 10, 3),
    [
        vp.Conv2d(20, 3, activation="tanh", bias=None),
        vp.Conv2d(1, 3, activation="sigmoid", bias=None),
    ],
)
OTHERS = {where: vp.rescale(NET, FACTORS, where) for where in ("output", "input")}
TARGETS = (np.random.default_rng(0).random((4, 8, 10, 1)) > 0.6).astype(float)
STEPS = 6


def model(weights: dict[str, torch.Tensor], x: torch.Tensor, where: str | None) -> torch.Tensor:
    """Return the outputs of model 1 (None), 2 ("output") or 3 ("input")."""
    for name, phi in (("conv1", torch.tanh), ("conv2", torch.sigmoid)):
        factor = FACTORS[name]
        x = F.conv2d(x / factor if where == "input" else x, weights[name], padding="same")
        x = phi(x / factor if where == "output" else x)
    return x


def trained(
    where: str | None, optimizer: str, multipliers: dict[str, float], eps: dict[str, float]
) -> tuple[list[float], torch.Tensor, dict[str, float]]:
    """Train with PyTorch: losses, the outputs' first movement, the first |dw| / |w|."""
    run = vp.simulate(
        NET if where is None else OTHERS[where], inputs=4, trials=1, seed=5, dtype="float64"
    )
    weights = {
        name: torch.tensor(run.weights(name).transpose(3, 2, 0, 1).copy(), requires_grad=True)
        for name in FACTORS
    }
    x = torch.tensor(run.inputs().transpose(0, 3, 1, 2).copy())
    targets = torch.tensor(TARGETS.transpose(0, 3, 1, 2))
    rate = {"sgd": 0.3, "momentum": 0.1, "adam": 0.01}[optimizer]
    groups = [{"params": [w], "lr": rate * multipliers[n]} for n, w in weights.items()]
    if optimizer == "adam":
        for group, name in zip(groups, weights, strict=True):
            group["eps"] = 1e-5 * eps[name]
        torch_optimizer = torch.optim.Adam(groups)
    else:
        torch_optimizer = torch.optim.SGD(groups, momentum=0.9 * (optimizer == "momentum"))
    losses, first, updates = [], None, {}
    before = model(weights, x, where).detach()
    for _ in range(STEPS):
        torch_optimizer.zero_grad()
        loss = F.binary_cross_entropy(model(weights, x, where), targets)
        loss.backward()
        losses.append(loss.item())
        old = {name: w.detach().clone() for name, w in weights.items()}
        torch_optimizer.step()
        if first is None:
            first = model(weights, x, where).detach() - before
            updates = {n: ((w.detach() - old[n]).norm() / old[n].norm()).item()
                       for n, w in weights.items()}  # fmt: skip
    return losses, first, updates


def found(where: str) -> vp.Comparison:
    rates = {"sgd": 0.3, "momentum": 0.1, "adam": 0.01}
    return vp.compare(
        NET, OTHERS[where], 4, targets=TARGETS, loss="bce", seed=5, learning_rates=rates, eps=1e-5
    )


ONES = dict.fromkeys(FACTORS, 1.0)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("where", ["output", "input"])
def test_the_multipliers_make_b_train_like_a(where: str, optimizer: str) -> None:
    comparison = found(where)

    def of_layers(values: dict[str, float]) -> dict[str, float]:
        return {name: values[f"{name}.weight"] for name in FACTORS}

    losses, moved, updates = trained(None, optimizer, ONES, ONES)
    wrong, otherwise, small = trained(where, optimizer, ONES, ONES)
    right, alike, _ = trained(
        where,
        optimizer,
        of_layers(comparison.multipliers[optimizer]),
        of_layers(comparison.eps_multipliers),
    )
    assert wrong[0] == pytest.approx(losses[0], rel=1e-12)
    assert (losses[0] - losses[-1]) > 1.5 * abs(wrong[0] - wrong[-1])
    np.testing.assert_allclose(right, losses, rtol=1e-9)
    assert (alike - moved).norm() < 1e-9 * moved.norm()

    # What compare says of the first step is what PyTorch did.
    before, after = comparison.mismatch[optimizer]
    assert before == pytest.approx(((otherwise - moved).norm() / moved.norm()).item(), rel=1e-6)
    assert after < 1e-9
    for name in FACTORS:
        pair = comparison.relative_updates[optimizer][f"{name}.weight"]
        assert pair == pytest.approx((updates[name], small[name]), rel=1e-9)
