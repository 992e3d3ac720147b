"""What a run will take: the work that is counted, and how it is told."""

from __future__ import annotations

import re

import numpy as np
import pytest
from typer.testing import CliRunner

import varprop as vp
from varprop import _estimate, _job
from varprop.cli import app

RATES = (1e-10, 1e-9, 3e-9)  # seconds of a multiply-add, of a number that passes, of a draw


def seconds(
    layers: list[vp.Layer],
    inputs: int | tuple[int, ...],
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
    trials: int = 1,
) -> float:
    monkeypatch.setattr(_estimate, "_rates", lambda _: RATES)
    job = _job.make(vp.Network(inputs, layers), batch, seed=0, dtype="float32", threads=1)
    return _estimate.estimate(job, trials).seconds


def test_counts_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    product, passing, draw = RATES
    found = seconds([vp.Dense(1600)], 1000, 500, monkeypatch, trials=3)
    whole = 500 * 1000 * 1600 * product + 500 * 1600 * passing + 1000 * 1600 * draw
    assert found == pytest.approx(3 * whole, rel=1e-4)
    # 100 columns cost what 112 do: seven vectors of 16.
    found = seconds([vp.Dense(100)], 1000, 500, monkeypatch)
    whole = 500 * 1000 * 112 * product + 500 * 100 * passing + 1000 * 100 * draw
    assert found == pytest.approx(whole, rel=1e-4)
    found = seconds([vp.Conv2d(64, 3, stride=2)], (32, 32, 48), 10, monkeypatch)
    places, kernel = 10 * 16 * 16, 9 * 48
    whole = places * kernel * 64 * product + places * 64 * passing + kernel * 64 * draw
    assert found == pytest.approx(whole, rel=1e-4)
    found = seconds([vp.Scale(2.0), vp.LayerNorm()], 1000, 500, monkeypatch)
    assert found == pytest.approx(2 * 500 * 1000 * passing, rel=1e-2)
    found = seconds([vp.Dropout(0.5)], 1000, 500, monkeypatch)
    assert found == pytest.approx(500 * 1000 * (passing + draw), rel=1e-2)


def test_a_matrix_formed_whole_costs_its_factorization(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, formed, scaled = (
        seconds([vp.Dense(512, weight=law)], 512, 10, monkeypatch)
        for law in ("lecun_normal", "orthogonal", vp.Scaled("orthogonal", 2.0))
    )
    assert formed > 5 * drawn
    assert scaled == formed


def test_memory_is_that_of_the_run() -> None:
    job = _job.make(vp.mlp([2000] * 5), 1000, seed=0, dtype="float32", backward=True, threads=2)
    core = job.core(0, 3)
    signals = 4 * 1000 * 2000
    found = _estimate.estimate(job, 3).bytes
    assert found == job.memory(core, 3, job.plan(core, 3))
    assert found > (4 + 3) * signals  # pre-activations kept, and those that come and go
    bound = _estimate.estimate(job, 3, bound=60_000_000).bytes
    assert bound < 60_000_000
    with pytest.raises(ValueError, match="memory must be at least"):
        _estimate.estimate(job, 3, bound=1000)


def test_rates_are_measured() -> None:
    for backward in (False, True):
        job = _job.make(vp.mlp([5, 4]), 3, seed=0, dtype="float64", backward=backward, threads=1)
        product, passing, draw = _estimate._rates(job)
        # No machine does 10^13 of these in a second, or fewer than 10^5.
        assert np.all(np.array([product, passing, draw]) > 1e-13)
        assert np.all(np.array([product, passing, draw]) < 1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trials", "1"], r"1 trial forward: about \S+ s on \d+ threads?, \S+ [kM]B of memory"),
        (["--backward", "--threads", "1"], "10 trials both ways: about .* s on 1 thread, "),
        (["--trials", "auto"], "each 10 trials forward: about "),
    ],
)
def test_a_dry_run_tells(options: list[str], words: str) -> None:
    found = CliRunner().invoke(app, ["simulate", "--dry-run", "--depth", "3", *options])
    assert found.exit_code == 0, found.output
    last = found.stdout.splitlines()[-1]
    assert re.match(words, last), last
    assert len(last) <= 80


def test_a_dry_run_says_what_the_run_would() -> None:
    found = CliRunner().invoke(app, ["simulate", "--dry-run", "--memory", "1kB", "--backward"])
    assert found.exit_code == 1
    assert "memory must be at least" in found.output
    found = CliRunner().invoke(app, ["simulate", "--dry-run", "--loss", "mse"])
    assert "loss and targets need backward=True" in found.output
