r"""The noise scale in the geometry of the update: sign's and Muon's in place of Euclid's.

    sign       (||sigma||_1 / ||G||_1)^2                     ||sigma||_1 = sum_j sigma_j
    spectral   (sum_l tr(C_l^(1/2)) / sum_l ||G_l||_*)^2      C_l = E[N_l*N_l^T]

G: mean gradient; sigma_j: standard deviation of coordinate j of one example's; N_l: one example's
deviation in matrix l (dimension 0 against the rest, the shorter side first); ||.||_*: sum of the
singular values. E||g - G||_1 is at most ||sigma||_1/sqrt(B), E||g_l - G_l||_* at most
tr(C_l^(1/2))/sqrt(B): at such a batch B the noise is as large as the signal, measured in the norm
that is dual to the one that bounds the step. Source: Naganuma et al. (2026), arXiv:2602.03001, who
measure noise in dual norms, from workers' gradients; these ratios and their estimators are ours.

Noise: variances and C_l are averaged over steps, without bias; only then is the root taken, and
its bias, which falls as 1/(degrees of freedom), is taken off as it is for Gaussian noise (c4 for a
single sigma_j; to second order, with columns alike and independent, for C_l).
Signal: a norm of g is too large by what noise adds, up to sqrt(2/pi)*sigma_j/sqrt(B) a
coordinate, so that the ratio of norms never comes out above pi/2*B. Instead the workers are cut in
halves a and b (by their number's parity), and what a's step would gain on b is taken:

    ||G||_1 ~ <sign(g_a), g_b>        ||G_l||_* ~ <polar(g_a), g_b>        mean of (a, b) and (b, a)

Never above the norm in expectation, whatever the noise; below by G_j*erfc(G_j*sqrt(B)/(2*sigma_j))
a coordinate (halves alike), nothing where G_j is 0 or large. The noise scale then errs upwards:
how far shows whether it is larger than B.

Memory: for "sign" 3 copies of the parameters during a measured step and 1 between, for "spectral"
1 and, per matrix, 3 squares of its shorter side and 1 between; over several processes a measured
step adds those up too. A measured step of "spectral" costs a product with its own transpose a
worker and some 70 such a step; its eigenvalues are taken in ``result``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..layout import layouts_of
from ..measure import wide
from .averages import Averages

__all__ = ["Geometry", "Kind", "check_geometry", "polar"]

Kind = Literal["sign", "spectral"]
KINDS: tuple[Kind, ...] = ("sign", "spectral")
# Of the iteration: those that raise small singular values 3.4 times, and those that bring all to 1.
RAISING, SETTLING = 8, 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al. (2024), Muon: [1e-4, 1] to [0.7, 1.2]


def check_geometry(kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    """The kinds asked for, checked."""
    chosen: tuple[Any, ...] = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    unknown = [each for each in chosen if each not in KINDS]
    if unknown:
        raise ValueError(f"geometry takes some of {KINDS}, got {unknown[0]!r}")
    return chosen


class Geometry:
    """What one step's workers show beyond squared norms."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        """Start with nothing seen."""
        self._kinds = kinds
        self._sums: dict[tuple[str, int], Tensor] = {}
        self._odd: dict[int, float | Tensor] = {}  # weights of one half's workers
        self._odd_weight: Tensor | None = None

    def check(self, names: Sequence[str], parameters: Sequence[Tensor]) -> None:
        """Raise ValueError for parameters that are cut over processes."""
        for name, layout in zip(names, layouts_of(parameters), strict=True):
            if layout.sharding is not None:
                raise ValueError(
                    f"geometry={tuple(self._kinds)} needs whole parameters, but {name!r} is cut "
                    "over processes: leave geometry out, or measure under DistributedDataParallel"
                )

    def saw(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """Add a piece of a worker's gradient; ``worker`` counts over all processes."""
        odd = bool(worker % 2)
        if odd:
            self._odd[worker] = weight
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            own = gradient.to(wide(gradient.dtype)) * factor
            if odd:
                self._add("half", parameter, own * weight)
            for name, square in self._squares(own):
                self._add(name, parameter, square.mul_(weight))

    def _squares(self, gradient: Tensor) -> list[tuple[str, Tensor]]:
        found = []
        if "sign" in self._kinds:
            found.append(("square", gradient.square()))
        if "spectral" in self._kinds and gradient.ndim >= 2:
            matrix = _matrix(gradient)
            found.append(("gram", matrix @ matrix.T))
        return found

    def _add(self, name: str, parameter: Tensor, value: Tensor) -> None:
        key = name, id(parameter)
        known = self._sums.get(key)
        self._sums[key] = value if known is None else known.add_(value)

    def pooled(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """All of it, in the same order on every process."""
        self._odd_weight = self._weight_of_half(parameters[0].device)
        found = [self._odd_weight]
        for parameter in parameters:
            zero = torch.zeros_like(parameter, dtype=wide(parameter.dtype))
            for name, like in [("half", zero), *self._squares(zero)]:
                found.append(self._sums.setdefault((name, id(parameter)), torch.zeros_like(like)))
        return found

    def _weight_of_half(self, where: torch.device) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=where) + sum(self._odd.values())

    def estimates(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        factor: float | Tensor,
        weight: Tensor,
        workers: Tensor,
        examples: float,
    ) -> dict[str, Tensor]:
        """Variances and covariances of one example's gradient; and the step's signals."""
        odd = self._odd_weight
        odd = self._weight_of_half(weight.device) if odd is None else odd
        found: dict[str, Tensor] = {}
        signals: dict[str, Any] = {kind: weight.new_zeros(()) for kind in self._kinds}
        for place, (parameter, given) in enumerate(zip(parameters, gradients, strict=True)):
            mean = torch.zeros_like(parameter) if given is None else given
            mean = mean.to(wide(mean.dtype)) * factor
            half = self._sums.get(("half", id(parameter)), torch.zeros_like(mean))
            halves = half / odd, (mean * weight - half) / (weight - odd)
            for name, square in self._squares(mean):
                seen = self._sums.get((name, id(parameter)), torch.zeros_like(square))
                variance = (seen - square * weight) / (workers - 1) * examples
                columns = mean.numel() // len(square) if square.ndim else 1
                found[f"{name} {place} {columns}"] = variance
            for kind in signals:
                signals[kind] = signals[kind] + _gain(kind, *halves)
        return found | signals

    def sizes(self, averages: Averages) -> dict[str, tuple[float, float]]:
        """The norms of noise and signal of each kind; read on the host."""
        state = averages.state_dict()["sums"]
        freedom = (float(averages.mean("workers")) - 1) * averages.worth
        found = {}
        for kind, of in (("sign", "square"), ("spectral", "gram")):
            if kind in self._kinds:
                names = [name for name in state if name.startswith(f"{of} ")]
                noise = math.fsum(_root(name, averages.mean(name), freedom) for name in names)
                found[kind] = noise, float(averages.mean(kind))
        return found


def _matrix(tensor: Tensor) -> Tensor:
    """Dimension 0 against the rest, the shorter side first."""
    matrix = tensor.reshape(len(tensor), -1)
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def _gain(kind: str, one: Tensor, other: Tensor) -> Tensor:
    """What each half's step gains on the other, on the mean."""
    if kind == "sign":
        return ((one.sign() * other).sum() + (other.sign() * one).sum()) / 2
    if one.ndim < 2:
        return one.new_zeros(())
    one, other = _matrix(one), _matrix(other)
    return ((polar(one) * other).sum() + (polar(other) * one).sum()) / 2


def polar(matrix: Tensor) -> Tensor:
    """U*V^T of U*S*V^T, by Newton and Schulz's iteration: products alone, nothing for the host.

    Singular values that are tiny beside the others stay below 1, none comes above; zero stays zero.

    Example:
        >>> polar(torch.tensor([[3.0, 0.0], [0.0, -0.1]])).round(decimals=4)
        tensor([[ 1.,  0.],
                [ 0., -1.]])
    """
    size = matrix.norm()
    x = matrix / torch.where(size > 0, size, 1.0)
    a, b, c = QUINTIC
    for _ in range(RAISING):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    for _ in range(SETTLING):
        x = torch.addmm(x, x @ x.T, x, beta=1.5, alpha=-0.5)
    return x


def _root(name: str, mean: Tensor, freedom: float) -> float:
    """The sum of standard deviations, or tr(C^(1/2)), with what the root loses on average."""
    what, _, columns = name.split()
    if what == "square":
        ratio = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
        c4 = math.sqrt(2 / freedom) * ratio
        return float(mean.clamp(min=0).sqrt().sum(dtype=torch.float64)) / c4
    roots = torch.linalg.eigvalsh(mean.double().cpu()).clamp(min=0).sqrt()
    # To second order: sum_ab of r_a*r_b/(r_a + r_b), the diagonal half as much again.
    pairs = torch.outer(roots, roots) / (roots[:, None] + roots).clamp(min=1e-300)
    lost = (pairs.sum() + roots.sum() / 2) / (4 * freedom * int(columns))
    return float(roots.sum() + lost)
