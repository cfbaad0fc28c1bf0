"""A small language task for the Trainer, and the same training by hand: a loop over Workers."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

import largebatch as lb
from largebatch.integrations.huggingface import WorkersMixin

TOKENS, LENGTH, IGNORED = 11, 6, -100
BATCH, GROUP = 4, 3  # examples of a micro-batch, micro-batches of a group
REFRESHED = 4  # steps
PERTURB = lb.GNC(alpha=1.0)


class MyTrainer(WorkersMixin, Trainer):
    pass


class Language(nn.Module):
    """Divides by the group's tokens where it is told of them, as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 8)
        self.mix = nn.Linear(8, 8)
        self.last = nn.Linear(8, TOKENS)

    def forward(self, x: Tensor, labels: Tensor | None = None, **more: Any) -> dict[str, Tensor]:
        hidden = self.mix(self.embed(x).cumsum(1)).tanh()
        logits = self.last(hidden)
        if labels is None:
            return {"logits": logits}
        tokens = more.get("num_items_in_batch")
        how = "mean" if tokens is None else "sum"
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction=how
        )
        return {"loss": loss if tokens is None else loss / tokens, "logits": logits}


class MeanLanguage(Language):
    """Knows of no group: its loss is the micro-batch's mean, which the Trainer divides."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return super().forward(x, labels)


def language(kind: type[nn.Module] = Language, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    return kind().to(dtype)


def data(batches: int, least: int = 1) -> list[dict[str, Tensor]]:
    """So many micro-batches, each example with as many labels, from the least to six."""
    source = torch.Generator().manual_seed(7)
    found = []
    for number in range(batches):
        known = least + number * 7 % (LENGTH + 1 - least)
        for _ in range(BATCH):
            x = torch.randint(TOKENS, (LENGTH,), generator=source)
            labels = (x.roll(-1) + x) % TOKENS
            labels[known:] = IGNORED
            found.append({"x": x, "labels": labels})
    return found


def batches_of(examples: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    groups = (examples[i : i + BATCH] for i in range(0, len(examples), BATCH))
    return [{key: torch.stack([e[key] for e in g]) for key in g[0]} for g in groups]


def sgd(model: nn.Module, lr: float = 0.2) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def arguments(folder: Path | str = "unused", **more: Any) -> TrainingArguments:
    options = {
        "gradient_accumulation_steps": GROUP,
        "per_device_train_batch_size": BATCH,
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "num_train_epochs": 3,
        **more,
    }
    return TrainingArguments(str(folder), **options)


def trainer(
    model: nn.Module,
    examples: Any,
    workers: Any = (("perturb", PERTURB),),
    optimizer: Any = sgd,
    keywords: Any = (),
    kind: type[MyTrainer] = MyTrainer,
    **more: Any,
) -> MyTrainer:
    return kind(
        model,
        arguments(**more),
        train_dataset=examples,
        optimizers=(optimizer(model), None),
        workers=dict(workers),
        **dict(keywords),
    )


class Hand:
    """The plain loop: each worker's loss is its own mean, its weight what it counts.

    Args:
        weigh: "group" (tokens, of all processes), "process" (tokens of a process's group) or
            "alike" (every micro-batch the same).
    """

    def __init__(
        self,
        model: nn.Module,
        perturb: Any = PERTURB,
        weigh: str = "group",
        optimizer: Any = sgd,
        loss: Any = lambda model, batch: model(**batch)["loss"],
        **workers: Any,
    ) -> None:
        self.module = model
        over = dist.is_initialized()
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if over else (0, 1)
        wrap = nn.parallel.DistributedDataParallel
        self.model = wrap(model, find_unused_parameters=True) if over else model
        self.optimizer = optimizer(model)
        self.weigh = weigh
        self.loss = partial(loss, self.model)
        self.scaler = workers.get("scaler")
        self.offsets = torch.zeros(())
        self.workers = lb.Workers(self.model, self.optimizer, perturb, count=GROUP, **workers)

    def run(self, examples: list[dict[str, Tensor]], epochs: int = 3, clip: float = 0.0) -> "Hand":
        mine = batches_of(examples)[self.rank :: self.ranks]
        groups = [mine[i : i + GROUP] for i in range(0, len(mine), GROUP)]
        for group in groups * epochs:
            self.step(group)
            if clip:
                assert nn.utils.clip_grad_norm_(self.module.parameters(), clip) > clip
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()
        return self

    def step(self, group: list[dict[str, Tensor]]) -> None:
        if self.workers.refreshes and self.workers.step % REFRESHED == 0:
            self.workers.refresh(self.loss, group[0])
        tokens = [self.tokens(batch) for batch in group]
        divisor = {"group": 1.0, "process": sum(tokens), "alike": None}[self.weigh]
        passes = self.passes(len(group))
        for number, place in enumerate(passes):
            weight = 1.0 if divisor is None else tokens[place] / divisor
            with self.workers.next(weight, last=number == len(passes) - 1):
                loss = self.loss(group[place])
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self.workers.combine()
        if self.workers.offset_to_weight_norm is not None:
            self.offsets = torch.maximum(self.offsets, self.workers.offset_to_weight_norm)

    def tokens(self, batch: dict[str, Tensor]) -> float:
        return float(batch["labels"].ne(IGNORED).sum())

    def passes(self, group: int) -> list[int]:
        """Which micro-batch each pass of a step is on."""
        perturb, step, every = self.workers.perturb, self.workers.step, list(range(group))
        if perturb is None or perturb.passes(step) == 1:
            return every
        if perturb.scope(step) == "batch":
            self.workers.count = group
            return every + every
        looks = every[1:] + every[:1] if perturb.elsewhere(step) else every
        return [place for pair in zip(looks, every, strict=True) for place in pair]


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


def join(rank: int, ranks: int, port: int) -> None:
    """What torchrun tells a process."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in told.items()}, MASTER_ADDR="127.0.0.1")
