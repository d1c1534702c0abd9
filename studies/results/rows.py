"""Read a study: trials with their scores, the front, pictures and workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.errors import StudyError
from explorer.estimate import Estimate
from studies.pareto.front import Array, losses, non_dominated
from studies.settings import Objective
from studies.storage.command_lines import command_line
from studies.storage.facts import UNKNOWN_FACTS, PlanFacts
from studies.storage.judged import judged
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, devices, measurements, pictures, plans, workers


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One distinct plan of a study.

    Attributes:
        number: Number of the Optuna trial; None while the plan waits.
        key: The plan's key (`InheritancePlan.key`).
        state: `waiting`, `running`, `done`, `failed`, `untimed`, `screened` or `unsteady`.
        origin: Where it comes from, such as `baseline`.
        name: Its name, such as `CO6/P5`; None for a proposed plan.
        aliases: Further names.
        words: The plan in one line.
        plan: Its JSON; None if the plans were not read.
        reason: Why it failed, was screened or is unsteady.
        worker: Number of the worker that has or had it.
        started: Seconds since the epoch.
        finished: Seconds since the epoch.
        scores: Value and interval of each metric.
        seconds: Seconds that each measurement took.
        extractors: The extractor of each metric that has one.
        device: Device of the latency or, before it is measured, of another metric.
        devices: Device of each metric.
        facts: What is shown of the plan.
        proposed_by: The kind of proposer; None for baselines and in older studies.
    """

    number: int | None
    key: str
    state: str
    origin: str
    name: str | None
    aliases: list[str]
    words: str
    plan: dict[str, Any] | None
    reason: str | None
    worker: int | None
    started: float | None
    finished: float | None
    scores: dict[str, Estimate]
    seconds: dict[str, float]
    extractors: dict[str, str]
    device: str | None
    devices: dict[str, str] = field(default_factory=dict)
    facts: PlanFacts = UNKNOWN_FACTS
    proposed_by: str | None = None

    @property
    def nickname(self) -> str:
        """A short name for people. Several plans may share one; `title` adds the number."""
        return self.facts.nickname

    @property
    def title(self) -> str:
        """`#45 ~DC0/P3+f2@20`, unique within the study."""
        return self.nickname if self.number is None else f"#{self.number} {self.nickname}"

    @property
    def speedup(self) -> float | None:
        """The measured speed-up; None without one."""
        return self.scores["speedup"].value if "speedup" in self.scores else None

    @property
    def sure_speedup(self) -> float:
        """The lower end of the speed-up's interval, by which plans are ranked; 0 without one."""
        return self.scores["speedup"].low if "speedup" in self.scores else 0.0

    @property
    def evaluations(self) -> int | None:
        """UNet evaluations of the plan's run; None in older studies."""
        count = None if self.plan is None else self.plan.get("evaluations")
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


def trials(store: Store, study: StudyRecord, *, keep_plans: bool = True) -> list[TrialRow]:
    """Every distinct plan of a study, finished or not, in the order of the queue.

    Args:
        store: The open database.
        study: The study.
        keep_plans: Whether to read the plans' JSON, which takes most of the time in a large study.
    """
    mine = plans.c.study_id == study.id
    return list(store.transact(lambda connection, _: read_rows(connection, mine, keep_plans=keep_plans)).values())


def trial(store: Store, study: StudyRecord, number: int) -> TrialRow:
    """One trial with its plan.

    Raises:
        StudyError: When the study has no trial of that number.
    """
    chosen = sa.and_(plans.c.study_id == study.id, plans.c.trial_number == number)
    found = list(store.transact(lambda connection, _: read_rows(connection, chosen, keep_plans=True)).values())
    if not found:
        show = command_line("show", study.name, storage=store.url)
        raise StudyError(f"the study {study.name} has no trial {number}; `{show}` lists them.")
    return found[0]


_LEFT_OUT = ("plan", "parameters", "attempts", "study_id", "worker_id")
_SHOWN_COLUMNS = [column for column in plans.c if column.name not in _LEFT_OUT]
_SCORE_COLUMNS = [
    measurements.c[name] for name in ("plan_id", "metric", "value", "low", "high", "n", "extractor", "seconds")
]


def read_rows(connection: Connection, where: sa.ColumnElement[bool], *, keep_plans: bool) -> dict[int, TrialRow]:
    """The rows of `plans` that `where` chooses, by id, in the order of the queue. Samples are not read.

    keep_plans: whether the plans' JSON is read. Without it, tens of thousands of rows are read in seconds.
    """
    columns = [*_SHOWN_COLUMNS, *([plans.c.plan] if keep_plans else [])]
    query = sa.select(*columns, workers.c.number.label("worker")).outerjoin(workers, plans.c.worker_id == workers.c.id)
    scores = (
        sa.select(*_SCORE_COLUMNS, devices.c.name.label("device"))
        .join(plans, measurements.c.plan_id == plans.c.id)
        .outerjoin(devices, measurements.c.device_id == devices.c.id)
        .where(where)
        .order_by(measurements.c.id)
    )
    by_plan: dict[int, _Scores] = {}
    measured: list[Any] = list(connection.execute(scores).all())
    for plan_id, metric, value, low, high, n, extractor, seconds, device in measured:
        held = by_plan.get(plan_id)
        if held is None:
            held = by_plan[plan_id] = _Scores()
        held.estimates[metric] = Estimate(value, low, high, n)
        if seconds is not None:
            held.seconds[metric] = seconds
        if extractor is not None:
            held.extractors[metric] = extractor
        if device is not None:
            held.devices[metric] = device
    found = connection.execute(query.where(where).order_by(plans.c.id)).all()
    return {row.id: _trial(row, by_plan.get(row.id) or _Scores(), keep_plans) for row in found}


class _Scores:
    """What the measurements of one plan say."""

    __slots__ = ("devices", "estimates", "extractors", "seconds")

    def __init__(self) -> None:
        self.estimates: dict[str, Estimate] = {}
        self.seconds: dict[str, float] = {}
        self.extractors: dict[str, str] = {}
        self.devices: dict[str, str] = {}


def _trial(row: Any, scores: _Scores, keep_plan: bool) -> TrialRow:
    return TrialRow(
        number=row.trial_number,
        key=row.key,
        state=row.state,
        origin=row.origin,
        name=row.name,
        aliases=list(row.aliases),
        words=row.words,
        plan=row.plan if keep_plan else None,
        reason=row.reason,
        worker=row.worker,
        started=row.claimed,
        finished=row.finished,
        scores=scores.estimates,
        seconds=scores.seconds,
        extractors=scores.extractors,
        device=scores.devices.get("latency") or next(iter(scores.devices.values()), None),
        devices=scores.devices,
        facts=PlanFacts.of_row(row),
        proposed_by=row.proposed_by,
    )


def objective_losses(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> Array:
    """(n, k) losses of scored rows, in the objectives' order, each by the number that counts
    (`studies.storage.judged`)."""
    values = [[judged(objective.name, row.scores[objective.name]) for objective in objectives] for row in rows]
    return losses(values, [objective.direction for objective in objectives])


def front_rows(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[TrialRow]:
    """The Pareto front: scored rows that no other row dominates, in their order.

    Args:
        rows: Rows of `trials`.
        objectives: The study's objectives.
    """
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
