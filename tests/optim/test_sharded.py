"""Parameters that FSDP2 cuts over processes end where whole ones do, under every rule."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import largebatch.optim
from largebatch.contracts import Listener
from largebatch.mesh import sharding

STEPS = 4


def rules():
    exported = [getattr(largebatch.optim, name) for name in largebatch.optim.__all__]
    concrete = [c for c in exported if hasattr(c, "step") and not c.__abstractmethods__]
    return sorted(concrete, key=lambda c: c.__name__)


def network():
    torch.manual_seed(0)
    # 5 and 3 rows over two processes: pieces of unequal length, one of them with a bias of one.
    return nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, 1)).double()


def step(model, optimizer, seed):
    torch.manual_seed(seed)
    model.zero_grad()
    model(torch.randn(8, 7, dtype=torch.float64)).square().mean().backward()
    if isinstance(optimizer, Listener):
        owned = list(model.parameters())
        optimizer.saw(0, owned, [p.grad for p in owned], factor=1.0, weight=1.0)
        optimizer.combined([p.grad for p in owned], factor=1.0)
    optimizer.step()


def differences(rule, options):
    """How far the sharded run ends from the whole one, and from itself resumed midway."""
    from torch.distributed.checkpoint.state_dict import (
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )
    from torch.distributed.fsdp import fully_shard

    whole, sharded, resumed = network(), network(), network()
    fully_shard(sharded), fully_shard(resumed)
    optimizers = [rule(m.parameters(), **options) for m in (whole, sharded, resumed)]
    for seed in range(STEPS):
        step(whole, optimizers[0], seed)
        step(sharded, optimizers[1], seed)
        if seed == 1:
            resumed.load_state_dict(sharded.state_dict())
            state = get_optimizer_state_dict(sharded, optimizers[1])
            set_optimizer_state_dict(resumed, optimizers[2], state)
        elif seed > 1:
            step(resumed, optimizers[2], seed)
    ends = [[p.full_tensor() for p in m.parameters()] for m in (sharded, resumed)]
    wanted = [p.detach() for p in whole.parameters()]
    moved = max(
        (w - p).abs().max().item() for w, p in zip(wanted, network().parameters(), strict=True)
    )
    assert moved > 1e-4, "the rule did nothing"
    return [max((a - b).abs().max().item() for a, b in zip(e, wanted, strict=True)) for e in ends]


def process(rank, port, file):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, world_size=2, rank=rank)
    found = {}
    for rule in rules():
        for decay in (0.0, 0.1):
            found[f"{rule.__name__} {decay}"] = differences(rule, {"weight_decay": decay})
    if rank == 0:
        file.write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo over processes is tried on Unix")
def test_sharded_parameters_end_where_whole_ones_do(two_processes, tmp_path):
    # Red: a norm over the local piece alone; state that cannot be gathered or loaded.
    file = tmp_path / "differences.json"
    two_processes(__file__, file)
    found = json.loads(file.read_text())
    assert len(found) == 2 * len(rules())
    far = {name: ends for name, ends in found.items() if max(ends) > 1e-12}
    assert not far


def test_plain_tensors_are_not_sharded():
    assert sharding(nn.Parameter(torch.ones(2))) is None
    assert sharding(torch.ones(2)) is None


if __name__ == "__main__":
    process(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
