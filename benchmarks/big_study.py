"""Make a study of tens of thousands of plans and measure how long the dashboard takes to open it.

    python -m benchmarks.big_study --trials 1000 50000 --out results.json

The tables are the real ones, written as the queue writes them; the plans are drawn from the joint space (a pool of
them: what they compute does not matter here) and the scores are synthetic, with a front of realistic size. Measured, in
one process and without a browser: reading the storage for the first time, what follows from the rows, a run of the
Front page after that, and a run after ten more plans were scored. With `--browser` also, in headless Chromium:
opening the address, and going from the Studies page to the drawn chart of the front.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa

from explorer.errors import ExplorerError
from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import baselines
from explorer.unet.architecture import Architecture
from search_spaces import make_space
from studies import Objective, Store, StudyRecord, StudySettings
from studies.config import STORAGE_VARIABLE
from studies.storage.facts import PlanFacts
from studies.storage.tables import devices, measurements, plans, workers

STEPS, POOL, BATCH = 50, 600, 5000
METRICS = ("latency", "speedup", "fd_emojiclip", "clip_emojiclip", "psnr", "ssim")
ROOT = Path(__file__).parents[1]


def unet() -> Architecture:
    """SD1.5's topology, that of the embedded model."""
    from explorer.models.loading import load_empty_unet

    return Architecture.of(load_empty_unet("arch:sd15"))


def pool(architecture: Architecture, count: int) -> list[InheritancePlan]:
    """Random plans of the joint space."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = make_space("joint", architecture, STEPS, STEPS + 1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found: list[InheritancePlan] = []
    while len(found) < count:
        try:
            found.append(space.suggest(study.ask()))
        except ExplorerError:
            continue
    return found


def scores(generator: np.random.Generator, n: int) -> dict[str, np.ndarray[Any, Any]]:
    """Synthetic values (n,): quality falls with speed, with a spread that leaves a front of some hundreds."""
    speed = 1 + generator.gamma(2.0, 0.7, n)
    harm = (speed - 1) * generator.lognormal(0, 0.6, n)
    return {
        "latency": 1 / speed,
        "speedup": speed,
        "fd_emojiclip": 20 + 6 * harm + generator.normal(0, 0.4, n),
        "clip_emojiclip": 30 - 0.8 * harm * generator.lognormal(0, 0.3, n),
        "psnr": 45 - 8 * np.log1p(3 * harm),
        "ssim": 1 / (1 + 0.2 * harm),
    }


def write(store: Store, study: StudyRecord, chosen: list[InheritancePlan], count: int, first: int, origin: str) -> None:
    """`count` finished plans with all scores, from trial number `first` on."""
    generator = np.random.default_rng([first, count])
    documents = [plan.to_json() for plan in chosen]
    words = [plan.describe() for plan in chosen]
    names = [plan.name if origin == "baseline" else None for plan in chosen]
    facts = [PlanFacts.of(*each).columns() for each in zip(documents, names, words, strict=True)]
    values = scores(generator, count)
    widths = {
        "latency": 0.01,
        "speedup": 0.01,
        "fd_emojiclip": 0.06,
        "clip_emojiclip": 0.01,
        "psnr": 0.03,
        "ssim": 0.02,
    }
    started = time.time() - 1e6 + 20.0 * first
    with store.begin() as connection:
        top = int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(plans.c.id), 0))).scalar_one())
        for start in range(0, count, BATCH):
            numbers = range(start, min(start + BATCH, count))
            connection.execute(sa.insert(plans), [
                facts[i % len(chosen)] | {
                    "id": top + 1 + i, "study_id": study.id, "key": f"{first + i:020x}",
                    "plan": documents[i % len(documents)], "parameters": None, "words": words[i % len(words)],
                    "origin": origin, "name": names[i % len(chosen)],
                    "aliases": [], "state": "done", "attempts": 0, "trial_number": first + i, "worker_id": 1,
                    "claimed": started + 20.0 * i, "finished": started + 20.0 * i + 18,
                }
                for i in numbers
            ])  # fmt: skip
            connection.execute(sa.insert(measurements), [
                {
                    "plan_id": top + 1 + i, "metric": metric, "value": float(values[metric][i]),
                    "low": float(values[metric][i] - widths[metric] * abs(values[metric][i])),
                    "high": float(values[metric][i] + widths[metric] * abs(values[metric][i])), "n": 64,
                    "extractor": "emojiclip",
                    "seconds": 3.0, "device_id": 1,
                    "samples": [round(float(values[metric][i]), 4)] * 64 if metric in ("psnr", "ssim") else None,
                }
                for i in numbers for metric in METRICS
            ])  # fmt: skip


def make(path: Path, count: int) -> None:
    """A storage with one study of `count` finished plans: every baseline, then searched ones."""
    architecture = unet()
    settings = StudySettings(
        model="emoji", architecture=architecture.signature, device="cpu: synthetic", dtype="float32",
        resolution=(64, 64), steps=STEPS, scheduler="PNDMScheduler", space="joint", prompts="synthetic",
        objectives=(Objective("latency", "minimize"), Objective("fd_emojiclip", "minimize"),
                    Objective("clip_emojiclip", "maximize")), prompts_hash="0" * 64,
    )  # fmt: skip
    with Store.open(path) as store:
        study = store.create_study("big", settings)
        with store.begin() as connection:
            connection.execute(sa.insert(devices).values(
                id=1, fingerprint="0" * 64, name="synthetic", details={}, created=time.time()))  # fmt: skip
            connection.execute(sa.insert(workers).values(
                id=1, study_id=study.id, number=0, host="here", pid=1, process_started=0.0, heartbeat=time.time(),
                state="stopped", device_id=1))  # fmt: skip
        named = list(baselines(architecture, STEPS))
        write(store, study, named, len(named), 0, "baseline")
        write(store, study, pool(architecture, POOL), count - len(named), len(named), "search")


def server_times(path: Path) -> dict[str, float]:
    """Seconds of the server's part, by Streamlit's own test runner; the first run reads everything."""
    from streamlit.testing.v1 import AppTest

    from studies.results.board import Board
    from studies.results.reading import Reading

    found: dict[str, float] = {}

    def timed(name: str, run: Any) -> Any:
        start = time.perf_counter()
        result = run()
        found[name] = round(time.perf_counter() - start, 3)
        return result

    with Store.open(path, read_only=True) as store:
        study = store.study("big")
        reading = Reading(study)
        timed("reading all rows", lambda: reading.refresh(store))
        board = timed("columns of them", lambda: Board.of(reading.rows, study.settings))
        timed("front", lambda: board.on_front)
        timed("ties", lambda: board.tied)
        found["plans on the front"], found["tied"] = int(board.on_front.sum()), int(board.tied.sum())
        timed("looking for news", lambda: reading.refresh(store))
    os.environ[STORAGE_VARIABLE] = str(path)
    app = AppTest.from_file(ROOT / "dashboard" / "app.py", default_timeout=300)
    timed("Studies, first", app.run)
    timed("Front, first", lambda: app.switch_page("page_front.py").run())
    timed("Front, again", app.run)
    with Store.open(path) as store:
        count = len(reading.rows)
        write(store, study, pool(unet(), 10), 10, count, "search")
    timed("Front, after ten new plans", app.run)
    timed("Progress, first", lambda: app.switch_page("page_progress.py").run())
    timed("Progress, again", app.run)
    if app.exception:
        raise SystemExit(f"the page failed: {app.exception[0].value}")
    return found


def browser_times(path: Path) -> dict[str, float]:
    """Seconds in headless Chromium: the address opened for the first time, and from a click to the drawn chart."""
    import shutil

    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "studies.cli", "dashboard", "--storage", str(path), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while "http" not in (line := process.stderr.readline()):
            if not line:
                raise SystemExit("the dashboard ended before it answered")
        found = {}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--enable-unsafe-swiftshader"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            start = time.perf_counter()
            page.goto(f"http://localhost:{port}/")
            page.get_by_role("heading", name="big", exact=True).wait_for(timeout=300_000)
            found["browser: Studies, the server's first page"] = round(time.perf_counter() - start, 3)
            for name in ("first", "again", "third"):
                start = time.perf_counter()
                page.get_by_role("link", name="Front").click()
                page.locator(".js-plotly-plot .legend").wait_for(timeout=300_000)
                found[f"browser: Studies to Front, {name}"] = round(time.perf_counter() - start, 3)
                page.get_by_role("link", name="Studies").click()
                page.get_by_role("heading", name="big", exact=True).wait_for(timeout=300_000)
            browser.close()
        return found
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 50_000])
    parser.add_argument("--keep", type=Path, help="a folder for the storages, which are then kept and used again")
    parser.add_argument("--browser", action="store_true", help="also in headless Chromium (needs playwright)")
    parser.add_argument("--out", type=Path, help="write the times as JSON")
    options = parser.parse_args()
    document: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for count in options.trials:
            path = folder / f"big-{count}.db"
            if not path.exists():
                make(path, count)
            times = server_times(path) | (browser_times(path) if options.browser else {})
            document[str(count)] = times
            print(f"{count:,} plans, {path.stat().st_size / 1e6:.0f} MB:")
            for name, value in times.items():
                print(f"  {name}: {value:g}{' s' if isinstance(value, float) else ''}")
    if options.out:
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
