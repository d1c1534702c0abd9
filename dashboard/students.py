"""The students of a study that stand on this machine, and the curves of their distillation."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from explorer.errors import ExplorerError, ModelError
from explorer.plans.cast import TEACHER
from explorer.unet.mask import Mask
from studies.settings import StudySettings

if TYPE_CHECKING:
    from explorer.networks.student import Student

FILES_SECONDS = 120.0  # after which the files are looked at again
LOGS = ("losses.csv", "drift.csv")
Rows = list[dict[str, float]]


@dataclass(frozen=True)
class HeldStudents:
    """students: by name, each with its folder. missing: why each of the others cannot be shown, by name."""

    students: Mapping[str, tuple[Student, Path]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def lacks(self) -> dict[str, Mask]:
        """What each student lacks."""
        return {name: student.removed for name, (student, _) in self.students.items()}


@st.cache_resource(
    max_entries=4, ttl=FILES_SECONDS, show_spinner="Reading the students ...", hash_funcs={StudySettings: repr}
)
def held_students(settings: StudySettings) -> HeldStudents:
    """Of what the study names (`base`, `NAME=DIR`), those that are found here and belong to its UNet."""
    from explorer.networks.found import BESIDE
    from explorer.networks.student import Student

    found: dict[str, tuple[Student, Path]] = {}
    missing: dict[str, str] = {}
    named = settings.extra.get("students", ())
    for each in named if isinstance(named, list | tuple) else ():
        name, _, folder = str(each).partition("=")
        if name == TEACHER:
            continue
        try:
            place = Path(folder) if folder else _own_folder(settings.model) / BESIDE / name
            student = Student.load(place)
            if student.architecture.signature != settings.architecture:
                raise ModelError(f"the student in {place} has another architecture than the study's model.")
            found[name] = student, place
        except (ExplorerError, OSError) as error:
            missing[name] = str(error)
    return HeldStudents(found, missing)


def _own_folder(model: str) -> Path:
    """Where a model's own students stand."""
    from explorer.models.loading import EMBEDDED

    return EMBEDDED / model if (EMBEDDED / model).is_dir() else Path(model)


def curves_of(folder: Path) -> tuple[Rows, Rows]:
    """The rows of `losses.csv` and `drift.csv` of a student, in its folder or its `checkpoint`."""
    losses, drift = (_rows(folder, name) for name in LOGS)
    return losses, drift


def _rows(folder: Path, name: str) -> Rows:
    place = next((each for each in (folder / "checkpoint" / name, folder / name) if each.is_file()), None)
    if place is None:
        return []
    try:
        with place.open(encoding="utf-8") as stream:
            return [{key: float(value) for key, value in row.items() if key} for row in csv.DictReader(stream)]
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{place} cannot be read ({error}); `explorer distill` writes it.") from error
