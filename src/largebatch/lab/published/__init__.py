"""The result tables of the five source documents, as data: the one place for published numbers.

A key is the document and its table ("GNC/table2"); accuracy is in percent, perplexity and AUC are
named so, null is a field that is empty in the document. ``mean`` and ``std`` are over five runs;
SNGM and AGN report no spread.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

__all__ = ["tables"]


def tables() -> dict[str, dict[str, Any]]:
    """Every table by its name, read anew: changing what comes back changes nothing else.

    Example:
        >>> tables()["SNGM/table2"]["rows"]["sngm"]
        [92.52, 92.19, 91.8, 91.03, 89.23]
    """
    content = files(__name__).joinpath("tables.json").read_text(encoding="utf-8")
    return {name: table for name, table in json.loads(content).items() if name != "_"}
