"""A study's scores as columns: what charts and filters of tens of thousands of plans work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from search_spaces.axes import AXES
from studies.pareto.front import Array, non_dominated
from studies.pareto.ties import tied
from studies.results.charts import family_of, group_of
from studies.results.history import History, history
from studies.results.rows import TrialRow
from studies.results.summary import plain_row, scale_of, without_loss
from studies.settings import Objective, StudySettings
from studies.storage.judged import judged
from studies.storage.tables import DONE

Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Column:
    """A metric of n plans: value and 95% interval; NaN where a plan lacks it. Each (n,) float."""

    value: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Board:
    """rows: every plan of the study. measured: the n that have a measured speed-up, in the same order; all columns are
    theirs. columns: by metric. series, families: (n,) labels, `studies.results.charts.SERIES` and `FAMILIES`. axes:
    (n,) labels by the name of each axis of the search that has a filter."""

    settings: StudySettings
    rows: list[TrialRow]
    measured: list[TrialRow]
    columns: dict[str, Column]
    series: Labels
    axes: dict[str, Labels]

    @classmethod
    def of(cls, rows: list[TrialRow], settings: StudySettings) -> Board:
        measured = [row for row in rows if row.state == DONE and "speedup" in row.scores]
        names = dict.fromkeys(name for row in measured for name in row.scores)
        return cls(
            settings,
            rows,
            measured,
            {name: _column(measured, name) for name in names},
            _labels(group_of(row) for row in measured),
            {axis.name: _labels(axis.label(row.facts, settings) for row in measured) for axis in AXES if axis.title},
        )

    @cached_property
    def families(self) -> Labels:
        return _labels(family_of(row) for row in self.measured)

    def __len__(self) -> int:
        return len(self.measured)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self.settings.objectives

    @cached_property
    def whole(self) -> Flags:
        """(n,) plans with every objective; the others were screened out before all was scored."""
        names = [objective.name for objective in self.objectives]
        if not all(name in self.columns for name in names):
            return np.zeros(len(self), dtype=bool)
        return np.asarray(~np.isnan(np.stack([self.columns[name].value for name in names])).any(axis=0), dtype=bool)

    @cached_property
    def losses(self) -> Array:
        """(n, k) in the objectives' order, by the numbers that count (`studies.storage.judged`), to be minimised; NaN
        where a plan lacks one."""
        return self._losses(judged)

    def _losses(self, of: Callable[[str, Column], Array]) -> Array:
        missing = np.full(len(self), np.nan)
        values = [of(o.name, self.columns[o.name]) if o.name in self.columns else missing for o in self.objectives]
        signs = np.array([-1.0 if o.direction == "maximize" else 1.0 for o in self.objectives])
        return np.asarray(np.stack(values, axis=1) * signs)

    @cached_property
    def on_front(self) -> Flags:
        """(n,) whole plans that no other one dominates in the study's objectives."""
        return non_dominated(self.losses)

    @cached_property
    def front(self) -> list[int]:
        """Positions of the front's plans, the surely fastest first."""
        speed = self.columns["speedup"].low if len(self) else np.empty(0)
        positions = np.flatnonzero(self.on_front)
        return [int(i) for i in positions[np.argsort(-speed[positions], kind="stable")]]

    @cached_property
    def tied(self) -> Flags:
        """(n,) plans off the front that the intervals cannot tell from one on it."""
        if not self.on_front.any():
            return np.zeros(len(self), dtype=bool)
        bounds = [self._bounds(objective) for objective in self.objectives]
        best, worst = (np.stack(side, axis=1) for side in zip(*bounds, strict=True))
        return tied(self._losses(lambda _, column: column.value), best, worst, self.on_front)

    @cached_property
    def beaten(self) -> list[int]:
        """For each plan of `front` the number of baselines that are no better in any objective and worse in one."""
        baselines = self.losses[np.array([row.origin == "baseline" for row in self.measured], dtype=bool) & self.whole]
        return [
            int((np.all(self.losses[i] <= baselines, axis=1) & np.any(self.losses[i] < baselines, axis=1)).sum())
            for i in self.front
        ]

    @cached_property
    def lossless(self) -> list[TrialRow]:
        """`studies.results.summary.without_loss`: the fastest first."""
        return without_loss(self.measured, self.objectives, self.settings.steps)

    @cached_property
    def growth(self) -> History | None:
        """How the front grew, on the study's own scale; None while no baseline is scored."""
        scale = scale_of(self.measured, self.objectives)
        return None if scale is None else history(self.rows, self.objectives, scale)

    def _bounds(self, objective: Objective) -> tuple[Array, Array]:
        column = self.columns[objective.name]
        if objective.direction == "minimize":
            return column.low, column.high
        return -column.high, -column.low

    @cached_property
    def control(self) -> TrialRow | None:
        """The un-accelerated pipeline, once it is scored."""
        return plain_row(self.rows, self.settings.steps)

    @cached_property
    def by_number(self) -> dict[int, int]:
        """Position of each trial."""
        return {row.number: i for i, row in enumerate(self.measured) if row.number is not None}


def _column(rows: Sequence[TrialRow], metric: str) -> Column:
    parts = np.full((len(rows), 3), np.nan)
    for i, row in enumerate(rows):
        score = row.scores.get(metric)
        if score is not None:
            parts[i] = score.value, score.low, score.high
    return Column(parts[:, 0].copy(), parts[:, 1].copy(), parts[:, 2].copy())


def _labels(values: object) -> Labels:
    found = list(values)  # type: ignore[call-overload]
    labels = np.empty(len(found), dtype=object)
    labels[:] = found
    return labels
