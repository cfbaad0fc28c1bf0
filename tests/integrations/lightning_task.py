"""What the tests of Lightning share: digits, a small network, and the loop that users write."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import largebatch as lb

SIZE = 16  # examples of a micro-batch
Batch = tuple[Tensor, Tensor]
Rule = Callable[..., torch.optim.Optimizer]


@functools.cache
def digits(micro_batches: int, dtype: torch.dtype = torch.float64) -> TensorDataset:
    pixels, classes = load_digits(return_X_y=True)
    end = micro_batches * SIZE
    x = torch.tensor(pixels[:end], dtype=dtype).reshape(-1, 1, 8, 8) / 16
    return TensorDataset(x, torch.tensor(classes[:end]))


def loader(micro_batches: int, dtype: torch.dtype = torch.float64) -> DataLoader:
    return DataLoader(digits(micro_batches, dtype), batch_size=SIZE)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)


class Net(pl.LightningModule):
    """A convolution with batch norm and a linear layer; the rate falls with every step."""

    def __init__(self, rule: Rule = sgd, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(1)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
        self.net = nn.Sequential(*layers, nn.Linear(144, 10)).to(dtype)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.rule(self.parameters())
        falls = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falls, "interval": "step"}}


def trainer(**options: Any) -> pl.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**{"max_epochs": 3, "accelerator": "cpu", **quiet, **options})


def groups(batches: Sequence[Batch], count: int) -> Iterator[Sequence[Batch]]:
    for start in range(0, len(batches), count):
        yield batches[start : start + count]


class ByHand:
    """The same network, in a loop over Workers.

    A batch is None where the loop leaves it out; ``offsets`` is the largest offset of a step in
    units of the weights.
    """

    def __init__(
        self,
        perturb: lb.Perturbation | None,
        count: int,
        rule: Rule = sgd,
        *,
        dtype: torch.dtype = torch.float64,
        wrap: Callable[[nn.Module], nn.Module] = lambda net: net,
        clip: float = 0.0,
        forward: Callable[..., Tensor] | None = None,
        refresh_every: int | None = None,
        **workers: Any,
    ) -> None:
        self.net = Net(rule, dtype)
        self.model = wrap(self.net)
        made = self.net.configure_optimizers()
        self.optimizer, self.scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
        self.workers = lb.Workers(
            self.model, self.optimizer, perturb, count=count, reduction="sum", **workers
        )
        self.scaler = workers.get("scaler") or torch.amp.GradScaler("cpu", enabled=False)
        self.clip, self.refresh_every = clip, refresh_every
        self.autocast = torch.autocast("cpu", enabled=False)
        self.offsets = 0.0

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        with self.autocast:
            return nn.functional.cross_entropy(self.model(x), y)

    def step(self, group: Sequence[Batch | None]) -> None:
        count = self.workers.count
        if self.refresh_every and self.workers.step % self.refresh_every == 0:
            self.workers.refresh(self.loss, *group[0])
        present = [batch for batch in group if batch is not None]
        for batch in present:
            counts = False
            while not counts:
                with self.workers.next(last=batch is present[-1]) as worker:
                    counts = worker.counts
                    self.scaler.scale(self.loss(*batch) / count).backward()
        if not present:  # Lightning steps all the same, with no gradient
            self.optimizer.zero_grad()
            self.optimizer.step()
        else:
            self.workers.combine()
            self.scaler.unscale_(self.optimizer)
            if self.clip:
                nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.offsets = max(self.offsets, float(self.workers.offset_to_weight_norm or 0.0))
        self.scheduler.step()

    def run(self, batches: Sequence[Batch], epochs: int = 3) -> "ByHand":
        for _ in range(epochs):
            for group in groups(batches, self.workers.count):
                self.step(group)
        return self


def assert_same(one: nn.Module, other: nn.Module, bound: float = 1e-10) -> None:
    for name, each in other.state_dict().items():
        torch.testing.assert_close(
            one.state_dict()[name], each, rtol=bound, atol=bound, msg=lambda m, n=name: f"{n}: {m}"
        )


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)
