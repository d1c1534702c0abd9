"""What a calibration measures beside the pipeline's own scheduler, spacing and network, within a share of its cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from explorer.calibration.moments import collect_moments
from explorer.calibration.network_errors import measure_network
from explorer.models.pictures import run
from explorer.plans.schedulers import scheduled, short
from search_spaces.space import Setting
from studies.predicting.calibration import Calibration
from studies.predicting.further import Family, Further, moments_part, network_part, plain_part
from studies.predicting.parts import Arrays, moments_arrays
from studies.searching.session import Session

SHARE = 0.5
"""Of the pipeline's own calibration: what all of this may cost beside it, in UNet evaluations."""


@dataclass(frozen=True)
class Task:
    """A piece of a calibration. work: UNet evaluations of all kinds; timed: whether it needs the device alone."""

    part: str
    work: int
    words: str
    make: Callable[[Callable[[int], None]], tuple[Arrays, dict[str, Any]]]
    timed: bool = False


def families(setting: Setting) -> list[Family]:
    """The schedulers and spacings of a study beside its own, the schedulers with their own spacing first."""
    schedulers = (None, *setting.schedulers)
    spaced = (
        (scheduler, kind)
        for kind, changes in setting.values.get("spacing", {}).items()
        for scheduler in schedulers
        if changes(scheduler)
    )
    return [*((name, None) for name in setting.schedulers), *spaced]


def further_tasks(session: Session, own: int, prompts: Any, seed: int) -> list[Task]:
    """Those for which there is room, the most telling first: every scheduler, then the students, then the spacings.

    Args:
        session: Of the study.
        own: UNet evaluations of the pipeline's own calibration.
        prompts: One batch of them.
        seed: Of the first picture.
    """
    left, chosen = SHARE * own, []
    for task in _every(session, prompts, seed):
        if task.work <= left:
            chosen.append(task)
            left -= task.work
    return chosen


def left_out(setting: Setting, made: Calibration) -> str:
    """A sentence about what was not measured beside the pipeline's own; empty where all of it was."""
    further: Further = made.further
    missing = {_named(family): plain_part(family) for family in families(setting) if family not in further.plain}
    missing |= {name: network_part(name) for name in setting.values.get("cast", {}) if name not in further.networks}
    if not missing:
        return ""
    why = {name: further.refused.get(part, "").removesuffix(".") for name, part in missing.items()}
    names = ", ".join(f"{name} ({reason})" if reason else name for name, reason in why.items())
    return (
        f"the calibration left out {names}: their plans are proposed by what is measured of others, without "
        "a prediction."
    )


def _every(session: Session, prompts: Any, seed: int) -> Iterator[Task]:
    evaluator, setting = session.evaluator, session.space.setting
    pipe, steps = evaluator.pipe, session.settings.steps
    how: dict[str, Any] = {"guidance": evaluator.guidance, "size": evaluator.size}

    def latents(count: int) -> Any:
        return run(pipe, prompts, seed=seed, steps=count, output_type="latent", **how).float()

    @cache
    def full() -> Any:
        return latents(steps)

    counts = sorted(setting.plain_steps())

    def plain(family: Family, report: Callable[[int], None]) -> tuple[Arrays, dict[str, Any]]:
        full()
        squares = []
        for count in counts:
            with scheduled(pipe, *family):
                squares.append(float(((full() - latents(count)) ** 2).mean()))
            report(setting.at(count, family[0]))
        return {"distance": np.array(squares)}, {"plain of": list(family), "steps of": counts}

    def moments(scheduler: str, report: Callable[[int], None]) -> tuple[Arrays, dict[str, Any]]:
        with scheduled(pipe, scheduler):
            made = collect_moments(pipe, prompts, steps=steps, seed=seed, batch_size=len(prompts), **how)
        report(made.evaluations)
        arrays, facts = moments_arrays(made)
        return arrays, facts | {"moments of": scheduler}

    def network(name: str, student: Any, report: Callable[[int], None]) -> tuple[Arrays, dict[str, Any]]:
        found = measure_network(pipe, student, prompts, steps=steps, seed=seed, progress=report, **how)
        return {"errors": found.errors, "alone": np.array([found.alone, found.share])}, {"network": name}

    def task(part: str, work: int, words: str, make: Any, *given: Any, timed: bool = False) -> Task:
        return Task(part, work, words, lambda report: make(*given, report), timed)

    def controls(family: Family) -> Task:
        work = sum(setting.at(count, family[0]) for count in counts)
        return task(plain_part(family), work, f"plain runs, {_named(family)}", plain, family)

    for family in families(setting):
        scheduler, spacing = family
        if scheduler is not None and spacing is None:
            yield controls(family)
            words = f"features of runs under {short(scheduler)}"
            yield task(moments_part(scheduler), setting.at(steps, scheduler), words, moments, scheduler)
    for name, found in setting.values.get("cast", {}).items():
        work, words = 3 * setting.evaluations, f"errors of the student {name}"
        yield task(network_part(name), work, words, network, name, found.student, timed=True)
    for family in families(setting):
        if family[1] is not None:
            yield controls(family)


def _named(family: Family) -> str:
    scheduler, spacing = family
    return "".join(([] if scheduler is None else [short(scheduler)]) + ([] if spacing is None else [f"~{spacing}"]))
