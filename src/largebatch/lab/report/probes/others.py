"""What no figure draws: numbers of a whole run, and probes that are not ours."""

from collections.abc import Collection, Sequence

from ..read import Record, number
from ..scales import short
from .fields import finite, numbers
from .figure import Shown
from .runs import Probed
from .tables import padded_table

PLACE = ("kind", "probe", "step", "epoch")


def others(runs: Sequence[Probed], drawn: Collection[str]) -> Shown | None:
    """The last row of every probe that is not among `drawn`, as a table.

    Example:
        >>> others([], ()) is None
        True
    """
    rows = [
        [run.label, name, field, words]
        for run in runs
        for name in sorted(run.rows)
        if name not in drawn
        for field, words in _fields(run.of(name)[-1])
    ]
    if not rows:
        return None
    names = list(dict.fromkeys(name for _, name, _, _ in rows))
    return Shown(
        "numbers",
        "Further numbers",
        f"Without a picture: {', '.join(names)}.",
        "Fluctuation of the loss and dispersion over runs: Gao and Zhong (CURV), Fig. 8 and 11 to "
        "14, as numbers; oscillation of the score between epochs: Fig. 1 of the paper on additive "
        "gradient noise (AGN).",
        (),
        padded_table(["run", "probe", "what", "value, last row"], rows),
        f"Rows: {', '.join(names)}.",
    )


def _fields(row: Record) -> list[tuple[str, str]]:
    found = []
    for field, value in row.items():
        if field in PLACE:
            continue
        if (one := number(value)) is not None:
            found.append((field, short(one)))
        elif isinstance(value, list) and (known := finite(numbers(value))):
            words = f"{len(known)} numbers, {short(min(known))} to {short(max(known))}"
            found.append((field, words))
        elif isinstance(value, str):
            found.append((field, value[:80]))
    return found or [("", "nothing that is a number")]
