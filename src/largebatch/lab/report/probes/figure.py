"""A figure of the page: what it says, its panels, where its form comes from, its rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import svg
from ..parts import Panel, Table
from ..scales import short
from .runs import Probed


@dataclass(frozen=True)
class Key:
    """A legend's entry: a swatch and what it stands for.

    Example:
        >>> Key("theory", Markup("<svg/>")).words
        'theory'
    """

    words: str
    swatch: Markup


@dataclass(frozen=True)
class Shown:
    """One figure.

    Attributes:
        name: of its place on the page.
        heading: what it is about.
        says: what these runs' rows say, in a line or two.
        source: the figure it corresponds to, and what differs.
        panels: its charts.
        table: the same as numbers.
        rows: which rows it is made of.
        keys: its legend.
        more: charts of each run alone, folded away where runs are many.
        leads: whether what it says belongs to the page's findings.

    Example:
        >>> Shown("a", "A", "", "", (), Table((), ()), "").leads
        False
    """

    name: str
    heading: str
    says: str
    source: str
    panels: Sequence[Panel]
    table: Table
    rows: str
    keys: Sequence[Key] = ()
    leads: bool = False
    more: Sequence[Panel] = ()


def kept(panels: Iterable[Panel | None]) -> list[Panel]:
    """The panels that there are.

    Example:
        >>> kept([None])
        []
    """
    return [panel for panel in panels if panel is not None]


def key(words: str, style: str, shape: str = "", kind: str = "line") -> Key:
    """A legend's entry for a line (with its marker) or a band.

    Example:
        >>> "spread r0" in key("range", "r0", kind="spread").swatch
        True
    """
    if kind == "spread":
        drawn = [svg.path([(1, 1), (33, 1), (33, 11), (1, 11)], f"spread {style}", closed=True)]
    else:
        drawn = [svg.path([(1, 6), (33, 6)], f"line {style}")]
    if shape:
        drawn.append(svg.marker(shape, 17, 6, f"trial {style}", 0.8))
    swatch = svg.element("svg", *drawn, viewBox="0 0 34 12", class_="chart", aria_hidden="true")
    return Key(words, swatch)


def run_keys(runs: Iterable[Probed]) -> list[Key]:
    """One entry a run.

    Example:
        >>> run_keys([])
        []
    """
    return [key(run.label, run.style, run.shape) for run in runs]


def source_rows(runs: Iterable[Probed], probe: str) -> str:
    """Which rows a figure is made of.

    Example:
        >>> from ..read import Run
        >>> run = Run("0", {"method": "gnc", "batch_size": 64, "seed": 0}, {}, (), None)
        >>> source_rows([Probed(run, {"hessian": [{}, {}]}, "gnc")], "hessian")
        'Rows: probe hessian, gnc: 2.'
    """
    counted = [f"{run.label}: {len(run.of(probe)):,}" for run in runs if run.of(probe)]
    return f"Rows: probe {probe}, {'; '.join(counted)}."


def told(said: Sequence[str]) -> str:
    """What is said of each run, of the first three; how many more there are.

    Example:
        >>> told(["a: 1", "b: 2"]), told(["a", "b", "c", "d"])
        ('a: 1; b: 2', 'a; b; c; and 1 more run')
    """
    more = len(said) - 3
    rest = [f"and {more} more run{'s' if more > 1 else ''}"] if more > 0 else []
    return "; ".join([*said[:3], *rest])


def apart(
    main: Sequence[Panel], each: Iterable[Panel | None], runs: Sequence[Probed]
) -> tuple[list[Panel], list[Panel]]:
    """Charts that are seen at once and charts to unfold: those of each run alone, of many runs.

    Example:
        >>> apart([], [None], [])
        ([], [])
    """
    found = kept(each)
    return ([*main, *found], []) if len(runs) <= 2 else (list(main), found)


def beside(values: Mapping[str, float | None]) -> str:
    """Runs' values in a sentence: each of up to three, of more the lowest and the highest.

    Example:
        >>> beside({"msgd": 0.5, "gnc": 0.25}), beside({"msgd": 2.0})
        ('msgd: 0.5; gnc: 0.25', '2')
        >>> beside({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
        'from 1 (a) to 4 (d) over 4 runs'
    """
    known = {label: value for label, value in values.items() if value is not None}
    if not known:
        return "nothing"
    if len(known) == 1:
        return short(next(iter(known.values())))
    if len(known) <= 3:
        return "; ".join(f"{label}: {short(value)}" for label, value in known.items())
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return (
        f"from {short(known[low])} ({low}) to {short(known[high])} ({high}) over {len(known)} runs"
    )
