"""What is found once for a study, whatever its plans: the UNet's anatomy, its sensitivity, the floor of a distance."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.calibration.sensitivity import Sensitivity
from explorer.errors import ModelError, ScoreError, StudyError
from explorer.estimate import Estimate
from explorer.timing.anatomy import Anatomy
from studies.device_lock import on_device
from studies.queue import queue
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import findings

if TYPE_CHECKING:
    from studies.searching.session import Session

ANATOMY, SENSITIVITY, FLOOR = "anatomy", "sensitivity", "floor"
PICTURES = 4
"""Pictures of the un-accelerated run that the sensitivity is measured on: the study's first prompts."""


def anatomy_of(store: Store, study: StudyRecord) -> Anatomy | None:
    """The costs of the study's UNet at the study's resolution; None when they were not kept."""
    found = _read(store, study, ANATOMY)
    return None if found is None else _whole(Anatomy.from_json, found)


def sensitivity_of(store: Store, study: StudyRecord) -> Sensitivity | None:
    """How much the study's units change from step to step; None when it was not measured."""
    found = _read(store, study, SENSITIVITY)
    return None if found is None else _whole(Sensitivity.from_json, found)


def floors_of(store: Store, study: StudyRecord) -> dict[str, Estimate]:
    """Metric -> its value between two sets of real pictures, as many as the study's prompts."""
    found = _read(store, study, FLOOR)
    if not isinstance(found, dict):
        return {}
    read = {metric: _whole(Estimate.from_json, value) for metric, value in found.items()}
    return {metric: estimate for metric, estimate in read.items() if estimate is not None}


def record(store: Store, study: StudyRecord, session: Session) -> list[str]:
    """Find and keep what the study lacks; returns what was found. A model with random weights has an anatomy alone.

    Takes one un-accelerated run of a few pictures. Raises StudyError when it cannot be kept.
    """
    made = []
    for kind, find in _WAYS.items():
        if not _sound(kind, _read(store, study, kind)):
            value = find(session)
            if value is not None:
                keep(store, study, kind, value)
                made.append(kind)
    return made


def _find_anatomy(session: Session) -> dict[str, Any]:
    from explorer.models.workload import latent_size, vae_factor
    from explorer.timing.anatomy import anatomy

    pipe = session.evaluator.pipe
    return anatomy(pipe.unet, latent_size(session.settings.resolution, vae_factor(pipe))).to_json()


def _find_sensitivity(session: Session) -> dict[str, Any] | None:
    from explorer.calibration.sensitivity import measure
    from explorer.models.pictures import generate
    from explorer.models.workload import twin

    evaluator = session.evaluator
    if evaluator.scorer is None:
        return None
    pipe, prompts = twin(evaluator.pipe), evaluator.prompts[:PICTURES]

    def run() -> None:
        generate(
            pipe, prompts, seed=evaluator.seed, steps=evaluator.steps, guidance=evaluator.guidance,
            batch_size=len(prompts), size=evaluator.size,
        )  # fmt: skip

    try:
        with on_device(session.info, shared=True):
            return measure(pipe, run, len(prompts)).to_json()
    except (ScoreError, RuntimeError) as error:  # such as NaNs, or too little memory: no plan could be scored beside it
        raise StudyError(f"the un-accelerated pipeline cannot make its pictures ({str(error).rstrip('.')}).") from error


def _find_floor(session: Session) -> dict[str, Any] | None:
    scorer = session.evaluator.scorer
    # Pictures that are their own reference have no floor: the un-accelerated pipeline is at 0.
    if scorer is None or scorer.reference is None:
        return None
    try:
        return {name: scorer.floor(len(session.evaluator.prompts)).to_json() for name in scorer.frechet}
    except ScoreError:  # too few real pictures for two sets of that size
        return {}


_WAYS: dict[str, Callable[[Session], dict[str, Any] | None]] = {
    ANATOMY: _find_anatomy,
    SENSITIVITY: _find_sensitivity,
    FLOOR: _find_floor,
}


_READERS: dict[str, Callable[[Any], Any]] = {ANATOMY: Anatomy.from_json, SENSITIVITY: Sensitivity.from_json}


def _whole(read: Callable[[Any], Any], value: Any) -> Any:
    """What `read` makes of a stored value; None when it is damaged: it is found again by the next search."""
    try:
        return read(value)
    except (ModelError, ScoreError):
        return None


def _sound(kind: str, value: Any) -> bool:
    """Whether a stored value is there and not damaged."""
    if kind == FLOOR:
        return isinstance(value, dict) and all(_whole(Estimate.from_json, each) is not None for each in value.values())
    return value is not None and _whole(_READERS[kind], value) is not None


def _read(store: Store, study: StudyRecord, kind: str) -> Any:
    query = sa.select(findings.c.value).where(findings.c.study_id == study.id, findings.c.kind == kind)
    return next((row.value for row in store.read(query)), None)


def keep(store: Store, study: StudyRecord, kind: str, value: Any) -> None:
    """Keep it, in the place of a damaged one, unless another process kept one meanwhile."""
    row = {"study_id": study.id, "kind": kind, "value": value, "created": time.time()}
    mine = (findings.c.study_id == study.id, findings.c.kind == kind)

    def write(connection: Connection, _again: bool) -> None:
        queue.lock(connection, study)
        standing = connection.execute(sa.select(findings.c.value).where(*mine)).first()
        if standing is not None:
            if not _sound(kind, standing.value):
                connection.execute(sa.update(findings).where(*mine).values(row))
            return
        with suppress(sa.exc.IntegrityError), connection.begin_nested():  # another process was quicker
            connection.execute(sa.insert(findings).values(row))

    store.transact(write)
