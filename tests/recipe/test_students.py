"""The recipe's students, on the tiny model that the recipe's stages make from drawn pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from explorer import inherit, load_pipeline, strategy
from explorer.errors import TrainingError
from explorer.networks.found import find_student
from recipe.evaluation.students import students_section
from recipe.networks.students import STUDENTS, Recipe, export_students, train_students
from tests.recipe.conftest import Made


def test_students_are_distilled_beside_their_teacher(made: Made, tmp_path: Path) -> None:
    """The second begins with the first's weights; a run over what stands changes nothing."""
    two = {"base": Recipe("Base"), "m2": Recipe("M2", "base", 0.5)}
    model, logs = tmp_path / "emoji", tmp_path / "card"
    shutil.copytree(made.embedded / "emoji", model)
    logs.mkdir()
    with pytest.raises(TrainingError, match="lacks base, m2, chosen; run `python -m recipe train-students"):
        export_students(tmp_path, model, logs)
    train_students(tmp_path, str(model), 2, 4, "cpu", two)
    weights = {path: path.read_bytes() for path in (tmp_path / "students").glob("*/student.safetensors")}
    assert len(weights) == len(two)
    train_students(tmp_path, str(model), 2, 4, "cpu", two)
    assert {path: path.read_bytes() for path in weights} == weights
    export_students(tmp_path, model, logs, two)
    assert {path.name for path in logs.iterdir()} == {
        f"{kind}-{name}.csv" for kind in ("losses", "drift") for name in two
    }
    rows = [line.split(" | ")[0] for line in students_section(tmp_path).splitlines() if line.startswith("| ")]
    assert rows == ["| student", "| ---", "| base", "| m2"]
    pipe = load_pipeline(str(model))
    pipe.set_progress_bar_config(disable=True)
    found = {name: find_student(name, None, pipe) for name in two}
    assert len({each.fingerprint for each in found.values()}) == len(two)
    assert all(each.student.tensors for each in found.values())
    plan = strategy("m2+DC0/P2", steps=4, unet=pipe.unet)
    with inherit(pipe, plan, students={"m2": found["m2"].student}):
        assert pipe("cat face, flat style", num_inference_steps=4).images[0].size == (64, 64)


def test_every_student_that_ships_has_a_recipe_that_can_be_followed() -> None:
    names = list(STUDENTS)
    assert all(each.begins is None or names.index(each.begins) < names.index(name) for name, each in STUDENTS.items())
