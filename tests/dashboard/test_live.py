"""A real browser while a study grows: news are announced, shown when asked for, and a tick stays on its plan."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studies import Store
from tests.dashboard.small_study import fill

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PATIENCE = 60_000.0  # milliseconds for a step, on a machine that has other things to do
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (apt-get install chromium)")


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "growing.db") as store:
        fill(store, "growing", ["plain@20", "DC0/P2+f2", "AI/P2"])
    return tmp_path / "growing.db"


@pytest.fixture
def address(growing: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "studies.cli", "dashboard", "--storage", str(growing), "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stderr is not None
        while "http" not in (line := process.stderr.readline()):
            assert line, "the dashboard ended before it answered"
        yield f"http://localhost:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        process.stderr.close()


def test_news_come_without_losing_a_tick(address: str, growing: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 2000})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/front?study=growing")
        expect(page.get_by_text("The front: 2 of 3 plans")).to_be_visible()
        grid = page.locator(".stDataFrameGlideDataEditor").first
        expect(grid).to_be_visible()
        page.wait_for_timeout(1000)
        grid.click(position={"x": 16, "y": 52})  # the first row's box: the fastest, trial 1
        expect(page.get_by_role("button", name="Open the plan")).to_be_enabled()

        with Store.open(growing) as store:  # a faster plan: it becomes the table's first row
            fill(store, "growing", ["plain@20", "plain@10"])
        news = page.get_by_role("button", name="Show 1 new plan")
        expect(news).to_be_visible()
        expect(page.get_by_text("The front: 2 of 3 plans")).to_be_visible()
        news.click()
        expect(page.get_by_text("The front: 3 of 4 plans")).to_be_visible()
        expect(news).to_be_hidden()
        page.get_by_role("button", name="Open the plan").click()
        expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()
        page.wait_for_url("**trial=1**")

        page.get_by_role("link", name="Studies").click()
        expect(page.get_by_role("heading", name="growing", exact=True)).to_be_visible()
        with Store.open(growing) as store:
            fill(store, "growing", ["plain@20", "EP/P2"])
        expect(page.get_by_text("5 plans finished, none running")).to_be_visible()
        expect(page.locator("[data-testid=stMetricValue]").get_by_text("5", exact=True)).to_be_visible()
        browser.close()
