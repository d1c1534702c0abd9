"""A real browser: what a person does from a search to a picture, and what a hostile database cannot do."""

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
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studies import Store, trials
from studies.results.rows import sample_pictures
from tests.dashboard.small_study import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PATIENCE = 120.0  # seconds for a step, on a machine that has other things to do
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (apt-get install chromium)")


def explorer(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "studies.cli", *arguments]


@contextmanager
def dashboard(storage: Path) -> Iterator[str]:
    """The dashboard as `explorer dashboard` starts it; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        explorer("dashboard", "--storage", str(storage), "--port", str(port)), cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
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


@contextmanager
def browser_page(address: str) -> Iterator[Any]:
    """A page that fails the test when a script of the database runs, or anything is fetched from elsewhere."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE * 1000)
    elsewhere: list[str] = []
    dialogs: list[str] = []
    own = (address, address.replace("http", "ws"), "data:", "blob:")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(PATIENCE * 1000)
        page.on("request", lambda request: None if request.url.startswith(own) else elsewhere.append(request.url))
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        try:
            yield page
        finally:
            browser.close()
    assert elsewhere == [] and dialogs == []


def test_from_a_search_to_a_picture(tmp_path: Path) -> None:
    from playwright.sync_api import expect

    from explorer import InheritancePlan, inherit, load_pipeline

    storage = tmp_path / "explorer.db"
    options = ["--study", "small", "--steps", "4", "--prompt-count", "8", "--trials", "3", "--pairs", "3"]
    options += ["--space", "named", "--baselines", "none", "--storage", str(storage)]
    # Its latencies mean nothing here, so that it need not wait for others that measure on this machine: TMPDIR holds
    # the lock.
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run(explorer("search", *options), cwd=ROOT, env=environment, check=True, capture_output=True)
    with dashboard(storage) as address, browser_page(address) as page:
        page.goto(address)
        page.get_by_role("button", name="Open the front").click()
        expect(page.get_by_role("heading", name="Front", exact=True)).to_be_visible()
        point = page.locator(".js-plotly-plot .trace.scatter .points path.point").first
        expect(point).to_be_visible()
        box = point.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(300)  # Plotly finds the point under the pointer before it takes a click for one on it
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

        expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()
        expect(page.locator("[data-testid=stImage] img").first).to_be_visible()
        expect(page.locator(".js-plotly-plot .heatmaplayer .hm")).to_have_count(2)  # the UNet and the steps
        number = int(page.url.split("trial=")[1].split("&")[0])
        with page.expect_download() as download:
            page.get_by_role("button", name="Export the plan").click()
        download.value.save_as(tmp_path / "export.zip")

        for name in ("Compare", "Anatomy"):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
            expect(page.locator(".js-plotly-plot .heatmaplayer .hm").first).to_be_visible()

    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        archive.extractall(tmp_path)
    pipe = load_pipeline("emoji")
    plan = InheritancePlan.from_pretrained(tmp_path / f"small-trial-{number}")
    with Store.open(storage, read_only=True) as store:
        study = store.study("small")
        row = next(row for row in trials(store, study) if row.number == number)
        kept = sample_pictures(store, study, row.key)[0]
        guidance = study.settings.guidance
    with inherit(pipe, plan):
        drawn = pipe(
            kept.prompt, num_inference_steps=plan.steps, guidance_scale=guidance, generator=_generator(kept.seed)
        ).images[0]  # fmt: skip
    difference = np.abs(np.asarray(drawn, dtype=int) - np.asarray(Image.open(kept.path).convert("RGB"), dtype=int))
    assert difference.mean() < 1  # the picture that the search scored, but for the rounding of another batch


PAGES = ("", "front", "plan", "compare", "anatomy", "students", "calibration", "progress")


def test_every_page_fits_a_phone_and_the_tiles_of_progress_one_row(small_storage: Path) -> None:
    from playwright.sync_api import expect

    with dashboard(small_storage) as address, browser_page(address) as page:
        page.set_viewport_size({"width": 390, "height": 900})
        for name in PAGES:
            page.goto(f"{address}/{name}")
            expect(page.locator("[data-testid=stMain] [data-testid=stHeading]").first).to_be_visible()
            page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", state="attached")
            assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390, name
            assert page.locator("[data-testid=stException]").count() == 0, name
            for chart in page.locator(".js-plotly-plot").all():  # each is told in words to who cannot see it
                assert chart.evaluate("each => each.closest('[aria-label]') !== null"), name
        page.set_viewport_size({"width": 1280, "height": 900})
        tiles = page.locator("[data-testid=stMetric]")
        expect(tiles).to_have_count(7)
        page.wait_for_function(
            "new Set([...document.querySelectorAll('[data-testid=stMetric]')]"
            ".map(each => each.getBoundingClientRect().top)).size == 1"
        )
        for label in tiles.locator("[data-testid=stMetricLabel] p").all():
            assert label.evaluate("each => each.scrollWidth <= each.clientWidth"), label.inner_text()


def _generator(seed: int | None) -> Any:
    import torch

    assert seed is not None
    return torch.Generator("cpu").manual_seed(seed)


def test_text_of_a_database_is_text(small_storage: Path) -> None:
    from playwright.sync_api import expect

    with dashboard(small_storage) as address, browser_page(address) as page:
        for path, toggle in (("plan?trial=2", "Show all 12 pairs"), ("compare?compared=2,4", "Show all 12 prompts")):
            page.goto(f"{address}/{path}")
            page.get_by_text(toggle).click()
            prompt = page.get_by_text("onerror=alert")
            expect(prompt).to_be_visible()
            assert HOSTILE in (prompt.text_content() or "").replace("\u2060", "")
            assert page.locator("img[src=x]").count() == 0
            assert page.locator("[data-testid=stMain] a:not([href^='#'])").count() == 0
