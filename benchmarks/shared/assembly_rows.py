"""What `benchmarks.students.assembly` measures: rows of the paper's Tables I and II, and the orderings it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from explorer.errors import StudyError

Freeze = Literal["deep", "none"]
Routing = Literal["input", "time"]
First = Literal["student", "teacher"]
TEACHER_LABEL = "SD"
CURVE = "M2"
"""The student whose quality is measured along its training."""


@dataclass(frozen=True)
class Row:
    """A student that is distilled twice.

    Attributes:
        student: The name of what is removed.
        source: The named student whose first distillation this one begins with.
        freeze: `deep` or `none`, in the second distillation.
        experts: Of each convolution; 0 for ordinary ones.
        routing: What the experts' shares are computed from.
        first: Whose kernel the first expert begins with: that of the distilled `student`, or of the `teacher`.
    """

    student: str
    source: str
    freeze: Freeze = "none"
    experts: int = 0
    routing: Routing = "input"
    first: First = "student"

    @property
    def label(self) -> str:
        """As the paper writes it: a star where the deep part is frozen."""
        name = self.student + ("*" if self.freeze == "deep" else "")
        return f"{name}, {self.experts} experts ({self.routing}, {self.first})" if self.experts else name

    @property
    def key(self) -> str:
        """A file name."""
        parts = [self.student, self.freeze]
        return "-".join(parts + ([str(self.experts), self.routing, self.first] if self.experts else []))


FREEZES: tuple[Freeze, ...] = ("deep", "none")
MIXED: tuple[tuple[Routing, First], ...] = (("input", "student"), ("input", "teacher"), ("time", "student"))
"""Routings, the paper's and ours, with whose kernel the first expert has: the paper says both."""
COMPACT = ("Base", "Small", "Tiny")
TABLES: dict[str, tuple[Row, ...]] = {
    "I": (Row("Base", "Base"), *(Row(name, "Base", freeze) for name in ("M1", "M2", "M3") for freeze in FREEZES)),
    "II": tuple(
        row
        for name in COMPACT
        for row in (
            Row(name, name),
            *(Row(name, name, experts=2, routing=routing, first=first) for routing, first in MIXED),
        )
    ),
}


def rows_of(tables: Sequence[str]) -> list[Row]:
    """The rows of the tables, each once. Raises StudyError for another table."""
    unknown = [name for name in tables if name not in TABLES]
    if unknown:
        raise StudyError(f"--tables takes I, II or both with a comma, got {unknown[0]!r}.")
    return list(dict.fromkeys(row for name in TABLES if name in tables for row in TABLES[name]))


def tables_of(row: Row) -> list[str]:
    """The tables that have the row."""
    return [name for name, rows in TABLES.items() if row in rows]


@dataclass(frozen=True)
class Ordering:
    """What the paper found in a metric.

    Attributes:
        table: Of the paper.
        metric: `fd` (the paper's FID, here each Frechet distance) or `clip`.
        pairs: Labels, the better one first.
    """

    table: str
    metric: str
    pairs: tuple[tuple[str, str], ...]


def _mixed(name: str) -> str:
    """The paper's row with conditional convolutions, as its Table II describes it."""
    return Row(name, name, experts=2, routing="input", first="teacher").label


ORDERINGS = (
    Ordering("I", "fd", tuple(pairwise(("M2*", TEACHER_LABEL, "M1*", "M2", "M1", "Base", "M3", "M3*")))),
    Ordering("I", "fd", (("M1*", "M1"), ("M2*", "M2"))),  # its claim that freezing is better
    Ordering("I", "clip", tuple(pairwise(("M2", "M1", TEACHER_LABEL, "M2*", "M3", "Base", "M3*")))),
    Ordering("II", "fd", (("Base", _mixed("Base")), (_mixed("Small"), "Small"), (_mixed("Tiny"), "Tiny"))),
    Ordering("II", "fd", tuple(pairwise(COMPACT))),
    Ordering("II", "clip", ((_mixed("Small"), "Small"), (_mixed("Tiny"), "Tiny"), *pairwise(COMPACT))),
)
