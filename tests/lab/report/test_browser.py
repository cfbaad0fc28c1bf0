"""The page in a real browser: no error, request or overflow; readable, and by keyboard too."""

import pytest
from in_browser import CONTRAST, OVERLAPS, focused, look, press, requests

from largebatch.lab.report import figure_svg, write_report

pytestmark = pytest.mark.browser
HOSTILE = '<script>alert("x")</script>\'&'
LONG = "my.very.long.package.of.optimizers:LayerwiseNormalizedMomentumWithWarmRestarts"


@pytest.fixture(scope="module")
def pages(write, tmp_path_factory):
    base = tmp_path_factory.mktemp("compare")
    methods = {"msgd": 80.0, "sngm": 94.0, "sngm+gnc": 93.5, HOSTILE: 85.0, LONG: 10.0}
    gone = (*(("msgd", 4096, s) for s in range(5)), ("sngm+gnc", 1024, 2))
    write(base / "normal")
    write(base / "hard", methods=methods, batches=(128, 1024, 4096), diverged=gone)
    return {name: write_report(base / name) for name in ("normal", "hard")}


@pytest.mark.parametrize("name", ["normal", "hard"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_is_quiet_fits_and_can_be_read(browser, pages, name, width, dark):
    look(browser, pages[name], width, dark)
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert pages[name].as_uri() in asked
    assert [u for u in asked if not u.startswith("data:")] == [pages[name].as_uri()]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(CONTRAST) == []
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(22, 24, 27)" if dark else "rgb(253, 253, 251)")


@pytest.mark.parametrize("name", ["normal", "hard"])
@pytest.mark.parametrize("width", [360, 1280])
def test_labels_do_not_overlap(browser, pages, name, width):
    look(browser, pages[name], width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script(OVERLAPS) == []


def test_a_hostile_name_runs_nothing(browser, pages):
    look(browser, pages["hard"], 1280)
    assert browser.execute_script("return document.scripts.length") == 1
    heads = browser.execute_script(
        "return [...document.querySelectorAll('.results tbody th')].map(e => e.textContent)"
    )
    assert any(head.startswith(HOSTILE) for head in heads)


def test_tab_reaches_a_point_and_says_its_value_and_arrows_go_on(browser, pages):
    look(browser, pages["normal"], 1280)
    press(browser, "Tab")
    assert browser.switch_to.active_element.text == "Skip to the results"
    press(browser, "Tab")
    tip = "const t = document.getElementById('tip'); return t.hidden ? '' : t.textContent"
    assert focused(browser).startswith("msgd, batch 64: mean")
    assert browser.execute_script(tip) == focused(browser)
    press(browser, "ArrowRight")
    assert focused(browser).startswith("msgd, batch 1,024: mean")
    assert browser.execute_script(tip) == focused(browser)
    press(browser, "Escape")
    assert browser.execute_script(tip) == ""
    press(browser, "Tab")  # leaves the chart in one step
    assert focused(browser).startswith("Final results")


def test_hovering_shows_the_value_inside_the_window(browser, pages):
    look(browser, pages["normal"], 360)
    box = browser.execute_script(
        "const p = document.querySelector('.narrow .point');"
        "p.dispatchEvent(new Event('mouseenter'));"
        "const b = document.getElementById('tip').getBoundingClientRect();"
        "return [b.left, b.right, document.getElementById('tip').textContent]"
    )
    assert box[0] >= 0
    assert box[1] <= 360
    assert "mean" in box[2]


def test_without_script_every_point_is_a_tab_stop_with_a_title(browser, pages):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look(browser, pages["normal"], 1280)
        html = browser.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
        query = {"nodeId": html, "selector": ".wide .point[tabindex='0'] > title"}
        found = browser.execute_cdp_cmd("DOM.querySelectorAll", query)["nodeIds"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(found) >= 9


@pytest.mark.parametrize("dark", [False, True])
def test_the_standalone_picture_follows_the_readers_scheme(browser, pages, dark):
    path = pages["hard"].parent / "figure.svg"
    path.write_text(figure_svg(path.parent), encoding="utf-8")
    look(browser, path, 800, dark)
    paper = browser.execute_script("return getComputedStyle(document.querySelector('.paper')).fill")
    assert paper == ("rgb(22, 24, 27)" if dark else "rgb(253, 253, 251)")
    assert requests(browser) == [path.as_uri()]
    assert browser.get_log("browser") == []
