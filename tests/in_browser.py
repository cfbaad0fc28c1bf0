"""What tests of pages in headless Chromium share."""

import json
from pathlib import Path

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


def press(browser, *keys: str):
    for key in keys:
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key}
            code = {"Tab": 9, "ArrowRight": 39, "Escape": 27}[key]
            event["windowsVirtualKeyCode"] = code
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", event)


def focused(browser) -> str:
    return browser.execute_script("return document.activeElement.getAttribute('aria-label') || ''")
