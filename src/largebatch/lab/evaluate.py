"""The score and the loss of a model on examples that it does not train on."""

from __future__ import annotations

import torch
from torch import nn

from .tasks import Examples, Task

__all__ = ["evaluate"]

CHUNK = 1000


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, examples: Examples) -> dict[str, float]:
    """Mean loss and metric over all ``examples``, in evaluation mode, which is left again.

    Returns:
        {"loss": ..., the task's metric: ...}; chunks do not change either but for rounding.
    """
    inputs, targets = examples
    was_training = model.training
    model.eval()
    loss = score = 0.0
    try:
        for x, y in zip(torch.split(inputs, CHUNK), torch.split(targets, CHUNK), strict=True):
            outputs = model(x)
            loss += float(task.loss(outputs, y)) * len(x)
            score += float(task.score(outputs, y).double().sum())
    finally:
        model.train(was_training)
    return {"loss": loss / len(inputs), task.metric: score / len(inputs)}
