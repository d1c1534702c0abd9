"""A student's folder: `student.json`, which says what it is, and `student.safetensors`, its trained weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from explorer.errors import ModelError
from explorer.networks.experts import Experts
from explorer.networks.network_files import NetworkFolder, read_tensors
from explorer.plans.cast import check_label
from explorer.plans.plan_files import STUDENT_FILES
from explorer.unet.mask import Form, Mask

if TYPE_CHECKING:
    from explorer.networks.student import Student

DOCUMENT, WEIGHTS = STUDENT_FILES
FILES = NetworkFolder("student", DOCUMENT, WEIGHTS, "explorer-student", 1, "explorer distill", "Student.save")


def save_student(student: Student, folder: Path) -> Path:
    """Write both files, see `NetworkFolder.write`."""
    return FILES.write(folder, student.tensors, to_json(student))


def to_json(student: Student) -> dict[str, Any]:
    """The document of a student."""
    return {
        "name": student.name,
        "teacher": student.teacher,
        "removed": student.removed.forms,
        "trained": list(student.trained),
        "timesteps": list(student.timesteps),
        "experts": None if student.experts is None else asdict(student.experts),
        "tensors": len(student.tensors),
        "config": dict(student.config),
    }


def read_student(folder: Path) -> dict[str, Any]:
    """Read a student's folder, untrusted: the fields of a `Student`, which checks what they say together.

    Raises:
        ModelError: For a folder without a student, a document that is none, and weights that do not fit it.
    """
    return FILES.read(folder, lambda data: _fields(data, folder))


def _fields(data: Any, folder: Path) -> dict[str, Any]:
    removed = dict(data["removed"])
    for node, form in removed.items():
        if not isinstance(node, str) or form not in get_args(Form):
            raise ModelError(f"the removal {node!r:.40}: {form!r:.20} is none.")
    teacher = data["teacher"]
    if teacher is not None and not (isinstance(teacher, str) and 1 <= len(teacher) <= 64):
        raise ModelError("the teacher's fingerprint is no text.")
    start, end = (float(each) for each in data["timesteps"])
    trained = tuple(data["trained"])
    if not all(isinstance(block, str) and len(block) <= 20 for block in trained) or not isinstance(
        data["config"], dict
    ):
        raise ModelError("its blocks or its configuration cannot be read.")
    return {
        "name": check_label(data["name"], "a student"),
        "config": data["config"],
        "removed": Mask.of(removed),
        "teacher": teacher,
        "trained": trained,
        "tensors": read_tensors(folder / WEIGHTS, int(data["tensors"])),
        "timesteps": (start, end),
        "experts": None if (given := data.get("experts")) is None else Experts(**given),
    }
