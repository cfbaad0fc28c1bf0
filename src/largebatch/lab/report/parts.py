"""What a report's page is made of: figures of panels, each with its table."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Table:
    """A table's head and rows; the first cell of a row is its header.

    Example:
        >>> Table(("method", "accuracy"), (("sngm", "91.0%"),)).rows[0][0]
        'sngm'
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """One chart with its caption and, if something is to be said of it alone, a note or a key.

    Example:
        >>> Panel("sngm", "", Markup("<svg/>")).caption
        'sngm'
    """

    caption: str
    note: str
    chart: Markup
    key: str = ""


@dataclass(frozen=True)
class Figure:
    """Panels that are read together, in words what they show, and the same as a table.

    Example:
        >>> Figure("Loss", "Training loss.", (), Table((), ())).heading
        'Loss'
    """

    heading: str
    words: str
    panels: Sequence[Panel]
    table: Table
    legend: bool = True
