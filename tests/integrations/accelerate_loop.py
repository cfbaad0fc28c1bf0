"""An Accelerate loop over Workers on scikit-learn's digits, and the plain loop beside it."""

from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from every_method import passes
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import largebatch as lb
from largebatch.integrations.accelerate import register_for_checkpointing

BATCH, GROUP = 16, 3
REFRESHED = 4  # steps
PERTURB = lb.GNC(alpha=1.0)


def digits(batches: int) -> TensorDataset:
    pixels, classes = load_digits(return_X_y=True)
    x = torch.tensor(pixels[: batches * BATCH], dtype=torch.float64) / 16
    return TensorDataset(x, torch.tensor(classes[: batches * BATCH]))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)


criterion = nn.CrossEntropyLoss()


class Loop:
    """As Accelerate's users write it, with `workers.next` and `combine` added."""

    def __init__(
        self,
        batches: int,
        make: Any = sgd,
        perturb: Any = PERTURB,
        scaler: Any = None,
        noise: Any = None,
    ) -> None:
        unused = DistributedDataParallelKwargs(find_unused_parameters=False)
        self.accelerator = Accelerator(
            cpu=True, gradient_accumulation_steps=GROUP, kwargs_handlers=[unused]
        )
        self.accelerator.scaler = scaler
        self.module = network()
        loader = DataLoader(digits(batches), batch_size=BATCH)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(
            self.module, make(self.module), loader
        )
        options = {"scaler": scaler, "gradient_noise": noise}
        self.workers = lb.Workers(
            self.model, self.optimizer, perturb, count=GROUP, reduction="sum", **options
        )
        register_for_checkpointing(self.accelerator, self.workers)

    def run(self, epochs: int, clip: float = 0.0, overflow: int = -1) -> "Loop":
        accelerator, workers = self.accelerator, self.workers
        for _ in range(epochs):
            for x, y in self.loader:
                with accelerator.accumulate(self.model):
                    with workers.next(last=accelerator.sync_gradients):
                        loss = criterion(self.model(x), y)
                        overflow -= 1
                        accelerator.backward(loss * torch.inf if overflow == -1 else loss)
                    if accelerator.sync_gradients:
                        workers.combine()
                        if clip:
                            accelerator.clip_grad_norm_(self.model.parameters(), clip)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
        return self

    def run_groups(self, epochs: int) -> "Loop":
        """For methods that look at micro-batches before they run: a whole group at its end."""
        for _ in range(epochs):
            group: list[Any] = []
            for batch in self.loader:
                group.append(batch)
                with self.accelerator.accumulate(self.model):
                    if self.accelerator.sync_gradients:
                        self.run_group(group)
                        group = []
                    self.optimizer.step()
                    self.optimizer.zero_grad()
        return self

    def run_group(self, group: list[Any]) -> None:
        refresh(self.workers, self.model, group[0])
        for place in passes(self.workers.perturb, self.workers.step, len(group)):
            x, y = group[place]
            with self.workers.next():
                self.accelerator.backward(criterion(self.model(x), y))
        self.workers.combine()


def refresh(workers: lb.Workers, model: nn.Module, batch: Any) -> None:
    if workers.refreshes and workers.step % REFRESHED == 0:
        workers.refresh(lambda x, y: criterion(model(x), y), *batch)


class Plain:
    """The same without Accelerate; each loss is a mean, and so is the gradient."""

    def __init__(
        self, batches: int, make: Any = sgd, perturb: Any = PERTURB, noise: Any = None
    ) -> None:
        over = dist.is_initialized()
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if over else (0, 1)
        self.module = network()
        self.model = nn.parallel.DistributedDataParallel(self.module) if over else self.module
        self.optimizer = make(self.module)
        self.data = digits(batches)
        self.workers = lb.Workers(
            self.model, self.optimizer, perturb, count=GROUP, gradient_noise=noise
        )
        self.offsets = torch.zeros(())

    def run(self, epochs: int, clip: float = 0.0, overflow: int = -1) -> "Plain":
        x, y = self.data.tensors
        mine = list(zip(x.split(BATCH), y.split(BATCH), strict=True))[self.rank :: self.ranks]
        for _ in range(epochs):
            for start in range(0, len(mine), GROUP):
                finite = self.group(mine[start : start + GROUP], clip, overflow)
                overflow -= GROUP
                if finite:
                    self.optimizer.step()
        return self

    def group(self, group: list[tuple[Tensor, Tensor]], clip: float, overflow: int) -> bool:
        refresh(self.workers, self.model, group[0])
        for place in passes(self.workers.perturb, self.workers.step, len(group)):
            x, y = group[place]
            with self.workers.next():
                loss = criterion(self.model(x), y)
                (loss * torch.inf if overflow == place else loss).backward()
        self.workers.combine()
        ratio = self.workers.offset_to_weight_norm
        self.offsets = self.offsets if ratio is None else torch.maximum(self.offsets, ratio)
        for weight in self.module.parameters():
            weight.grad *= len(group) / GROUP  # Accelerate divides a short group by the whole
        if clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), clip)
        return all(weight.grad.isfinite().all() for weight in self.module.parameters())


def distance(one: Any, other: Any) -> float:
    pairs = zip(one.module.parameters(), other.module.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)
