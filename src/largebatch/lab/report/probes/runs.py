"""The runs side by side: each with its probes' rows, a name that tells it apart, a colour."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...records import read_lines
from ..marks import shorten
from ..metric import count
from ..read import Record, Run, number, read_run

COLOURS = 6
SHAPES = ("circle", "square", "triangle", "diamond", "down", "right")
FURTHER = "probes.jsonl"


@dataclass(frozen=True)
class Probed:
    """One run, its rows by probe in the order of steps, and how it is drawn.

    Example:
        >>> run = Run("0", {"method": "gnc", "batch_size": 64, "seed": 0}, {}, (), None)
        >>> probed = Probed(run, {}, "gnc", index=1)
        >>> probed.style, probed.shape, probed.of("hessian")
        ('r1', 'square', [])
    """

    run: Run
    rows: Mapping[str, Sequence[Record]]
    label: str
    index: int = 0

    @property
    def style(self) -> str:
        """The class of its colour."""
        return f"r{self.index % COLOURS}"

    @property
    def shape(self) -> str:
        """The marker that tells it apart without colour."""
        return SHAPES[self.index % len(SHAPES)]

    def of(self, probe: str) -> list[Record]:
        """The rows of one probe."""
        return list(self.rows.get(probe, ()))


def read_probed(out: Path, folders: Sequence[Path]) -> list[Probed]:
    """Read runs and, for each, the further rows in `out`/<the run folder's name>/probes.jsonl.

    Where both hold a probe at the same step, the further row stands for both.

    Raises:
        FileNotFoundError: a run folder has no config.json.
        ValueError: no run, a damaged file, or further rows that two runs would both claim.

    Example:
        >>> read_probed(Path("out"), [])
        Traceback (most recent call last):
        ...
        ValueError: a report of probes needs at least one run folder: give one
    """
    if not folders:
        raise ValueError("a report of probes needs at least one run folder: give one")
    paths = [folder.resolve() for folder in folders]
    names = Counter(path.name for path in paths)
    found = []
    for path in paths:
        further = out / path.name / FURTHER
        if names[path.name] > 1 and further.is_file():
            raise ValueError(
                f"{further} can be of one run only, and {names[path.name]} run folders are named "
                f"{path.name}: give them different names"
            )
        run = read_run(path)
        found.append(Probed(run, by_probe([*run.metrics, *read_lines(further)]), ""))
    labels = tell_apart([probed.run for probed in found])
    return [replace(p, label=labels[i], index=i) for i, p in enumerate(found)]


def by_probe(rows: Sequence[Record]) -> dict[str, list[Record]]:
    """Rows of the kind "probe" by the probe's name; of two at the same step the later written.

    Example:
        >>> row = {"kind": "probe", "probe": "hessian", "step": 3}
        >>> by_probe([row | {"trace": 1.0}, row | {"trace": 2.0}, {"kind": "train"}])
        {'hessian': [{'kind': 'probe', 'probe': 'hessian', 'step': 3, 'trace': 2.0}]}
    """
    found: dict[str, dict[float, Record]] = defaultdict(dict)
    for row in rows:
        step = number(row.get("step"))
        if row.get("kind") == "probe" and step is not None:
            found[str(row.get("probe"))][step] = row
    return {
        name: [row for _, row in sorted(rows.items(), key=lambda item: item[0])]
        for name, rows in found.items()
    }


def tell_apart(runs: Sequence[Run], letters: int = 40) -> list[str]:
    """A name for each run: its method and what else it takes to tell it from the others.

    Example:
        >>> config = {"method": "msgd", "batch_size": 64, "seed": 0}
        >>> runs = [Run(str(b), config | {"batch_size": b}, {}, (), None) for b in (64, 1024)]
        >>> tell_apart(runs), tell_apart(runs[:1])
        (['msgd · batch 64', 'msgd · batch 1,024'], ['msgd'])
    """
    parts = [[shorten(run.method, letters)] for run in runs]
    for name in ("batch", "rate", "alpha", "seed"):
        said = [_said(run, name) for run in runs]
        if len(set(said)) > 1 and len({tuple(p) for p in parts}) < len(runs):
            for part, words in zip(parts, said, strict=True):
                part += [words] if words else []
    times: Counter[tuple[str, ...]] = Counter(tuple(part) for part in parts)
    for run, part in zip(runs, parts, strict=True):
        if times[tuple(part)] > 1:
            part.append(shorten(run.name, letters))
    return _numbered([" · ".join(part) for part in parts])


def _said(run: Run, name: str) -> str:
    if name == "batch":
        return f"batch {count(run.batch_size)}"
    if name == "seed":
        return f"seed {run.seed}"
    value = number(run.config.get({"rate": "lr"}.get(name, name)))
    return "" if value is None else f"{name} {value:.3g}"


def _numbered(labels: Sequence[str]) -> list[str]:
    """Labels that are still the same get a number: the same folder may be given twice."""
    times, seen = Counter(labels), Counter[str]()
    said = []
    for label in labels:
        seen[label] += 1
        said.append(f"{label} ({seen[label]})" if times[label] > 1 else label)
    return said
