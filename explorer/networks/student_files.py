"""A student's folder: `student.json`, which says what it is, and `student.safetensors`, its trained weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from explorer.errors import ExplorerError, ModelError, brief
from explorer.files import write_whole
from explorer.networks.experts import Experts
from explorer.plans.cast import check_label
from explorer.unet.mask import Form, Mask

if TYPE_CHECKING:
    from explorer.networks.student import Student

DOCUMENT, WEIGHTS = "student.json", "student.safetensors"
SCHEMA = 1
MAX_BYTES = 1_000_000
"""Of the document."""


def save_student(student: Student, folder: Path) -> Path:
    """Write both files, each there in full or not at all; the weights first, as the document names them."""
    tensors = {name: tensor.detach().cpu().half().contiguous().clone() for name, tensor in student.tensors.items()}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if tensors:
            write_whole(folder / WEIGHTS, save(tensors))
        else:
            (folder / WEIGHTS).unlink(missing_ok=True)
        write_whole(folder / DOCUMENT, json.dumps(to_json(student), indent=1).encode())
    return folder


@contextlib.contextmanager
def writing(folder: Path, what: str = "the student") -> Iterator[None]:
    """Turn the OSError of a folder that cannot be written into a ModelError about `what`."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"{what} cannot be written to {str(folder)!r}: {error.strerror or error}; choose another folder."
        ) from error


def to_json(student: Student) -> dict[str, Any]:
    """The document of a student."""
    return {
        "format": "explorer-student",
        "schema": SCHEMA,
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
    path = folder / DOCUMENT
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} has over {MAX_BYTES:,} bytes, which no student has; give a student's folder.")
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(
            f"the folder {str(folder)!r} holds no student (no {DOCUMENT}); give one that `explorer distill` or "
            "Student.save wrote."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({brief(error)}); save the student again.") from error
    try:
        return _fields(data, folder)
    except ModelError as error:
        raise ModelError(f"{path}: {brief(error)}") from error
    except (ExplorerError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is no student ({brief(repr(error))}); save the student again.") from error


def _fields(data: Any, folder: Path) -> dict[str, Any]:
    if data["format"] != "explorer-student":
        raise ModelError("this is no student's document; give a folder that Student.save wrote.")
    if data["schema"] != SCHEMA:
        raise ModelError(
            f"its schema is {data['schema']!r:.20}, and this version reads {SCHEMA}; upgrade the explorer."
        )
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


def read_tensors(path: Path, count: int) -> dict[str, torch.Tensor]:
    """The tensors of an untrusted file: `count` of them, of finite numbers. Raises ModelError."""
    if not count:
        return {}
    try:
        with safe_open(path, "pt") as opened:
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path.name} cannot be read ({brief(error)}); save it again.") from error
    if len(found) != count or not all(tensor.is_floating_point() for tensor in found.values()):
        raise ModelError(f"{path.name} has {len(found)} tensors where {count} were saved; save it again.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values()):
        raise ModelError(f"{path.name} holds numbers that are not finite; train it again.")
    return found
