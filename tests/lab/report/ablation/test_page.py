import json
import re
from xml.etree import ElementTree

import pytest

from largebatch.lab.report.ablation import figure_svg, summary, verdict_json, write_report
from largebatch.lab.report.ablation.alignment import by_seed, looks, mean_share
from largebatch.lab.report.ablation.read import read_ablation

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def page(ablation):
    return write_report(ablation).read_text()


def text(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_page_says_the_verdict_the_power_and_how_to_run_it_again(page):
    words = text(page)
    assert "the direction of GNC&#39;s noise matters, for the better" in words
    assert "over 12 pairs of seeds, both at rate 0.56 and alpha 0.43." in words
    assert "With 12 pairs and the assumed spread, a true difference of 0.6 points" in words
    assert "largebatch ablate gnc" in words
    assert "Smallest difference worth knowing 0.6 points (given)" in words
    assert "Gain over none in the pilot −1.2 points" in words
    assert "at the grid’s edge" in words


def test_every_contrast_and_arm_is_in_pictures_and_tables(page):
    found = re.findall(r'aria-label="([^"]+)"', page)
    for pair in ("gnc minus matched,", "rnc minus none,", "gnc minus matched-own,"):
        assert sum(label.startswith(pair) for label in found) == 2  # wide and narrow
    for title in ("GNC: 9", "no noise, at its own rate: 9"):
        assert any(label.startswith(title) for label in found)
    assert "GNC: 70%" in found
    assert "matched noise, permuted: 0.1%" in found
    assert "no noise, at its own rate: no offsets" in found


def test_pictures_are_well_formed(page, ablation):
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(chart)
    assert ElementTree.fromstring(figure_svg(ablation)).tag.endswith("svg")


def test_the_margin_is_drawn_where_it_is(ablation):
    figure = figure_svg(ablation)
    x, width = map(float, re.search(r'x="([\d.]+)"[^>]*width="([\d.]+)"[^>]*class="margin"',
                                    figure).groups())  # fmt: skip
    zero = float(re.search(r'<line x1="([\d.]+)"[^>]*class="zero"', figure)[1])
    assert x + width / 2 == pytest.approx(zero, abs=0.02)


def test_alignment_is_the_mean_over_looks_and_seeds(ablation):
    found = read_ablation(ablation)
    gnc = found.arm("gnc")
    assert [len(looks(run)) for run in gnc.runs] == [2, 2, 2, *[0] * 9]
    assert by_seed(gnc) == {0: 0.7, 1: 0.7, 2: 0.7}
    assert mean_share(gnc, "gradients").mean == pytest.approx(0.4)
    assert mean_share(found.arm("none")) is None


def test_without_looks_the_page_says_so(make):
    assert "No run has looked at its alignment." in write_report(make(looks=False)).read_text()


def test_what_is_not_finished_is_said(make):
    folder = make()
    for gone in ("gnc-1", "rnc-2"):
        (folder / "final" / gone / "result.json").unlink()
    assert "Not finished: 2 of 84 final runs have no result yet" in write_report(folder).read_text()


def test_before_the_pilot_there_is_a_page(make):
    folder = make(pairs=0)
    (folder / "power.json").unlink()
    (folder / "choices.json").unlink()
    words = text(write_report(folder).read_text())
    assert "The number of pairs is not known yet" in words
    assert "nothing can be said yet" in words


def test_a_hostile_name_is_text(make):
    html = write_report(make(task=HOSTILE, task_title=HOSTILE, command=HOSTILE)).read_text()
    assert html.count("<script>") == 1
    assert "&lt;script&gt;alert" in html


def test_terminal_and_json_say_what_the_page_says(ablation):
    printed, verdict = summary(ablation), json.loads(verdict_json(ablation))
    assert verdict["said"] in printed
    assert verdict["verdict"] == "matters"
    first = verdict["contrasts"][0]
    assert (first["a"], first["b"], first["n"]) == ("gnc", "matched", 12)
    assert first["low"] < first["mean"] < first["high"]
    arms = {arm["arm"]: arm for arm in verdict["arms"]}
    assert arms["gnc"]["offsets_in_top_eigenvectors"]["mean"] == pytest.approx(0.7)
    assert arms["none"]["offsets_in_top_eigenvectors"]["mean"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "must hold a JSON object"), ('{"task": "digits"}', "must say ablation, arms")],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, content, message):
    (tmp_path / "ablate.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)


@pytest.mark.parametrize(("spread", "said"), [(3.0, True), (0.1, False)])
def test_a_spread_that_the_pilot_missed_is_said(make, spread, said):
    folder = make(spread=spread)
    assert ("where 0.95 was assumed: the chances are smaller" in summary(folder)) == said
    assert "Standard deviation of the differences in the final runs" in (
        write_report(folder).read_text()
    )
