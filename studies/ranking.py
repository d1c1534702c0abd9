"""Which of many proposals is worth a measurement, by what the study's calibration predicts of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic

import numpy as np

from explorer.errors import ExplorerError
from studies.proposers.base import Predictor
from studies.proposers.record import Record
from studies.scored import P, Prediction


class Ranking(Generic[P]):
    """`ranking(plans)` gives their places, the one that would widen the predicted front most first. Plans that the
    study has and that did not fail are part of that front by their predictions, so that a plan like one of them comes
    late. Plans that cannot run are left out."""

    def __init__(self, predictor: Predictor[P], record: Record, read_plan: Callable[[dict[str, Any]], P]) -> None:
        self.predictor, self.record, self.read_plan = predictor, record, read_plan
        self._last = 0
        self._standing: dict[int, Prediction] = {}

    def __call__(self, plans: Sequence[P]) -> list[int]:
        for id, document in self.record.documents(after=self._last):
            self._last = id
            if self.record.failed(id):
                continue
            with suppress(ExplorerError):  # one that can no longer be read or run stands for nothing
                self._standing[id] = self.predictor(self.read_plan(document))
        found = {place: self._predicted(plan) for place, plan in enumerate(plans)}
        places = [place for place, prediction in found.items() if prediction is not None]
        known = [prediction for id, prediction in self._standing.items() if not self.record.failed(id)]
        return [places[k] for k in non_dominated_first([p for p in found.values() if p is not None], known)]

    def _predicted(self, plan: P) -> Prediction | None:
        """None for a plan that cannot run: its schedule does not fit the scheduler's evaluations."""
        try:
            return self.predictor(plan)
        except ExplorerError:
            return None


def non_dominated_first(predictions: Sequence[Prediction], standing: Sequence[Prediction]) -> list[int]:
    """Places of `predictions` in the order in which they are worth a measurement: first those that no other one and
    nothing of `standing` is predicted to dominate, by how much they add to the front in logs of drift and in cost."""
    if not predictions:
        return []
    points = np.array([[math.log(max(p.drift, 1e-6)), p.cost] for p in (*predictions, *standing)])
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) / np.where(high > low, high - low, 1.0)
    mine = points[: len(predictions)]

    def margin(k: int) -> float:
        """How far the nearest point that dominates it would have to move back: the greater, the further in front."""
        others = np.delete(points, k, axis=0)
        return float(np.min(np.max(others - mine[k], axis=1))) if len(others) else 0.0

    return sorted(range(len(mine)), key=lambda k: -margin(k))
