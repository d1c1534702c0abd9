"""What a study holds, read for people: trials with their scores, the front, pictures and workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from explorer.estimate import Estimate
from studies.front import Array, losses, non_dominated
from studies.settings import Objective
from studies.store import Store, StudyRecord
from studies.tables import DONE, devices, measurements, pictures, plans, workers


@dataclass(frozen=True)
class TrialRow:
    """One distinct plan of a study. number: Optuna's trial; None while it waits. started, finished: epoch seconds.
    devices: by metric, what it was measured on; device: the one of the latency, while there is none that of another
    score."""

    number: int | None
    key: str
    state: str
    origin: str
    name: str | None
    aliases: list[str]
    words: str
    plan: dict[str, Any]
    reason: str | None
    worker: int | None
    started: float | None
    finished: float | None
    scores: dict[str, Estimate]
    seconds: dict[str, float]
    extractors: dict[str, str]
    device: str | None
    devices: dict[str, str] = field(default_factory=dict)

    @property
    def speedup(self) -> float | None:
        return self.scores["speedup"].value if "speedup" in self.scores else None

    @property
    def evaluations(self) -> int | None:
        """UNet evaluations of the plan's run; None in studies of before they were kept."""
        count = self.plan.get("evaluations")
        return count if isinstance(count, int) else None


@dataclass(frozen=True)
class PictureRow:
    """A stored sample: where its files are, and what it shows."""

    number: int
    path: Path
    thumbnail: Path
    prompt: str | None
    seed: int | None


@dataclass(frozen=True)
class WorkerRow:
    """A worker of a study. state: running, stopped or dead; heartbeat: epoch seconds."""

    number: int
    host: str
    pid: int
    state: str
    heartbeat: float


def trials(store: Store, study: StudyRecord) -> list[TrialRow]:
    """Every distinct plan of the study in the order of the queue, finished or not."""
    worker_numbers = sa.select(plans, workers.c.number.label("worker")).outerjoin(
        workers, plans.c.worker_id == workers.c.id
    )
    query = worker_numbers.where(plans.c.study_id == study.id).order_by(plans.c.id)
    scores = (
        sa.select(measurements, devices.c.name.label("device"))
        .join(plans, measurements.c.plan_id == plans.c.id)
        .outerjoin(devices, measurements.c.device_id == devices.c.id)
        .where(plans.c.study_id == study.id)
        .order_by(measurements.c.id)
    )
    found, measured = store.transact(lambda c, _: (c.execute(query).all(), c.execute(scores).all()))
    by_plan: dict[int, list[sa.Row[Any]]] = {}
    for score in measured:
        by_plan.setdefault(score.plan_id, []).append(score)
    return [_trial(row, by_plan.get(row.id, [])) for row in found]


def _trial(row: sa.Row[Any], scores: list[sa.Row[Any]]) -> TrialRow:
    on = {score.metric: score.device for score in scores if score.device is not None}
    return TrialRow(
        number=row.trial_number,
        key=row.key,
        state=row.state,
        origin=row.origin,
        name=row.name,
        aliases=list(row.aliases),
        words=row.words,
        plan=row.plan,
        reason=row.reason,
        worker=row.worker,
        started=row.claimed,
        finished=row.finished,
        scores={score.metric: Estimate(score.value, score.low, score.high, score.n) for score in scores},
        seconds={score.metric: score.seconds for score in scores if score.seconds is not None},
        extractors={score.metric: score.extractor for score in scores if score.extractor is not None},
        device=on.get("latency") or next(iter(on.values()), None),
        devices=on,
    )


def objective_losses(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> Array:
    """(n, k) losses of scored rows, in the objectives' order."""
    values = [[row.scores[objective.name].value for objective in objectives] for row in rows]
    return losses(values, [objective.direction for objective in objectives])


def front_rows(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[TrialRow]:
    """The scored rows that no other one dominates, in their order."""
    names = {objective.name for objective in objectives}
    scored = [row for row in rows if row.state == DONE and names <= row.scores.keys()]
    if not scored:
        return []
    return [row for row, kept in zip(scored, non_dominated(objective_losses(scored, objectives)), strict=True) if kept]


def sample_pictures(store: Store, study: StudyRecord, key: str) -> list[PictureRow]:
    """The stored pictures of a plan, by prompt."""
    query = sa.select(pictures).join(plans).where(plans.c.study_id == study.id, plans.c.key == key)
    found = store.read(query.order_by(pictures.c.number))
    return [
        PictureRow(row.number, store.folder / row.path, store.folder / row.thumbnail, row.prompt, row.seed)
        for row in found
    ]


def samples(store: Store, study: StudyRecord, key: str, metric: str) -> list[Any]:
    """The raw samples of a plan's measurement; empty when none were kept."""
    query = sa.select(measurements.c.samples).join(plans).where(plans.c.study_id == study.id, plans.c.key == key)
    found = store.read(query.where(measurements.c.metric == metric))
    return list((found[0].samples if found else None) or [])


def worker_rows(store: Store, study: StudyRecord) -> list[WorkerRow]:
    """Every worker that the study has had."""
    query = sa.select(workers).where(workers.c.study_id == study.id).order_by(workers.c.number)
    return [WorkerRow(row.number, row.host, row.pid, row.state, row.heartbeat) for row in store.read(query)]
