"""The cast of a plan: which network runs until which fraction of the run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from explorer.errors import PlanError

TEACHER = "teacher"
"""The model's own UNet."""
MAX_ENTRIES = 8
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_FRACTION = re.compile(r"[0-9]{0,2}\.?[0-9]{1,20}(e-[0-9]{1,2})?")


def check_label(name: Any, what: str) -> str:
    """`name`, where a plan may call a network or an adapter so: a letter, then at most 39 letters, digits, `_`, `.` or
    `-`. what: for the message.

    Raises:
        PlanError: for anything else.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PlanError(
            f"{what} is called by a letter and up to 39 letters, digits, '_', '.' or '-'; got {name!r:.80}."
        )
    return name


@dataclass(frozen=True)
class Cast:
    """Networks in the order in which they run.

    Attributes:
        entries: A network's name with the fraction of the run until which it runs; the last has None. Of n evaluations
            the first network runs those with i < fraction * n - 1e-9, so that a cast fits any number of steps.

    Raises:
        PlanError: for a name that is none, fractions that do not ascend between 0 and 1, or one network twice in turn.
    """

    entries: tuple[tuple[str, float | None], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.entries) <= MAX_ENTRIES:
            raise PlanError(f"a cast has from 1 to {MAX_ENTRIES} entries, got {len(self.entries)}.")
        for name, _ in self.entries:
            check_label(name, "a network of a plan's cast")
        fractions = [until for _, until in self.entries[:-1] if until is not None]
        if self.entries[-1][1] is not None or len(fractions) < len(self.entries) - 1:
            raise PlanError(
                "each entry of a cast but the last has the fraction until which it runs, as in 'base@0.4, teacher'."
            )
        if fractions != sorted(set(fractions)) or not all(0 < until < 1 for until in fractions):
            raise PlanError(f"the fractions of a cast must ascend between 0 and 1, got {fractions}.")
        for (name, _), (following, _) in pairwise(self.entries):
            if name == following:
                raise PlanError(f"a cast has {name!r} twice in turn; write it once.")

    @classmethod
    def parse(cls, text: Any) -> Cast:
        """Read `base@0.4, teacher`, untrusted. Raises PlanError."""
        parts = text.split(",") if isinstance(text, str) and len(text) < 1000 else []
        entries = [_entry(part.strip()) for part in parts]
        if None in entries or not entries:
            raise PlanError(
                f"the plan's cast {text!r:.80} cannot be read; expected a text such as 'base@0.4, teacher'."
            )
        return cls(tuple(entry for entry in entries if entry is not None))

    @classmethod
    def of(cls, text: str) -> Cast | None:
        """As `parse`, of what a person writes: after a last entry with a fraction the teacher runs, and the teacher
        alone is no cast."""
        if isinstance(text, str) and "@" in text.rpartition(",")[2]:
            text += f", {TEACHER}"
        cast = cls.parse(text)
        return None if cast.names == (TEACHER,) else cast

    @property
    def names(self) -> tuple[str, ...]:
        """Each network once, in the order in which they first run."""
        return tuple(dict.fromkeys(name for name, _ in self.entries))

    @property
    def students(self) -> tuple[str, ...]:
        """The networks besides the teacher."""
        return tuple(name for name in self.names if name != TEACHER)

    @property
    def prefix(self) -> str:
        """How a plan's name begins: `base@0.4+`, which leaves out the teacher at the end."""
        shown = self.entries[:-1] if self.entries[-1] == (TEACHER, None) else self.entries
        return ",".join(map(_text, shown)) + "+"

    def resolve(self, evaluations: int) -> tuple[str, ...]:
        """The network of each evaluation of a run."""
        return tuple(
            next(name for name, until in self.entries if until is None or i < until * evaluations - 1e-9)
            for i in range(evaluations)
        )

    def __str__(self) -> str:
        return ", ".join(map(_text, self.entries))


def cast_students(cast: Cast | None) -> tuple[str, ...]:
    """The students of a plan's cast, which has none where there is no cast."""
    return () if cast is None else cast.students


def _text(entry: tuple[str, float | None]) -> str:
    name, until = entry
    return name if until is None else f"{name}@{until!r}"


def _entry(text: str) -> tuple[str, float | None] | None:
    name, at, fraction = text.partition("@")
    if not at:
        return name, None
    return (name, float(fraction)) if _FRACTION.fullmatch(fraction) else None
