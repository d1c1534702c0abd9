"""The screenshots that the README and the docs show, made from a storage with a searched study:

    python docs/screenshots.py --storage demo/explorer.db --study demo

Writes docs/images/dashboard-*.png. Needs Chromium and Playwright (the `test` extra).
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

ROOT = Path(__file__).parents[1]
WIDTH, PHONE = 1280, 390
PATIENCE = 120_000  # milliseconds for a page on a busy machine
SETTLE = 2500  # milliseconds for charts to be drawn once the script has run
COLOURS = 256  # of a palette: a page of flat colours loses nothing that is seen, and is a third of the size


@dataclass(frozen=True)
class Shot:
    """A picture of a page: `height` pixels from the top, or from the heading `begins` on."""

    name: str
    page: str
    height: int
    dark: bool = False
    width: int = WIDTH
    begins: str | None = None


SHOTS = (
    Shot("studies", "", 620),
    Shot("front", "front", 1150),
    Shot("plan", "plan", 1180),
    Shot("plan-dark", "plan", 1180, dark=True),
    Shot("plan-steps", "plan", 1330, begins="What is computed, and when"),
    Shot("plan-phone", "plan", 1500, width=PHONE),
    Shot("compare", "compare", 1550),
    Shot("compare-pictures", "compare", 700, begins="The same prompts, the same seeds"),
    Shot("anatomy", "anatomy", 1520),
    Shot("calibration", "calibration", 1400),
    Shot("progress", "progress", 1150),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, default=Path("explorer.db"), help="a SQLite file")
    parser.add_argument("--study", help="the study to show [the newest]")
    parser.add_argument("--trial", type=int, help="the plan to show [the fastest without measurable loss]")
    parser.add_argument("--compared", help="trials to compare, such as 3,7 [the plan and its nearest plain steps]")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", nargs="*", help=f"of {', '.join(shot.name for shot in SHOTS)}")
    given = parser.parse_args()
    if not given.storage.is_file():
        parser.error(f"there is no storage {given.storage}; run `make demo` first.")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        parser.error("Chromium is not installed (apt-get install chromium).")
    asked = {"study": given.study, "trial": given.trial, "compared": given.compared}
    asks = "&".join(f"{name}={quote(str(value))}" for name, value in asked.items() if value is not None)
    given.out.mkdir(parents=True, exist_ok=True)
    with served(given.storage) as address, browsing(chromium) as browser:
        for shot in SHOTS:
            if not given.only or shot.name in given.only:
                path = given.out / f"dashboard-{shot.name}.png"
                take(browser, f"{address}/{shot.page}?{asks}", shot, path)
                print(f"{path}: {path.stat().st_size // 1024} kB", flush=True)


@contextmanager
def served(storage: Path) -> Iterator[str]:
    """The dashboard, started beside the storage so that no path of this machine stands on a page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder, name = storage.resolve().parent, storage.name
    address = f"http://localhost:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "studies.cli", "dashboard", "--storage", name, "--port", str(port)],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while True:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the dashboard could not be started; run `explorer dashboard` to see why.")
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def browsing(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def take(browser: Any, url: str, shot: Shot, path: Path) -> None:
    """Open the page, wait until it stands, and write the picture."""
    view = {"width": shot.width, "height": 900}
    page = browser.new_page(viewport=view, color_scheme="dark" if shot.dark else "light")
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.wait_for_selector("[data-testid=stMain] [data-testid=stHeading]")
    settled(page)
    # As high as all of it: charts further down are drawn only when they are in view.
    content = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": shot.width, "height": int(content) + 60})
    settled(page)
    top = 0.0
    if shot.begins is not None:
        box = page.get_by_role("heading", name=shot.begins).bounding_box()
        top = 0.0 if box is None else max(0.0, box["y"] - 16)
    left = 0 if shot.begins is None else page.locator("[data-testid=stMain]").bounding_box()["x"]
    height = min(shot.height, int(content) + 60 - top)
    page.screenshot(path=path, clip={"x": left, "y": top, "width": shot.width - left, "height": height})
    page.close()
    with Image.open(path) as image:
        smaller = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    smaller.save(path, optimize=True)


def settled(page: Any) -> None:
    """Wait until the page's script has run and its charts are drawn."""
    page.wait_for_timeout(500)  # a script that is asked for by a new size begins a little later
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", state="attached")
    page.wait_for_timeout(SETTLE)


if __name__ == "__main__":
    main()
