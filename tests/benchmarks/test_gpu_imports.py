"""What a benchmark needs where it measures: its imports, read and not run, hold nothing that such a machine lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.day import wheels
from benchmarks.day.closure import files, foreign
from benchmarks.day.tasks import CUDA_TESTS, PREFLIGHT, TASKS
from benchmarks.day.wheels import MOST_CARRIED, check_size, fetching, needed, tracked, wanted
from benchmarks.gpu_day import CARRIED, ON_MACHINE
from explorer.errors import StudyError
from tests.test_house import HOUSE, write

MODULES = sorted(
    {word for task in (PREFLIGHT, *TASKS) for word in task.words.split() if word.startswith("benchmarks.")}
    | {path.removesuffix(".py").replace("/", ".") for path in CUDA_TESTS}
    | {"benchmarks.gpu_day", "benchmarks.day.worker", "tests.conftest"}
)


@pytest.mark.parametrize("module", MODULES)
def test_a_task_imports_nothing_that_is_not_there(module: str) -> None:
    assert foreign(module) - {*ON_MACHINE, *CARRIED} == set()


def test_an_import_through_another_module_is_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        benchmarks__some="def main():\n    from studies.a import x\n\n\ndef chart():\n    import plotly\n",
        studies__a="import optuna\n\n\ndef late():\n    import sqlalchemy\n",
    )
    assert foreign("benchmarks.some", tmp_path) == {"optuna"}
    write(tmp_path, benchmarks__some="import plotly.graph_objects as go\n")
    assert foreign("benchmarks.some", tmp_path) == {"plotly"}


def test_the_modules_are_those_of_the_house() -> None:
    assert HOUSE.files().items() <= files().items()


def test_the_driver_needs_nothing_but_python() -> None:
    """It must be able to say what is missing."""
    assert foreign("benchmarks.gpu_day") == set() == foreign("benchmarks.day.tasks")


def test_what_travels_with_the_tree_is_small() -> None:
    """The tracked files alone; the wheels that come on top are about 7 MiB, see `benchmarks.day.wheels`."""
    if not tracked():
        pytest.skip("not a git checkout")
    assert tracked() < MOST_CARRIED - 8 * 2**20


def test_wheels_are_what_the_tasks_import_and_the_machine_lacks() -> None:
    names = {each.split("==")[0] for each in wanted()}
    assert {"diffusers", "deepcache"} <= names and not names & {"torch", "scipy", "transformers", "pytest"}
    assert all("==" in each for each in wanted())
    assert "importlib-metadata" in names  # required by diffusers alone


def test_a_task_s_new_import_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it requires on that machine, and not with what an extra or another system wants."""
    monkeypatch.setattr(wheels, "foreign", lambda _: {"sqlalchemy", "torch"})
    found = {each.split("==")[0] for each in wanted()}
    assert "sqlalchemy" in found and "psycopg" not in found
    assert "colorama" not in needed({"pytest"}) and "pluggy" in needed({"pytest"})


def test_wheels_too_large_to_travel_are_one_sentence(tmp_path: Path) -> None:
    with (tmp_path / "large-1-py3-none-any.whl").open("wb") as wheel:
        wheel.truncate(20 * 2**20)
    assert check_size(tmp_path, 40 * 2**20) == 20 * 2**20
    with pytest.raises(StudyError, match=r"20.0 MiB and the tracked files 45.0; together 64 may .*large-1-py3"):
        check_size(tmp_path, 45 * 2**20)


def test_the_command_that_fetches_is_one_that_pip_knows(tmp_path: Path) -> None:
    """Only its options are read here: it asks for nothing."""
    words = fetching([], tmp_path)
    ran = subprocess.run(words, capture_output=True, text=True)
    assert words[0] == sys.executable and "at least one requirement" in ran.stderr + ran.stdout
