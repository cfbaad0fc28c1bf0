"""The picture for a page of text: paired differences, as an SVG file that stands alone."""

from pathlib import Path

from largebatch.lab.report.ablation.judge import judge
from largebatch.lab.report.ablation.page import difference_frame, difference_rows
from largebatch.lab.report.ablation.plot import parts
from largebatch.lab.report.ablation.read import read_ablation
from largebatch.lab.report.metric import count
from largebatch.lab.report.standalone import framed

WIDTH, HEAD = 800, 66


def figure_svg(folder: Path) -> str:
    """Paired differences of every contrast with their 95% intervals, light or dark.

    Raises:
        FileNotFoundError: there is no ablate.json in `folder`.

    Example:
        >>> figure_svg(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: a report needs nowhere/ablate.json, which is not there: ...
    """
    found = read_ablation(folder)
    drawn, height = parts(difference_rows(judge(found), found), difference_frame(found), WIDTH)
    question = found.question
    task = str(question.get("task_title") or question["task"])
    title = f"{task}, batch {count(question['batch_size'])}: paired differences"
    words = "mean over pairs of seeds with its 95% interval; dots are pairs"
    return framed(title, words, drawn, (WIDTH, height), HEAD)
