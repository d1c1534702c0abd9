"""Students that a study may use: found by name, told apart by a fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ModelError
from explorer.networks.student import Student
from explorer.unet.mask import Mask

BESIDE = "students"
"""The folder in a model's own one that holds its students, each in a folder of its name."""


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
    student = Student.load(place)
    student.check_teacher(pipe.unet)
    return FoundStudent(place, student, _fingerprint(student, place))


def _fingerprint(student: Student, folder: Path) -> str:
    digest = hashlib.sha256(repr((student.removed.entries, student.timesteps, student.teacher)).encode())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def own_bytes(student: Student, itemsize: int) -> int:
    """Bytes that the student takes beside its teacher, of whose tensors it shares those that are the same."""
    return itemsize * sum(tensor.numel() for tensor in student.tensors.values())
