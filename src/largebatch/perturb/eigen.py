r"""Eigen-noise: Gaussian noise along the Hessian's top eigenvectors.

    offset_i = rho * sum_k z_ik * sqrt(|lambda_k| / sum_j |lambda_j|) * v_k,      z_ik ~ N(0, 1)

lambda_k, v_k: the k eigenpairs of largest magnitude, v_k of length 1 over all weights; z from
(seed, step, worker); rho: root mean square length of an offset, in units of the weights. Shapes:
the offset has the weights'.
Source: an ablation that REV (a review of GNC) asks for: curved directions without workers to take
noise from, so that one worker will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ..contracts import Perturbation, Point
from ..curvature import Method, top_eigenpairs
from ..seeding import normal
from .filters import check_seed, check_width

__all__ = ["EigenNoise"]


@dataclass(frozen=True)
class EigenNoise(Perturbation):
    """Noise in the span of the top eigenvectors, which ``Workers.refresh`` takes anew.

    No offset before the first refresh. Holds k copies of the parameters; a refresh costs 2*k + 10
    Hessian products and twice as many vectors for its time.

    Args:
        rho: root mean square length of an offset, 0 or more.
        k: how many eigenvectors.
        seed: of the noise.
        method: how Hessian products are made, "exact" or "differences": see
            :func:`largebatch.curvature.hessian_products`.

    Raises:
        ValueError: an argument has a value it cannot have.

    Example:
        >>> import largebatch as lb
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> workers = lb.Workers(model, optimizer, perturb=EigenNoise(rho=0.1, k=2))
        >>> loss = lambda x, y: (model(x) - y).square().mean()
        >>> x, y = torch.randn(32, 4), torch.randn(32, 2)
        >>> workers.refresh(loss, x, y)  # and again every so many steps
        >>> _ = workers.backward(loss, x, y)
        >>> optimizer.step()
    """

    rho: float
    k: int = 5
    seed: int = 0
    method: Method = "exact"

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_width("EigenNoise", "rho", self.rho)
        check_seed("EigenNoise", self.seed)
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise ValueError(f"EigenNoise needs a whole k of at least 1, got k={self.k!r}")
        if self.method not in get_args(Method):
            raise ValueError(
                f"EigenNoise needs method='exact' or 'differences', got {self.method!r}"
            )

    @property
    def refreshes(self) -> bool:
        """It needs the eigenvectors."""
        return True

    def refresh(
        self,
        loss: Callable[[], Tensor],
        weights: Sequence[Tensor],
        step: int,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> Sequence[Tensor]:
        """The eigenvalues, then for each weight its part of the k vectors."""
        found = top_eigenpairs(
            loss,
            weights,
            self.k,
            seed=self.seed,
            step=step,
            method=self.method,
            process_group=process_group,
        )
        return [found.values, *found.vectors]

    @property
    def sharded(self) -> bool:
        """Its vectors lie as the weights do."""
        return True

    def offsets(
        self, point: Point, worker: int, memory: Sequence[Tensor] | None
    ) -> Sequence[Tensor | None]:
        """A draw along the vectors that were shown; nothing before."""
        if not point.shown:
            return [None] * len(point.weights)
        values, *vectors = point.shown
        self._check_fit(vectors, point.weights)
        sizes = values.abs()
        total = sizes.sum()
        shares = torch.where(total > 0, sizes / total, torch.zeros_like(sizes)).sqrt()
        mixture = normal(values, self.seed, point.step, worker) * shares * self.rho
        pairs = zip(vectors, point.weights, strict=True)
        with torch.autocast(values.device.type, enabled=False):  # where a loop is all within one
            return [torch.tensordot(mixture, v, dims=1).to(w.device, w.dtype) for v, w in pairs]

    def _check_fit(self, vectors: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        found, needed = [v.shape[1:] for v in vectors], [w.shape for w in weights]
        if found != needed:
            raise ValueError(
                f"EigenNoise has eigenvectors of {len(found)} parameters, but other shapes or "
                f"numbers are in training now ({len(needed)}): call workers.refresh(fn, *batch) "
                "after parameters come or go, or the model changes"
            )
