"""Reading the JSON files that lie beside a plan: anybody may have changed them, so what is used is checked first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.errors import StudyError, brief

Shape = Mapping[str, Any]
"""By name the type that is wanted (a class, or a tuple of them), or the shape of an object within."""


def read_document(path: Path, shape: Shape, remedy: str) -> dict[str, Any]:
    """The JSON object in the file, which has at least what `shape` asks. Raises StudyError with what is wrong with the
    file and the `remedy`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} cannot be read ({brief(error)}); {remedy}.") from error
    check_document(document, shape, path, remedy)
    found: dict[str, Any] = document
    return found


def check_document(document: Any, shape: Shape, path: Path, remedy: str) -> None:
    """Raises StudyError unless `document`, read from `path`, has what `shape` asks."""
    problem = _problem(document, shape, "")
    if problem is not None:
        raise StudyError(f"{path} cannot be read ({problem}); {remedy}.")


def _problem(value: Any, shape: Shape, where: str) -> str | None:
    """What is wrong first, with the names that lead to it."""
    if not isinstance(value, dict):
        return f"{where or 'it'} must be an object, got {_shown(value)}"
    for name, wanted in shape.items():
        place = f"{where}.{name}" if where else name
        if name not in value:
            return f"it lacks {place}"
        if isinstance(wanted, Mapping):
            problem = _problem(value[name], wanted, place)
        else:
            got = value[name]
            problem = None if _is(got, wanted) else f"{place} must be {_words(wanted)}, got {_shown(got)}"
        if problem is not None:
            return problem
    return None


def _is(value: Any, wanted: Any) -> bool:
    types = wanted if isinstance(wanted, tuple) else (wanted,)
    return isinstance(value, types) and not (isinstance(value, bool) and bool not in types)


_NAMES = {
    str: "a text", int: "a whole number", float: "a number", dict: "an object", list: "a list", bool: "true or false",
    type(None): "null",
}  # fmt: skip


def _words(wanted: Any) -> str:
    types = wanted if isinstance(wanted, tuple) else (wanted,)
    return " or ".join(_NAMES[each] for each in types if not (each is int and float in types))


def _shown(value: Any) -> str:
    return brief(repr(value), 60)
