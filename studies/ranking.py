"""Which of many proposals is worth a measurement, by what the study's calibration predicts of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from explorer.errors import PlanError
from explorer.plan import InheritancePlan
from studies.rows import trials
from studies.screen import Prediction, Screen, non_dominated_first
from studies.store import Store, StudyRecord
from studies.tables import FAILED


class Ranking:
    """`ranking(plans)` gives their places, the one that would widen the predicted front most first. Plans that the
    study has and that did not fail are part of that front by their predictions, so that a plan like one of them comes
    late. Plans that cannot run are left out."""

    def __init__(self, screen: Screen, store: Store, study: StudyRecord) -> None:
        self.screen, self.store, self.study = screen, store, study
        self._standing: dict[str, Prediction | None] = {}

    def __call__(self, plans: Sequence[InheritancePlan]) -> list[int]:
        rows = [row for row in trials(self.store, self.study) if row.state != FAILED]
        for row in rows:
            if row.key not in self._standing:
                self._standing[row.key] = None
                with suppress(PlanError):  # one that can no longer be read or run stands for nothing
                    self._standing[row.key] = self.screen(InheritancePlan.from_json(row.plan))
        found = {place: self._predicted(plan) for place, plan in enumerate(plans)}
        places = [place for place, prediction in found.items() if prediction is not None]
        known = [prediction for row in rows if (prediction := self._standing[row.key]) is not None]
        return [places[k] for k in non_dominated_first([p for p in found.values() if p is not None], known)]

    def _predicted(self, plan: InheritancePlan) -> Prediction | None:
        """None for a plan that cannot run: its schedule does not fit the scheduler's evaluations."""
        try:
            return self.screen(plan)
        except PlanError:
            return None
