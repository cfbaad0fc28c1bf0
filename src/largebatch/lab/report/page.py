"""Writes report.html: one file, offline, made anew from the run folders alone."""

from pathlib import Path
from typing import Any

from largebatch.lab.report import facts
from largebatch.lab.report.batches import batch_figure
from largebatch.lab.report.curve_figures import curve_figures
from largebatch.lab.report.dots import dot_plot
from largebatch.lab.report.finding import headline
from largebatch.lab.report.metric import Metric
from largebatch.lab.report.read import Comparison, number, read_comparison
from largebatch.lab.report.results import result_cells
from largebatch.lab.report.row import Section
from largebatch.lab.report.rows import metric_for, sections
from largebatch.lab.report.shell import filled, put
from largebatch.lab.report.tuning import tuning_figure


def write_report(folder: Path) -> Path:
    """Write `folder`/report.html from the run folders in `folder`, replacing an older one at once.

    Args:
        folder: What ``largebatch compare --out`` wrote, finished or not.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: there is no compare.json in it.
        ValueError: a file in it is not what its name says.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> question = json.dumps({"task": "digits", "small_batch": 64})
        >>> _ = (folder / "compare.json").write_text(question)
        >>> write_report(folder).name
        'report.html'
    """
    return put(folder / "report.html", render(read_comparison(folder)))


def render(comparison: Comparison) -> str:
    """The page as text.

    Example:
        >>> page = render(Comparison({"task": "<script>", "small_batch": 64}, (), (), ()))
        >>> "<h1>&lt;script&gt;" in page
        True
    """
    question = comparison.question
    metric, found = metric_for(comparison), sections(comparison)
    return filled(
        "template.html.j2",
        title=str(question.get("task_title") or question["task"]),
        small_batch=comparison.small_batch,
        test_examples=int(number(question.get("test_examples")) or 0),
        command=question.get("command"),
        metric=metric,
        asked=facts.asked(comparison),
        effort=facts.effort(comparison),
        unfinished=facts.unfinished(comparison, found),
        sections=[_section(comparison, section, metric) for section in reversed(found)],
        batch_figure=batch_figure(found, metric),
        diverged=facts.diverged_table(comparison),
        environment=facts.environment_table(comparison),
        verdicts=sum(1 for section in found for row in section.methods if row.verdict),
    )


def _section(comparison: Comparison, section: Section, metric: Metric) -> dict[str, Any]:
    return {
        "batch_size": section.batch_size,
        "headline": headline(comparison, section, metric),
        "plots": [dot_plot(section, metric, width) for width in (760, 340)],
        "results": result_cells(section, metric),
        "curves": curve_figures(section, metric),
        "tuning": tuning_figure(comparison, section, metric),
    }
