"""What stands of a study, as its proposers need it: after the first reading only what is new is read.

A plan that is finished stays as it is and plans are added one after the other (the queue's rules), so the rows that can
have changed are the newer ones and those that were not finished when they were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from studies.front import Array, losses, non_dominated
from studies.growth import Growth
from studies.store import Store, StudyRecord
from studies.summary import Scale
from studies.tables import DONE, FAILED, FINISHED, WAITING, measurements, plans

CHUNK = 500  # ids in one query
_COLUMNS = [plans.c[name] for name in ("id", "key", "state", "origin", "proposed_by", "trial_number", "finished")]


@dataclass(slots=True)
class Standing:
    """A plan of the study. losses: (k,) of a plan that is done, all to be minimised; gain: the hypervolume it added
    when it was finished, in the baselines' scale."""

    id: int
    key: str
    state: str
    proposed_by: str | None
    number: int | None
    finished: float
    baseline: bool
    losses: Array | None = None
    gain: float = 0.0


class Record:
    """One worker's view of a study; `refresh` brings it up to date."""

    def __init__(self, store: Store, study: StudyRecord) -> None:
        self.store, self.study = store, study
        self.plans: dict[int, Standing] = {}
        self.keys: set[str] = set()
        """Of every plan that nobody needs to propose again: finished, or being measured."""
        self._open: set[int] = set()
        self._done: list[Standing] = []  # in the order in which they were finished
        self._scale: Scale | None = None
        self._growth: Growth | None = None
        self._front: list[Standing] = []

    def refresh(self) -> None:
        """Read what is new. Raises StudyError when the storage cannot be read."""
        mine = plans.c.study_id == self.study.id
        top = max(self.plans, default=0)
        rows = self.store.read(sa.select(*_COLUMNS).where(mine, plans.c.id > top).order_by(plans.c.id))
        for some in _chunks(sorted(self._open)):
            rows += self.store.read(sa.select(*_COLUMNS).where(plans.c.id.in_(some)))
        done = []
        for row in rows:
            known = Standing(
                row.id, row.key, row.state, row.proposed_by, row.trial_number, row.finished or 0.0,
                row.origin == "baseline",
            )  # fmt: skip
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
        whole = [plan for plan in done if len(values.get(plan.id, {})) == len(names)]
        for plan in whole:
            plan.losses = losses([[values[plan.id][name] for name in names]], directions)[0]
        self._grow(sorted(whole, key=lambda plan: plan.finished))

    def _grow(self, new: list[Standing]) -> None:
        self._done += new
        scale = _scale(self._done)
        if scale is None:
            return
        if self._growth is None or self._scale is None or not _same(scale, self._scale):
            self._scale, self._growth, new = scale, Growth(scale.corner), self._done
        for plan in new:
            assert plan.losses is not None
            plan.gain = self._growth.add(scale.apply(plan.losses))
        among = self._done if new is self._done else [*self._front, *new]
        kept = non_dominated(np.array([plan.losses for plan in among]))
        self._front = [plan for plan, stays in zip(among, kept, strict=True) if stays]

    @property
    def front(self) -> list[Standing]:
        """The measured plans that no other one dominates."""
        return self._front

    @property
    def proposed(self) -> list[Standing]:
        """The plans that a proposer gave, in the order of the queue."""
        return [plan for plan in self.plans.values() if plan.proposed_by is not None]  # ids only grow

    @property
    def scale(self) -> Scale | None:
        """What gains are measured in; None while no plan is done."""
        return self._scale

    def finished(self, id: int) -> bool:
        """Whether the plan is done, failed or screened out, as far as it has been read."""
        return id in self.plans and self.plans[id].state in FINISHED

    def failed(self, id: int) -> bool:
        """Whether the plan failed, as far as it has been read."""
        return id in self.plans and self.plans[id].state == FAILED

    def documents(self, after: int = 0, only: Iterable[int] | None = None) -> Iterator[tuple[int, Any]]:
        """Ids and JSON of the plans with an id above `after`, or of some alone."""
        query = sa.select(plans.c.id, plans.c.plan).where(plans.c.study_id == self.study.id, plans.c.id > after)
        if only is not None:
            query = query.where(plans.c.id.in_(list(only)))
        yield from ((row.id, row.plan) for row in self.store.read(query.order_by(plans.c.id)))


def _scale(done: list[Standing]) -> Scale | None:
    """The range over the baselines, or over all where there are fewer than two."""
    baselines = [plan for plan in done if plan.baseline]
    found = [plan.losses for plan in (baselines if len(baselines) > 1 else done)]
    points = np.array(found)
    return Scale(points.min(axis=0), points.max(axis=0)) if found else None


def _same(one: Scale, other: Scale) -> bool:
    return bool(np.array_equal(one.low, other.low) and np.array_equal(one.high, other.high))


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    yield from (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
