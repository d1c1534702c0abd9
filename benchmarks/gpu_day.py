"""The benchmarks of a GPU that is there for minutes: the true architectures, in order of worth, each in a process of
its own that cannot eat the others' time. A preflight comes first: where something is missing the day ends with it.

Whatever is measured lies in --out at once: `engine.json` says how each went, `engine.tar.gz` holds every result with
all its samples, the charts and what was printed. Nothing is fetched: weights are random and drawn on the GPU.

    python -m benchmarks.gpu_day --out results --minutes 9
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SD15 = "--model arch:sd15 --resolution 512"
SDXL = "--model arch:sdxl --resolution 1024"
LARGEST = 15 * 2**20
"""Bytes of what is packed; charts that are pages are left out where they would not fit."""


@dataclass(frozen=True)
class Task:
    """`words`: arguments of `python -m`. It is begun only with `least` seconds left, and ended after `limit`."""

    name: str
    words: str
    least: float
    limit: float


RACE = "benchmarks.deepcache_race"
ONE = "--batches 1 --rounds 7"
PREFLIGHT = Task("preflight", "benchmarks.shared.gpu_preflight", 0, 60)
"""Before everything else: what is missing, said in a sentence, ends the day."""
TASKS = (
    # a mode a task: one that is ended in its time takes no other with it. Captured, the goals of compiled mode; with
    # the weights as the compiler reads them beside it
    Task("race-sd15-cudagraphs", f"{RACE} {SD15} --modes cudagraphs,cudagraphs/channels-last {ONE}", 90, 150),
    # the goals of eager mode, and the GPU's own time without the compiler
    Task("race-sd15", f"{RACE} {SD15} --modes off,cudagraphs-eager {ONE}", 40, 90),
    # nodes, variants and the cost model's error, of one profile: captured, as eager steps go at Python's pace at
    # batch 1, and without the compiler, as the nodes are timed without it
    Task(
        "cost-model-sd15",
        f"benchmarks.cost_model_error {SD15} --compile cudagraphs-eager --rounds 4 --masks 50 --nodes NODES --resume",
        60,
        100,
    ),
    Task("race-sd15-default", f"{RACE} {SD15} --modes default {ONE}", 50, 80),  # from the compiler's cache
    Task("tests", "pytest -m cuda -k 'not default and (not cudagraphs or eager)' tests/explorer --no-header", 30, 50),
    Task("race-sdxl", f"{RACE} {SDXL} --modes cudagraphs-eager --batches 1 --rounds 5 --steps 30", 40, 55),
    Task("layout-sd15", f"benchmarks.layout {SD15} --batches 2 --rounds 9", 20, 30),
)
"""In order of worth: about 535 s with the preflight."""
ON_MACHINE = ("torch", "triton", "numpy")
"""Packages that a bare GPU machine has; others are brought."""
CARRIED = (
    "diffusers", "transformers", "huggingface_hub", "tokenizers", "safetensors", "DeepCache", "scipy", "psutil", "rich",
    "typer", "filelock",
)  # fmt: skip
"""What the tasks import beside them, brought as wheels."""
MOST_CARRIED = 64 * 2**20
"""Bytes that travel to such a machine, packed."""


def command(task: Task, folder: Path, device: str, dtype: str, quick: bool) -> list[str]:
    """The command line of a task, its results under `folder`."""
    words = [str(folder / "node-times.json") if word == "NODES" else word for word in shlex.split(task.words)]
    if words[0].startswith("benchmarks."):
        words += ["--device", device, "--out", str(folder / f"{task.name}.json")]
        words += [] if "--dtype" in words else ["--dtype", dtype]
        words += ["--quick"] if quick and "--quick" not in words else []
    return [sys.executable, "-u", "-m", *words]


def run(words: list[str], log: Path, limit: float) -> str:
    """Run a command with its output in `log`; `done`, `failed (status)` or `ended after its time`. Every process that
    it started ends with it."""
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(timeout=limit)
            return "done" if status == 0 else f"failed ({status})"
        except subprocess.TimeoutExpired:
            return "ended after its time"
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, number)
                    process.wait(timeout=3)
                except (ProcessLookupError, subprocess.TimeoutExpired, PermissionError):
                    continue


def pack(folder: Path, target: Path) -> None:
    """Everything under `folder` as one file, without the pages where they would make it too large."""
    for pages in (True, False):
        fresh = target.with_name(target.name + ".new")
        with tarfile.open(fresh, "w:gz", compresslevel=6) as tar:
            for path in sorted(folder.iterdir()):
                if pages or path.suffix != ".html":
                    tar.add(path, path.name)
        if not pages or fresh.stat().st_size < LARGEST:
            os.replace(fresh, target)
            return


def measure(tasks: list[Task], work: Path, options: argparse.Namespace, ends: float) -> Iterator[dict[str, Any]]:
    """Run what there is time for; one row a task."""
    for task in tasks:
        left = ends - time.monotonic()
        if left < task.least:
            yield {"task": task.name, "status": f"not begun: {left:.0f} s were left"}
            continue
        began = time.monotonic()
        log = work / f"{task.name}.log"
        words = command(task, work, options.device, options.dtype, options.quick)
        status = run(words, log, min(task.limit, left))
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
        yield {
            "task": task.name, "status": status, "seconds": time.monotonic() - began,
            "command": " ".join(["python", *words[2:]]), "output": tail,
        }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    ends = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder whose files come back")
    parser.add_argument("--work", type=Path, default=Path("build/engine"), help="results and logs as they are made")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--only", default="", help="names of tasks, comma-separated; all in their order by default")
    parser.add_argument("--model", help="rather than the true architectures, to see that everything runs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--quick", action="store_true", help="few samples, to see that it runs; not to be quoted")
    options = parser.parse_args(arguments)
    ends += 60 * options.minutes - 5
    named = [name for name in options.only.split(",") if name]
    unknown = set(named) - {task.name for task in TASKS}
    if unknown:
        parser.error(f"no such task: {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in TASKS)}")
    tasks = [task for task in TASKS if not named or task.name in named]
    if options.model:
        model = f"--model {options.model}"
        tasks = [replace(task, words=task.words.replace(SD15, model).replace(SDXL, model), least=0.0) for task in tasks]
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for row in measure([PREFLIGHT, *tasks], options.work, options, ends):
        rows.append(row)
        (options.out / "engine.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        pack(options.work, options.out / "engine.tar.gz")
        print(f"{row['task']}: {row['status']} {row.get('seconds', 0):.0f} s", flush=True)
        for line in row.get("output", [])[-8:]:
            print(f"    {line}", flush=True)
        if row["task"] == PREFLIGHT.name and row["status"] != "done":
            sys.exit("error: the machine lacks something, see above; nothing was measured.")


if __name__ == "__main__":
    main()
