"""A real browser: open the dashboard, click a point, see its plan, download it, load it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.plan import InheritancePlan
from tests.dashboard.small_study import HOSTILE, STEPS, plan_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PATIENCE = 120.0  # seconds for a step, on a machine that has other things to do

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (apt-get install chromium)")


@pytest.fixture
def address(small_storage: Path) -> Iterator[str]:
    """The dashboard as `explorer dashboard` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "studies.cli", "dashboard", "--storage", str(small_storage), "--port", str(port)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        address = f"http://localhost:{port}"
        _wait_for(f"{address}/_stcore/health", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "the dashboard ended before it was reached"
            assert time.monotonic() < deadline, "the dashboard was not reached in time"
            time.sleep(0.3)


def test_from_a_point_to_a_plan(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE * 1000)
    shots = os.environ.get("EXPLORER_SCREENSHOTS")
    elsewhere: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        own = (address, address.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(own) else elsewhere.append(request.url))
        page.on("dialog", lambda dialog: pytest.fail("a script of the database ran"))

        def shoot(name: str) -> None:
            if shots:
                page.wait_for_timeout(1500)
                height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
                page.set_viewport_size({"width": 1280, "height": max(1000, int(height) + 20)})
                page.wait_for_timeout(1000)
                page.screenshot(path=Path(shots) / f"{name}.png")
                page.set_viewport_size({"width": 1280, "height": 1000})

        page.goto(address)
        expect(page.get_by_role("heading", name="Studies", exact=True)).to_be_visible()
        expect(page.get_by_text("1.50x")).to_be_visible()
        shoot("studies")
        page.get_by_role("button", name="Open the front").click()
        expect(page.get_by_role("heading", name="Front", exact=True)).to_be_visible()
        expect(page.locator(".js-plotly-plot .legend")).to_be_visible()
        shoot("front")
        points = page.locator(".js-plotly-plot .subplot.xy .trace.scatter").first.locator(".points path.point")
        expect(points).to_have_count(2)
        box = points.first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(300)  # Plotly finds the point under the pointer before it takes a click for one on it
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

        expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()
        expect(page.locator(".js-plotly-plot .heatmaplayer .hm")).to_be_visible()
        assert "trial=5" in page.url
        expect(page.locator("[data-testid=stImage] img").first).to_be_visible()
        page.get_by_text("Show all 12 pairs").click()
        prompt = page.get_by_text("onerror=alert")
        expect(prompt).to_be_visible()
        assert HOSTILE in (prompt.text_content() or "").replace("\u2060", "")
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("[data-testid=stMain] a:not([href^='#'])").count() == 0
        shoot("plan")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the plan").click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
        browser.close()
    assert InheritancePlan.load(tmp_path / "small-trial-5.json") == plan_of("DC0/P2+f2", "search")
    assert InheritancePlan.load(tmp_path / "small-trial-5.json").steps == STEPS
    assert elsewhere == []
