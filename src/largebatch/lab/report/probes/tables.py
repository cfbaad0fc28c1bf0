"""A figure's curves as a table, and its sentences about how they moved."""

from collections.abc import Mapping, Sequence

from ..curves import thin
from ..parts import Table
from ..scales import short
from .fields import Points, ends, last
from .layers import Line
from .plot import EPOCHS, Across

COLUMNS = 6


def of_lines(lines: Sequence[Line], what: str, across: Across = EPOCHS) -> Table:
    """A few places of every curve: where, and the value there.

    Example:
        >>> of_lines([Line("gnc", [(1.0, 0.5)], "r0")], "cosine").rows
        [['gnc', 'epoch 1: 0.5']]
    """
    rows = [
        [line.label]
        + [
            f"{across.said(x)}: {short(y)}"
            for x, y in thin([p for p in line.points if p[1] is not None], COLUMNS)
        ]
        for line in lines
        if line.ys()
    ]
    return padded_table(["curve", what], rows)


def padded_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows of unequal length, filled up to the longest.

    Example:
        >>> padded_table(["run", "value"], [["gnc", "1", "2"], ["msgd", "1"]])
        Table(head=['run', 'value', ''], rows=[['gnc', '1', '2'], ['msgd', '1', '']])
    """
    widest = max([len(head), *map(len, rows)])
    return Table(_to(head, widest), [_to(row, widest) for row in rows])


def moved(found: Mapping[str, Points]) -> str:
    """From where to where each run's values went; of more than three runs how many fell.

    "From" is the mean of the first quarter of the values, "to" that of the last.

    Example:
        >>> moved({"gnc": [(0.0, 0.9), (9.0, 0.25)]})
        'from 0.9 to 0.25'
        >>> moved({"gnc": [(0.0, 0.9), (9.0, 0.25)], "msgd": [(0.0, 0.5)]})
        'gnc from 0.9 to 0.25; msgd 0.5 in one row'
    """
    pairs = {label: ends(values) for label, values in found.items()}
    if len([p for p in pairs.values() if p]) > 3:
        known = [p for p in pairs.values() if p]
        fell = sum(1 for first, final in known if final < first)
        finals = sorted(final for _, final in known)
        return (
            f"lower at the end than at the start in {fell} of {len(known)} runs, at last "
            f"{short(finals[0])} to {short(finals[-1])}"
        )
    said = []
    for label, pair in pairs.items():
        name = f"{label} " if len(pairs) > 1 else ""
        if pair:
            said.append(f"{name}from {short(pair[0])} to {short(pair[1])}")
        elif (only := last(found[label])) is not None:
            said.append(f"{name}{short(only)} in one row")
    return "; ".join(said) or "nothing that is a number"


def _to(cells: Sequence[str], length: int) -> list[str]:
    return [*cells, *[""] * (length - len(cells))]
