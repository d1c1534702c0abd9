"""Drift on the prompts that all plans share, to compare screened plans with completely scored ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from studies.metrics import is_paired
from studies.results.rows import TrialRow
from studies.settings import Objective
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, SCREENED, measurements, plans

DRIFT = "psnr"
"""The metric that every check of a race and every complete score has."""


@dataclass(frozen=True)
class Shared:
    """means: metric -> a plan's key -> its mean over the first `prompts` prompts, of plans done and screened out."""

    prompts: int
    means: Mapping[str, Mapping[str, float]]


def shared_drift(
    store: Store, study: StudyRecord, rows: Sequence[TrialRow], objectives: Sequence[Objective]
) -> Shared | None:
    """The paired metrics of the plans of `rows` on as many prompts as every one of them has been drawn for; None where
    no race has screened one out, so that all have all prompts."""
    looked = [row.scores[DRIFT].n for row in rows if row.state == SCREENED and DRIFT in row.scores]
    if not looked:
        return None
    prompts, known = min(looked), {row.key for row in rows}
    metrics = dict.fromkeys([DRIFT, *(each.name for each in objectives if is_paired(each.name))])
    query = sa.select(plans.c.key, measurements.c.metric, measurements.c.samples).join(
        plans, measurements.c.plan_id == plans.c.id
    )
    mine = query.where(
        plans.c.study_id == study.id, plans.c.state.in_([DONE, SCREENED]), measurements.c.metric.in_(list(metrics))
    )
    means: dict[str, dict[str, float]] = {metric: {} for metric in metrics}
    for row in store.read(mine):
        if row.key in known and row.samples and len(row.samples) >= prompts:
            means[row.metric][row.key] = float(np.mean(row.samples[:prompts]))
    return Shared(prompts, means)
