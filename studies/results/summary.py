"""A study's results in numbers that people ask for: best speed-up at no loss, what the search added, who beats whom."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from studies.metrics import PREDICTED, PREDICTED_COST, SPEEDS, direction_of
from studies.pareto.front import dominates, hypervolume
from studies.pareto.scale import Scale
from studies.results.rows import TrialRow, front_rows, objective_losses
from studies.results.shared import DRIFT, Shared
from studies.settings import Objective
from studies.storage.tables import DONE, SCREENED, UNSTEADY


def scored_rows(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[TrialRow]:
    names = {objective.name for objective in objectives}
    return [row for row in rows if row.state == DONE and names <= row.scores.keys()]


def plain_row(rows: list[TrialRow], steps: int) -> TrialRow | None:
    """The un-accelerated pipeline at the study's steps, once its quality is scored, which is what others are held
    against."""
    name = f"plain@{steps}"
    return next((row for row in rows if row.state in (DONE, UNSTEADY) and name in (row.name, *row.aliases)), None)


def without_loss(rows: list[TrialRow], objectives: tuple[Objective, ...], steps: int) -> list[TrialRow]:
    """Rows whose every quality objective is at least as good as the worse end of the un-accelerated pipeline's
    interval, the surely fastest first: no loss that this many pictures can show."""
    plain = plain_row(rows, steps)
    if plain is None:
        return []
    quality = [o for o in objectives if o.name not in SPEEDS and _tells(plain, o.name)]
    if not quality:
        return []

    def keeps(row: TrialRow) -> bool:
        for objective in quality:
            value, bound = row.scores[objective.name].value, plain.scores[objective.name]
            if value > bound.high if objective.direction == "minimize" else value < bound.low:
                return False
        return True

    kept = [row for row in scored_rows(rows, objectives) if row.speedup is not None and keeps(row)]
    return sorted(kept, key=lambda row: -row.sure_speedup)


def _tells(plain: TrialRow, metric: str) -> bool:
    """Whether the un-accelerated pipeline has an interval to stay within: it is perfect in what compares with itself
    (paired drift, or a distance to its own pictures), where any other plan would count as a loss."""
    score = plain.scores[metric]
    return score.high - score.low > 1e-6 * max(1.0, abs(score.value))


def is_control(row: TrialRow) -> bool:
    """A baseline, or a searched plan that only takes fewer plain steps."""
    return row.origin == "baseline" or row.facts.plain


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


def scale_of(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> Scale | None:
    """`Scale.over` the scored ones of `rows`; None while no baseline is among them."""
    scored = scored_rows(rows, objectives)
    baselines = np.array([row.origin == "baseline" for row in scored], dtype=bool)
    return Scale.over(objective_losses(scored, objectives), baselines) if baselines.any() else None


@dataclass(frozen=True)
class Gain:
    """Hypervolume of all plans and of the controls alone, to one reference point, each objective scaled to its range
    over the baselines. Controls: the baselines, and fewer plain steps also where the search proposed them."""

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
    """Spearman's rank correlation of a prediction with the loss in `metric`, over `n` plans: 1 is a perfect rank.
    screened: how many of them a race screened out; prompts: on how many all of them were then compared."""

    metric: str
    spearman: float
    n: int
    screened: int = 0
    prompts: int | None = None

    @property
    def over(self) -> str:
        """`40 plans (9 screened out) on the 8 prompts they share`."""
        screened = f" ({self.screened} screened out)" if self.screened else ""
        return f"{self.n:,} plans{screened}" + (f" on the {self.prompts} prompts they share" if self.prompts else "")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def agreements(
    rows: list[TrialRow], objectives: tuple[Objective, ...], shared: Shared | None = None
) -> list[Agreement]:
    """How well the calibration's predicted drift ranks what was measured: against PSNR where it was taken, then each
    objective of quality. A metric of fewer than three plans that were both predicted and measured has none.

    Plans that a race screened out would leave a selected sample behind them, so where there are some, paired metrics
    are compared on the prompts that all plans `shared`. Other metrics are not measured of them.
    """
    metrics = {DRIFT: direction_of(DRIFT)} | {o.name: o.direction for o in objectives if o.name not in SPEEDS}
    found = []
    for metric, direction in metrics.items():
        sign = -1.0 if direction == "maximize" else 1.0
        if shared is not None and metric in shared.means:
            means, prompts = shared.means[metric], shared.prompts
            both = [row for row in rows if PREDICTED in row.scores and row.key in means]
            losses = [sign * means[row.key] for row in both]
        else:
            both, prompts = predicted_rows(rows, metric), None
            losses = [sign * row.scores[metric].value for row in both]
        found.append(_agreement(metric, both, PREDICTED, losses, prompts))
    return [each for each in found if each is not None]


def agreement(
    rows: list[TrialRow], objectives: tuple[Objective, ...], shared: Shared | None = None
) -> Agreement | None:
    """The first of `agreements`, where there is one."""
    return next(iter(agreements(rows, objectives, shared)), None)


def cost_agreement(rows: list[TrialRow]) -> Agreement | None:
    """How well predicted cost ranks measured latency, of plans done and of those screened out after they were timed."""
    both = [
        row for row in rows
        if row.state in (DONE, SCREENED) and PREDICTED_COST in row.scores and "latency" in row.scores
    ]  # fmt: skip
    return _agreement("latency", both, PREDICTED_COST, [row.scores["latency"].value for row in both])


def _agreement(
    metric: str, rows: list[TrialRow], name: str, losses: list[float], prompts: int | None = None
) -> Agreement | None:
    predicted = [row.scores[name].value for row in rows]
    if len(rows) < 3 or len(set(losses)) < 2 or len(set(predicted)) < 2:
        return None
    screened = sum(row.state == SCREENED for row in rows)
    return Agreement(metric, float(spearmanr(predicted, losses).statistic), len(rows), screened, prompts)


def predicted_rows(rows: list[TrialRow], metric: str) -> list[TrialRow]:
    """Plans scored whole whose drift was predicted and whose `metric` was measured."""
    return [row for row in rows if row.state == DONE and PREDICTED in row.scores and metric in row.scores]


def front_of(rows: list[TrialRow], objectives: tuple[Objective, ...]) -> list[TrialRow]:
    """The front, surely fastest first."""
    return sorted(front_rows(rows, objectives), key=lambda row: -row.sure_speedup)
