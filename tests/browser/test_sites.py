"""Every page of the sites in headless Chromium: no console error, no outside request, nothing wider than the screen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright

from tests.browser import sites_data

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
PAGES = ("/", "/open/", "/open/venue_directory/", "/open/daily_visits/", "/open/daily_visits/latest/", "/exchange/",
         "/catalogue/", "/catalogue/ads_cockpit__sport_day/", "/catalogue/venue.booking/", "/catalogue/training.activity/")  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Address of a served, filled installation."""
    home = tmp_path_factory.mktemp("home") / "var"
    values = {"TIYU_HOME": str(home), "TIYU_TODAY": "2026-11-20", "TIYU_AS_OF": "2026-11-20T12:00:00+08:00"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        sites_data.fill()
        from sharing.exchange.run import run_exchange
        from sharing.open_data.build import build_open_data
        from sharing.sites import catalogue
        from sharing.sites.start_page import build_start_page

        run_exchange()
        build_open_data()
        build_start_page({"cockpit": "http://127.0.0.1:1", "airflow": "http://127.0.0.1:1", "accounts": []})
        catalogue.build()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "sharing.sites.serve", "--port", str(port)], cwd=ROOT, env={**os.environ, **values}
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                try:
                    if httpx.get(address + "/health", trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium of the system."""
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_pages(base, browser, width, tmp_path):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    problems, requests = [], []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    for path in PAGES:
        response = page.goto(base + path)
        assert response is not None
        assert response.status == 200
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than {width} px"
        assert page.locator("h1").count() == 1
        assert "演示数据，非真实统计" in page.inner_text("body")
        assert page.evaluate("getComputedStyle(document.querySelector('.top')).backgroundColor") == "rgb(8, 63, 74)", (
            "style not applied"
        )
        low = page.evaluate(_CONTRAST)
        assert low["examined"] > 20
        assert low["failing"] == [], f"{path}: {low['failing'][:5]}"
        page.screenshot(path=tmp_path / f"{path.strip('/').replace('/', '_') or 'start'}_{width}.png", full_page=True)
    context.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(base)] == []
    assert len(requests) >= 2 * len(PAGES)


#: WCAG contrast of every visible text against its nearest opaque background, 4.5 for text.
_CONTRAST = """() => {
  const lum = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
                     return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const rgba = s => s.match(/[\\d.]+/g).map(Number);
  let examined = 0; const failing = [];
  for (const el of document.querySelectorAll('body *')) {
    if (el.closest('svg') || ![...el.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const box = el.getBoundingClientRect(); if (!box.width || box.right < 0) continue;
    let back = el, colour = [255, 255, 255];
    while (back) { const c = rgba(getComputedStyle(back).backgroundColor); if (c.length < 4 || c[3] === 1) { colour = c; break; } back = back.parentElement; }
    const a = lum(rgba(getComputedStyle(el).color).slice(0, 3)), b = lum(colour.slice(0, 3));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); examined++;
    if (ratio < 4.5) failing.push(el.tagName + ' ' + el.className + ' ' + ratio.toFixed(2));
  }
  return { examined, failing };
}"""


def test_the_check_of_contrast_can_fail(browser):
    page = browser.new_page()
    page.set_content("<body>" + "<p style='color:#999;background:#aaa'>x</p>" * 3)
    assert page.evaluate(_CONTRAST) == {"examined": 3, "failing": ["P  1.23", "P  1.23", "P  1.23"]}
    page.close()


@pytest.mark.parametrize(
    ("question", "first", "marked"),
    [
        ("上周徐汇有多少人游泳", "ads_cockpit__sport_day", None),
        ("徐汇 游泳 人次", "ads_cockpit__sport_day", "visit_count"),
        ("心率", None, "heart_rate_bpm"),
        ("爽约", None, "is_no_show"),
        ("person_token", None, "person_token"),
    ],
)
def test_the_catalogue_answers_a_question(base, browser, question, first, marked):
    """The table for the question is on top, the columns that match are shown, filters and an empty answer work."""
    page = browser.new_page()
    page.goto(base + "/catalogue/")
    page.fill("#q", question)
    shown, every = page.locator("[data-entry]:visible"), page.locator("[data-entry]")
    assert 0 < shown.count() < every.count()
    if first:
        assert shown.first.get_attribute("data-entry") == first
    if marked:
        assert page.locator("[data-column]:visible", has_text=marked).count() > 0
    page.fill("#q", "zzz 没有这样的东西")
    assert page.locator("#none").is_visible() == (shown.count() == 0)
    page.fill("#q", "")
    assert shown.count() == every.count()
    page.select_option("select[data-filter=grade]", "L4")
    assert {node.get_attribute("data-grade") for node in shown.all()} == {"L4"}
    page.close()
