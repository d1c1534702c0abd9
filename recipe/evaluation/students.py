"""The card's section on the students that ship, from their files and the logs of their training."""

from __future__ import annotations

import csv
from pathlib import Path

from explorer.models.loading import EMOJI
from explorer.networks.found import BESIDE
from explorer.networks.student import Student
from explorer.networks.student_files import DOCUMENT
from recipe.evaluation.machine import folder_size
from recipe.evaluation.markdown import table
from recipe.networks.students import STUDENTS

WORDS = """
Smaller networks from the same UNet ([students]({docs}/students.md)), distilled without further pictures by
`python -m recipe train-students`. PSNR is of 10 steps of DDIM to the UNet's own pictures, on held-out prompts.
"""


def students_section(embedded: Path) -> str:
    """A table with a row for each student; empty where none ships.

    Args:
        embedded: The folder of what ships; the logs are in its `card`.
    """
    folders = {name: embedded / EMOJI / BESIDE / name for name in STUDENTS}
    rows = [_row(name, place, embedded / "card") for name, place in folders.items() if (place / DOCUMENT).is_file()]
    if not rows:
        return ""
    head = ["student", "removed", "UNet parameters", "MACs", "MB", "steps", "PSNR before", "after"]
    return "## Students\n\n" + WORDS.format(docs="../../docs").strip() + "\n\n" + table(head, rows)


def _row(name: str, folder: Path, logs: Path) -> list[str]:
    student = Student.load(folder)
    size = student.config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    drift, losses = (_log(logs / f"{kind}-{name}.csv") for kind in ("drift", "losses"))
    return [
        name, f"{len(student.removed)} nodes", f"{student.parameters / 1e6:.1f} M",
        f"{student.macs_share(height, width):.0%}", f"{folder_size(folder) / 1e6:.1f}", losses[-1]["step"],
        *(_shown(row) for row in (drift[0], drift[-1])),
    ]  # fmt: skip


def _shown(row: dict[str, str]) -> str:
    value, low, high = (float(row[name]) for name in ("psnr", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _log(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
