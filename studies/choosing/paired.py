"""Differences between two plans of a study, paired by prompt and seed where the samples allow it.

Both plans drew the same prompts from the same noise, so what a prompt does to a score cancels in the difference: it
tells plans apart whose intervals overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explorer.bootstrap import mean_estimate
from explorer.estimate import Estimate
from studies.choosing.choice import Paired
from studies.metrics import direction_of
from studies.results.rows import TrialRow, samples
from studies.settings import Objective
from studies.storage.store import Store, StudyRecord

BETTER, WORSE, TIED = "better", "worse", "tied"


@dataclass(frozen=True)
class Difference:
    """One plan's value less the other's. estimate: with its 95% interval. paired: whether it was found prompt by
    prompt; otherwise from the two intervals, as if the plans were independent. verdict: better, worse or tied."""

    estimate: Estimate
    paired: bool
    verdict: str


def difference(store: Store, study: StudyRecord, row: TrialRow, other: TrialRow, metric: str) -> Difference | None:
    """`row` less `other` in `metric`; None where one of them lacks it."""
    if metric not in row.scores or metric not in other.scores:
        return None
    ours, theirs = (_each(samples(store, study, each.key, metric)) for each in (row, other))
    paired = ours is not None and theirs is not None and len(ours) == len(theirs)
    if paired and ours is not None and theirs is not None:
        estimate = mean_estimate(ours - theirs)
    else:
        estimate = independent(row.scores[metric], other.scores[metric])
    return Difference(estimate, paired, verdict(estimate, metric, study.settings.objectives))


def against(store: Store, study: StudyRecord, control: TrialRow) -> Paired:
    """What `studies.choosing.choice.choose` asks to be sure of a relative limit: a plan less the un-accelerated
    pipeline."""

    def less_control(row: TrialRow, metric: str) -> Estimate | None:
        found = difference(store, study, row, control, metric)
        return found.estimate if found is not None and found.paired else None

    return less_control


def independent(ours: Estimate, theirs: Estimate) -> Estimate:
    """The difference of two independent values, each with its 95% interval: half-widths that face each other add as the
    root of their squares."""
    value = ours.value - theirs.value
    down = np.hypot(ours.value - ours.low, theirs.high - theirs.value)
    up = np.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Estimate(value, value - float(down), value + float(up), min(ours.n, theirs.n))


def verdict(estimate: Estimate, metric: str, objectives: tuple[Objective, ...]) -> str:
    """Better or worse where the whole interval of the difference lies on one side of zero; otherwise tied."""
    if estimate.low <= 0 <= estimate.high:
        return TIED
    return BETTER if (estimate.value > 0) == (direction_of(metric, objectives) == "maximize") else WORSE


def _each(values: list[object]) -> NDArray[np.float64] | None:
    """One number a picture; None where the samples are something else (pairs of timings) or were not kept."""
    if not values or not all(isinstance(value, int | float) for value in values):
        return None
    return np.array(values, dtype=np.float64)
