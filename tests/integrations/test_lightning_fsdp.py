"""Lightning's ModelParallelStrategy with FSDP2, two processes: the loop by hand's weights."""

import functools
import os
import runpy
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import largebatch as lb

pytestmark = pytest.mark.slow  # several processes, each of which imports the library first

PARALLEL = Path(__file__).parents[1] / "parallel"
GNC = lb.GNC(alpha=3.0)
MICRO = 8  # micro-batches of a process, in groups of 2
CLIP = 0.5


def data() -> list[Any]:
    from lightning_task import loader

    return [tuple(batch) for batch in loader(2 * MICRO)]


def sharded_net(kind: str, where: str = "net") -> Any:
    """Without batch norm, of which every process would have its own statistics."""
    import lightning_task

    class Net(lightning_task.Net):
        def __init__(self) -> None:
            super().__init__()
            self.net[1] = nn.Identity()

        def configure_model(self) -> None:
            from torch.distributed.fsdp import fully_shard

            mesh = self.device_mesh if kind == "replicas" else self.device_mesh["data_parallel"]
            parts = {"net": [self.net[0], self.net[4], self.net], "part": [self.net[0]], "none": []}
            for module in parts[where]:
                fully_shard(module, mesh=mesh)

    return Net()


def fit(kind: str, perturb: Any, where: str = "net", **options: Any) -> Any:
    from lightning.pytorch.strategies import ModelParallelStrategy
    from lightning_task import trainer
    from torch.utils.data import DataLoader

    from largebatch.integrations.lightning import WorkersCallback

    net, callback = sharded_net(kind, where), WorkersCallback(perturb)
    path, together = options.pop("path", None), options.pop("one_file", True)
    strategy = ModelParallelStrategy(2, 1, save_distributed_checkpoint=not together)
    made = trainer(
        strategy=strategy,
        devices=2,
        use_distributed_sampler=False,
        accumulate_grad_batches=2,
        gradient_clip_val=CLIP,
        callbacks=[callback],
        **options,
    )
    mine = data()[dist.get_rank() * MICRO :][:MICRO]
    made.fit(net, DataLoader(mine, batch_size=None), ckpt_path=path)
    return net, callback.workers, made


def by_hand(kind: str, perturb: Any, epochs: int = 3) -> Any:
    """In one process: of a replica each worker sees what its processes see."""
    net = sharded_net(kind)
    made = net.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    count = 4 if kind == "replicas" else 2
    workers = lb.Workers(net, optimizer, perturb, count=count, reduction="sum")
    every, offsets = data(), 0.0
    for _ in range(epochs):
        for start in range(0, MICRO, 2):
            first, second = every[start : start + 2], every[MICRO + start :][:2]
            together = [list(pair) for pair in zip(first, second, strict=True)]
            step(net, workers, together if kind == "shards" else [[b] for b in first + second])
            offsets = max(offsets, float(workers.offset_to_weight_norm or 0.0))
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
    return net, offsets


def step(net: Any, workers: lb.Workers, parts: list[Any]) -> None:
    for batches in parts:
        counts = False
        while not counts:
            with workers.next() as worker:
                counts = worker.counts
                losses = [nn.functional.cross_entropy(net.net(x), y) for x, y in batches]
                (torch.stack(losses).mean() / workers.count).backward()
    workers.combine()


def whole(net: nn.Module) -> list[torch.Tensor]:
    tensors = (p.detach() for p in net.parameters())
    return [p.full_tensor() if hasattr(p, "full_tensor") else p for p in tensors]


def far(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(whole(one), whole(other), strict=True)
    return max(float((p - q).abs().max()) for p, q in pairs)


def compare(kind: str, perturb: Any) -> None:
    net, workers, _ = fit(kind, perturb)
    assert workers.model is net.net
    theirs, offsets = by_hand(kind, perturb)
    assert offsets > 0.01
    assert far(theirs, by_hand(kind, None)[0]) > 1e-4
    assert far(net, theirs) < 1e-10


def resumes(kind: str, one_file: bool) -> None:
    """Every process has its own noise in the checkpoint."""
    folder = [tempfile.mkdtemp()]
    dist.broadcast_object_list(folder)
    path = f"{folder[0]}/last.ckpt"
    fit(kind, GNC, one_file=one_file, max_epochs=1)[2].save_checkpoint(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*starts from zero")
        resumed, _, _ = fit(kind, GNC, one_file=one_file, path=path)
    straight, _, _ = fit(kind, GNC)
    assert all(map(torch.equal, whole(resumed), whole(straight)))


def refuses_what_is_not_sharded_whole() -> None:
    with pytest.raises(TypeError, match=r"applied to 'net.0', but not to the model itself"):
        fit("shards", GNC, "part")
    with pytest.raises(TypeError, match="ModelParallelStrategy, but fully_shard was not applied"):
        fit("shards", GNC, "none")


CASES = {
    **{f"GNC, {kind}": functools.partial(compare, kind, GNC) for kind in ("replicas", "shards")},
    "m-SAM": functools.partial(compare, "replicas", lb.SAM(rho=0.1, per_worker=True)),
    "resumes": functools.partial(resumes, "replicas", True),
    "resumes from files of each": functools.partial(resumes, "shards", False),
    "refused": refuses_what_is_not_sharded_whole,
}


@functools.cache
def outcomes() -> dict[str, list[str]]:
    return runpy.run_path(str(PARALLEL / "conftest.py"))["run_all"](__file__, 2)


@pytest.mark.parametrize("case", CASES)
def test_two_processes(case: str):
    found = outcomes()
    said = found.get(case, found["output"])
    assert said == ["ok"] * 2, "\n".join(said)


if __name__ == "__main__":
    sys.path.insert(1, str(PARALLEL))
    import replicas

    rank, ranks, port = sys.argv[1:4]
    told = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": "0", "WORLD_SIZE": ranks}
    os.environ.update(told, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    replicas.main(CASES)
