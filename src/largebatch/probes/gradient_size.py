r"""How small the gradient gets as the batch grows, layer by layer, and how noisy an example's is.

    E|g|, E g^2                              over the coordinates of a layer, g: mean gradient of n
    S^2 = E (g - G)^2 * n / (1 - n/N)        one example's variance in a coordinate
    E g^2 = mean G^2 + S^2/n * (1 - n/N)     what follows, exactly

n: batch size; N: examples of the data set, of which batches are drawn without replacement; G: its
gradient; g - G has the variance S^2/n * (1 - n/N), so that S^2 is unbiased (it has N - 1 in its
denominator) at every n below N. Units: of loss per weight, or that squared.
Source: Gao and Zhong (CURV), Eq. 1-4 and 8, Fig. 3 and 7, who take G = 0 and n much below N: then
E|g| = S*sqrt(2/(pi*n)) (their Eq. 4, corrected) and the loss stride is eta*S^2/n. Real gradients
have a mean, so that E g^2 ends at mean G^2 and not at 0; and the coordinates of a layer differ in
their deviation S_j, which makes E|g| smaller than their root mean square S says (by a third, in a
small network). So Gaussian noise is told of too as it would be coordinate by coordinate:

    E|g_j| = s*sqrt(2/pi)*exp(-m^2/2) + G_j*erf(m/sqrt(2)),   s^2 = S_j^2/n*(1 - n/N),   m = G_j/s
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..seeding import generator
from .gradients import LossFn, gradient, layers
from .untouched import untouched

__all__ = ["GradientSize", "gradient_size"]

# Keeps these draws apart from others that are named by as many integers.
_SUBSETS = 0x5B5E


@dataclass(frozen=True)
class GradientSize:
    """Mean sizes of the gradient of batches of several sizes.

    Attributes:
        batch_sizes: n, as they were asked for.
        layers: names of the layers.
        mean_magnitude: the mean of abs(g) over a layer and the repeats, [size][layer].
        mean_square: that of g^2.
        deviation: S of each layer, of one example's gradient in one coordinate; its square is
            unbiased. NaN where no batch is smaller than the data.
        full_square: the mean of G^2 over each layer.
        expected_magnitude: what E|g| would be of Gaussian noise about G with each coordinate's own
            S_j, as estimated from all batches, [size][layer]; NaN as the deviation.
        examples: N.
        repeats: how many batches of each size; of size N there is one.
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


def gradient_size(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Sequence[Any],
    batch_sizes: Sequence[int],
    *,
    repeats: int = 4,
    seed: int = 0,
    chunk: int | None = None,
) -> GradientSize:
    """Measure the gradient of random batches of each size out of ``batch``, the data set.

    Costs the gradients of N + repeats*(sum of the sizes below N) examples, and four copies of the
    parameters. With batch norm in training mode the chunk is the batch that it sees.

    Args:
        model: whose parameters.
        loss_fn: mean loss, ``loss_fn(*batch)``.
        batch: the data set, tensors with the example in dimension 0.
        batch_sizes: n, each from 1 to N.
        repeats: batches of each size.
        seed: names the batches, with their size and number; the global generator is not moved.
        chunk: examples of a forward pass.

    Raises:
        ValueError: no sizes, one beyond the data, fewer than one repeat.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> found = gradient_size(model, lambda x: model(x).mean(), (x,), [1, 2])
        >>> found.mean_square[1], round(found.deviation[0] ** 2, 5)
        ([4.0], 2.0)
    """
    examples = len(batch[0])
    _check(batch_sizes, repeats, examples)
    shares = {n: n / (1 - n / examples) for n in batch_sizes if n < examples}
    batches = repeats * sum(n in shares for n in batch_sizes)
    found = []
    with untouched(model):
        full = gradient(model, loss_fn, batch, chunk=chunk)
        variances = [torch.full_like(g, 0 if batches else math.nan, dtype=_wide(g)) for g in full]
        for n in batch_sizes:
            looks = [] if n in shares else [_means(full)]
            for rows in _subsets(examples, n, repeats if n in shares else 0, seed):
                drawn = gradient(model, loss_fn, batch, chunk=chunk, rows=rows)
                looks.append(_means(drawn))
                for variance, g, mean in zip(variances, drawn, full, strict=True):
                    variance.add_((g - mean).to(variance.dtype) ** 2, alpha=shares[n] / batches)
            found.append(torch.stack(looks).mean(0).tolist())
    return GradientSize(
        list(batch_sizes),
        layers(model),
        [magnitudes for magnitudes, _ in found],
        [squares for _, squares in found],
        [math.sqrt(v.mean()) for v in variances],
        _means(full)[1].tolist(),
        [_expected(full, variances, 1 / n - 1 / examples) for n in batch_sizes],
        examples,
        repeats,
    )


def _means(gradients: Sequence[Tensor]) -> Tensor:
    """Means of abs(g) and g^2 over each layer: (2, layers), float64 on the CPU."""
    wide = [g.to(_wide(g)) for g in gradients]  # a half's square underflows
    rows = [torch.stack([g.abs().mean(), g.square().mean()]) for g in wide]
    return torch.stack([row.double().cpu() for row in rows], 1)


def _expected(full: Sequence[Tensor], variances: Sequence[Tensor], share: float) -> list[float]:
    """The mean over each layer of E|g_j|, g_j Gaussian about G_j with S_j^2 times a share."""
    found = []
    for mean, variance in zip(full, variances, strict=True):
        s = (variance * share).sqrt()
        m = mean / s.clamp_min(torch.finfo(s.dtype).tiny)  # erf is 1 of what is infinite then
        noise = s * math.sqrt(2 / math.pi) * torch.exp(-m.square() / 2)
        found.append(float((noise + mean * torch.erf(m / math.sqrt(2))).mean()))
    return found


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _subsets(examples: int, n: int, repeats: int, seed: int) -> Iterator[Tensor]:
    """The rows of each of several batches of n examples, drawn without replacement."""
    for repeat in range(repeats):
        source = generator("cpu", seed, _SUBSETS, n, repeat)
        yield torch.randperm(examples, generator=source)[:n]


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
