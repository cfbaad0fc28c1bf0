import re
from xml.etree import ElementTree

import pytest

from largebatch.lab.report import figure_svg, shell, summary_table, write_report

HOSTILE = '<script>alert("x")</script>\'&é\x1b[31m'
LONG = "my.very.long.package.of.optimizers:LayerwiseNormalizedMomentumWithWarmRestarts"
CASES = {
    "normal": {"published": [{"method": "sngm", "batch_size": 1024, "value": 93.1, "source": "S"}]},
    "two seeds": {"seeds": 2},
    "one seed": {"seeds": 1},
    "diverged": {"diverged": (*(("msgd", 1024, s) for s in range(5)), ("gnc", 1024, 1))},
    "all diverged": {
        "methods": {"msgd": 1.0},
        "diverged": tuple(("msgd", b, s) for b in (64, 1024) for s in range(5)),
    },
    "unfinished": {"unfinished": (("gnc", 1024, 4),)},
    "batches": {"batches": (128, 1024, 4096), "seeds": 2},
    "hostile": {"methods": {"msgd": 80.0, HOSTILE: 85.0, LONG: 10.0}, "task_title": HOSTILE},
    "r2": {"methods": {"msgd": 0.6, "sngm": 0.8}, "reference": 0.9, "spread": 0.01, "metric": "r2"},
    "no curves": {"metrics": False, "tuning": False},
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def folder(request, make):
    return make(**request.param)


def test_every_case_gives_page_picture_and_table(folder):
    html = write_report(folder).read_text()
    assert html.count("<h1>") == 1
    for chart in re.findall(r"<svg .*?</svg>(?!</svg>)", html, flags=re.S):
        assert "nan" not in chart.lower().replace("nano", "")
    root = ElementTree.fromstring(figure_svg(folder))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert summary_table(folder).isascii()


def test_nothing_is_fetched_from_anywhere(folder):
    html = write_report(folder).read_text()
    assert not re.findall(r'(?:src|href|action)\s*=\s*"(?!#|data:)', html)
    assert not re.findall(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_hostile_names_are_text(make):
    folder = make(**CASES["hostile"])
    html = write_report(folder).read_text()
    assert html.count("<script") == 1  # our own
    assert "&lt;script&gt;alert(" in html
    assert "<script" not in figure_svg(folder)
    assert "\x1b" not in summary_table(folder)


def test_numbers_agree_between_page_table_and_picture(make):
    folder = make()
    row = next(x for x in summary_table(folder).splitlines() if x.startswith("sngm *"))
    value, difference = re.search(r"([\d.]+%) \+- [\d.]+ .*?(\+[\d.]+) \[", row).groups()
    html = write_report(folder).read_text()
    assert re.search(rf"<td class=\"n\">{re.escape(value)} ±", html)
    assert re.search(rf"<td class=\"n\">{re.escape(difference)} \[", html)
    assert f"{value} ±" in figure_svg(folder)


def test_diverged_seeds_are_named_in_every_form(make):
    gone = tuple(("gnc", 1024, s) for s in range(4))
    folder = make(diverged=gone)
    html = write_report(folder).read_text()
    assert "<td>4 of 5 diverged</td>" in html
    assert html.count("<td>final</td>") == 4
    assert "4 of 5 diverged" in summary_table(folder)
    assert "4 of 5 diverged" in figure_svg(folder)


def test_what_must_be_said_is_said(make):
    published = [{"method": "sngm", "batch_size": 1024, "value": 93.1, "source": "Table 2"}]
    html = write_report(make(published=published)).read_text()
    for words in (
        "93.1%",
        "Table 2",
        "best on validation",
        "at the grid’s edge",
        "alpha 0.1",
        "0.0123",
        "There are 7 verdicts on this page",
        "Bonferroni",
        "largebatch compare --task digits --out results",
        "scikit-learn",
        "Fieller",
        "another test set of 500 examples",
        "The scale does not start at zero",
    ):
        assert words in html


def test_unequal_tuning_effort_is_not_called_equal(make):
    folder = make(seeds=1)
    assert "the same number of trials, 9, its own" in write_report(folder).read_text()
    path = folder / "choices.json"
    path.write_text(path.read_text().replace('"trials": 9', '"trials": 15', 1))
    html = write_report(folder).read_text()
    assert "Methods got 9 to 15 trials" in html
    assert "the same number of trials" not in html
    path.unlink()
    assert "Nothing is recorded of any tuning" in write_report(folder).read_text()


def test_no_verdict_is_said_and_no_multiple_comparisons_claimed(make):
    html = write_report(make(seeds=2)).read_text()
    assert html.count("no verdict: 2 of the 5 pairs of seeds it takes") == 8
    assert "verdicts on this page" not in html


def test_an_unfinished_comparison_says_how_much_is_missing(make):
    html = write_report(make(unfinished=(("gnc", 1024, 4), ("rnc", 1024, 0)))).read_text()
    assert "Not finished: 2 of 45 final runs have no result yet" in html
    assert "Not finished" not in write_report(make("whole")).read_text()


def test_a_failed_write_leaves_the_old_report(make, monkeypatch):
    folder = make(seeds=1)
    old = write_report(folder).read_text()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(shell.os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_report(folder)
    assert (folder / "report.html").read_text() == old
    assert not list(folder.glob(".report-*"))


def test_the_report_is_made_anew(make):
    folder = make(seeds=1)
    first = write_report(folder).read_text()
    (folder / "final" / "0003" / "result.json").unlink()
    assert write_report(folder).read_text() != first


def test_the_picture_wants_a_large_batch(make):
    folder = make(methods={"msgd": 80.0}, batches=(), seeds=1)
    with pytest.raises(ValueError, match="other than the reference's 64"):
        figure_svg(folder)
    assert "no batch size besides the reference’s" in write_report(folder).read_text()
