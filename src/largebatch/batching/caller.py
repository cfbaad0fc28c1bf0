"""Where a warning points: decisions are asked for by step(), by a loader, or by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

__all__ = ["users_level"]

_PACKAGES = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))


def users_level() -> int:
    """The ``stacklevel`` of the nearest line that is neither of this package nor of torch.

    Example:
        >>> users_level()
        1
    """
    # warnings' own skip_file_prefixes is of Python 3.12.
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGES):
        frame, level = frame.f_back, level + 1
    return level
