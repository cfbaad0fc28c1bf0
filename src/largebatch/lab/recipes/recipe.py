"""What a recipe is."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import RunConfig

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A name, a line that says what and whose it is, and the configuration."""

    name: str
    summary: str
    config: RunConfig
