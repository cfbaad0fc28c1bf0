"""Wrapped models are refused by name."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

import largebatch as lb


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def make(model):
    return lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), count=2)


@pytest.mark.usefixtures("group")
def test_refuses_what_contains_ddp():
    wrapped = nn.parallel.DistributedDataParallel(nn.Linear(3, 2))
    with pytest.raises(TypeError, match=r"DistributedDataParallel \(at '0'\) hides"):
        make(nn.Sequential(wrapped))
    make(wrapped.module)


def test_refuses_data_parallel_sync_batch_norm_and_others_by_name():
    with pytest.raises(TypeError, match="DataParallel hides its workers' gradients"):
        make(nn.DataParallel(nn.Linear(3, 2)))
    with pytest.raises(TypeError, match=r"SyncBatchNorm \(at '1'\) couples .*BatchNorm"):
        make(nn.Sequential(nn.Linear(3, 2), nn.SyncBatchNorm(2)))
    engine = type("DeepSpeedEngine", (nn.Sequential,), {})(nn.Linear(3, 2))
    with pytest.raises(TypeError, match="DeepSpeedEngine is not supported"):
        make(engine)
    with pytest.raises(TypeError, match=r"needs a torch.nn.Module, got function"):
        lb.Workers(lambda x: x, torch.optim.SGD([nn.Parameter(torch.ones(1))]))


def test_takes_plain_models_though_a_process_group_exists(group):
    make(nn.Linear(3, 2))
