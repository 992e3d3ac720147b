"""Files of varprop.torch.Monitor: killed, torn, damaged, hostile."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import varprop as vp

torch = pytest.importorskip("torch")
from training_torch import held_out, mlp, sgd, train  # noqa: E402

import varprop.torch  # noqa: E402

nn, F = torch.nn, torch.nn.functional

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")


def same(one, two):
    assert [r.to_dict() for r in one.records] == [r.to_dict() for r in two.records]
    for signal_ in one.records[0].observed:
        for a, b in zip(one.records, two.records, strict=True):
            for key, values in a.observed[signal_].items():
                np.testing.assert_array_equal(values, b.observed[signal_][key])


def test_files(tmp_path):
    model, path = mlp(), tmp_path / "run.jsonl"
    optimizer = sgd(model)
    with vp.torch.Monitor(model, 2, held_out(), path=path) as m:
        train(model, optimizer, 4, m)
        m.save(tmp_path / "copy")
        train(model, optimizer, 3, m)
    m.save()
    m.save(tmp_path / "copy")
    m.save(tmp_path / "copy")
    m.save(path)
    assert path.read_bytes() == (tmp_path / "copy").read_bytes()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["line"].get("step") for line in lines] == [None, 0, 2, 4, 6]
    read = vp.torch.load_monitor(path)
    same(m, read)
    assert read.model == "Sequential"
    assert vp.torch.Monitor.load(path).steps.tolist() == [0, 2, 4, 6]
    read.save(path)
    with pytest.raises(ValueError, match="first_step continues them"):
        vp.torch.Monitor(model, 2, held_out(), path=path).__enter__()
    with vp.torch.Monitor(model, 2, held_out(), path=path, first_step=7) as more:
        train(model, optimizer, 2)
    assert vp.torch.load_monitor(path).steps.tolist() == [0, 2, 4, 6, 7, 8]
    more.save(tmp_path / "more")
    with pytest.raises(ValueError, match="holds other records than that of step 0"):
        m.save(tmp_path / "more")
    other = tmp_path / "other"
    other.write_bytes(b"epoch,loss\n1,2\n")
    for act in (lambda: m.save(other), lambda: vp.torch.load_monitor(other)):
        with pytest.raises(ValueError, match="is no file of a Monitor"):
            act()
    assert other.read_bytes() == b"epoch,loss\n1,2\n"
    with pytest.raises(ValueError, match="path must be given"):
        vp.torch.Monitor(model).save()
    with pytest.raises(FileNotFoundError):
        m.save(tmp_path / "none" / "run")


def test_torn_and_damaged_files(tmp_path):
    path = tmp_path / "run"
    model = mlp()
    with vp.torch.Monitor(model, 1, held_out(8), path=path) as m:
        train(model, sgd(model), 3)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 5
    ends = np.cumsum([len(one) for one in lines])
    rng = random.Random(0)
    for cut in [*rng.sample(range(1, len(whole)), 30), *ends, *(ends - 1)]:
        for tail in (b"", b"\0" * 20, b"\0" * 20 + b"\n"):
            path.write_bytes(whole[:cut] + tail)
            complete = int((ends <= cut).sum())
            if not complete:
                with pytest.raises(ValueError, match="nothing of a Monitor"):
                    vp.torch.load_monitor(path)
            else:
                assert len(vp.torch.load_monitor(path).records) == complete - 1
        if complete:
            m._files.clear()
            m.save(path)
            assert path.read_bytes().startswith(whole)
            assert complete == 5 or path.read_bytes() == whole
    for _ in range(60):  # a byte that changed in the middle
        place = rng.randrange(int(ends[-2]))
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=r"damaged|no file of a Monitor|does not hold"):
            vp.torch.load_monitor(path)


def test_hostile_files(tmp_path):
    from varprop.torch._monitor.file import line

    model = mlp()
    with vp.torch.Monitor(model, 1, held_out(8)) as m:
        train(model, sgd(model), 1)
    head, record = m._header(), m.records[0].to_dict()
    path = tmp_path / "run"

    def tried(*bodies):
        path.write_bytes(b"".join(map(line, bodies)))
        return vp.torch.load_monitor(path)

    assert len(tried(head, record).records) == 1

    def changed(*keys, value):
        new = copy.deepcopy(record)
        part = new
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return new

    ours = ("signals", "activations")
    for bad in (
        changed("step", value=-1),
        changed("step", value=0.5),
        changed("step", value="0"),
        changed("loss", value=[1.0]),
        changed("types", value=["Tanh"]),
        changed("signals", value=[]),
        changed("signals", "noise", value={}),
        changed(*ours, "layers", value=["0"]),
        changed(*ours, "layers", value="01234"),
        changed(*ours, "mean", value=[0.0]),
        changed(*ours, "mean", value=[None] * 5),
        changed(*ours, "variance", value=[-1.0] * 5),
        changed(*ours, "saturation", value=[2.0] * 5),
        changed(*ours, "count", value=[2**60] * 5),
        changed(*ours, "exponent", value=[2**60] * 5),
        changed(*ours, "histogram", value=[[0] * 600] * 5),
        changed(*ours, "histogram", value=[[-1, 1]] * 5),
        changed(*ours, "histogram", value=[[0, 2**70]] * 5),
        changed(*ours, "histogram", value=[[]] * 5),
        {},
        {"nonfinite": [0, "0", "noise"]},
        {"nonfinite": [0, 1, "loss"]},
        {"nonfinite": 3},
    ):
        with pytest.raises(ValueError, match="does not hold records of a Monitor"):
            tried(head, bad)
    for first in (
        record,
        {**head, "monitor": 2},
        {**head, "statistics": ["pickle"]},
        {**head, "model": 1},
    ):
        with pytest.raises(ValueError, match="does not hold records of a Monitor"):
            tried(first, record)
    with pytest.raises(ValueError, match="comes after"):
        tried(head, record, record)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    model = mlp()

    def full(_):
        raise OSError(28, "No space left on device")

    m = vp.torch.Monitor(model, 1, held_out(), path=tmp_path / "run")

    def training():
        with m:
            train(model, sgd(model), 1)
            monkeypatch.setattr(os, "fsync", full)
            train(model, sgd(model), 3)

    with pytest.warns(UserWarning, match=r"records are not saved from step 1 on, but kept"):
        training()
    monkeypatch.undo()
    assert m.steps.tolist() == [0, 1, 2, 3, 4]
    m.save(tmp_path / "run")
    same(m, vp.torch.load_monitor(tmp_path / "run"))


KILLED = """
import sys, torch, varprop as vp
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Tanh(), torch.nn.Linear(30, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
with vp.torch.Monitor(model, 1, torch.randn(20, 20), path=sys.argv[1]) as m:
    for step in range(10**6):
        optimizer.zero_grad()
        model(torch.randn(8, 20)).square().mean().backward()
        optimizer.step()
        if len(m._records) > step - 2:
            print(len(m._records), flush=True)
"""


def test_killed_in_the_middle(tmp_path):
    """SIGKILL at random moments: all that was said to be saved is there, and it goes on."""
    rng = random.Random(1)
    paths = [tmp_path / str(i) for i in range(3)]
    command = [sys.executable, "-c", textwrap.dedent(KILLED)]
    workers = [subprocess.Popen([*command, path], stdout=subprocess.PIPE) for path in paths]
    for worker, path in zip(workers, paths, strict=True):
        for _ in range(rng.randrange(20, 60)):
            said = worker.stdout.readline()
        time.sleep(rng.random() / 50)
        worker.send_signal(signal.SIGKILL)
        said = (worker.stdout.read().splitlines() or [said])[-1]
        worker.wait()
        worker.stdout.close()
        read = vp.torch.load_monitor(path)
        assert len(read.records) >= int(said)
        assert read.steps.tolist() == list(range(len(read.records)))
        assert np.isfinite(read.activations.std).all()
        model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1))
        first = len(read.records)
        with vp.torch.Monitor(model, 1, held_out(), path=path, first_step=first):
            pass
        assert vp.torch.load_monitor(path).steps.tolist() == list(range(first + 1))
