"""The picture for a README: final values by method, as an SVG file that stands alone."""

from pathlib import Path

from markupsafe import Markup

from largebatch.lab.report import svg
from largebatch.lab.report.dots import dot_plot_parts
from largebatch.lab.report.metric import count
from largebatch.lab.report.read import read_comparison
from largebatch.lab.report.rows import metric_for, sections
from largebatch.lab.report.shell import packaged

WIDTH, HEAD = 800, 62


def figure_svg(folder: Path) -> str:
    """Final test values at the largest batch size, beside the small-batch reference, as an SVG.

    Per seed a dot, over seeds the mean and its 95% interval; light or dark as the reader prefers.

    Raises:
        FileNotFoundError: there is no compare.json in `folder`.
        ValueError: a file in it is not what its name says, or no large batch size was asked about.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> question = {"task": "digits", "small_batch": 64, "batch_sizes": [1024]}
        >>> question["methods"] = ["msgd"]
        >>> _ = (folder / "compare.json").write_text(json.dumps(question))
        >>> figure_svg(folder)[:4]
        '<svg'
    """
    comparison = read_comparison(folder)
    metric, found = metric_for(comparison), sections(comparison)
    if not found:
        raise ValueError(
            f"the picture needs a batch size other than the reference's {comparison.small_batch}, "
            f"{folder / 'compare.json'} names none: compare with a larger one"
        )
    section = found[-1]
    parts, height = dot_plot_parts(section, metric, WIDTH)
    task = str(comparison.question.get("task_title") or comparison.question["task"])
    title = f"{task}: final test {metric.label} at batch {count(section.batch_size)}"
    words = "mean over seeds with its 95% interval; dots are seeds"
    return framed(title, words, parts, (WIDTH, height), HEAD)


def framed(title: str, words: str, drawn: Markup, size: tuple[float, float], head: float) -> str:
    """An SVG file with a title and a line of words above what is drawn, light or dark.

    Args:
        title: also what a screen reader says.
        words: the line below it.
        drawn: from its own (0, 0).
        size: their width and height.
        head: the height of what is above.

    Example:
        >>> 'viewBox="0 0 100 80"' in framed("A", "b", Markup(), (100, 60), 20)
        True
    """
    width, height = size[0], size[1] + head
    return str(
        svg.element(
            "svg",
            svg.element("title", title),
            svg.element("style", Markup(packaged("chart.css"))),
            svg.element("rect", width=width, height=height, class_="paper"),
            svg.text(title, 8, 28, "title"),
            svg.text(words, 8, 48, "note"),
            svg.group(drawn, transform=f"translate(0 {head})"),
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width} {height:g}",
            width=width,
            height=height,
            role="img",
            aria_label=title,
            class_="chart standalone",
        )
    )
