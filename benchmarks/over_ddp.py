"""Steps over DistributedDataParallel with Workers and without, in turns; scale.py starts it.

    python benchmarks/over_ddp.py RANK RANKS MEETING_FILE SETTINGS_AS_JSON

Every process has a thread of its own and waits for the others ahead of each step. The first prints
its seconds as JSON.

    ddp              forward, backward, step: as everybody writes it
    workers, gnc     Workers on the same model, each process one worker; without and with GNC
    ddp x 4          accumulation under no_sync, the last micro-batch reduced
    gnc x 4          Workers with four workers a process
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timing import Times, in_turns, keep_freed_memory
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import largebatch as lb
from largebatch.lab.models import ResNet

__all__ = ["MICRO", "ddp_in_turns"]

MICRO = 4
SECONDS = 3600
Step = Callable[[Tensor, Tensor], None]


def parts(depth: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A replica and its optimizer, alike for all ways."""
    torch.manual_seed(0)
    model = DistributedDataParallel(ResNet(depth, classes=10))
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def plain(depth: int, count: int) -> Step:
    """DDP's own step, or its accumulation."""
    model, optimizer = parts(depth)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        for i, (xi, yi) in enumerate(zip(x.chunk(count), y.chunk(count), strict=True)):
            with nullcontext() if i == count - 1 else model.no_sync():  # type: ignore[operator]
                loss = nn.functional.cross_entropy(model(xi), yi) / count
                loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def ours(depth: int, count: int, perturb: lb.Perturbation | None) -> Step:
    """The same by Workers."""
    model, optimizer = parts(depth)
    workers = lb.Workers(model, optimizer, perturb, count=count)

    def step(x: Tensor, y: Tensor) -> None:
        workers.backward(lambda x, y: nn.functional.cross_entropy(model(x), y), x, y)
        optimizer.step()

    return step


def measured(rank: int, settings: dict[str, int]) -> Times:
    """Every way in turns, on this process's own images."""
    depth, each, rounds = (settings[name] for name in ("depth", "images", "rounds"))
    torch.manual_seed(rank)
    few = torch.randn(each, 3, 32, 32), torch.randint(10, (each,))
    many = torch.randn(MICRO * each, 3, 32, 32), torch.randint(10, (MICRO * each,))
    gnc = lb.GNC(alpha=0.1)
    ways = {
        "ddp": partial(plain(depth, 1), *few),
        "workers": partial(ours(depth, 1, None), *few),
        "gnc": partial(ours(depth, 1, gnc), *few),
        f"ddp x {MICRO}": partial(plain(depth, MICRO), *many),
        f"gnc x {MICRO}": partial(ours(depth, MICRO, gnc), *many),
    }
    return in_turns(ways, rounds, before=lambda name: dist.barrier())


def ddp_in_turns(ranks: int, settings: dict[str, int]) -> Times:
    """The first process's seconds, of as many as ``ranks``."""
    with tempfile.TemporaryDirectory() as folder:
        common = [str(ranks), str(Path(folder) / "meeting"), json.dumps(settings)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen(
                [sys.executable, __file__, str(rank), *common],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for rank in range(ranks)
        ]
        try:
            said = [each.communicate(timeout=SECONDS)[0] for each in started]
        finally:
            for each in started:
                each.kill()
    if any(each.returncode for each in started):
        raise RuntimeError("a process of the DDP benchmark failed: its error is printed above")
    times: Times = json.loads(said[0])
    return times


def main(arguments: list[str]) -> None:
    """One process's part."""
    rank, ranks, meeting, settings = arguments
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo", f"file://{meeting}", rank=int(rank), world_size=int(ranks))
    found: dict[str, Any] = measured(int(rank), json.loads(settings))
    dist.barrier()
    dist.destroy_process_group()
    if rank == "0":
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
