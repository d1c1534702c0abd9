"""How a claim ends: recorded, failed, released or given up. Whoever ends it must still hold it."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.errors import StudyError
from studies.metrics import SPEEDS, UNSTEADY_LATENCY
from studies.queue.queue import Claim
from studies.scored import LATENCY, QUALITY, Part, Scored
from studies.storage import pictures
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import (
    DONE,
    FAILED,
    RUNNING,
    SCREENED,
    UNSTEADY,
    UNTIMED,
    WAITING,
    measurements,
    plans,
)
from studies.storage.tables import pictures as picture_rows

ATTEMPTS = 3  # workers that a plan may end before it is given up


def _settle(connection: Connection, claim: Claim, **change: Any) -> bool:
    held = (plans.c.id == claim.id, plans.c.worker_id == claim.worker_id, plans.c.state == RUNNING)
    return connection.execute(sa.update(plans).where(*held).values(change)).rowcount == 1


def _settled(connection: Connection, claim: Claim, state: str, finished: float) -> bool:
    """Whether this very change exists already, by a try whose answer was lost."""
    query = sa.select(plans.c.id).where(plans.c.id == claim.id, plans.c.worker_id == claim.worker_id)
    return connection.execute(query.where(plans.c.state == state, plans.c.finished == finished)).first() is not None


def set_number(store: Store, claim: Claim, number: int) -> None:
    store.transact(lambda connection, _: _settle(connection, claim, trial_number=number))


def finish(store: Store, study: StudyRecord, claim: Claim, scored: Scored, device_id: int | None = None) -> bool:
    """Record what was measured, all or nothing: the plan is done, untimed after its quality alone, unsteady when its
    timings were disturbed, or screened when a race dropped it. False when the claim was lost, in which case nothing is
    recorded. What was measured again takes the place of what was there; timed pairs of unsteady latencies are all kept.

    Raises:
        StudyError: when an objective of the study was not measured, or the database or the pictures' folder cannot be
            written.
    """
    missing = [
        name for name in _objectives(study, claim.part)
        if name not in scored.estimates and not (scored.unsteady is not None and name in SPEEDS)
    ]  # fmt: skip
    if missing and scored.screened is None:
        raise StudyError(
            f"the plan was scored without {', '.join(missing)}, which the study {study.name!r} needs; "
            f"it has {', '.join(scored.estimates) or 'no metric'}."
        )
    store.check_stands()
    files = pictures.write(store.folder, study.folder, claim.key, scored.pictures)
    rows = [
        estimate.to_json()
        | {
            "plan_id": claim.id,
            "metric": metric,
            "extractor": scored.extractors.get(metric),
            "seconds": scored.seconds.get(metric),
            "samples": list(scored.samples[metric]) if metric in scored.samples else None,
            "device_id": device_id,
        }
        for metric, estimate in scored.estimates.items()
    ]
    state = state_of(claim, scored)
    reason, stamp = scored.screened or scored.unsteady, time.time()

    def record(connection: Connection, again: bool) -> bool:
        if not _settle(connection, claim, state=state, reason=reason, finished=stamp):
            return again and _settled(connection, claim, state, stamp)
        _replace(connection, claim, rows)
        if files:
            connection.execute(sa.insert(picture_rows), [file | {"plan_id": claim.id} for file in files])
        return True

    return store.transact(record)


def state_of(claim: Claim, scored: Scored) -> str:
    """The state of a plan once this has been measured of it."""
    if scored.screened is not None:
        return SCREENED
    if scored.unsteady is not None:
        return UNSTEADY
    return UNTIMED if claim.part == QUALITY else DONE


def _replace(connection: Connection, claim: Claim, rows: list[dict[str, Any]]) -> None:
    """Insert measurements, in the place of those that the plan has of the same metrics."""
    found = measurements.c
    standing = (found.plan_id == claim.id, found.metric.in_([row["metric"] for row in rows]))
    kept = connection.execute(sa.select(found.samples).where(*standing, found.metric == UNSTEADY_LATENCY)).scalar()
    for row in rows:
        if kept and row["metric"] == UNSTEADY_LATENCY:
            row["samples"] = [*kept, *(row["samples"] or [])]
    connection.execute(sa.delete(measurements).where(*standing))
    connection.execute(sa.insert(measurements), rows)


def _objectives(study: StudyRecord, part: Part | None) -> list[str]:
    """The names of the objectives that measuring this part gives."""
    names = [objective.name for objective in study.settings.objectives]
    return names if part is None else [name for name in names if (name in SPEEDS) == (part == LATENCY)]


def fail(store: Store, claim: Claim, reason: str) -> bool:
    """Record that the plan could not be scored, and why. False when the claim was lost."""
    stamp = time.time()

    def record(connection: Connection, again: bool) -> bool:
        settled = _settle(connection, claim, state=FAILED, reason=reason, finished=stamp)
        return settled or (again and _settled(connection, claim, FAILED, stamp))

    return store.transact(record)


def _back() -> dict[str, Any]:
    """What puts a plan that is being scored back as it was: unsteady or untimed, with its trial, when other parts of it
    stand."""
    measured = sa.exists().where(measurements.c.plan_id == plans.c.id)
    disturbed = measured.where(measurements.c.metric == UNSTEADY_LATENCY)
    return {
        "state": sa.case((disturbed, UNSTEADY), (measured, UNTIMED), else_=WAITING),
        "trial_number": sa.case((measured, plans.c.trial_number), else_=None),
        "worker_id": None,
        "claimed": None,
    }


def release(store: Store, claim: Claim) -> bool:
    """Give the plan back to the queue, as if it had not been claimed. False when the claim was lost."""
    return store.transact(lambda connection, _: _settle(connection, claim, **_back()))


def give_up(store: Store, claim: Claim) -> None:
    """Give the plan back after its scoring ended this worker; after some such attempts it counts as failed."""
    mine = (plans.c.id == claim.id, plans.c.worker_id == claim.worker_id)
    store.transact(lambda connection, _: requeue(connection, *mine))


def requeue(connection: Connection, *which: sa.ColumnElement[bool]) -> int:
    """Put plans of dead workers back into the queue, or fail those that ended too many workers; returns how many."""
    which = (plans.c.state == RUNNING, *which)
    last = sa.update(plans).where(plans.c.attempts >= ATTEMPTS - 1, *which)
    reason = f"{ATTEMPTS} workers ended while they scored it"
    given_up = last.values(state=FAILED, reason=reason, attempts=plans.c.attempts + 1, finished=time.time())
    count = connection.execute(given_up).rowcount
    back = sa.update(plans).where(*which).values(**_back(), attempts=plans.c.attempts + 1)
    return count + connection.execute(back).rowcount


def values_of(store: Store, study: StudyRecord, plan_id: int) -> list[float]:
    """The objectives' measured values of a plan that is done, in the study's order."""
    names = [objective.name for objective in study.settings.objectives]
    query = sa.select(measurements.c.metric, measurements.c.value).where(measurements.c.plan_id == plan_id)
    found = {row.metric: row.value for row in store.read(query)}
    return [float(found[name]) for name in names]
