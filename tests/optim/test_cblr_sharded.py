"""CBLR's refresh over two processes: each has half the batch, all learn the whole's diagonal."""

import sys

import pytest
import torch
from torch import nn

from largebatch.optim.cblr import CBLR

WAYS = ("fsdp2", "ddp", "replicas")


def network():
    torch.manual_seed(0)
    # 5 rows over two processes: pieces of unequal length.
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def distributed(way):
    """The network over both processes, and how its optimizer is refreshed."""
    from torch.distributed.fsdp import fully_shard

    model = network()
    if way == "fsdp2":
        return fully_shard(model), model, {"method": "differences"}
    ddp = nn.parallel.DistributedDataParallel(model)
    if way == "ddp":
        return ddp, ddp, {"method": "differences"}
    return ddp, model, {"process_group": torch.distributed.group.WORLD}


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def compare(rank, way):
    torch.manual_seed(1)
    x = torch.randn(8, 3, dtype=torch.float64)
    alone, (model, called, how) = network(), distributed(way)
    ours, theirs = (CBLR(m.parameters(), diagonal="hessian") for m in (model, alone))
    for _ in range(3):
        ours.refresh(lambda half: called(half).square().mean(), x[rank::2], **how)
        theirs.refresh(lambda: alone(x).square().mean())
        for each, optimizer, batch in ((model, ours, x[rank::2]), (alone, theirs, x)):
            optimizer.zero_grad()
            each(batch).square().mean().backward()
            optimizer.step()
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(whole(p.detach()), q.detach(), rtol=0, atol=1e-7)
        diagonals = whole(ours.state[p]["hessian_diagonal"]), theirs.state[q]["hessian_diagonal"]
        torch.testing.assert_close(*diagonals, rtol=0, atol=1e-6)
        assert diagonals[1].abs().max() > 1e-3


def train(model, optimizer, steps):
    x = torch.ones(4, 3, dtype=torch.float64)
    for _ in range(steps):
        optimizer.refresh(lambda: model(x).square().mean(), method="differences")
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def resumed():
    from torch.distributed.checkpoint.state_dict import (
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    models = [distributed("fsdp2")[1] for _ in range(2)]
    optimizers = [CBLR(m.parameters(), diagonal="hessian") for m in models]
    train(models[0], optimizers[0], 3)
    train(models[1], optimizers[1], 1)  # makes the state that is loaded into
    models[1].load_state_dict(models[0].state_dict())
    state = get_optimizer_state_dict(models[0], optimizers[0])
    set_optimizer_state_dict(models[1], optimizers[1], state)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 2)
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(whole(p.detach()), whole(q.detach()), rtol=0, atol=0)


def refused(rank):
    model, _, _ = distributed("fsdp2")
    optimizer = CBLR(model.parameters(), diagonal="hessian")
    with pytest.raises(ValueError, match="FSDP2's are reached by method='differences' only"):
        optimizer.refresh(lambda: model(torch.ones(1, 3).double()).sum())


def process(rank, port):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, world_size=2, rank=rank)
    for way in WAYS:
        compare(rank, way)
    resumed()
    refused(rank)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo over processes is tried on Unix")
def test_a_refresh_over_processes_is_that_of_the_whole_batch(two_processes):
    # Red: signs drawn for the local piece, a mean forgotten (replicas drift apart), an exact
    # product where FSDP2 gives none, state that a checkpoint loses.
    two_processes(__file__)


if __name__ == "__main__":
    process(int(sys.argv[1]), int(sys.argv[2]))
