"""The tasks of a GPU day, in order of worth: words alone, which a machine that lacks everything can read."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

SD15 = "--model arch:sd15 --resolution 512"
SDXL = "--model arch:sdxl --resolution 1024"
RACE = "benchmarks.deepcache_race"
ONE = "--batches 1 --resume"


@dataclass(frozen=True)
class Task:
    """`words`: arguments of `python -m`. It is begun only with `least` seconds left, and ended after `limit`.

    A benchmark runs in the process that the day shares, so that a model is loaded once; anything else in its own, and
    what is `alone`.
    """

    name: str
    words: str
    least: float
    limit: float
    alone: bool = False

    @property
    def shared(self) -> bool:
        return self.words.startswith("benchmarks.") and not self.alone


CUDA_TESTS = (
    "tests/explorer/runtime/test_capture.py", "tests/explorer/runtime/test_failed_captures.py",
    "tests/explorer/runtime/test_compiled_runs.py", "tests/explorer/timing/test_step_times.py",
    "tests/explorer/timing/test_latency.py", "tests/explorer/timing/test_profiler.py", "tests/explorer/test_memory.py",
    "tests/benchmarks/test_layout.py",
)  # fmt: skip
"""The files that hold tests for a GPU."""
CUDA_PYTEST = "pytest -m cuda --no-header -o filterwarnings=ignore::DeprecationWarning"
"""The project's own filters name a class of optuna, which is not there."""
PREFLIGHT = Task("preflight", "benchmarks.day.preflight", 0, 45)
"""Before everything else: what is missing, said in a sentence, ends the day. Where nothing is it takes about 20 s."""
TASKS = (
    # a mode a task: one that is ended in its time takes no other with it. Captured, the goals of compiled mode; with
    # the weights as the compiler reads them beside it
    Task(
        "race-sd15-cudagraphs", f"{RACE} {SD15} --modes cudagraphs,cudagraphs/channels-last {ONE} --rounds 7", 90, 130
    ),
    # the goals of eager mode, and the GPU's own time without the compiler
    Task("race-sd15", f"{RACE} {SD15} --modes off,cudagraphs-eager {ONE} --rounds 7", 40, 75),
    # nodes, variants and the cost model's error, of one profile: captured, as eager steps go at Python's pace at
    # batch 1, and without the compiler, as the nodes are timed without it
    Task(
        "cost-model-sd15",
        f"benchmarks.cost_model_error {SD15} --compile cudagraphs-eager --rounds 4 --masks 50 --nodes NODES --resume",
        55,
        90,
    ),
    Task("race-sd15-default", f"{RACE} {SD15} --modes default {ONE} --rounds 7", 45, 65),  # from the compiler's cache
    # PNDM reads timesteps on the host, which every contender waits for; this scheduler reads nothing
    Task(
        "race-sd15-dpm",
        f"{RACE} {SD15} --scheduler DPMSolverMultistepScheduler --modes cudagraphs-eager {ONE} --rounds 5",
        20,
        30,
    ),
    Task(
        "tests",
        f"{CUDA_PYTEST} -k 'not default and (not cudagraphs or eager)' {' '.join(CUDA_TESTS)}",
        25,
        45,
    ),
    Task("race-sdxl", f"{RACE} {SDXL} --modes cudagraphs-eager {ONE} --rounds 5 --steps 30", 40, 50),
    Task("layout-sd15", f"benchmarks.layout {SD15} --batches 2 --rounds 9", 20, 25),
)
"""In order of worth: 510 s of limits, 535 s with a preflight as it usually goes."""

REHEARSED = {
    RACE: "--steps 4 --rounds 3", "benchmarks.cost_model_error": "--rounds 1", "benchmarks.layout": "--rounds 2",
    "benchmarks.day.preflight": "",
}  # fmt: skip
"""What is asked less of in a rehearsal, by module; the last of two options counts."""
SLOWER = 4
"""How much longer a rehearsed task may take, as a CPU may have other things to do."""


def rehearsed(task: Task) -> Task:
    """The same command line on tiny networks of the two shapes, with few samples, on a CPU."""
    if not task.shared:
        words = f"benchmarks.day.rehearsal {CUDA_PYTEST} {CUDA_TESTS[-2]}"
        return replace(task, words=words, least=0, limit=SLOWER * task.limit, alone=True)
    words = task.words.replace(SD15, "--model arch:rehearsed-sd15 --resolution 64")
    words = words.replace(SDXL, "--model arch:rehearsed-sdxl --resolution 64")
    return replace(
        task, words=f"{words} {REHEARSED[task.words.split()[0]]}".strip(), least=0, limit=SLOWER * task.limit
    )


def words_of(task: Task, folder: Path, device: str, dtype: str, quick: bool) -> list[str]:
    """The arguments of `python -m` for a task, its results under `folder`."""
    words = [str(folder / "node-times.json") if word == "NODES" else word for word in shlex.split(task.words)]
    if task.shared:
        words += ["--device", device, "--out", str(folder / f"{task.name}.json")]
        words += [] if "--dtype" in words else ["--dtype", dtype]
        words += ["--quick"] if quick and "--quick" not in words else []
    return words


def command(task: Task, folder: Path, device: str, dtype: str, quick: bool) -> list[str]:
    """The command line of a task, in a process of its own."""
    return [sys.executable, "-u", "-m", *words_of(task, folder, device, dtype, quick)]
