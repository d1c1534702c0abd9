"""The queue of plans: enqueued, claimed by one worker, finished once.

The queue is the table `explorer_plans`, not Optuna's waiting trials: a claim is one transaction on one row, so that
two workers never score one plan, and a plan is never lost between two tables. The row's worker is the claim: a worker
must still hold it to record the plan, so one that was taken for dead cannot.

A worker on the study's device scores a plan completely. One on another device claims only its quality; the plan is then
`untimed` until a worker on the study's device claims its latency. A plan whose timings were disturbed is `unsteady`
until a worker claims its latency again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.errors import ExplorerError, StudyError
from explorer.plans.plan import InheritancePlan
from search_spaces.space import Space
from studies.scored import LATENCY, Part
from studies.storage.facts import PlanFacts
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import (
    RUNNING,
    UNSTEADY,
    UNTIMED,
    WAITING,
    plans,
    studies,
)


@dataclass(frozen=True)
class Counts:
    """Numbers of distinct plans of a study, by state.

    Attributes:
        waiting: In the queue.
        running: A worker has them.
        done: Scored.
        failed: Could not be scored.
        untimed: Scored but for their latency.
        screened: Dropped by a race.
        unsteady: Scored, with timings that other work disturbed.
    """

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    untimed: int = 0
    screened: int = 0
    unsteady: int = 0

    @property
    def finished(self) -> int:
        """Plans that are done, failed or screened."""
        return self.done + self.failed + self.screened

    @property
    def begun(self) -> int:
        """Plans that count towards the study's total: finished, running, untimed or unsteady."""
        return self.finished + self.running + self.untimed + self.unsteady


@dataclass(frozen=True)
class Claim:
    """A plan that this worker, and no other, is to score. part: what of it (None: all). number: of the trial that
    stands for it already, once its quality has been measured."""

    id: int
    key: str
    plan: dict[str, Any]
    parameters: dict[str, Any] | None
    words: str
    origin: str
    name: str | None
    nickname: str
    worker_id: int
    part: Part | None = None
    number: int | None = None


@dataclass(frozen=True)
class KnownPlan:
    """A plan that the study has already, with Optuna's number of its trial (if it has one yet)."""

    id: int
    key: str
    state: str
    number: int | None


class Full:
    """The study's total is reached by what is finished and what is being scored."""


def lock(connection: Connection, study: StudyRecord) -> None:
    """Let one worker at a time change the study's queue. (SQLite's immediate transaction has done it already.)

    Raises:
        StudyError: when the study has been deleted. Its id may be another study's by now, so its time counts as well.
    """
    same = (studies.c.id == study.id, studies.c.created == study.created)
    if connection.execute(sa.select(studies.c.id).where(*same).with_for_update(key_share=True)).first() is None:
        raise StudyError(f"the study {study.name!r} was deleted while it was in use; start a new one.")


def count(connection: Connection, study: StudyRecord) -> Counts:
    query = sa.select(plans.c.state, sa.func.count()).where(plans.c.study_id == study.id).group_by(plans.c.state)
    return Counts(**{row[0]: row[1] for row in connection.execute(query)})


def counts(store: Store, study: StudyRecord) -> Counts:
    """Count the study's plans by state."""
    return store.transact(lambda connection, _: count(connection, study))


def row_of(
    study: StudyRecord,
    plan: InheritancePlan,
    evaluations: int,
    parameters: dict[str, Any] | None,
    origin: str,
    proposed_by: str | None = None,
) -> dict[str, Any]:
    """A plan's row; its UNet evaluations are kept with it, as its key alone would not give them back. proposed_by: a
    kind of `studies.proposing.proposers`."""
    document, description = plan.to_json(), plan.describe()
    return PlanFacts.of(document, plan.name, description).columns() | {
        "study_id": study.id,
        "key": plan.key(evaluations),
        "plan": document | {"evaluations": evaluations},
        "parameters": parameters,
        "words": description,
        "origin": origin,
        "proposed_by": proposed_by,
        "name": plan.name,
        "aliases": [],
        "state": WAITING,
    }


def enqueue(
    store: Store,
    study: StudyRecord,
    candidates: Iterable[InheritancePlan],
    space: Space,
    evaluations: Callable[[InheritancePlan], int],
    origin: str = "baseline",
) -> int:
    """Put plans into the queue. A plan that the study already has is not added again; its name becomes an alias.

    Args:
        store: The open database.
        study: The study.
        candidates: The plans.
        space: The study's space. A plan outside of it is scored too, but the sampler does not learn from it.
        evaluations: Gives the UNet evaluations of a plan.
        origin: Recorded with the plans, such as `baseline`.

    Returns:
        How many plans were new.

    Raises:
        StudyError: When the study was deleted or the storage cannot be written.
    """
    rows = []
    for plan in candidates:
        try:
            parameters: dict[str, Any] | None = space.parameters(plan)
        except ExplorerError:
            parameters = None
        rows.append(row_of(study, plan, evaluations(plan), parameters, origin))

    def add(connection: Connection, _again: bool) -> int:
        added = 0
        lock(connection, study)
        standing = sa.select(plans.c.id, plans.c.name, plans.c.aliases).where(plans.c.study_id == study.id)
        for row in rows:
            found = connection.execute(standing.where(plans.c.key == row["key"])).first()
            if found is None:
                connection.execute(sa.insert(plans).values(row))
                added += 1
            elif row["name"] is not None and row["name"] not in (found.name, *found.aliases):
                named = {"name": row["name"], "nickname": row["nickname"]}
                change = {"aliases": [*found.aliases, row["name"]]} if found.name else named
                query = sa.update(plans).where(plans.c.id == found.id)
                connection.execute(query.values(origin=origin, **change))
        return added

    return store.transact(add)


def claim_waiting(
    store: Store, study: StudyRecord, worker_id: int, total: int | None, part: Part | None = None
) -> Claim | None:
    """A plan out of the queue, now this worker's; None when there is none or the study's total is reached.

    part: None on the study's device: the first plan that waits for its latency alone, otherwise the first that waits,
    to be scored whole. QUALITY elsewhere: the first that waits, for its quality.
    """
    stamp = time.time()

    def claim(connection: Connection, again: bool) -> Claim | None:
        lock(connection, study)
        mine = sa.select(plans).where(plans.c.study_id == study.id)
        if again:
            held = mine.where(plans.c.state == RUNNING, plans.c.worker_id == worker_id, plans.c.claimed == stamp)
            if (row := connection.execute(held).first()) is not None:
                return _claim(row, worker_id, LATENCY if row.trial_number is not None else part)
        counted = count(connection, study)
        untimed = part is None and counted.untimed > 0
        if total is not None and total <= (counted.finished + counted.running if untimed else counted.begun):
            return None
        query = mine.where(plans.c.state == (UNTIMED if untimed else WAITING)).order_by(plans.c.id).limit(1)
        row = connection.execute(query).first()
        if row is None:
            return None
        change: dict[str, Any] = {"state": RUNNING, "worker_id": worker_id, "claimed": stamp}
        connection.execute(sa.update(plans).where(plans.c.id == row.id).values(change))
        return _claim(row, worker_id, LATENCY if untimed else part)

    return store.transact(claim)


def claim_unsteady(store: Store, study: StudyRecord, worker_id: int, before: float) -> Claim | None:
    """The latency of the plan that has been unsteady for longest, now this worker's to measure again; None where each
    was measured since `before` (seconds since the epoch)."""
    stamp = time.time()

    def claim(connection: Connection, again: bool) -> Claim | None:
        lock(connection, study)
        mine = sa.select(plans).where(plans.c.study_id == study.id)
        if again:
            held = mine.where(plans.c.state == RUNNING, plans.c.worker_id == worker_id, plans.c.claimed == stamp)
            if (row := connection.execute(held).first()) is not None:
                return _claim(row, worker_id, LATENCY)
        waits = mine.where(plans.c.state == UNSTEADY, plans.c.finished < before)
        row = connection.execute(waits.order_by(plans.c.finished).limit(1)).first()
        if row is None:
            return None
        change: dict[str, Any] = {"state": RUNNING, "worker_id": worker_id, "claimed": stamp}
        connection.execute(sa.update(plans).where(plans.c.id == row.id).values(change))
        return _claim(row, worker_id, LATENCY)

    return store.transact(claim)


def claim_new(
    store: Store,
    study: StudyRecord,
    worker_id: int,
    total: int | None,
    row: dict[str, Any],
    number: int | None,
    part: Part | None = None,
) -> Claim | KnownPlan | Full:
    """Add a proposed plan (a `row_of`) as this worker's, unless it exists already or the study's total is reached."""
    stamp = time.time()

    def claim(connection: Connection, again: bool) -> Claim | KnownPlan | Full:
        lock(connection, study)
        query = sa.select(plans).where(plans.c.study_id == study.id, plans.c.key == row["key"])
        found = connection.execute(query).first()
        if found is not None and found.state != WAITING:
            if again and (found.state, found.worker_id, found.claimed) == (RUNNING, worker_id, stamp):
                return _claim(found, worker_id, part)
            return KnownPlan(found.id, found.key, found.state, found.trial_number)
        if total is not None and count(connection, study).begun >= total:
            return Full()
        change = {"state": RUNNING, "worker_id": worker_id, "claimed": stamp, "trial_number": number}
        if found is None:
            connection.execute(sa.insert(plans).values(row | change))
        else:
            connection.execute(sa.update(plans).where(plans.c.id == found.id).values(change))
        return _claim(connection.execute(query).one(), worker_id, part)

    return store.transact(claim)


def _claim(row: sa.Row[Any], worker_id: int, part: Part | None) -> Claim:
    number = row.trial_number if part == LATENCY else None
    nickname = PlanFacts.of_row(row).nickname
    return Claim(
        row.id, row.key, row.plan, row.parameters, row.words, row.origin, row.name, nickname, worker_id, part, number
    )
