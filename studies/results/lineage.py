"""Where a plan comes from: who proposed it, out of what, with which choices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from studies.results.rows import TrialRow
from studies.storage import optuna_tables
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import PARENTS, plans


@dataclass(frozen=True)
class Lineage:
    """proposed: a baseline's family, or the kind of proposer with the study's seed. parents: trials whose choices a
    genetic sampler crossed, or the one that was moved. choices: parameter -> value, as the space was asked for them;
    empty for plans outside of it. seconds: what scoring it took. made: what was done to the parents."""

    proposed: str
    parents: tuple[int, ...]
    choices: dict[str, Any]
    worker: int | None
    seconds: float | None
    made: str = "crossed"

    def words(self) -> str:
        """One sentence."""
        parts = [self.proposed]
        if self.parents:
            parts.append(f"{self.made} from " + " and ".join(f"trial {number}" for number in self.parents))
        if self.worker is not None:
            parts.append(f"scored by worker {self.worker}")
        if self.seconds is not None:
            parts.append(f"in {self.seconds:.1f} s")
        return ", ".join(parts)


def lineage(store: Store, study: StudyRecord, row: TrialRow) -> Lineage:
    """Read a plan's lineage. Raises StudyError when the storage cannot be read."""
    sampler = study.settings.sampler
    proposed = (
        "a baseline of every study"
        if row.origin == "baseline"
        else f"proposed by {_words(row.proposed_by, sampler.name)} (seed {sampler.seed}) in the space "
        f"{study.settings.space}"
    )
    chosen = sa.select(plans.c.parameters).where(plans.c.study_id == study.id, plans.c.key == row.key)
    choices = next((found.parameters for found in store.read(chosen)), None)
    parents = store.transact(lambda connection, _: _parents(connection, study, row.number))
    seconds = None if row.started is None or row.finished is None else row.finished - row.started
    made = "moved" if row.proposed_by == "moves" else "crossed"
    chosen_values = dict(choices) if isinstance(choices, dict) else {}
    return Lineage(proposed, parents, chosen_values, row.worker, seconds, made)


def _words(kind: str | None, sampler: str) -> str:
    return f"the sampler {sampler}" if kind in (None, "sampler") else str(kind)


def _parents(connection: sa.Connection, study: StudyRecord, number: int | None) -> tuple[int, ...]:
    """What a genetic sampler noted at Optuna's trial."""
    found = None if number is None else optuna_tables.attribute(connection, study.name, number, PARENTS)
    try:
        numbers = json.loads(found) if found else []
    except ValueError:
        return ()
    return tuple(each for each in numbers if isinstance(each, int)) if isinstance(numbers, list) else ()
