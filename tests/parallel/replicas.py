"""What the scripts over several processes share: a network, its data, and ways to train it."""

import json
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import largebatch as lb

STEPS = 20
SHARE = 4  # examples of a worker


class Network(nn.Module):
    """Convolutions, batch norm, and a tied, a frozen and an unused parameter."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.third.weight = self.second.weight
        self.last = nn.Linear(4 * 16, 3)
        self.last.bias.requires_grad_(False)
        self.unused = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).tanh()
        x = self.third(self.second(x).tanh()).tanh()
        return self.last(x.flatten(1))


def network(dtype: torch.dtype = torch.float64, norm: bool = True) -> nn.Module:
    torch.manual_seed(1)
    return Network(norm).to(dtype)


def batch(step: int, workers: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(100 + step)
    size = workers * SHARE
    x = torch.randn(size, 2, 4, 4, generator=source, dtype=torch.float64).to(dtype)
    return x, torch.randint(3, (size,), generator=source)


def wrapped(model: nn.Module, **options: Any) -> nn.Module:
    options = {"find_unused_parameters": True, **options}
    return nn.parallel.DistributedDataParallel(model, **options)


class Run:
    """Trains a network with so many workers on each process, and one or all processes."""

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer],
        perturb: lb.Perturbation | None,
        count: int,
        *,
        over: bool,
        model: nn.Module | None = None,
        wrap: Callable[[nn.Module], nn.Module] = wrapped,
        **workers: Any,
    ) -> None:
        self.module = network() if model is None else model
        self.model = wrap(self.module) if over else self.module
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if over else (0, 1)
        self.pieces = self.piece = None  # into how many a worker's examples are cut
        self.count = count
        self.optimizer = optimizer(p for p in self.module.parameters() if p.requires_grad)
        self.workers = lb.Workers(self.model, self.optimizer, perturb, count=count, **workers)
        self.offsets = torch.zeros(())

    def mine(self, *whole: Tensor) -> tuple[Tensor, ...]:
        """This process's share of a batch."""
        size = len(whole[0]) // self.ranks
        share = tuple(each[self.rank * size : (self.rank + 1) * size] for each in whole)
        if self.pieces is None:
            return share
        # Of every worker's examples a part.
        parts = [torch.stack(each.chunk(self.count)).chunk(self.pieces, 1) for each in share]
        return tuple(part[self.piece].flatten(0, 1) for part in parts)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.model(x), y)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        dtype = next(self.module.parameters()).dtype
        return batch(step, self.ranks * self.count, dtype)

    def shown(self, step: int) -> list[Tensor]:
        """What the loss is looked at on: of a rank's own where that is the same."""
        seen = [each[:SHARE] for each in self.batch(step)]
        if any(isinstance(each, nn.BatchNorm2d) for each in self.module.modules()):
            return seen  # its loss is not the mean of the losses of halves
        return [each.chunk(self.ranks)[self.rank] for each in seen]

    def step(self, step: int) -> None:
        perturb = self.workers.perturb
        if self.workers.refreshes and step % 5 == 0:
            self.workers.refresh(self.loss, *self.shown(step))
        more = {}
        if perturb is not None and perturb.elsewhere(step):
            more = {"inner": self.mine(*self.batch(step + 1000))}
        self.workers.backward(self.loss, *self.mine(*self.batch(step)), **more)
        if self.workers.offset_to_weight_norm is not None:
            self.offsets = torch.maximum(self.offsets, self.workers.offset_to_weight_norm)
        self.optimizer.step()

    def run(self, steps: int = STEPS) -> "Run":
        for step in range(steps):
            self.step(step)
        return self

    def state(self) -> dict[str, Tensor]:
        return {name: whole(each.detach()) for name, each in self.module.state_dict().items()}


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def assert_same(ours: Run, theirs: Run, bound: float = 1e-10) -> None:
    for name, each in theirs.state().items():
        torch.testing.assert_close(
            ours.state()[name], each, rtol=bound, atol=bound, msg=lambda m, n=name: f"{n}: {m}"
        )


def distance(one: Run, other: Run) -> float:
    pairs = zip(one.module.parameters(), other.module.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


def assert_replicas_are_identical(run: Run) -> None:
    """Bit for bit: weights, buffers and what the optimizer keeps."""
    states = run.optimizer.state.values()
    kept = [whole(v) for state in states for v in state.values() if isinstance(v, Tensor)]
    flat = torch.cat([t.double().flatten() for t in (*run.state().values(), *kept)])
    every = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(every, flat)
    for each in every:
        assert torch.equal(each, flat)


def main(cases: dict[str, Callable[[], None]], seconds: float = 120, together: bool = True) -> None:
    """Run the cases as one process of several, and say how each went.

    Unless ``together``, processes do not wait for each other after a case.
    """
    rank, ranks, port = map(int, sys.argv[1:4])
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    limit = timedelta(seconds=seconds)
    dist.init_process_group("gloo", address, world_size=ranks, rank=rank, timeout=limit)
    for name, case in cases.items():
        torch.manual_seed(0)
        try:
            case()
            outcome = "ok"
        except BaseException:
            outcome = traceback.format_exc()
        print("CASE " + json.dumps([name, outcome]), flush=True)
        # Where one failed alone, the other waits for messages that will not come, and so ends.
        if together:
            dist.barrier()
    dist.destroy_process_group()


def each(function: Callable[..., None], names: Any) -> dict[str, Callable[[], None]]:
    return {name: partial(function, name) for name in names}
