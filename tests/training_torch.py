"""Small networks and their training, for tests of what watches it."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import varprop as vp
import varprop.torch


def mlp(activation=nn.Tanh, sizes=(20, 30, 40, 5)):
    layers = [(nn.Linear(a, b), activation()) for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*[module for pair in layers for module in pair][:-1])
    vp.torch.init_(model, {"*.weight": "xavier_normal", "*.bias": "normal(std=0.1)"}, seed=3)
    return model


def batches(count, rows=32, features=20, classes=5):
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        yield (
            torch.randn(rows, features, generator=generator),
            torch.randint(classes, (rows,), generator=generator),
        )


def held_out(rows=64, features=20):
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(6))


def train(model, optimizer, steps, monitor=None):
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if monitor is not None:
            monitor.log(loss=loss)
        optimizer.step()


def sgd(model, lr=0.5):
    return torch.optim.SGD(model.parameters(), lr=lr)


def gradients_of(model, x, y):
    """Return the gradient's standard deviation at the first Linear's output."""
    kept = []

    def keep(_module, _args, out):
        out.retain_grad()
        kept.append(out)

    handle = model[0].register_forward_hook(keep)
    F.cross_entropy(model(x), y).backward()
    handle.remove()
    return kept[0].grad.numpy().std()


class Noisy(nn.Module):
    """A model with a state: BatchNorm, dropout, a counter of its own."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(20, 30), nn.BatchNorm1d(30), nn.ReLU(inplace=True), nn.Dropout(0.3)
        )
        self.branch, self.head = nn.Linear(30, 30), nn.Linear(30, 5)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        h = self.body(x)
        h = h + torch.tanh(self.branch(h)) + 0.1 * h
        return self.head(F.dropout(h, 0.1, self.training))
