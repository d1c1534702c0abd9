"""The benchmarks' driver for a GPU that is there for minutes: every task ends on time and what it measured is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_day
from benchmarks.day.preflight import checks, tried
from benchmarks.day.tasks import CUDA_TESTS, PREFLIGHT, TASKS, Task, command
from benchmarks.gpu_day import missing, pack, run, unpack_wheels
from benchmarks.shared.report import finite, options
from tests.test_house import ROOT

QUICKLY = "calendar 2026 1"
SLOWLY = "timeit -n 1 -r 1 -s \"__import__('time').sleep(60)\""


def driven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: tuple[Task, ...], *words: str
) -> list[dict[str, object]]:
    monkeypatch.setattr(gpu_day, "TASKS", tasks)
    monkeypatch.setattr(gpu_day, "PREFLIGHT", Task("preflight", QUICKLY, 0, 30))
    gpu_day.main(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", "cpu", *words])
    rows: list[dict[str, object]] = json.loads((tmp_path / "out" / "engine.json").read_text())
    assert rows[0]["task"] == "preflight"
    return rows[1:]


def test_a_machine_that_lacks_something_ends_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_day, "TASKS", (Task("quick", QUICKLY, 0, 30),))
    monkeypatch.setattr(gpu_day, "PREFLIGHT", Task("preflight", "no_such_module", 0, 30))
    with pytest.raises(SystemExit, match="lacks something"):
        gpu_day.main(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", "cpu"])
    (row,) = json.loads((tmp_path / "out" / "engine.json").read_text())
    assert row["status"] == "failed (1)" and "no_such_module" in " ".join(row["output"])


def test_the_day_fits_into_its_time() -> None:
    """A mode of the compiler a task, the cost model captured, and 535 s with the preflight's usual 20."""
    assert sum(task.limit for task in TASKS) <= 515 and PREFLIGHT.limit <= 45
    for task in TASKS:
        modes = task.words.partition("--modes ")[2].split(" ")[0].split(",")
        assert len({mode.partition("/")[0] for mode in modes} & {"default", "cudagraphs"}) <= 1
        assert "cost_model" not in task.words or "--compile cudagraphs-eager" in task.words


def test_a_preflight_names_everything_that_fails() -> None:
    def fails() -> None:
        raise ImportError("No module named 'diffusers'")

    seconds, failed = tried({"one": fails, "other": lambda: None, "third": fails})
    assert set(seconds) == {"one", "other", "third"} and set(failed) == {"one", "third"}
    assert failed["one"] == "ImportError: No module named 'diffusers'"
    assert set(checks(torch.device("cuda"))) == {"imports", "eager", "capture", "compiler"}
    assert "capture" not in checks(torch.device("cpu"))
    assert tried({"eager": checks(torch.device("cpu"))["eager"]})[1] == {}


def test_the_files_of_the_tests_for_a_gpu_are_all_named() -> None:
    marked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "@pytest.mark." + "cuda" in path.read_text(encoding="utf-8")
    }
    assert marked == set(CUDA_TESTS)


def test_what_is_missing_is_one_sentence_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wheels that were carried count, laid out where Python finds them."""
    monkeypatch.setattr(gpu_day, "CARRIED", ("no_such_package", "carried_package"))
    with zipfile.ZipFile(tmp_path / "carried_package-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried_package/__init__.py", "")
    words = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--wheels", str(tmp_path)]
    began = time.monotonic()
    with pytest.raises(SystemExit, match=r"the machine lacks no_such_package, and .* benchmarks.day.wheels"):
        gpu_day.main([*words, "--device", "cpu"])
    assert time.monotonic() - began < 20 and not (tmp_path / "out" / "engine.json").exists()
    site = tmp_path / "work" / "site"
    assert missing(["carried_package", "json"], site) == [] == missing(["torch"], tmp_path)
    (site / "carried_package" / "__init__.py").unlink()
    unpack_wheels(tmp_path, site)  # laid out once
    assert not (site / "carried_package" / "__init__.py").exists()


def test_a_device_that_is_not_there_ends_the_day_within_seconds(tmp_path: Path) -> None:
    """Asked of a machine without a GPU; on one that has it, of a GPU too many."""
    device = f"cuda:{torch.cuda.device_count()}"
    words = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", device, "--only", "tests"]
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-m", "benchmarks.gpu_day", *words], capture_output=True, text=True)
    (row,) = json.loads((tmp_path / "out" / "engine.json").read_text()) if ran.returncode else [{}]
    assert ran.returncode == 1 and "nothing was measured" in ran.stderr and time.monotonic() - began < 60
    assert row["status"] == "failed (1)" and device.partition(":")[0] in row["output"][-1]


def test_a_task_that_is_done_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless its command is another, or everything is asked for afresh. What failed is tried again."""
    tasks = (Task("a", QUICKLY, 0, 30), Task("b", "no_such_module", 0, 30))
    first = driven(tmp_path, monkeypatch, tasks)
    assert [row["status"] for row in first] == ["done", "failed (1)"]
    (tmp_path / "work" / "a.log").unlink()
    other = (tasks[0], Task("b", QUICKLY, 0, 30))
    again = driven(tmp_path, monkeypatch, other)
    assert again[0] == first[0] and not (tmp_path / "work" / "a.log").exists() and again[1]["status"] == "done"
    assert [row["task"] for row in driven(tmp_path, monkeypatch, other[1:])] == ["b", "a"]
    driven(tmp_path, monkeypatch, other, "--afresh")
    assert (tmp_path / "work" / "a.log").exists()


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
