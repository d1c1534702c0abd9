"""What stands of a study, as its proposers need it: after the first reading only what is new is read.

A plan that is finished stays as it is and plans are added one after the other (the queue's rules), so the rows that can
have changed are the newer ones and those that were not finished when they were read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from studies.front import Array, losses
from studies.scale import Scale
from studies.store import Store, StudyRecord
from studies.tables import DONE, FINISHED, WAITING, measurements, plans

CHUNK = 500  # ids in one query
_COLUMNS = [plans.c[name] for name in ("id", "key", "state", "origin", "proposed_by", "trial_number")]


@dataclass(slots=True)
class Standing:
    """A plan of the study. losses: (k,) of a plan that is done, all to be minimised."""

    id: int
    key: str
    state: str
    proposed_by: str | None
    number: int | None
    baseline: bool
    losses: Array | None = None


class Record:
    """One worker's view of a study; `refresh` brings it up to date."""

    def __init__(self, store: Store, study: StudyRecord) -> None:
        self.store, self.study = store, study
        self.plans: dict[int, Standing] = {}
        self.keys: set[str] = set()
        """Of every plan that nobody needs to propose again: finished, or being measured."""
        self._open: set[int] = set()
        self._done: list[Standing] = []
        self._scale: Scale | None = None

    def refresh(self) -> None:
        """Read what is new. Raises StudyError when the storage cannot be read."""
        mine = plans.c.study_id == self.study.id
        top = max(self.plans, default=0)
        rows = self.store.read(sa.select(*_COLUMNS).where(mine, plans.c.id > top).order_by(plans.c.id))
        for some in _chunks(sorted(self._open)):
            rows += self.store.read(sa.select(*_COLUMNS).where(plans.c.id.in_(some)))
        done = []
        for row in rows:
            baseline = row.origin == "baseline"
            known = Standing(row.id, row.key, row.state, row.proposed_by, row.trial_number, baseline)
            self.plans[row.id] = known
            if row.state == WAITING:
                self.keys.discard(row.key)
            else:
                self.keys.add(row.key)
            (self._open.discard if row.state in FINISHED else self._open.add)(row.id)
            if row.state == DONE:
                done.append(known)
        if done:
            self._measured(done)

    def _measured(self, done: list[Standing]) -> None:
        objectives = self.study.settings.objectives
        names, directions = [o.name for o in objectives], [o.direction for o in objectives]
        values: dict[int, dict[str, float]] = {}
        columns = [measurements.c[name] for name in ("plan_id", "metric", "value")]
        for some in _chunks([plan.id for plan in done]):
            query = sa.select(*columns).where(measurements.c.plan_id.in_(some), measurements.c.metric.in_(names))
            for row in self.store.read(query):
                values.setdefault(row.plan_id, {})[row.metric] = row.value
        for plan in done:
            if len(values.get(plan.id, {})) == len(names):
                plan.losses = losses([[values[plan.id][name] for name in names]], directions)[0]
                self._done.append(plan)
        known = np.array([plan.losses for plan in self._done]).reshape(-1, len(names))
        self._scale = Scale.over(known, np.array([plan.baseline for plan in self._done], dtype=bool))

    @property
    def scale(self) -> Scale | None:
        """What hypervolumes are measured in; None while no plan is done."""
        return self._scale

    def finished(self, id: int) -> bool:
        """Whether the plan is done, failed or screened out, as far as it has been read."""
        return id in self.plans and self.plans[id].state in FINISHED

    def documents(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        """Ids and JSON of the plans with an id above `after`."""
        query = sa.select(plans.c.id, plans.c.plan).where(plans.c.study_id == self.study.id, plans.c.id > after)
        yield from ((row.id, row.plan) for row in self.store.read(query.order_by(plans.c.id)))


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    yield from (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
