"""Stage `train-students`: the students that ship, each made by `explorer distill` as a user makes one."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from explorer.errors import TrainingError
from explorer.networks.found import BESIDE
from explorer.networks.student_files import DOCUMENT, WEIGHTS
from recipe.commands import stage_command
from studies.cli import run
from training.folders import replace_folder

SHARE = 0.5
"""Of the UNet's measured time, for the student whose parts are chosen by measurement."""


@dataclass(frozen=True)
class Recipe:
    """What a student is made of.

    Attributes:
        what: A named student, or None for the parts that `explorer students --choose` finds.
        begins: The student that is distilled before it and whose weights it begins with.
        share: Of the preset's steps.
    """

    what: str | None
    begins: str | None = None
    share: float = 1.0


STUDENTS = {"base": Recipe("Base"), "m2": Recipe("M2", "base", 0.5), "chosen": Recipe(None, share=0.5)}
"""Students by the names that plans call them, in the order in which they are made."""


def train_students(
    work: Path, model: str, steps: int, batch: int, device: str, students: Mapping[str, Recipe] = STUDENTS
) -> None:
    """Distil the students of `model` into `work`/students. What is done is passed over.

    Args:
        work: The recipe's work folder.
        model: A pipeline's folder, or "emoji".
        steps: Training steps of a student of share 1.
        batch: Samples of a step.
        device: What trains.
        students: Those to make, in this order.

    Raises:
        TrainingError: When one of them cannot be made; the command has said why.
    """
    place = work / BESIDE
    place.mkdir(parents=True, exist_ok=True)
    for name, recipe in students.items():
        what = recipe.what
        if what is None:
            what = str(place / f"{name}-parts")
            if not (place / f"{name}-parts" / DOCUMENT).is_file():
                storage = f"sqlite:///{place / 'times.db'}"
                _command(["students", "--model", model, "--choose", str(SHARE), "--out", what, "--storage", storage,
                          "--device", device])  # fmt: skip
        begins = [] if recipe.begins is None else ["--from", str(place / recipe.begins)]
        count = max(1, round(steps * recipe.share))
        _command(["distill", what, "--model", model, "--out", str(place / name), *begins, "--steps", str(count),
                  "--batch", str(batch), "--device", device])  # fmt: skip


def _command(arguments: list[str]) -> None:
    status = run(arguments)
    if status:
        raise TrainingError(f"`explorer {arguments[0]}` ended with status {status}, so not all students are made.")


def export_students(work: Path, model_folder: Path, logs: Path, students: Collection[str] = tuple(STUDENTS)) -> None:
    """Put the students beside their teacher, and their logs into `logs`.

    Raises:
        TrainingError: When one was not distilled yet. Nothing is replaced then.
    """
    place = work / BESIDE
    missing = [name for name in students if not (place / name / WEIGHTS).is_file()]
    if missing:
        command = stage_command("train-students", work)
        raise TrainingError(f"{place} lacks {', '.join(missing)}; run `{command}` first.")

    def write(folder: Path) -> None:
        for name in students:
            (folder / name).mkdir(parents=True)
            for part in (DOCUMENT, WEIGHTS):
                shutil.copyfile(place / name / part, folder / name / part)

    replace_folder(model_folder / BESIDE, write)
    for name in students:
        for kind in ("losses", "drift"):
            shutil.copyfile(place / name / "checkpoint" / f"{kind}.csv", logs / f"{kind}-{name}.csv")
