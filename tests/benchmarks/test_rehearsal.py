"""A GPU day rehearsed on a CPU: killed midway it leaves what it measured, and the next call goes on to the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.day.tasks import TASKS

FIRST = "race-sd15"
KILLED_IN = 240
"""Seconds within which its first round must come, on a machine that is busy with other tests."""


def day(folder: Path, *words: str) -> list[str]:
    given = ["--rehearse", "--out", str(folder / "out"), "--work", str(folder / "work"), *words]
    return [sys.executable, "-m", "benchmarks.gpu_day", *given]


def rounds_of(result: Path) -> int:
    """Of a race's file, also one that is not there yet."""
    if not result.exists():
        return 0
    samples = json.loads(result.read_text())["samples"]
    return len(samples["batch 1"]["seconds"]["ours"]) if samples else 0


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["task"]: row for row in json.loads((folder / "engine.json").read_text())}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a day that was killed within its first race, with the race as it was left."""
    folder = tmp_path_factory.mktemp("day")
    race = folder / "work" / f"{FIRST}.json"
    process = subprocess.Popen(day(folder, "--only", FIRST), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + KILLED_IN
        while process.poll() is None and time.monotonic() < ends and not rounds_of(race):
            time.sleep(0.02)
    finally:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    for _ in range(100):
        left = [child for child in children if Path(f"/proc/{child}/cmdline").exists()]
        if not left:
            break
        time.sleep(0.1)
    assert children and not left, "what the day had started goes on without it"
    return folder, json.loads(race.read_text())


def test_a_day_that_is_killed_leaves_what_it_measured(killed: tuple[Path, dict[str, Any]]) -> None:
    folder, race = killed
    rows = rows_of(folder / "out")
    assert rows["preflight"]["status"] == "done" and rows[FIRST]["status"] == "running"
    assert rows_of(folder / "work") == rows
    figures = race["figures"]
    assert figures["differences"]["batch 1"]["ours"] == 0.0 and figures["batch 1"]["ours"]["rounds"] >= 1
    assert race["arguments"]["model"] == "arch:rehearsed-sd15" and race["quick"]


def test_the_next_call_goes_on_to_the_end(killed: tuple[Path, dict[str, Any]]) -> None:
    """Every task of the day in the process that they share, and the killed race with its own next round."""
    folder, race = killed
    ran = subprocess.run(day(folder), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = rows_of(folder / "out")
    assert list(rows) == ["preflight", *(task.name for task in TASKS)]
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(rows, "done"), ran.stdout[-4000:]
    now = json.loads((folder / "work" / f"{FIRST}.json").read_text())
    before, after = (each["samples"]["batch 1"]["seconds"] for each in (race, now))
    for name, seconds in before.items():
        assert len(after[name]) == 3 and after[name][: len(seconds)] == seconds
    with tarfile.open(folder / "out" / "engine.tar.gz") as tar:
        names = set(tar.getnames())
    assert {f"{task.name}.log" for task in TASKS} | {"engine.json", "node-times.json", "preflight.json"} <= names
    sdxl = json.loads((folder / "work" / "race-sdxl.json").read_text())
    assert sdxl["arguments"]["model"] == "arch:rehearsed-sdxl" and sdxl["figures"]["unfair"] == {"batch 1": []}
