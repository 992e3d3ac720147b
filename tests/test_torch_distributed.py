"""Two processes on the CPU: shards are filled alone, and are those of the whole to the bit."""

import json
import os
import time
import traceback
from contextlib import suppress
from datetime import timedelta

import pytest

import varprop as vp

torch = pytest.importorskip("torch")

from torch.distributed.device_mesh import init_device_mesh  # noqa: E402

nn, dist = torch.nn, torch.distributed
if not (dist.is_available() and dist.is_gloo_available()):
    pytest.skip("torch has no gloo", allow_module_level=True)
try:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
except ImportError:  # before torch 2.6
    from torch.distributed._tensor import DTensor, Replicate, Shard, distribute_tensor
    from torch.distributed._tensor.placement_types import _Partial as Partial

    fully_shard = None
SMALL = [(1, 3)] if fully_shard else []  # nothing for one process: older torch cannot tell where

PROCESSES, TIMEOUT = 2, 90  # seconds, for all of them together


class Model(nn.Module):
    """A transformer with what fills differently: padding, tied weights, buffers, odd sizes."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8, padding_idx=9)
        self.layer = nn.TransformerEncoderLayer(8, 2, 15, dropout=0.0, batch_first=True)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.layer(self.embedding(tokens))
        return self.head(self.norm(x.mean(1)))


FILLS = {
    "law": lambda model: vp.torch.init_(model, {"*": "normal(std=0.1)"}, seed=3, trial=1),
    "one": lambda model: vp.torch.init_(model, "he_normal", seed=3),
    "orthogonal": lambda model: vp.torch.init_(
        model, {"layer.*weight": "normal", "layer.linear?.weight": "orthogonal"}, seed=3
    ),
    "default": lambda model: vp.torch.reset_parameters(model, 3),
}


def distributed_tensors(mesh, _rank):
    for dtype in (torch.float32, torch.bfloat16):
        for shape in [(8, 6), (7, 5), (5, 4, 3), *SMALL]:
            for placement in (Shard(0), Shard(1), Shard(-1), Replicate()):
                for law in ("he_normal", "orthogonal"):
                    tensor = torch.zeros(shape, dtype=dtype)
                    whole = vp.torch.fill_(tensor.clone(), law, seed=1, name="w", trial=4)
                    shard = distribute_tensor(tensor, mesh, [placement])
                    assert vp.torch.fill_(shard, law, seed=1, name="w", trial=4) is shard
                    assert torch.equal(shard.full_tensor(), whole), (shape, placement, law)
                    assert torch.equal(
                        vp.torch.init.ones_(shard).full_tensor(), torch.ones_like(whole)
                    )


def partial_sums_are_refused(mesh, _rank):
    tensor = DTensor.from_local(torch.zeros(3, 2), mesh, [Partial()])
    with pytest.raises(ValueError, match="parameter 'w' must not be a sum over processes"):
        vp.torch.fill_(tensor, "normal", seed=1, name="w")


def sharded(model, mesh):
    fully_shard(model.layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def is_the_whole(model, whole):
    for (name, one), (same, two) in zip(
        model.named_parameters(), whole.named_parameters(), strict=True
    ):
        assert name == same
        assert not one.is_meta
        assert one.to_local().numel() < two.numel(), f"{name} is not sharded"
        assert torch.equal(one.full_tensor(), two), name
    for (name, one), (_, two) in zip(model.named_buffers(), whole.named_buffers(), strict=True):
        assert torch.equal(one, two), name


def fully_sharded(mesh, _rank):
    for name, fill in FILLS.items():
        torch.manual_seed(0)
        whole, model = Model(), Model()
        model.load_state_dict(whole.state_dict())
        sharded(model, mesh)
        fill(whole)
        fill(model)
        try:
            is_the_whole(model, whole)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def fully_sharded_from_the_meta_device(mesh, _rank):
    tokens = torch.arange(8).reshape(2, 4)
    for fill in (FILLS["law"], FILLS["default"]):
        with torch.device("meta"):
            model = Model()
        whole = Model()
        fill(sharded(model, mesh))
        fill(whole)
        is_the_whole(model, whole)
        # It works, too: both ways.
        assert torch.equal(model(tokens), whole(tokens))
        for one in (model, whole):
            one(tokens).square().sum().backward()
        gradient = model.layer.linear1.weight.grad.full_tensor()
        torch.testing.assert_close(gradient, whole.layer.linear1.weight.grad)


def regions_by_hand(_mesh, rank):
    """Tensor parallel as many write it: a plain tensor for each process's rows or columns."""
    whole = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 4))
    part = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    laws = {"*.weight": "he_normal", "*.bias": "normal"}
    vp.torch.init_(whole, laws, seed=2)
    mine = slice(5 * rank, 5 * rank + 5)
    region = {
        "0.weight": ((10, 6), (mine,)),
        "0.bias": ((10,), (mine,)),
        "1.weight": ((4, 10), (slice(None), mine)),
    }
    vp.torch.init_(part, laws, seed=2, region=region)
    gathered = [None] * PROCESSES
    dist.all_gather_object(gathered, part.state_dict())
    assert torch.equal(torch.cat([g["0.weight"] for g in gathered]), whole[0].weight)
    assert torch.equal(torch.cat([g["0.bias"] for g in gathered]), whole[0].bias)
    assert torch.equal(torch.cat([g["1.weight"] for g in gathered], 1), whole[1].weight)
    alone = torch.empty(10, 5)[:, : 2 + rank]  # uneven
    place = slice(0, 2) if rank == 0 else slice(2, 5)
    vp.torch.fill_(alone, "orthogonal", seed=2, region=((10, 5), (slice(None), place)))
    dist.all_gather_object(gathered, alone)
    assert torch.equal(
        torch.cat(gathered, 1), vp.torch.fill_(torch.empty(10, 5), "orthogonal", seed=2)
    )


def data_parallel(_mesh, rank):
    torch.manual_seed(rank)
    model, whole = nn.parallel.DistributedDataParallel(Model()), Model()
    for fill in (FILLS["law"], FILLS["default"]):
        fill(model)
        fill(whole)
        for one, two in zip(model.parameters(), whole.parameters(), strict=True):
            assert torch.equal(one, two)
    digests = [None] * PROCESSES
    dist.all_gather_object(digests, [p.double().sum().item() for p in model.parameters()])
    assert digests[0] == digests[1]


def flattened_parameters_are_refused(_mesh, _rank):
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(nn.Linear(4, 4), device_id=torch.device("cpu"))
    with pytest.raises(TypeError, match="flattened by FullyShardedDataParallel: fill the model"):
        vp.torch.init_(model, {"*": "normal"}, seed=1)


CHECKS = [
    distributed_tensors,
    partial_sums_are_refused,
    regions_by_hand,
    data_parallel,
    flattened_parameters_are_refused,
]
if fully_shard is not None:
    CHECKS += [fully_sharded, fully_sharded_from_the_meta_device]


def work(rank, folder):
    """One process: runs every check and writes what failed, with nothing where all is well."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=20),
    )
    mesh = init_device_mesh("cpu", (PROCESSES,))
    failures = {}
    for check in CHECKS:
        try:
            check(mesh, rank)
            failures[check.__name__] = ""
        except Exception:
            failures[check.__name__] = traceback.format_exc()
    (folder / f"{rank}.json").write_text(json.dumps(failures))
    with suppress(Exception):
        dist.barrier()  # the other may still be at work
    os._exit(0)  # what PyTorch does on the way out ends in an abort now and then


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    both = torch.multiprocessing.start_processes(
        work, (folder,), nprocs=PROCESSES, join=False, start_method="spawn"
    )
    end = time.monotonic() + TIMEOUT
    try:
        while not both.join(timeout=1.0):
            if time.monotonic() > end:
                pytest.fail(f"the processes hang: {TIMEOUT} s were not enough")
    finally:
        for process in both.processes:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_of_two_processes(failures, check):
    for rank, failed in enumerate(failures):
        assert not failed[check], f"process {rank}:\n{failed[check]}"
