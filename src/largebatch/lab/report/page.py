"""Writes report.html: one file, offline, made anew from the run folders alone."""

import base64
import hashlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

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
    html = render(read_comparison(folder))
    path = folder / "report.html"
    handle, name = tempfile.mkstemp(dir=folder, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(html)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def render(comparison: Comparison) -> str:
    """The page as text.

    Example:
        >>> page = render(Comparison({"task": "<script>", "small_batch": 64}, (), (), ()))
        >>> "<h1>&lt;script&gt;" in page
        True
    """
    question = comparison.question
    metric, found = metric_for(comparison), sections(comparison)
    script = packaged("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    return environment.from_string(packaged("template.html.j2")).render(
        style=Markup(packaged("chart.css") + packaged("style.css")),
        script=Markup(script),
        script_hash=digest,
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


def packaged(name: str) -> str:
    """Text of a file that lies beside this module.

    Example:
        >>> "prefers-color-scheme: dark" in packaged("chart.css")
        True
    """
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _section(comparison: Comparison, section: Section, metric: Metric) -> dict[str, Any]:
    return {
        "batch_size": section.batch_size,
        "headline": headline(comparison, section, metric),
        "plots": [dot_plot(section, metric, width) for width in (760, 340)],
        "results": result_cells(section, metric),
        "curves": curve_figures(section, metric),
        "tuning": tuning_figure(comparison, section, metric),
    }
