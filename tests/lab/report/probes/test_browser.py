"""The probes' page in a real browser: quiet, offline, readable, by keyboard and on a phone."""

import pytest
from in_browser import CONTRAST, OVERLAPS, focused, look, press, requests

from largebatch.lab.report.probes import write_probe_report

pytestmark = pytest.mark.browser
HOSTILE = '<script>alert("x")</script>\'&'


@pytest.fixture(scope="module")
def pages(write, tmp_path_factory):
    base = tmp_path_factory.mktemp("probes")
    lone = [write(base / "lone", every=30)]
    names = ("msgd", "gnc", HOSTILE, "my.very.long.package.of:LayerwiseNormalizedMomentum")
    layers = [f"{HOSTILE}{k}.weight" for k in range(12)]
    hard = [
        write(base / f"{k}", method=name, batch_size=64 * 4**k, layers=layers, every=6)
        for k, name in enumerate(names)
    ]
    out = {"lone": lone, "hard": hard}
    return {name: write_probe_report(base / f"to-{name}", runs, "x") for name, runs in out.items()}


@pytest.mark.parametrize("name", ["lone", "hard"])
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False), (1280, True)])
def test_a_page_is_quiet_fits_and_can_be_read(browser, pages, name, width, dark):
    look(browser, pages[name], width, dark)
    assert browser.get_log("browser") == []
    assert [u for u in requests(browser) if not u.startswith("data:")] == [pages[name].as_uri()]
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(CONTRAST) == []
    assert browser.execute_script(OVERLAPS) == []
    assert browser.execute_script("return document.scripts.length") == 1


def test_values_are_said_by_keyboard_and_on_hover(browser, pages):
    look(browser, pages["hard"], 360)
    tip = "const t = document.getElementById('tip'); return t.hidden ? '' : t.textContent"
    browser.execute_script(
        "document.querySelector('#cosine').parentElement.querySelector('.point').focus()"
    )
    first = focused(browser)
    assert browser.execute_script(tip) == first
    press(browser, "ArrowRight")
    assert focused(browser) != first
    assert browser.execute_script(tip) == focused(browser)
    box = browser.execute_script(
        "const p = document.querySelector('.point');"
        "p.dispatchEvent(new Event('mouseenter'));"
        "const b = document.getElementById('tip').getBoundingClientRect();"
        "return [b.left, b.right]"
    )
    assert box[0] >= 0
    assert box[1] <= 360
