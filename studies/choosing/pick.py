"""Which of a study's plans to take for a limit on quality, and what is next when it does not hold.

A search scores few pictures, so plans are chosen by the point estimate of their paired loss; the certificate, which
nobody has chosen by, is judged by the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.estimate import Estimate
from studies.choosing.choice import AskedLimits, Bound, Choice, bounds_of, choose, keeps
from studies.choosing.judgement import QualityLimits, turned
from studies.choosing.paired import against
from studies.results.rows import TrialRow, trials
from studies.results.summary import is_control, plain_row
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE


@dataclass(frozen=True)
class ScoredPlan:
    """A scored plan against the un-accelerated pipeline. speedup: its measured value; which plan is faster is decided
    by the worse end of its interval, `surely`. loss: of the CLIP score, paired; drift: 1 - SSIM."""

    row: TrialRow
    speedup: float
    loss: Estimate
    drift: float
    psnr: float

    @property
    def surely(self) -> float:
        return self.row.sure_speedup

    @property
    def plain(self) -> bool:
        """Whether it only takes fewer steps."""
        return self.row.facts.plain


def bounds_within(limits: QualityLimits, clip: str, plain: TrialRow) -> list[Bound]:
    """What a plan may just have. clip: the CLIP score's name; plain: the un-accelerated trial."""
    return bounds_of(AskedLimits(limits.clip_loss, limits.drift).wish([clip, "ssim"]), plain)


def candidates(store: Store, study: StudyRecord, clip: str) -> tuple[TrialRow | None, list[ScoredPlan]]:
    """The un-accelerated trial (None while it is not scored) and every other scored plan, the surely fastest first."""
    scored = [row for row in trials(store, study) if clip in row.scores]
    rows = [row for row in scored if row.state == DONE and "speedup" in row.scores]
    plain = plain_row(scored, study.settings.steps)
    if plain is None:
        return None, []
    change_of = against(store, study, plain)
    found = []
    for row in rows:
        change = None if row.key == plain.key else change_of(row, clip)
        if change is None:
            continue
        loss = turned(change)
        speedup, ssim, psnr = (row.scores[name].value for name in ("speedup", "ssim", "psnr"))
        found.append(ScoredPlan(row, speedup, loss, 1 - ssim, psnr))
    return plain, sorted(found, key=lambda each: -each.surely)


def answer(store: Store, study: StudyRecord, asked: AskedLimits) -> Choice:
    """The fastest plan of a study within the limits. Raises StudyError for limits that the study cannot tell."""
    rows = trials(store, study, keep_plans=False)
    measured = [row for row in rows if row.state == DONE and "speedup" in row.scores]
    metrics = list(dict.fromkeys(metric for row in measured for metric in row.scores))
    plain = plain_row(rows, study.settings.steps)
    paired = against(store, study, plain) if plain is not None else None
    return choose(measured, asked.wish(metrics), plain, paired=paired)


def eligible(found: list[ScoredPlan], bounds: Sequence[Bound], after: list[ScoredPlan]) -> list[ScoredPlan]:
    """Surely faster than the un-accelerated pipeline, within the limits by the search's scores, the fastest first.

    after: those whose certificate did not hold. What drifted as far as one of them is not worth a certificate: what is
    left is closer to the un-accelerated pictures (PSNR, which few pictures tell well). Plain steps, the control, stay.
    """
    closest = max((each.psnr for each in after), default=-np.inf)
    return [each for each in found if each.surely > 1 and _untried(each, after, closest) and keeps(each.row, bounds)]


def _untried(each: ScoredPlan, after: list[ScoredPlan], closest: float) -> bool:
    return each not in after and (each.plain or each.psnr > closest)


def fastest_plain(found: list[ScoredPlan], bounds: Sequence[Bound]) -> ScoredPlan | None:
    """The fastest way of only taking fewer steps that keeps the limits."""
    return next((each for each in found if each.plain and is_control(each.row) and keeps(each.row, bounds)), None)


def just_beyond(found: list[ScoredPlan], chosen: ScoredPlan | None, bounds: Sequence[Bound]) -> ScoredPlan | None:
    """Of the plans that are faster than the chosen one and break the limits, the one that loses least."""
    least = chosen.speedup if chosen else 1.0
    faster = [each for each in found if each.surely > least and not keeps(each.row, bounds)]
    return min(faster, key=lambda each: each.loss.value, default=None)
