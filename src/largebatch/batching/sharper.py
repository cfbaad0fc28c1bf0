r"""A sharper loss: cross entropy at a temperature below 1.

    l = -log softmax(z / T)_y        dl/dz = (softmax(z / T) - onehot(y)) / T

Symbols: z: logits; y: target; T: temperature, 1 for the usual cross entropy.
Source: named by CURV, Section 3 ("sharper loss function"), among what enlarges the mean gradient,
without any detail: the temperature is ours.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["sharp_cross_entropy"]


def sharp_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    temperature: float = 0.5,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy of ``logits / temperature``: an option that CURV names without detail.

    Compare it at rates of its own: gradients of examples that are wrong are about 1/temperature
    times larger, which a larger rate would do as well. Evaluate with the usual loss; which class
    is the likeliest stays the same.

    Args:
        logits: as for ``torch.nn.functional.cross_entropy``.
        targets: as there: classes, or their probabilities.
        temperature: above 0 and at most 1; the smaller, the sharper.
        weight: of the classes, as there.
        ignore_index: as there.
        reduction: as there; "none" for :func:`hard_examples`.
        label_smoothing: as there.

    Raises:
        ValueError: a temperature out of range.

    Example:
        >>> import torch
        >>> from largebatch.batching import sharp_cross_entropy
        >>> logits, target = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
        >>> [round(float(sharp_cross_entropy(logits, target, t)), 3) for t in (1.0, 0.5)]
        [0.313, 0.127]
    """
    check_temperature(temperature)
    return functional.cross_entropy(
        logits / temperature,
        targets,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def check_temperature(temperature: float) -> None:
    """Raise ValueError for a temperature that is none, or that makes no sharper loss."""
    if not 0 < temperature <= 1:
        raise ValueError(
            f"a sharper loss needs a temperature above 0 and at most 1, got {temperature}: above "
            "1 it would be flatter"
        )
