"""Makes a study's calibration: un-accelerated runs, part by part, each stored as soon as it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache, reduce
from typing import Any

import numpy as np

from explorer.calibration.moments import Moments, collect_moments
from explorer.calibration.step_errors import Design, measure_step_errors
from explorer.errors import ModelError, PlanError, ScoreError, StudyError
from explorer.models.pictures import run
from explorer.plans.schedulers import evaluations_of
from search_spaces.space import Setting
from studies.clock import OutOfTime
from studies.device_lock import on_device
from studies.predicting import calibration
from studies.predicting.calibration import Calibration
from studies.predicting.parts import Arrays, Part, moments_arrays, moments_of
from studies.searching.further import Task, further_tasks
from studies.searching.session import Session
from studies.storage.store import Store, StudyRecord

PICTURES = 4
BATCH = 2
POINTS = 8
SEED = 1_000_003
"""Added to the study's seed: weights that were fitted on the pictures that are scored would flatter themselves."""


@dataclass(frozen=True)
class CalibrationProgress:
    """done, total: UNet evaluations of any kind. seconds_left: None while nothing has been done in this run."""

    done: int
    total: int
    seconds: float
    seconds_left: float | None
    words: str


def calibrate(
    store: Store,
    study: StudyRecord,
    session: Session,
    *,
    pictures: int | None = None,
    points: int | None = None,
    on_progress: Callable[[CalibrationProgress], None] | None = None,
    seconds: float | None = None,
) -> Calibration:
    """Make the study's calibration; existing parts are kept. An unfinished one goes on with its own parts and design.
    One of an earlier version is complete without kinds of parts that did not exist then.

    pictures: prompts of the study that are run, its last ones, with other seeds. points: evaluations of a run at which
    errors are measured. None: as in the existing parts, otherwise 4 (or all prompts) and 8. Features are read, and
    plain runs made, at every step count of the space; errors of single steps are measured at the study's own. seconds:
    time after which no part is started, and the current one is dropped unless it is the first of this run.

    What is beside the pipeline's own (`studies.searching.further`) is left out where there is no time for it or it
    cannot run; `Further.refused` tells why.

    Raises:
        OutOfTime: when `seconds` was not enough for the pipeline's own parts. Finished parts are kept.
        StudyError: for a model with random weights, fewer prompts than pictures, or a calibration that exists with
            other pictures or points.
    """
    if session.evaluator.scorer is None:
        raise StudyError(
            f"{study.settings.model} has random weights, so there is nothing to calibrate; use a trained one."
        )
    standing = calibration.parts(store, study)
    before: dict[str, int] = next((part.facts["made_with"] for part in standing.values()), {})
    count = len(session.evaluator.prompts)
    pictures = before.get("pictures", min(PICTURES, count)) if pictures is None else pictures
    points = before.get("points", POINTS) if points is None else points
    if pictures < 1 or points < 2:
        raise StudyError(f"a calibration needs at least 1 picture and 2 points, got {pictures} and {points}.")
    if pictures > count:
        raise StudyError(
            f"the calibration is to run {pictures} prompts and the study has {count}; give --pictures {count}, or a "
            "study of more prompts."
        )
    made_with = {"pictures": pictures, "points": points}
    if before not in ({}, made_with):
        raise StudyError(
            f"the study {study.name!r} has a calibration of {before['pictures']} pictures at {before['points']} points "
            "of a run; leave out --pictures and --points to use it, or give --again to make a new one."
        )
    begun_with: list[str] | None = next((part.facts["parts"] for part in standing.values()), None)
    known = next((part.facts["design"] for part in standing.values() if "design" in part.facts), None)
    design = None if known is None else calibration.design_of(known)
    every = _tasks(session, lambda: calibration.parts(store, study), pictures, points, design)
    own = [task for task in every if begun_with is None or task.part in begun_with]
    names = [task.part for task in own]
    prompts, seed = session.evaluator.prompts[-pictures:][:BATCH], session.settings.seed + SEED
    beside = further_tasks(session, sum(task.work for task in own), prompts, seed)
    tasks = own + beside
    started, begun = time.monotonic(), sum(task.work for task in tasks if task.part in standing)
    done, total = begun, sum(task.work for task in tasks)
    words, made, part_ends = "", len(standing), begun

    def check_time() -> None:
        spent = time.monotonic() - started
        if seconds is None or done == total or spent < seconds:
            return
        rest = f"; the rest takes about {(total - done) * spent / (done - begun):.0f} s" if done > begun else ""
        raise OutOfTime(f"the calibration is not complete: {made} of {len(tasks)} parts are stored{rest}")

    def report(more: int) -> None:
        nonlocal done
        done += more
        spent = time.monotonic() - started
        left = (total - done) * spent / (done - begun) if done > begun else None
        if on_progress is not None:
            on_progress(CalibrationProgress(done, total, spent, left, words))
        if made > len(standing) and done < part_ends:
            check_time()

    def make(task: Task) -> None:
        nonlocal words, made, part_ends
        words, part_ends = task.words, done + task.work
        check_time()
        report(0)
        with on_device(session.info, shared=not task.timed):
            clock = time.perf_counter()
            arrays, facts = task.make(report)
            took = time.perf_counter() - clock
        calibration.save_part(store, study, task.part, facts | {"parts": names, "made_with": made_with}, arrays, took)
        made += 1
        report(part_ends - done)

    for task in own:
        if task.part not in standing:
            make(task)
    refused: dict[str, str] = {}
    with suppress(OutOfTime):  # it is whole without these
        for task in beside:
            if task.part not in standing:
                try:
                    make(task)
                except (PlanError, ModelError, ScoreError) as error:  # such as a student that cannot run here
                    refused[task.part] = str(error)
    whole = calibration.load(store, study)
    assert whole is not None
    return replace(whole, further=replace(whole.further, refused=refused))


def work(session: Session) -> int:
    """UNet evaluations of all kinds, of BATCH pictures each, that the calibration of a new study takes; 0 where there
    can be none, as the model has random weights or a run has no step that could inherit."""
    if session.evaluator.scorer is None or session.space.setting.evaluations < 2:
        return 0
    pictures = min(PICTURES, len(session.evaluator.prompts))
    own = sum(task.work for task in _tasks(session, dict, pictures, POINTS))
    return own + sum(task.work for task in further_tasks(session, own, session.evaluator.prompts[:BATCH], 0))


def _tasks(
    session: Session,
    stored: Callable[[], Mapping[str, Part]],
    pictures: int,
    points: int,
    design: Design | None = None,
) -> Iterator[Task]:
    """stored: gives the parts that exist when a task is made. design: of the existing errors; None without any."""
    evaluator, settings = session.evaluator, session.settings
    pipe, prompts = evaluator.pipe, evaluator.prompts[-pictures:]
    how: dict[str, Any] = {"guidance": evaluator.guidance, "size": evaluator.size}
    evaluations = evaluations_of(pipe.scheduler, settings.steps)
    design = design or Design.of(session.architecture, evaluations, count=points)
    if not design.steps:
        raise StudyError(f"a run of {evaluations} evaluation has no step that could inherit; give more --steps.")
    batches = [(start, prompts[start : start + BATCH]) for start in range(0, pictures, BATCH)]
    setting = Setting(session.architecture, settings.steps, evaluations)
    of_space = set(getattr(session.space, "steps", ())) - {settings.steps}

    def moments(steps: int, start: int, batch: Any, report: Callable[[int], None]) -> tuple[Arrays, dict[str, Any]]:
        made = collect_moments(
            pipe, batch, steps=steps, seed=settings.seed + SEED + start, batch_size=BATCH,
            progress=lambda *_: report(setting.at(steps)), **how,
        )  # fmt: skip
        return moments_arrays(made)

    def errors(start: int, batch: Any, report: Callable[[int], None]) -> tuple[Arrays, dict[str, Any]]:
        known = [moments_of(part) for name, part in stored().items() if name.startswith("moments/")]
        own = reduce(Moments.joined, [each for each in known if each.steps == settings.steps])
        made = measure_step_errors(pipe, batch, design, own, seed=settings.seed + SEED + start, progress=report, **how)
        arrays = {f.name: np.atleast_1d(np.asarray(getattr(made, f.name), dtype=np.float64)) for f in fields(made)}
        return arrays, {"design": calibration.design_json(design)}

    @cache
    def full() -> Any:
        return latents(settings.steps)

    def latents(steps: int) -> Any:
        seed = settings.seed + SEED
        return run(pipe, prompts[:BATCH], seed=seed, steps=steps, output_type="latent", **how).float()

    def plain(steps: int, _: Any) -> tuple[Arrays, dict[str, Any]]:
        distance = float(((full() - latents(steps)) ** 2).mean())
        return {"distance": np.array([distance])}, {"plain": steps}

    def bound(make: Any, *given: Any) -> Any:
        return lambda report: make(*given, report)

    for number, (start, batch) in enumerate(batches):
        made = bound(moments, settings.steps, start, batch)
        yield Task(f"moments/{number}", evaluations, "features of un-accelerated runs", made)
    for number, (start, batch) in enumerate(batches):
        yield Task(f"errors/{number}", design.work, "errors of single steps", bound(errors, start, batch), timed=True)
    for count in sorted(of_space, reverse=True):
        if evaluations_of(pipe.scheduler, count) == setting.at(count):  # weights are for the evaluations of the space
            work, words = setting.at(count) * len(batches), f"features of runs of {count} steps"
            yield Task(f"moments/{count} steps", work, words, bound(moments, count, 0, prompts))
    fewer = sorted(of_space | set(setting.plain_steps()) - {settings.steps}, reverse=True)
    for place, count in enumerate(fewer):
        work = setting.at(count) + (0 if place else evaluations)  # the run that all are compared with is made once
        yield Task(f"plain/{count}", work, f"{count} plain steps", bound(plain, count))
