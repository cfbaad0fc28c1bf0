"""The results as a plain table for the terminal, in ASCII: the same numbers as the page."""

from pathlib import Path

from largebatch.lab.report.finding import headline
from largebatch.lab.report.metric import Metric
from largebatch.lab.report.read import read_comparison
from largebatch.lab.report.results import Cells, result_cells
from largebatch.lab.report.row import Section
from largebatch.lab.report.rows import metric_for, sections

PLAIN = str.maketrans({"±": "+-", "\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "…": "..."})


def summary_table(folder: Path) -> str:
    """Headline and results of a compare folder as text.

    Raises:
        FileNotFoundError: there is no compare.json in it.
        ValueError: a file in it is not what its name says.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> question = {"task": "digits", "small_batch": 64, "batch_sizes": [1024]}
        >>> question["methods"] = ["msgd"]
        >>> _ = (folder / "compare.json").write_text(json.dumps(question))
        >>> print(summary_table(folder).splitlines()[0])
        On digits, nothing can be said yet at batch 1,024: momentum SGD was not run there.
    """
    comparison = read_comparison(folder)
    metric = metric_for(comparison)
    blocks = []
    for section in reversed(sections(comparison)):
        blocks += [*headline(comparison, section, metric), "", *_table(section, metric), ""]
    return "\n".join(map(plain, blocks)).rstrip() + "\n"


def plain(words: str) -> str:
    """Text that any terminal takes: ASCII, and no control characters from a hostile name.

    Example:
        >>> plain("−1.0 ± 0.2" + chr(27) + "[31m")
        '-1.0 +- 0.2?[31m'
    """
    ascii_only = words.translate(PLAIN).encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in ascii_only)


def _table(section: Section, metric: Metric) -> list[str]:
    head = (
        "method",
        "batch",
        "rate",
        f"test {metric.label}",
        "seeds",
        "difference [95%]",
        "recovered",
    )
    lines = [(*head, "verdict"), *(_line(cells) for cells in result_cells(section, metric))]
    lines = [tuple(map(plain, line)) for line in lines]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head) + 1)]
    written = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    rule = "  ".join("-" * w for w in widths)
    return [line.rstrip() for line in (written[0], rule, *written[1:])]


def _line(cells: Cells) -> tuple[str, ...]:
    rate = cells.rate + (" (edge)" if cells.at_edge else "")
    method = cells.method + (" *" if cells.best else "")
    share = cells.share.split(" [")[0]
    said = cells.verdict or next((n for n in cells.notes if n.startswith("no verdict")), "")
    return method, cells.batch, rate, cells.value, cells.seeds, cells.difference, share, said
