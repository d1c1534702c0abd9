"""The benchmarks' driver for a GPU that is there for minutes: every task ends on time and what it measured is kept."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_day
from benchmarks.gpu_day import PREFLIGHT, TASKS, Task, command, pack, run
from benchmarks.shared.report import finite, options

QUICKLY = "calendar 2026 1"
SLOWLY = "timeit -n 1 -r 1 -s \"__import__('time').sleep(60)\""


def driven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: tuple[Task, ...], *words: str
) -> list[dict[str, object]]:
    monkeypatch.setattr(gpu_day, "TASKS", tasks)
    monkeypatch.setattr(gpu_day, "PREFLIGHT", Task("preflight", QUICKLY, 0, 30))
    gpu_day.main(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), *words])
    rows: list[dict[str, object]] = json.loads((tmp_path / "out" / "engine.json").read_text())
    assert rows[0]["task"] == "preflight"
    return rows[1:]


def test_a_machine_that_lacks_something_ends_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_day, "TASKS", (Task("quick", QUICKLY, 0, 30),))
    monkeypatch.setattr(gpu_day, "PREFLIGHT", Task("preflight", "no_such_module", 0, 30))
    with pytest.raises(SystemExit, match="lacks something"):
        gpu_day.main(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    (row,) = json.loads((tmp_path / "out" / "engine.json").read_text())
    assert row["status"] == "failed (1)" and "no_such_module" in " ".join(row["output"])


def test_the_day_fits_into_its_time() -> None:
    """A mode of the compiler a task, the cost model captured, and no more than 535 s of limits besides the preflight's
    usual 20."""
    assert sum(task.limit for task in TASKS) <= 555 and PREFLIGHT.limit <= 60
    for task in TASKS:
        modes = task.words.partition("--modes ")[2].split(" ")[0].split(",")
        assert len({mode.partition("/")[0] for mode in modes} & {"default", "cudagraphs"}) <= 1
        assert "cost_model" not in task.words or "--compile cudagraphs-eager" in task.words


def test_a_preflight_names_everything_that_fails() -> None:
    from benchmarks.shared.gpu_preflight import checks, tried

    def fails() -> None:
        raise ImportError("No module named 'diffusers'")

    seconds, failed = tried({"one": fails, "other": lambda: None, "third": fails})
    assert set(seconds) == {"one", "other", "third"} and set(failed) == {"one", "third"}
    assert failed["one"] == "ImportError: No module named 'diffusers'"
    assert set(checks(torch.device("cuda"))) == {"imports", "eager", "capture", "compiler"}
    assert "capture" not in checks(torch.device("cpu"))
    assert tried({"eager": checks(torch.device("cpu"))["eager"]})[1] == {}


def test_a_slow_task_does_not_eat_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = (Task("slow", SLOWLY, 0, 1), Task("wrong", "no_such_module", 0, 30), Task("quick", QUICKLY, 0, 30))
    began = time.monotonic()
    rows = driven(tmp_path, monkeypatch, (*tasks, Task("later", QUICKLY, 10_000, 30)), "--minutes", "2")
    assert time.monotonic() - began < 30
    assert [str(row["status"]).split(":")[0] for row in rows] == [
        "ended after its time",
        "failed (1)",
        "done",
        "not begun",
    ]
    assert "January 2026" in " ".join(rows[2]["output"])  # type: ignore[arg-type]
    with tarfile.open(tmp_path / "out" / "engine.tar.gz") as tar:
        assert {"slow.log", "wrong.log", "quick.log"} <= set(tar.getnames())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["engine.json", "engine.tar.gz"]


def test_named_tasks_alone_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = (Task("a", QUICKLY, 0, 30), Task("b", QUICKLY, 0, 30))
    assert [row["task"] for row in driven(tmp_path, monkeypatch, tasks, "--only", "b")] == ["b"]
    with pytest.raises(SystemExit):
        driven(tmp_path, monkeypatch, tasks, "--only", "c")


def test_what_a_task_started_ends_with_it(tmp_path: Path) -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    child = f"import subprocess, sys; p = subprocess.Popen({sleeper}); print(p.pid, flush=True); p.wait()"
    assert run([sys.executable, "-c", child], tmp_path / "log", 2) == "ended after its time"
    number = int((tmp_path / "log").read_text())
    for _ in range(50):
        state = Path(f"/proc/{number}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(number, 9)
    pytest.fail("the child is alive")


@pytest.mark.parametrize("task", (PREFLIGHT, *TASKS), ids=lambda task: task.name)
def test_every_task_has_a_command_that_parses(task: Task, tmp_path: Path) -> None:
    words = command(task, tmp_path, "cuda", "float16", False)[2:]
    assert words[0] == "-m" and task.least < task.limit and "NODES" not in words
    if words[1].startswith("benchmarks."):
        known = options("").parse_known_args(words[2:])[0]
        assert (
            known.device == "cuda" and known.dtype in ("float16", "bfloat16") and known.out.name == f"{task.name}.json"
        )


def test_pages_are_left_out_where_they_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.json").write_text("{}")
    (tmp_path / "work" / "a.html").write_bytes(os.urandom(5000))
    pack(tmp_path / "work", tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert tar.getnames() == ["a.html", "a.json"]
    monkeypatch.setattr(gpu_day, "LARGEST", 1000)
    pack(tmp_path / "work", tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert tar.getnames() == ["a.json"]


def test_a_result_with_a_number_that_is_none_is_kept() -> None:
    found = finite({"a": [1.0, float("nan"), (float("inf"), "x")], "b": {"c": -2}})
    assert json.loads(json.dumps(found, allow_nan=False)) == {"a": [1.0, "nan", ["inf", "x"]], "b": {"c": -2}}
