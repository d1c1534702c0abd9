"""A study's results in numbers that people ask for: best speed-up at no loss, what the search added, who beats whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from studies.front import Array, dominates, hypervolume
from studies.rows import TrialRow, front_rows, objective_losses
from studies.scored import PREDICTED
from studies.settings import Objective
from studies.tables import DONE

LATENCIES = ("latency", "speedup")
AUXILIARY = ("cache_mib", "predicted_latency", PREDICTED)
"""Kept with a trial and no score of it: what its features take, and what was predicted of it."""


def scored_rows(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[TrialRow]:
    names = {objective.name for objective in objectives}
    return [row for row in rows if row.state == DONE and names <= row.scores.keys()]


def plain_row(rows: list[TrialRow], steps: int) -> TrialRow | None:
    """The un-accelerated pipeline at the study's steps, once it is scored."""
    name = f"plain@{steps}"
    return next((row for row in rows if row.state == DONE and name in (row.name, *row.aliases)), None)


def without_loss(rows: list[TrialRow], objectives: tuple[Objective, ...], steps: int) -> list[TrialRow]:
    """Rows whose every quality objective is at least as good as the worse end of the un-accelerated pipeline's
    interval, the fastest first: no loss that this many pictures can show."""
    plain = plain_row(rows, steps)
    if plain is None:
        return []
    quality = [o for o in objectives if o.name not in LATENCIES and _tells(plain, o.name)]
    if not quality:
        return []

    def keeps(row: TrialRow) -> bool:
        for objective in quality:
            value, bound = row.scores[objective.name].value, plain.scores[objective.name]
            if value > bound.high if objective.direction == "minimize" else value < bound.low:
                return False
        return True

    kept = [row for row in scored_rows(rows, objectives) if row.speedup is not None and keeps(row)]
    return sorted(kept, key=lambda row: -(row.speedup or 0.0))


def _tells(plain: TrialRow, metric: str) -> bool:
    """Whether the un-accelerated pipeline has an interval to stay within: it is perfect in what compares with itself
    (paired drift, or a distance to its own pictures), where any other plan would count as a loss."""
    score = plain.scores[metric]
    return score.high - score.low > 1e-6 * max(1.0, abs(score.value))


def is_control(row: TrialRow) -> bool:
    """A baseline, or a searched plan that only takes fewer plain steps."""
    return row.origin == "baseline" or row.words.startswith("plain@")


def dominated_baselines(rows: list[TrialRow], row: TrialRow, objectives: tuple[Objective, ...]) -> list[str]:
    """Names of the baselines that `row` is at least as good as in every objective and better in one."""
    baselines = [r for r in scored_rows(rows, objectives) if r.origin == "baseline" and r is not row]
    if not baselines:
        return []
    losses = objective_losses([row, *baselines], objectives)
    return [
        other.name or other.words
        for other, loss in zip(baselines, losses[1:], strict=True)
        if dominates(losses[0], loss)
    ]


@dataclass(frozen=True)
class Scale:
    """The range of each objective over the controls, (k,) each: what makes volumes of different studies comparable."""

    low: Array
    high: Array

    def apply(self, losses: Array) -> Array:
        return np.asarray((losses - self.low) / np.where(self.high > self.low, self.high - self.low, 1.0))

    @property
    def corner(self) -> list[float]:
        """The reference point: a tenth of the range beyond the worst control."""
        return [1.1] * len(self.low)


def scale_of(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> Scale | None:
    """From the scored baselines and fewer plain steps among `rows`; None while there is none."""
    controls = [row for row in scored_rows(rows, objectives) if is_control(row)]
    if not controls:
        return None
    losses = objective_losses(controls, objectives)
    return Scale(losses.min(axis=0), losses.max(axis=0))


@dataclass(frozen=True)
class Gain:
    """Hypervolume of all plans and of the baselines alone, to one reference point, each objective scaled to its range
    over the baselines. Fewer plain steps count as a baseline also where the search proposed them."""

    all: float
    baselines: float

    @property
    def ratio(self) -> float:
        return self.all / self.baselines if self.baselines else float("inf")


def gain(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> Gain | None:
    """What the search added to the baselines; None while no baseline is scored.

    The reference point lies a tenth of the baselines' range beyond their worst value in each objective.
    """
    scale = scale_of(rows, objectives)
    if scale is None:
        return None
    scored = scored_rows(rows, objectives)
    points = scale.apply(objective_losses(scored, objectives))
    controls = np.array([is_control(row) for row in scored])
    return Gain(hypervolume(points, scale.corner), hypervolume(points[controls], scale.corner))


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of predicted drift with the loss in `metric`, over `n` plans: 1 is a perfect rank."""

    metric: str
    spearman: float
    n: int


def agreements(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[Agreement]:
    """How well the calibration's predictions rank what was measured: against PSNR where it was taken, then each
    objective of quality. A metric of fewer than three plans that were both predicted and measured has none."""
    found = []
    metrics = {"psnr": "maximize"} | {o.name: o.direction for o in objectives if o.name not in LATENCIES}
    for metric, direction in metrics.items():
        both = predicted_rows(rows, metric)
        if len(both) < 3:
            continue
        sign = -1.0 if direction == "maximize" else 1.0
        losses = [sign * row.scores[metric].value for row in both]
        predicted = [row.scores[PREDICTED].value for row in both]
        if len(set(losses)) > 1 and len(set(predicted)) > 1:
            found.append(Agreement(metric, float(spearmanr(predicted, losses).statistic), len(both)))
    return found


def agreement(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> Agreement | None:
    """The first of `agreements`, where there is one."""
    return next(iter(agreements(rows, objectives)), None)


def predicted_rows(rows: list[TrialRow], metric: str) -> list[TrialRow]:
    """Finished plans whose drift was predicted and whose `metric` was measured."""
    return [row for row in rows if row.state == DONE and PREDICTED in row.scores and metric in row.scores]


def front_of(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[TrialRow]:
    """The front, fastest first."""
    return sorted(front_rows(rows, objectives), key=lambda row: -(row.speedup or 0.0))
