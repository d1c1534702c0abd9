"""A study over networks and spacings on the embedded model: controls, columns, workers and their students."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explorer import Student, load_pipeline
from explorer.plans.plan import InheritancePlan
from studies.cli import run
from studies.results.rows import TrialRow, trials
from studies.storage.store import Store

SMALL = ["--steps", "4", "--prompt-count", "4", "--batch", "4", "--pairs", "3", "--objectives", "latency,psnr"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("students")
    pipe: Any = load_pipeline("emoji")
    Student.named("Base", pipe.unet).save(place / "base")
    return place


@pytest.fixture(scope="module")
def storage(folder: Path) -> str:
    return f"sqlite:///{folder / 'explorer.db'}"


@pytest.fixture(scope="module")
def rows(folder: Path, storage: str) -> list[TrialRow]:
    """The controls, and three plans that the sampler draws."""
    given = ["--students", f"base={folder / 'base'}", "--spacings", "own,trailing", "--storage", storage]
    common = [*SMALL, *given]
    assert run(["search", "--study", "controls", "--baselines", "short", "--trials", "10", *common]) == 0
    drawn = ["--baselines", "none", "--sampler", "random", "--trials", "3", "--seed", "5"]
    assert run(["search", "--study", "drawn", *drawn, *common]) == 0
    with Store.open(storage) as store:
        found = [row for name in ("controls", "drawn") for row in trials(store, store.study(name))]
    return [row for row in found if row.state == "done"]


def test_students_table_iii_and_spacings_are_measured_as_controls(rows: list[TrialRow]) -> None:
    controls = {row.name: row for row in rows if row.origin == "baseline"}
    assert {"plain@4", "base+plain@4", "S1", "S2", "S3", "plain@4~trailing"} <= {*controls}
    assert controls["S1"].facts.networks == ("base", "teacher")
    assert controls["plain@4~trailing"].facts.spacing == "trailing"
    assert controls["plain@4"].scores["psnr"].value == 100
    for name in ("base+plain@4", "S1", "S2", "S3", "plain@4~trailing"):
        assert controls[name].scores["psnr"].value < 60 and controls[name].scores["latency"].value > 0
    plans = [InheritancePlan.from_json(row.plan) for row in rows if row.origin == "search"]
    assert len(plans) == 3 and any(plan.cast is not None for plan in plans)


def test_show_tells_networks_and_spacing(rows: list[TrialRow], storage: str, capsys: Any) -> None:
    assert run(["show", "controls", "--storage", storage, "--json"]) == 0
    shown = {trial["name"]: trial for trial in json.loads(capsys.readouterr().out)["trials"]}
    assert shown["S2"]["networks"] == ["teacher", "base"] and shown["plain@4~trailing"]["spacing"] == "trailing"
    assert run(["show", "controls", "--storage", storage]) == 0
    assert "(plans also of base, trailing)" in " ".join(capsys.readouterr().out.split())


def test_a_worker_without_the_student_is_refused_and_one_that_is_told_where_it_is_joins(
    rows: list[TrialRow], folder: Path, storage: str, capsys: Any
) -> None:
    (folder / "base").rename(folder / "elsewhere")
    worker = ["worker", "--study", "drawn", "--storage", storage, "--trials", "3"]
    assert run(worker) == 1
    # It finds the one that ships beside the model, which is another.
    assert "student weights: the study has {'base'" in " ".join(capsys.readouterr().err.split())
    assert run([*worker, "--students", f"base={folder / 'elsewhere'}"]) == 0
    assert run([*worker, "--students", "teacher"]) == 1
    assert "measures something else" in " ".join(capsys.readouterr().err.split())
