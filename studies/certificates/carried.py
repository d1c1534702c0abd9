"""The students that an export carries: those of its plan's cast, with the weights that the study knows them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from explorer.errors import ModelError, StudyError
from explorer.files import write_whole
from explorer.networks.found import BESIDE, FoundStudent, read_found, students_beside
from explorer.networks.student_files import DOCUMENT, WEIGHTS
from explorer.plans.cast import TEACHER, cast_students
from explorer.plans.plan import InheritancePlan
from studies.documents import Shape
from studies.storage.store import StudyRecord

Students = Mapping[str, FoundStudent]
FACTS: Shape = {"name": str, "parameters": int, "teacher_parameters": int, "bytes": int}
"""What is read of a student's `student_facts`."""


def carried_students(study: StudyRecord, plan: InheritancePlan, given: Sequence[str] = ()) -> dict[str, FoundStudent]:
    """The students of a trial's plan, read from the folders that the study had them from.

    Args:
        study: Of the trial.
        plan: The trial's.
        given: `NAME=DIR` of those that lie elsewhere now.

    Raises:
        StudyError: When one is not there, cannot be read, or has other weights than the study's.
    """
    extra = study.settings.extra
    said = folders_of(extra.get("students", ())) | folders_of(given)
    weights = extra.get("student weights", {})
    found: dict[str, FoundStudent] = {}
    for name in cast_students(plan.cast):
        place = said.get(name)
        where = f"say with --students {name}=DIR where it is"
        if place is None or not place.is_dir():
            at = "" if place is None else f" (it was at {place})"
            raise StudyError(f"the plan runs the student {name!r}, which is not there any more{at}; {where}.")
        try:
            found[name] = read_found(place)
        except ModelError as error:
            raise StudyError(f"the plan's student {name!r} cannot be exported: {error}") from error
        if name in weights and found[name].fingerprint != weights[name]:
            raise StudyError(
                f"the student {name!r} at {place} has the weights {found[name].fingerprint}, and the study "
                f"{study.name!r} measured one with {weights[name]} (distilled again, or of another teacher?); {where}."
            )
    return found


def folders_of(students: Sequence[str]) -> dict[str, Path]:
    """Folders by name, of texts `NAME=DIR`; those without a folder are left out."""
    parts = (each.partition("=") for each in students)
    return {name: Path(folder) for name, _, folder in parts if folder}


def students_option(place: Path, plan: InheritancePlan, given: Sequence[str] = ()) -> tuple[str, ...]:
    """The option `--students` for running a plan: what is given, then what stands beside the plan, then bare names,
    which are looked for beside the model.

    Args:
        place: The plan's file or its export.
        plan: What is there.
        given: By the user.

    Raises:
        StudyError: When a student is given that the plan does not run.
    """
    names = cast_students(plan.cast)
    named = {each.partition("=")[0]: each for each in given if each != TEACHER}
    if unknown := [name for name in named if name not in names]:
        runs = ", ".join(names) or "none"
        raise StudyError(f"--students names {unknown[0]!r}, which the plan does not run (its students: {runs}).")
    beside = {name: f"{name}={folder.resolve()}" for name, folder in students_beside(place, names).items()}
    return (TEACHER, *(({name: name for name in names} | beside | named).values()))


def student_facts(found: FoundStudent) -> dict[str, Any]:
    """What metrics.json, the card and the certificate say of a student. bytes: of its weights, in half precision."""
    student = found.student
    return {
        "name": student.name,
        "parameters": student.parameters,
        "teacher_parameters": sum(p.numel() for p in student.empty().parameters()),
        "bytes": sum(tensor.numel() for tensor in student.tensors.values()) * 2,
        "trained": list(student.trained),
        "weights": found.fingerprint,
        "teacher": student.teacher,
    }


def student_words(name: str, facts: Mapping[str, Any]) -> str:
    """A student in words, of its `student_facts`."""
    whole, part = facts["teacher_parameters"], facts["parameters"]
    share = f" ({part / whole:.0%} of the UNet's)" if whole > 0 else ""
    return (
        f"{name} is the student {facts['name']}: {part / 1e6:.1f} M parameters{share}, of which "
        f"{facts['bytes'] / 2**20:.1f} MiB differ from the UNet's"
    )


def write_students(folder: Path, students: Students) -> list[Path]:
    """Copy each into `folder`/students/NAME, byte for byte; returns the files. Raises StudyError when one cannot be
    written."""
    written = []
    for name, found in students.items():
        place = folder / BESIDE / name
        try:
            place.mkdir(parents=True, exist_ok=True)
            for file in (WEIGHTS, DOCUMENT):  # the document names the weights, so it comes last
                if (found.folder / file).is_file():
                    write_whole(place / file, (found.folder / file).read_bytes())
                    written.append(place / file)
                else:
                    (place / file).unlink(missing_ok=True)
        except OSError as error:
            raise StudyError(
                f"cannot write the student {name!r} to {place} ({error.strerror or error}); make room there."
            ) from error
    return written


def drop_students(folder: Path, earlier: InheritancePlan, names: Sequence[str]) -> None:
    """Delete the students of an `earlier` plan of the folder that are not among `names`, and no other file."""
    for name in {*cast_students(earlier.cast)} - {*names}:
        for file in (DOCUMENT, WEIGHTS):
            (folder / BESIDE / name / file).unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else, or never was
            (folder / BESIDE / name).rmdir()
    with suppress(OSError):
        (folder / BESIDE).rmdir()
