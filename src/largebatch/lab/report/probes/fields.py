"""From rows to numbers: what is null, not a number or of another shape is left out, not guessed."""

import math
from collections.abc import Callable, Iterable, Sequence

from ..read import Record, number

Points = list[tuple[float, float | None]]


def numbers(value: object) -> list[float | None]:
    """A list's numbers in place, None where there is none; one number is a list of one.

    Example:
        >>> numbers([1, None, "x"]), numbers(2.0), numbers(None)
        ([1.0, None, None], [2.0], [])
    """
    if isinstance(value, list | tuple):
        return [number(each) for each in value]
    one = number(value)
    return [] if one is None else [one]


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that are numbers.

    Example:
        >>> finite([1.0, None, math.nan])
        [1.0]
    """
    return [v for v in values if v is not None and math.isfinite(v)]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are numbers; None of none.

    Example:
        >>> mean([1.0, None, 3.0]), mean([])
        (2.0, None)
    """
    known = finite(values)
    return math.fsum(known) / len(known) if known else None


def median(values: Iterable[float | None]) -> float | None:
    """The middle one, the upper of two; None of none.

    Example:
        >>> median([3.0, 1.0, 2.0]), median([])
        (2.0, None)
    """
    known = sorted(finite(values))
    return known[len(known) // 2] if known else None


def points(rows: Sequence[Record], read: str | Callable[[Record], object]) -> Points:
    """(epoch, value) of every row; a list counts as the mean of its numbers.

    Example:
        >>> points([{"epoch": 1, "cosine": 0.5}, {"epoch": 2, "cosine": None}], "cosine")
        [(1.0, 0.5), (2.0, None)]
    """
    found: Points = []
    for row in rows:
        at = number(row.get("epoch"))
        value = row.get(read) if isinstance(read, str) else read(row)
        if at is not None:
            found.append((at, mean(numbers(value))))
    return found


def by_layer(rows: Sequence[Record], field: str, names: str = "layers") -> dict[str, Points]:
    """(epoch, value) of every row for each layer it names.

    Example:
        >>> by_layer([{"epoch": 1, "layers": ["a", "b"], "condition": [2, None]}], "condition")
        {'a': [(1.0, 2.0)], 'b': [(1.0, None)]}
    """
    found: dict[str, Points] = {}
    for row in rows:
        at, layers = number(row.get("epoch")), row.get(names)
        if at is None or not isinstance(layers, list):
            continue
        for layer, value in zip(layers, numbers(row.get(field)), strict=False):
            found.setdefault(str(layer), []).append((at, value))
    return found


def table_of(row: Record, field: str) -> list[list[float | None]]:
    """A matrix field, row by row; empty where it is none.

    Example:
        >>> table_of({"losses": [[1, 2], [3, None]]}, "losses")
        [[1.0, 2.0], [3.0, None]]
    """
    value = row.get(field)
    return [numbers(each) for each in value] if isinstance(value, list) else []


def part(rows: Sequence[Record], field: str) -> list[Record]:
    """Rows whose `field` is an object, with the object's fields in place of their own.

    Example:
        >>> part([{"epoch": 1, "convolved": {"loss": 2}}, {"convolved": None}], "convolved")
        [{'epoch': 1, 'convolved': {'loss': 2}, 'loss': 2}]
    """
    return [{**row, **inner} for row in rows if isinstance(inner := row.get(field), dict)]


def ends(found: Points) -> tuple[float, float] | None:
    """Means of the first and of the last quarter of what is known; None under two values.

    Example:
        >>> ends([(0.0, 1.0), (1.0, 3.0), (2.0, None), (3.0, 5.0), (4.0, 7.0)])
        (1.0, 7.0)
    """
    known = finite(value for _, value in found)
    if len(known) < 2:
        return None
    quarter = max(len(known) // 4, 1)
    return math.fsum(known[:quarter]) / quarter, math.fsum(known[-quarter:]) / quarter


def last(found: Points) -> float | None:
    """The last known value.

    Example:
        >>> last([(0.0, 1.0), (1.0, None)])
        1.0
    """
    known = finite(value for _, value in found)
    return known[-1] if known else None
