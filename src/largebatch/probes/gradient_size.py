r"""How small the gradient gets as the batch grows, layer by layer, and how noisy an example's is.

    E|g|, E g^2                              over the coordinates of a layer, g: mean gradient of n
    S^2 = E (g - h)^2 * n/2                  one example's variance in a coordinate
    E g^2 = mean G^2 + S^2/n * (1 - n/N)     what follows, exactly

n: batch size; N: examples of the data set, of which batches are drawn without replacement; G: its
gradient; h: that of another batch of n that has no example in common with the first. Two such
differ by 2*S^2/n, whatever N, so that S^2 is unbiased (it has N - 1 in its denominator). Units: of
loss per weight, or that squared. One pass over the data in random order is all it takes: every
batch is a stretch of it, and h is its neighbour's.
Source: Gao and Zhong (CURV), Eq. 1-4 and 8, Fig. 3 and 7, who take G = 0 and n much below N: then
E|g| = S*sqrt(2/(pi*n)) (their Eq. 4, corrected) and the loss stride is eta*S^2/n. Real gradients
have a mean, so that E g^2 ends at mean G^2 and not at 0; and the coordinates of a layer differ in
their deviation S_j, which makes E|g| smaller than their root mean square S says (by a third, in a
small network). So Gaussian noise is told of too as it would be coordinate by coordinate:

    E|g_j| = s*sqrt(2/pi)*exp(-m^2/2) + G_j*erf(m/sqrt(2)),   s^2 = S_j^2/n*(1 - n/N),   m = G_j/s
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..measure import wide
from ..seeding import generator
from .gradients import LossFn, gradient, layers, trained
from .stretches import Stretches, means, walked
from .untouched import untouched

__all__ = ["GradientSize", "gradient_size"]

# Keeps these draws apart from others that are named by as many integers.
_ORDER = 0x5B5E


@dataclass(frozen=True)
class GradientSize:
    """Mean sizes of the gradient of batches of several sizes.

    Attributes:
        batch_sizes: n, as they were asked for.
        layers: names of the layers.
        mean_magnitude: the mean of abs(g) over a layer and the repeats, [size][layer].
        mean_square: that of g^2.
        deviation: S of each layer, of one example's gradient in one coordinate; its square is
            unbiased. NaN where no size has two batches.
        full_square: the mean of G^2 over each layer.
        expected_magnitude: what E|g| would be of Gaussian noise about G with each coordinate's own
            S_j, as estimated from all batches, [size][layer]; NaN as the deviation.
        examples: N.
        repeats: how many batches of each size there are at most.
        batches: how many there are, [size].
    """

    batch_sizes: list[int]
    layers: list[str]
    mean_magnitude: list[list[float]]
    mean_square: list[list[float]]
    deviation: list[float]
    full_square: list[float]
    expected_magnitude: list[list[float]]
    examples: int
    repeats: int
    batches: list[int]


def gradient_size(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    batch_sizes: Sequence[int],
    *,
    repeats: int = 8,
    seed: int = 0,
    chunk: int | None = None,
) -> GradientSize:
    """Measure the gradient of random batches of each size out of ``batch``, the data set.

    Costs one gradient of the data set, whatever the sizes, and some copies of the parameters (four,
    and one more for every doubling of ``repeats``, where sizes are powers of two). Batches of one
    size have no example in common, a large one contains smaller ones. With batch norm in training
    mode the chunk is the batch that it sees.

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: the data set, tensors with the example in dimension 0.
        batch_sizes: n, each from 1 to N.
        repeats: batches of each size, as far as the data reaches: N // n at most.
        seed: names the order of the examples; the global generator is not moved.
        chunk: examples of a forward pass.

    Raises:
        ValueError: no sizes, one beyond the data, fewer than one repeat.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> found = gradient_size(model, lambda x: model(x).mean(), (x,), [1, 2])
        >>> found.mean_square[1], round(found.deviation[0] ** 2, 5), found.batches
        ([4.0], 2.0, [2, 1])
    """
    examples = len(batch[0])
    _check(batch_sizes, repeats, examples)
    wanted = {n: min(repeats, examples // n) for n in batch_sizes}
    sizes = [Stretches(n, count, len(layers(model))) for n, count in wanted.items()]
    pairs = sum(count - 1 for count in wanted.values())
    order = torch.randperm(examples, generator=generator("cpu", seed, _ORDER))
    with untouched(model):
        weights = trained(model)
        total = [torch.zeros_like(p, dtype=wide(p.dtype), requires_grad=False) for p in weights]
        variances = [torch.full_like(p, 0 if pairs else math.nan) for p in total]
        place = 0
        for stop in sorted({examples}.union(*(each.stops for each in sizes))):
            found = gradient(model, loss_fn, batch, chunk=chunk, rows=order[place:stop])
            for p, g in zip(total, found, strict=True):
                p.add_(g, alpha=stop - place)
            place = stop
            walked(place, total, sizes, variances, pairs)
    full = [p / examples for p in total]
    seen = {each.n: torch.stack(each.seen).mean(0).tolist() for each in sizes}
    return GradientSize(
        list(batch_sizes),
        layers(model),
        [seen[n][0] for n in batch_sizes],
        [seen[n][1] for n in batch_sizes],
        [math.sqrt(v.mean()) for v in variances],
        means(full)[1].tolist(),
        [_expected(full, variances, 1 / n - 1 / examples) for n in batch_sizes],
        examples,
        repeats,
        [wanted[n] for n in batch_sizes],
    )


def _expected(full: Sequence[Tensor], variances: Sequence[Tensor], share: float) -> list[float]:
    """The mean over each layer of E|g_j|, g_j Gaussian about G_j with S_j^2 times a share."""
    found = []
    for mean, variance in zip(full, variances, strict=True):
        s = (variance * share).sqrt()
        m = mean / s.clamp_min(torch.finfo(s.dtype).tiny)  # erf is 1 of what is infinite then
        noise = s * math.sqrt(2 / math.pi) * torch.exp(-m.square() / 2)
        found.append(float((noise + mean * torch.erf(m / math.sqrt(2))).mean()))
    return found


def _check(sizes: Sequence[int], repeats: int, examples: int) -> None:
    if not sizes:
        raise ValueError("gradient_size needs at least one batch size, got none")
    wrong = [n for n in sizes if not isinstance(n, int) or not 1 <= n <= examples]
    if wrong:
        raise ValueError(
            f"batch_sizes must be whole numbers from 1 to the data's {examples} examples, got "
            f"{wrong[0]}: leave it out, or give more data"
        )
    if repeats < 1:
        raise ValueError(f"gradient_size needs at least one repeat, got repeats={repeats}")
