"""Students that a study may use: found by name, told apart by a fingerprint."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ExplorerError, ModelError
from explorer.networks.student import Student
from explorer.networks.student_files import DOCUMENT, WEIGHTS
from explorer.plans.cast import check_label
from explorer.plans.plan_files import BESIDE as BESIDE  # also for a model's own
from explorer.plans.plan_files import fetch_folder, find_plan
from explorer.unet.mask import Mask


@dataclass(frozen=True, eq=False)
class FoundStudent:
    """A student with the folder that it was read from.

    Attributes:
        folder: Where.
        student: What it holds.
        fingerprint: Of its weights and of what it lacks; two students under one name differ in it.
    """

    folder: Path
    student: Student
    fingerprint: str

    @property
    def removed(self) -> Mask:
        return self.student.removed


def find_student(name: str, folder: str | None, pipe: Any) -> FoundStudent:
    """Read the student `name` of a pipeline.

    Args:
        name: What plans call it.
        folder: Where it is said to be. Where there is none, or nobody said, it is looked for beside the model.
        pipe: The teacher's pipeline.

    Raises:
        ModelError: When it is in neither place, its files cannot be read, or it has another teacher.
    """
    model = getattr(pipe, "name_or_path", None)
    beside = None if not model else Path(model) / BESIDE / name
    places = [Path(folder)] if folder else []
    places += [beside] if beside is not None else []
    place = next((each for each in places if each.is_dir()), None)
    if place is None:
        looked = " or ".join(map(str, places)) or "beside the model, which has no folder"
        raise ModelError(
            f"there is no student {name!r} (looked for at {looked}); say where it is with --students {name}=DIR, a "
            "folder that `explorer distill` wrote."
        )
    found = read_found(place)
    found.student.check_teacher(pipe.unet)
    return found


def students_of_model(pipe: Any) -> tuple[str, ...]:
    """The names of the students that stand beside a pipeline's model and are its own. Others, such as those of a model
    that a LoRA has changed since, are left out with a warning."""
    model = getattr(pipe, "name_or_path", None)
    found, left_out = [], []
    for path in sorted((Path(model) / BESIDE).glob(f"*/{DOCUMENT}")) if model else ():
        try:
            found.append(find_student(check_label(path.parent.name, "a student"), None, pipe).folder.name)
        except ExplorerError as error:
            left_out.append(str(error))
    if left_out:
        warnings.warn(f"a student beside the model is left out: {' '.join(left_out)}", stacklevel=2)
    return tuple(found)


def read_found(folder: Path) -> FoundStudent:
    """The student in a folder. Raises ModelError when its files cannot be read."""
    student = Student.load(folder)
    return FoundStudent(folder, student, _fingerprint(student, folder))


def students_beside(plan: str | os.PathLike[str], names: Collection[str]) -> dict[str, Path]:
    """Folders of the students that stand beside a plan, as an export has them.

    Args:
        plan: The plan's file, its folder, or its hub repository, from which they are downloaded.
        names: What the plan calls them. One that is not there is left out.

    Raises:
        PlanError: When there is no plan, or the hub cannot be reached.
    """
    if not names:
        return {}
    if Path(os.fspath(plan)).expanduser().exists():
        folder = find_plan(plan).parent
    else:
        wanted = [f"{BESIDE}/{name}/{file}" for name in names for file in (DOCUMENT, WEIGHTS)]
        folder = fetch_folder(os.fspath(plan), wanted)
    places = {name: folder / BESIDE / name for name in names}
    return {name: place for name, place in places.items() if (place / DOCUMENT).is_file()}


def _fingerprint(student: Student, folder: Path) -> str:
    digest = hashlib.sha256(repr((student.removed.entries, student.timesteps, student.teacher)).encode())
    if student.tensors:
        digest.update(WEIGHTS.encode() + (folder / WEIGHTS).read_bytes())
    return digest.hexdigest()[:12]


def own_bytes(student: Student, itemsize: int) -> int:
    """Bytes that the student takes beside its teacher, of whose tensors it shares those that are the same."""
    return itemsize * sum(tensor.numel() for tensor in student.tensors.values())
