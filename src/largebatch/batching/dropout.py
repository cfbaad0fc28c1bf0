"""Another dropout share for a whole model.

Source: named by CURV, Section 3 ("larger dropout ratio"), among what enlarges the mean gradient,
without any detail.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["set_dropout"]


def set_dropout(model: nn.Module, p: float) -> int:
    """Let every dropout of a model drop the share ``p``; an option that CURV names without detail.

    Changed are torch's dropout modules, attention's (``nn.MultiheadAttention``) and that between
    the layers of an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``. What a ``forward`` gives to
    ``functional.dropout`` itself cannot be seen. It acts from the next forward pass on, in
    training mode only.

    Args:
        model: changed in place.
        p: share to drop, 0 or more and below 1.

    Returns:
        How many modules drop this share now.

    Raises:
        ValueError: a share out of range; a model without any dropout.

    Example:
        >>> from largebatch.batching import set_dropout
        >>> model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1))
        >>> set_dropout(model, 0.5), model[1]
        (1, Dropout(p=0.5, inplace=False))
    """
    if not 0 <= p < 1:
        raise ValueError(f"a share to drop must be 0 or more and below 1, got p={p}")
    names = [(module, name) for module in model.modules() if (name := _share_of(module))]
    if not names:
        raise ValueError(
            f"set_dropout found no dropout module in {type(model).__name__}: add nn.Dropout, or "
            "change the share where forward() gives it to functional.dropout"
        )
    for module, name in names:
        setattr(module, name, float(p))
    return len(names)


def _share_of(module: nn.Module) -> str | None:
    """The attribute that says how much a module drops; None where it drops nothing."""
    if isinstance(module, _DropoutNd):
        return "p"
    between = isinstance(module, nn.RNNBase) and module.num_layers > 1
    return "dropout" if between or isinstance(module, nn.MultiheadAttention) else None
