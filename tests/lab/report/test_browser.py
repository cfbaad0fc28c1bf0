"""The page in a real browser: no error, request or overflow; readable, and by keyboard too."""

import json
import shutil
from pathlib import Path

import pytest

from largebatch.lab.report import figure_svg, write_report

pytestmark = pytest.mark.browser
HOSTILE = '<script>alert("x")</script>\'&'
LONG = "my.very.long.package.of.optimizers:LayerwiseNormalizedMomentumWithWarmRestarts"
FLAGS = [
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
]
CONTRAST = """
const parse = c => c.match(/[\\d.]+/g).map(Number);
const light = c => { const [r, g, b] = c.map(v => { v /= 255;
  return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; };
const behind = e => { for (; e; e = e.parentElement) {
  const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } };
const found = [];
for (const e of document.querySelectorAll("p, td, th, h1, h2, li, small, figcaption, svg text")) {
  if (!e.getClientRects().length || !e.textContent.trim()) continue;
  const style = getComputedStyle(e), svg = e.namespaceURI.includes("svg");
  const a = light(parse(svg ? style.fill : style.color).slice(0, 3));
  const b = light(behind(e).slice(0, 3));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) found.push([e.textContent.slice(0, 40), ratio]);
}
return found;
"""
OVERLAPS = """
const found = [];
for (const chart of document.querySelectorAll("main svg.chart")) {
  const words = [...chart.querySelectorAll("text")].filter(e => e.getClientRects().length);
  const boxes = words.map(e => [e.textContent, e.getBoundingClientRect()]);
  const frame = chart.getBoundingClientRect();
  boxes.forEach(([a, p], i) => {
    if (p.right > frame.right + 2 || p.left < frame.left - 2) found.push([a, "leaves the chart"]);
    boxes.slice(i + 1).forEach(([b, q]) => {
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 1 && high > 4) found.push([a, b]);
    });
  });
}
return found;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not both on PATH")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(write, tmp_path_factory):
    base = tmp_path_factory.mktemp("compare")
    methods = {"msgd": 80.0, "sngm": 94.0, "sngm+gnc": 93.5, HOSTILE: 85.0, LONG: 10.0}
    gone = (*(("msgd", 4096, s) for s in range(5)), ("sngm+gnc", 1024, 2))
    write(base / "normal")
    write(base / "hard", methods=methods, batches=(128, 1024, 4096), diverged=gone)
    return {name: write_report(base / name) for name in ("normal", "hard")}


def look(browser, page: Path, width: int, dark: bool = False):
    """Opens a page; what the browser had logged before is forgotten."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())


def requests(browser) -> list[str]:
    """Addresses asked for since the page was opened."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [p["request"]["url"] for p in sent]


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


def press(browser, *keys: str):
    for key in keys:
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key}
            code = {"Tab": 9, "ArrowRight": 39, "Escape": 27}[key]
            event["windowsVirtualKeyCode"] = code
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", event)


def focused(browser) -> str:
    return browser.execute_script("return document.activeElement.getAttribute('aria-label') || ''")


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
