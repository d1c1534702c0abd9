"""What the options of the axes may be that a study may lack: names beside the pipeline's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from explorer.errors import PlanError, StudyError
from explorer.plans.cast import TEACHER, check_label
from explorer.plans.schedulers import OWN


def own_first(flag: str, check: Callable[[str], str]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Checks names that must have the pipeline's own among them."""

    def checked(given: tuple[str, ...]) -> tuple[str, ...]:
        if OWN not in given:
            raise StudyError(
                f"{flag} must have {OWN} among its names, the pipeline's own, which every plan is held against; "
                f"got {','.join(given) or 'none'}."
            )
        try:
            names = [name if name == OWN else check(name) for name in given]
        except PlanError as error:
            raise StudyError(f"{flag}: {error}") from error
        return tuple(dict.fromkeys([OWN, *names]))

    return checked


def teacher_first(students: tuple[str, ...]) -> tuple[str, ...]:
    """Each as NAME or `NAME=DIR`, its folder absolute, so that a study knows it from any folder."""
    found: dict[str, str] = {TEACHER: TEACHER}
    for each in students:
        name, equals, folder = (part.strip() for part in each.partition("="))
        try:
            check_label(name, "--students: a student")
        except PlanError as error:
            raise StudyError(str(error)) from error
        if name == TEACHER:
            if equals:
                raise StudyError(
                    f"--students: {TEACHER} is the model's own UNet; call the student in {folder} otherwise."
                )
            continue
        if name in found or (equals and not folder):
            what = "twice" if name in found else "without a folder after the ="
            raise StudyError(f"--students has {name!r} {what}; give each as NAME=DIR, or NAME of one beside the model.")
        found[name] = f"{name}={Path(folder).resolve()}" if folder else name
    return tuple(found.values())
