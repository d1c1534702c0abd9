"""The plans of a study as its proposers need them, kept up to date as the study grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from studies.pareto.front import Array, losses
from studies.pareto.scale import Scale
from studies.queue.plan_feed import PlanFeed
from studies.storage.judged import COLUMNS, judged
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, FINISHED, WAITING, measurements, plans

_COLUMNS = [plans.c[name] for name in ("id", "key", "state", "origin", "proposed_by", "trial_number")]


@dataclass(slots=True)
class RecordedPlan:
    """A plan of the study. losses: (k,) of a plan that is done, all to be minimised."""

    id: int
    key: str
    state: str
    proposed_by: str | None
    number: int | None
    baseline: bool
    losses: Array | None = None


class Record:
    """One worker's view of a study; `refresh` brings it up to date.

    Attributes:
        keys: Of every plan that nobody needs to propose again: finished, or being measured.
    """

    def __init__(self, store: Store, study: StudyRecord) -> None:
        self.store, self.study = store, study
        self.keys: set[str] = set()
        self._feed = PlanFeed(study, self._read)
        self._done: list[RecordedPlan] = []
        self._scale: Scale | None = None

    @property
    def plans(self) -> dict[int, RecordedPlan]:
        """Every plan of the study by id."""
        return self._feed.rows

    def refresh(self) -> None:
        """Read what is new. Raises StudyError when the storage cannot be read."""
        news = self._feed.refresh(self.store)
        if news is None:
            return
        if news.anew:
            self.keys, self._done = set(), []
        for plan in news.rows.values():
            (self.keys.discard if plan.state == WAITING else self.keys.add)(plan.key)
        done = [plan for plan in news.rows.values() if plan.losses is not None]
        if done or news.anew:
            self._done += done
            known = np.array([plan.losses for plan in self._done]).reshape(-1, len(self.study.settings.objectives))
            self._scale = Scale.over(known, np.array([plan.baseline for plan in self._done], dtype=bool))

    def _read(self, connection: sa.Connection, where: sa.ColumnElement[bool]) -> dict[int, RecordedPlan]:
        objectives = self.study.settings.objectives
        names, directions = [o.name for o in objectives], [o.direction for o in objectives]
        scores = sa.and_(
            plans.c.state == DONE, measurements.c.plan_id == plans.c.id, measurements.c.metric.in_(names)
        )  # fmt: skip
        query = sa.select(*_COLUMNS, measurements.c.metric, *COLUMNS).outerjoin(measurements, scores)
        found: dict[int, RecordedPlan] = {}
        values: dict[int, dict[str, float]] = {}
        for row in connection.execute(query.where(where).order_by(plans.c.id)):
            if row.id not in found:
                baseline = row.origin == "baseline"
                found[row.id] = RecordedPlan(row.id, row.key, row.state, row.proposed_by, row.trial_number, baseline)
            if row.metric is not None:
                values.setdefault(row.id, {})[row.metric] = judged(row.metric, row)
        for id, scored in values.items():
            if len(scored) == len(names):
                found[id].losses = losses([[scored[name] for name in names]], directions)[0]
        return found

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
