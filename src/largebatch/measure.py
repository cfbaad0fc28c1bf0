r"""Euclidean norms of many tensors, near the speed at which memory can be read.

    ||x_k||  and  ||g_k + lambda*w_k||   for each tensor k

On a CPU a dot product of a tensor with itself reads as fast as memory allows, several times
faster than the multi-tensor norm (which sums in a slower order); what has to be computed first is
computed in pieces that stay in the cache. Elsewhere, and where a graph is being compiled, the
multi-tensor operations do it. Half precision is summed in float32. Squares are summed in the
precision of the result: in float32, elements beyond 1e19 give infinity and those below 1e-22
count as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

__all__ = [
    "HALVES",
    "Tensors",
    "alike",
    "any_nonzero",
    "decayed",
    "decayed_norms",
    "flat",
    "in_pieces",
    "nonzero",
    "norms",
    "on_host",
    "wide",
]

# What torch's multi-tensor operations take and return.
Tensors = tuple[Tensor, ...] | list[Tensor]

_PLAIN = (Tensor, torch.nn.Parameter)
HALVES = (torch.float16, torch.bfloat16)
# Elements computed at once: a piece of each of two tensors and the result fit a core's cache.
_PIECE = 1 << 18
# Below this the multi-tensor operation's lower overhead wins.
_SMALL = 1 << 12


def wide(dtype: torch.dtype) -> torch.dtype:
    """The precision that a sum over tensors of `dtype` is computed in."""
    return torch.float32 if dtype in HALVES else dtype


def on_host(tensor: Tensor) -> bool:
    """Whether values may be read at once, and kernels run on memory.

    So on a CPU, outside of a graph that is being compiled; not where a mode or a subclass stands in
    for the tensor, as the fakes do by which memory is foretold.
    """
    return (
        tensor.device.type == "cpu"
        and type(tensor) in _PLAIN
        and not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
    )


def norms(tensors: Tensors) -> Tensor:
    """The Euclidean norm of each tensor, in one vector; of half precision in float32.

    Example:
        >>> norms([torch.full((4,), 200.0, dtype=torch.float16)])
        tensor([400.])
    """
    if not on_host(tensors[0]):
        return _together(tensors)
    if tensors[0].dtype in HALVES:
        measure: _Measure = _Pieces(lambda out, x: out.copy_(x), tensors)
    else:
        measure = _dot
    return _by_size(tensors, measure, lambda at: _together([tensors[i] for i in at]))


def decayed_norms(gradients: Tensors, weights: Tensors, weight_decay: float) -> Tensor:
    """||g + lambda*w|| for each pair, in one vector; of half precision in float32.

    Example:
        >>> decayed_norms([torch.tensor([1.0, 0.0])], [torch.tensor([2.0, 4.0])], 1.0)
        tensor([5.])
    """
    if not weight_decay:
        return norms(gradients)
    if not on_host(gradients[0]):
        return _together(decayed(gradients, weights, weight_decay))

    def decay(out: Tensor, g: Tensor, w: Tensor) -> Tensor:
        return torch.add(g, w, alpha=weight_decay, out=out)

    def decay_half(out: Tensor, g: Tensor, w: Tensor) -> Tensor:
        return out.copy_(g).add_(w, alpha=weight_decay)

    compute = decay_half if gradients[0].dtype in HALVES else decay

    def together(at: Sequence[int]) -> Tensor:
        some = [gradients[i] for i in at], [weights[i] for i in at]
        return _together(decayed(*some, weight_decay))

    return _by_size(gradients, _Pieces(compute, gradients, weights), together)


def decayed(gradients: Tensors, weights: Tensors, weight_decay: float) -> Tensors:
    """The sum g + lambda*w for each pair, of halves in float32; g itself for lambda = 0."""
    if gradients and gradients[0].dtype in HALVES:
        # 1/norm overflows float16, and bfloat16 keeps 8 bits of a scale: compute in float32.
        made = [gradient.to(torch.float32, copy=True) for gradient in gradients]
        if weight_decay:
            torch._foreach_add_(made, weights, alpha=weight_decay)
        return made
    if weight_decay:
        return torch._foreach_add(gradients, weights, alpha=weight_decay)
    return gradients


def nonzero(tensors: Tensors) -> Tensor:
    """Whether each tensor has an element that is not 0 (NaN is not), in one vector of bool.

    Example:
        >>> nonzero([torch.zeros(2), torch.tensor([0.0, 1.0])])
        tensor([False,  True])
    """
    if on_host(tensors[0]):
        return torch.tensor([_moves(t) for t in tensors], device=tensors[0].device)
    return _together(tensors) != 0


def any_nonzero(tensors: Tensors) -> Tensor:
    """Whether any of them has, 0-dim; the first that has is enough.

    Example:
        >>> any_nonzero([torch.zeros(2), torch.tensor([0.0, 1.0])])
        tensor(True)
    """
    if on_host(tensors[0]):
        return torch.tensor(any(map(_moves, tensors)), device=tensors[0].device)
    return nonzero(tensors).any()


def flat(tensor: Tensor) -> Tensor | None:
    """The elements in the order of memory, as a view; None where they do not lie side by side."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.as_strided((tensor.numel(),), (1,)) if channels_last else None


def in_pieces(tensors: Sequence[Tensor], most: int) -> Iterable[Sequence[Tensor]]:
    """Tensors of one shape in flat pieces of at most `most` elements that belong together.

    Example:
        >>> [[x.tolist() for x in piece] for piece in in_pieces([torch.arange(3)] * 2, 2)]
        [[[0, 1], [0, 1]], [[2], [2]]]
    """
    ordered = [t.is_contiguous() for t in tensors]
    same = all(ordered) or (not any(ordered) and alike([[t] for t in tensors]))
    flats = [_elements(t) if same else t.reshape(-1) for t in tensors]
    if flats[0].numel() <= most:
        return [flats]
    return zip(*(torch.split(each, most) for each in flats), strict=True)


def alike(lists: Sequence[Tensors]) -> bool:
    """Whether the k-th tensors of all lists keep their elements in one order, without gaps."""
    sizes, *others = ([tensor.numel() for tensor in tensors] for tensors in lists)
    if any(other != sizes for other in others):
        return False
    if all(all(map(Tensor.is_contiguous, tensors)) for tensors in lists):
        return True
    return all(
        flat(first) is not None and all(other.stride() == first.stride() for other in others)
        for first, *others in zip(*lists, strict=True)
    )


def _together(tensors: Tensors) -> Tensor:
    return torch.stack(list(torch._foreach_norm(tensors, 2, wide(tensors[0].dtype))))


def _by_size(tensors: Tensors, one: _Measure, several: Callable[[list[int]], Tensor]) -> Tensor:
    """Large tensors one by one, the small ones at once."""
    large = [i for i, t in enumerate(tensors) if t.numel() >= _SMALL]
    small = [i for i, t in enumerate(tensors) if t.numel() < _SMALL]
    if not large:
        return several(small)
    found = tensors[0].new_empty(len(tensors), dtype=wide(tensors[0].dtype))
    found[large] = torch.stack([one(i, tensors[i]) for i in large]).sqrt_()
    if small:
        found[small] = several(small)
    return found


_Measure = Callable[[int, Tensor], Tensor]


def _dot(_: int, tensor: Tensor) -> Tensor:
    elements = _elements(tensor)
    return torch.dot(elements, elements)


class _Pieces:
    """The sum of squares of what `compute` makes of tensors, of which a piece exists at a time."""

    def __init__(self, compute: Callable[..., Tensor], *sources: Tensors) -> None:
        self.compute, self.sources = compute, sources
        size = min(_PIECE, max(t.numel() for t in sources[0]))
        self.room = sources[0][0].new_empty(size, dtype=wide(sources[0][0].dtype))

    def __call__(self, index: int, _: Tensor) -> Tensor:
        pieces = in_pieces([source[index] for source in self.sources], _PIECE)
        squares = [self._square(piece) for piece in pieces]
        return torch.stack(squares).sum() if len(squares) > 1 else squares[0]

    def _square(self, piece: Sequence[Tensor]) -> Tensor:
        made = self.compute(self.room[: piece[0].numel()], *piece)
        return torch.dot(made, made)


def _elements(tensor: Tensor) -> Tensor:
    elements = flat(tensor)
    return tensor.reshape(-1) if elements is None else elements


def _moves(tensor: Tensor) -> bool:
    """Whether an element is not 0; nearly always the first ones say so already."""
    first = tensor[:1] if tensor.ndim else tensor
    return bool(first.any()) or bool(tensor.any())
