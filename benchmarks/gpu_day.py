"""The benchmarks of a GPU that is there for minutes: the true architectures, in order of worth, in one process that
loads each model once. A preflight comes first: where something is missing the day ends with it, within seconds.

Whatever is measured is written at once: `engine.json` in --out says how each task went, `engine.tar.gz` holds every
result with all its samples, the charts and what was printed. A day that is ended or killed midway leaves all that, and
the next one with the same --work goes on: what is done stands, a race and a cost model continue with their next round.
Nothing is fetched: weights are random and drawn on the GPU, and wheels of what the machine lacks are taken from
--wheels (`python -m benchmarks.day.wheels` fetches them at home).

    python -m benchmarks.gpu_day --out results --minutes 9
    python -m benchmarks.gpu_day --out results --rehearse     # all of it, tiny, on a CPU, in a minute or two
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from benchmarks.day.tasks import PREFLIGHT, SD15, SDXL, SLOWER, TASKS, Task, command, rehearsed, words_of

LARGEST = 15 * 2**20
"""Bytes of what is packed; charts that are pages are left out where they would not fit."""
KEPT_THERE = ("cache", "site")
"""Folders of --work that are not packed: what compilers keep, and the wheels' contents."""
ON_MACHINE = (
    "torch", "triton", "numpy", "scipy", "transformers", "tokenizers", "huggingface_hub", "safetensors", "PIL",
    "requests", "regex", "psutil", "rich", "typer", "filelock", "pytest", "hypothesis",
)  # fmt: skip
"""Packages that the tasks need and a usual GPU machine has: torch's image with transformers and what tests need."""
CARRIED = ("diffusers", "DeepCache")
"""What the tasks import beside them, brought as wheels with what those require."""
DONE = "done"


@dataclass(frozen=True)
class Day:
    """Where a day is kept and how its tasks are run."""

    work: Path
    out: Path
    device: str
    dtype: str
    quick: bool
    rehearsal: bool = False

    def environment(self) -> dict[str, str]:
        """With what was carried importable, and the compilers' caches where the next call finds them."""
        found = dict(os.environ)
        paths = [str(Path.cwd()), str(self.work / "site"), found.get("PYTHONPATH", "")]
        cache = (self.work / "cache").resolve()
        return found | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "triton"),
        }


def run(words: list[str], log: Path, limit: float, environment: dict[str, str] | None = None) -> str:
    """Run a command with its output in `log`; `done`, `failed (status)` or `ended after its time`. Every process that
    it started ends with it."""
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
        try:
            status = process.wait(timeout=limit)
            return DONE if status == 0 else f"failed ({status})"
        except subprocess.TimeoutExpired:
            return "ended after its time"
        finally:
            end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End a process and every one that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=3)
        except (ProcessLookupError, subprocess.TimeoutExpired, PermissionError):
            continue


class Workers:
    """The process that benchmarks share (`benchmarks.day.worker`); a new one after a task that failed or took too
    long, as that one may have broken it."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.end()

    def run(self, words: list[str], log: Path, limit: float) -> str:
        """As `run`, in the shared process."""
        log.write_text("", encoding="utf-8")
        if self._process is None:
            started = [sys.executable, "-u", "-m", "benchmarks.day.worker"]
            started += ["--rehearse"] if self._day.rehearsal else []
            with log.open("a", encoding="utf-8") as stream:
                self._process = subprocess.Popen(
                    started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True,
                    start_new_session=True, env=self._day.environment(),
                )  # fmt: skip
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps({"words": words, "log": str(log.resolve())}) + "\n")
            process.stdin.flush()
            answer = line_within(process.stdout, limit)
        except OSError:
            answer = ""
        if answer is None:
            status = "ended after its time"
        else:
            status = json.loads(answer)["status"] if answer.strip() else f"failed ({process.wait()})"
        if status != DONE:
            self.end()
        return str(status)

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:  # what was left to write has no reader
                        continue


def line_within(stream: IO[str], seconds: float) -> str | None:
    """The next line of a pipe, empty at its end; None where there is none in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(max(0.0, seconds)) else None


def pack(folder: Path, target: Path) -> None:
    """Everything under `folder` that is to come back as one file, without the pages where they would make it too
    large."""
    for pages in (True, False):
        fresh = target.with_name(target.name + ".new")
        with tarfile.open(fresh, "w:gz", compresslevel=6) as tar:
            for path in sorted(folder.iterdir()):
                if path.name not in KEPT_THERE and (pages or path.suffix != ".html"):
                    tar.add(path, path.name)
        if not pages or fresh.stat().st_size < LARGEST:
            os.replace(fresh, target)
            return


class DayResult:
    """A row a task, in the order of the day, written whenever one changes: a day that is killed leaves the rows of what
    it did, and one that says what was running. A day that goes on keeps the rows of what is done."""

    def __init__(self, day: Day, tasks: list[Task], afresh: bool) -> None:
        self._day, self._order = day, [PREFLIGHT.name, *(task.name for task in tasks)]
        self.rows: dict[str, dict[str, Any]] = {}
        kept = day.work / "engine.json"
        if not afresh and kept.exists():
            for row in json.loads(kept.read_text(encoding="utf-8")):
                if row["task"] != PREFLIGHT.name:
                    self.rows[row["task"]] = row
                    self._order += [row["task"]] if row["task"] not in self._order else []

    def done(self, task: Task, words: str) -> bool:
        """Whether an earlier call has done it, with the same command."""
        row = self.rows.get(task.name, {})
        return row.get("status") == DONE and row.get("command") == words

    def keep(self, task: Task, **row: Any) -> dict[str, Any]:
        self.rows[task.name] = {"task": task.name, **row}
        text = json.dumps([self.rows[name] for name in self._order if name in self.rows], indent=1) + "\n"
        for folder in (self._day.work, self._day.out):
            fresh = folder / "engine.json.new"
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, folder / "engine.json")
        return self.rows[task.name]


def measure(tasks: list[Task], day: Day, result: DayResult, ends: float) -> Iterator[dict[str, Any]]:
    """Run what there is time for and what is not done yet; one row a task."""
    with Workers(day) as workers:
        for task in tasks:
            words = words_of(task, day.work, day.device, day.dtype, day.quick)
            told = " ".join(["python", "-m", *words])
            if result.done(task, told):
                yield result.rows[task.name]
                continue
            left = ends - time.monotonic()
            if left < task.least or left <= 0:
                yield result.keep(task, status=f"not begun: {max(0.0, left):.0f} s were left")
                continue
            began = time.monotonic()
            result.keep(task, status="running", command=told)
            log, limit = day.work / f"{task.name}.log", min(task.limit, left)
            if task.shared:
                status = workers.run(words, log, limit)
            else:
                whole = command(task, day.work, day.device, day.dtype, day.quick)
                status = run(whole, log, limit, day.environment())
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
            seconds = time.monotonic() - began
            yield result.keep(task, status=status, seconds=seconds, command=told, output=tail)


def unpack_wheels(wheels: Path, site: Path) -> None:
    """Lay out the wheels' contents where Python finds them. One that was laid out before stays."""
    site.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(wheels.glob("*.whl")):
        mark = site / f".{wheel.name}"
        if not mark.exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            mark.touch()


def missing(packages: Sequence[str], site: Path) -> list[str]:
    """The packages that cannot be imported here, found without importing any."""
    return [
        name
        for name in packages
        if importlib.util.find_spec(name) is None and not (site / name).is_dir() and not (site / f"{name}.py").exists()
    ]


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=str(__doc__).split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder whose files come back")
    parser.add_argument("--work", type=Path, default=Path("build/engine"), help="results and logs as they are made")
    parser.add_argument("--wheels", type=Path, default=Path("build/wheels"), help="of what the machine lacks")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--only", default="", help="names of tasks, comma-separated; all in their order by default")
    parser.add_argument("--afresh", action="store_true", help="measure again what an earlier call has done")
    parser.add_argument("--model", help="rather than the true architectures, to see that everything runs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--quick", action="store_true", help="few samples, to see that it runs; not to be quoted")
    parser.add_argument("--rehearse", action="store_true", help="the whole day on a CPU with tiny networks")
    options = parser.parse_args(arguments)
    if options.rehearse:
        options.device, options.dtype, options.quick = "cpu", "float32", True
        options.minutes *= SLOWER
    named = [name for name in options.only.split(",") if name]
    unknown = set(named) - {task.name for task in TASKS}
    if unknown:
        parser.error(f"no such task: {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in TASKS)}")
    options.tasks = [task for task in TASKS if not named or task.name in named]
    if options.model:
        model = f"--model {options.model}"
        options.tasks = [
            replace(task, words=task.words.replace(SD15, model).replace(SDXL, model), least=0.0)
            for task in options.tasks
        ]
    options.preflight = PREFLIGHT
    if options.rehearse:
        options.tasks, options.preflight = [rehearsed(task) for task in options.tasks], rehearsed(PREFLIGHT)
    return options


def main(arguments: list[str] | None = None) -> None:
    ends = time.monotonic()
    options = parsed(arguments)
    ends += 60 * options.minutes - 5
    day = Day(options.work, options.out, options.device, options.dtype, options.quick, options.rehearse)
    for folder in (day.out, day.work):
        folder.mkdir(parents=True, exist_ok=True)
    unpack_wheels(options.wheels, day.work / "site")
    on_gpu = options.device.startswith("cuda")
    imported = [name for name in (*ON_MACHINE, *CARRIED) if on_gpu or name != "triton"]
    lacking = missing(imported, day.work / "site")
    if lacking:
        sys.exit(
            f"error: the machine lacks {', '.join(lacking)}, and {options.wheels} holds no wheel of them; run "
            "`python -m benchmarks.day.wheels` at home and carry that folder. Nothing was measured."
        )
    result = DayResult(day, options.tasks, options.afresh)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended from outside; what was measured is kept."))
    try:
        report([options.preflight, *options.tasks], day, result, ends)
    finally:
        signal.signal(signal.SIGTERM, before)


def report(tasks: list[Task], day: Day, result: DayResult, ends: float) -> None:
    """Measure, and tell and pack what was measured after every task."""
    for row in measure(tasks, day, result, ends):
        pack(day.work, day.out / "engine.tar.gz")
        print(f"{row['task']}: {row['status']} {row.get('seconds', 0):.0f} s", flush=True)
        for line in row.get("output", [])[-8:]:
            print(f"    {line}", flush=True)
        if row["task"] == PREFLIGHT.name and row["status"] != DONE:
            why = "lacks something" if str(row["status"]).startswith("failed") else "took too long for the preflight"
            sys.exit(f"error: the machine {why}, see above; nothing was measured.")


if __name__ == "__main__":
    main()
