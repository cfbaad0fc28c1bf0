r"""Each worker's own gradient of one step, kept: what noise is measured on.

    g_1, ..., g_M        as workers saw them, before they are averaged

M: the step's workers; per layer a matrix with a worker in each row. Memory: local workers times
parameters in a dtype of choice, beside what training takes; over several replicas, one layer of
all workers at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..mesh import Sharding, local, sharding

__all__ = ["WorkerGradients"]


class WorkerGradients:
    """Keeps every local worker's gradient of the last step, until the next one starts.

    Replicas (DDP, HSDP) have workers of their own: with the group of the processes that stand for
    different replicas, :meth:`rows` gathers theirs, layer by layer, and all processes call it.
    Where FSDP cuts the parameters, rows are cut likewise (DTensor).

    Args:
        dtype: of what is kept; None for each parameter's own.
        process_group: the replicas: a DistributedDataParallel's ``process_group``, or the first
            dimension of HSDP's mesh (``mesh.get_group(0)``).

    Example:
        >>> import largebatch as lb
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> workers = lb.Workers(model, torch.optim.SGD(model.parameters(), lr=0.1), count=2)
        >>> kept = WorkerGradients()
        >>> handle = workers.listen(kept)
        >>> _ = workers.backward(lambda x: model(x).mean(), torch.eye(2))
        >>> handle.remove()
        >>> [(name, rows.tolist()) for name, rows in zip(kept.layers, kept.rows())]
        [('weight', [[[1.0, 0.0]], [[0.0, 1.0]]])]
        >>> kept.free()
    """

    def __init__(
        self,
        *,
        dtype: torch.dtype | None = None,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        """Keep nothing yet."""
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"gradients are kept in a floating dtype or their own, got {dtype}")
        self._dtype = dtype
        self._group = process_group
        self._names: list[str] = []
        self._parameters: list[Tensor] = []
        self._kept: dict[int, list[Tensor]] = {}  # by worker; for each parameter its piece
        self._seen: set[int] = set()
        self._ranks: Tensor | None = None
        self._whole = False

    @property
    def layers(self) -> list[str]:
        """Names of the parameters, in the order of :meth:`rows`."""
        return list(self._names)

    @property
    def workers(self) -> int:
        """How many local workers' gradients of the last step there are."""
        return len(self._seen) if self._whole else 0

    @property
    def bytes_kept(self) -> int:
        """Bytes that the gradients take here."""
        return sum(each.nbytes for slots in self._kept.values() for each in slots)

    def free(self) -> None:
        """Let go of all gradients; what is heard next is kept again."""
        self._kept, self._seen, self._whole = {}, set(), False

    def rows(self) -> Iterator[Tensor]:
        """Layer after layer the workers' gradients, shape (M, the layer's), all replicas'.

        Without a group and on one replica without a copy of more than a layer.

        Raises:
            RuntimeError: no step has been heard to its end, or it was freed.
            ValueError: there are several replicas, and no group of them was given.
        """
        if not self._whole:
            raise RuntimeError(
                "no gradients are kept: attach it with workers.listen(...) and make a step first"
            )
        self._check_group()
        for place, parameter in enumerate(self._parameters):
            mine = [self._kept[worker][place] for worker in sorted(self._seen)]
            like = local(parameter)
            empty = like.new_empty(0, *like.shape, dtype=self._dtype or like.dtype)
            rows = torch.stack(mine) if mine else empty
            yield _as_cut(self._gathered(rows), parameter)

    def starts(self, step: int, names: Sequence[str], parameters: Sequence[Tensor]) -> None:
        """A step begins: the last one's gradients make room."""
        if [id(p) for p in parameters] != [id(p) for p in self._parameters]:
            self._kept = {}
        self._names, self._parameters = list(names), list(parameters)
        self._places = {id(p): place for place, p in enumerate(parameters)}
        self.forget()

    @torch.no_grad()
    def saw(
        self,
        worker: int,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        factor: float | Tensor,
        weight: float | Tensor,
    ) -> None:
        """Keep a piece of worker ``worker``'s gradient; every worker counts as one."""
        slots = self._slots(worker)
        self._seen.add(worker)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            slot = slots[self._places[id(parameter)]]
            if gradient is None:
                slot.zero_()
            else:
                slot.copy_(gradient * factor)

    def pooled(self) -> list[Tensor]:
        """One for each replica, which tells how many there are."""
        self._ranks = torch.ones(1, device=self._parameters[0].device)
        return [self._ranks]

    def combined(self, gradients: Sequence[Tensor | None], *, factor: float | Tensor) -> None:
        """The step is whole."""
        for worker in set(self._kept) - self._seen:
            del self._kept[worker]
        self._whole = True

    def forget(self) -> None:
        """The step starts anew."""
        self._seen, self._whole, self._ranks = set(), False, None

    def _slots(self, worker: int) -> list[Tensor]:
        if worker not in self._kept:
            pieces = [local(p) for p in self._parameters]
            self._kept[worker] = [
                torch.empty_like(p, dtype=self._dtype or p.dtype, requires_grad=False)
                for p in pieces
            ]
        return self._kept[worker]

    def _check_group(self) -> None:
        replicas = 1 if self._ranks is None else round(float(self._ranks))
        here = 1 if self._group is None else torch.distributed.get_world_size(self._group)
        if replicas != here:
            raise ValueError(
                f"the step's workers are spread over {replicas} replicas, the group given has "
                f"{here} process(es): give WorkerGradients(process_group=...) the replicas' group"
            )

    def _gathered(self, rows: Tensor) -> Tensor:
        """All replicas' rows, of which there may be more on one than on another."""
        if self._group is None:
            return rows
        group, size = self._group, torch.distributed.get_world_size(self._group)
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(size)]
        mine = torch.full((1,), len(rows), dtype=torch.int64, device=rows.device)
        torch.distributed.all_gather(counts, mine, group=group)
        numbers = [int(count) for count in counts]
        padded = rows.new_zeros(max(numbers), *rows.shape[1:])
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in range(size)]
        torch.distributed.all_gather(every, padded, group=group)
        return torch.cat([each[:n] for each, n in zip(every, numbers, strict=True)])


def _as_cut(rows: Tensor, parameter: Tensor) -> Tensor:
    """Rows of a parameter's pieces, as the DTensor that they are part of."""
    where = sharding(parameter)
    if where is None:
        return rows
    moved = tuple(p if not p.is_shard() else type(p)(p.dim + 1) for p in where.placements)
    shape = torch.Size([len(rows), *parameter.shape])
    return Sharding(where.mesh, moved).placed(
        rows, shape, torch.empty(shape, device="meta").stride()
    )
