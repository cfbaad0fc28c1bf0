"""The same answer for a terminal and for a program."""

import json
from pathlib import Path
from typing import Any

from largebatch.lab.report.ablation import tables
from largebatch.lab.report.ablation.alignment import GRADIENTS, mean_share, sharpness
from largebatch.lab.report.ablation.judge import Judged, judge
from largebatch.lab.report.ablation.read import Ablated, Arm, read_ablation
from largebatch.lab.report.ablation.words import headline, verdict
from largebatch.lab.report.parts import Table
from largebatch.lab.report.stats import Estimate


def summary(folder: Path) -> str:
    """The finding, the contrasts and the arms as lines of text.

    Raises:
        FileNotFoundError: there is no ablate.json in `folder`.
        ValueError: a file in it is not what its name says.

    Example:
        >>> summary(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: a report needs nowhere/ablate.json, which is not there: ...
    """
    found = read_ablation(folder)
    judged = judge(found)
    said = " ".join(headline(judged[0], found)) if judged else ""
    parts = (said, tables.power_words(found), _text(tables.contrasts(judged, found)),
             _text(tables.arms(found)))  # fmt: skip
    return "\n\n".join(parts)


def verdict_json(folder: Path) -> str:
    """The verdict as JSON: of every contrast and arm what the page says.

    Raises:
        FileNotFoundError: there is no ablate.json in `folder`.

    Example:
        >>> verdict_json(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FileNotFoundError: a report needs nowhere/ablate.json, which is not there: ...
    """
    found = read_ablation(folder)
    judged = judge(found)
    q = found.question
    first = judged[0]
    return json.dumps(
        {
            "ablation": q["ablation"], "task": q["task"], "batch_size": q.get("batch_size"),
            "verdict": first.kind or None, "said": " ".join(headline(first, found)),
            "margin": found.margin, "pairs": found.pairs,
            "contrasts": [_contrast(c, found) for c in judged],
            "arms": [_arm(arm) for arm in found.arms],
        },
        indent=1,
        ensure_ascii=False,
    )  # fmt: skip


def _contrast(judged: Judged, found: Ablated) -> dict[str, Any]:
    return {
        "a": judged.a, "b": judged.b, "subject": judged.subject, **_estimate(judged.estimate),
        "p": judged.p, "holm_p": judged.holm, "pairs_lost": judged.lost,
        "verdict": judged.kind or None, "said": verdict(judged, found.metric, found.margin),
        "pairs_to_decide": judged.to_decide,
    }  # fmt: skip


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "arm": arm.name, "method": arm.choice.get("method"), "lr": arm.choice.get("lr"),
        "alpha": arm.choice.get("alpha"), **_estimate(arm.estimate), "diverged": arm.diverged,
        "offsets_in_top_eigenvectors": _estimate(mean_share(arm)),
        "gradients_in_top_eigenvectors": _estimate(mean_share(arm, GRADIENTS)),
        "largest_eigenvalue": _estimate(sharpness(arm)),
    }  # fmt: skip


def _estimate(e: Estimate | None) -> dict[str, Any]:
    if e is None:
        return {"mean": None, "sd": None, "low": None, "high": None, "n": 0}
    return {"mean": e.mean, "sd": e.sd, "low": e.low, "high": e.high, "n": e.n}


def _text(table: Table) -> str:
    rows = [list(table.head), *(list(row) for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
