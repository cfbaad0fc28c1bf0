"""Where workers live. So far in one process, one after another; wrappers are refused by name."""

from .refuse import check_model

__all__ = ["check_model"]
