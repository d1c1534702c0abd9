"""Plans that a proposer keeps in mind, with what is known of each before it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.errors import ExplorerError, StudyError
from explorer.plans.plan import InheritancePlan
from studies.pareto.front import Array
from studies.proposing.descriptors import describe, width

if TYPE_CHECKING:
    from studies.predicting.drift_model import DriftModel


@dataclass
class ProposedPlan:
    """A plan in mind. kind: who thought of it; parents: the measured trials that it was made from, step by step."""

    plan: InheritancePlan
    key: str
    kind: str
    features: list[float]
    parents: tuple[int, ...] = ()


class Pool:
    """Different plans in the order in which they came."""

    def __init__(self, predictor: DriftModel) -> None:
        self.predictor = predictor
        self.candidates: list[ProposedPlan] = []
        self._by_key: dict[str, ProposedPlan] = {}

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def features(self) -> Array:
        """(n, k) of `studies.proposing.descriptors.describe`."""
        return np.array([each.features for each in self.candidates]).reshape(len(self), width(self.predictor))

    def add(self, plan: InheritancePlan, kind: str, parents: tuple[int, ...] = ()) -> ProposedPlan | None:
        """Keep the plan. Returns its candidate; None if it cannot run or be predicted."""
        try:
            key = plan.key(self.predictor.evaluations(plan))
            if key not in self._by_key:
                found = ProposedPlan(plan, key, kind, describe(plan, self.predictor), parents)
                self._by_key[key] = found
                self.candidates.append(found)
            return self._by_key[key]
        except StudyError:
            raise  # the storage's trouble, not the plan's
        except ExplorerError:
            return None

    def keep(self, places: Sequence[int]) -> None:
        """Forget all others."""
        self.candidates = [self.candidates[place] for place in places]
        self._by_key = {each.key: each for each in self.candidates}
