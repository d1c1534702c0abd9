"""Plans that a proposer keeps in mind, with what is known of each before it is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explorer.errors import ExplorerError, StudyError
from explorer.plan import InheritancePlan
from studies.descriptors import LENGTHS, describe
from studies.front import Array

if TYPE_CHECKING:
    from studies.screen import Screen


class Pool:
    """Different plans in the order in which they came. `features`: (n, k) of `describe`."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.plans: list[InheritancePlan] = []
        self._keys: list[str] = []
        self._rows: list[list[float]] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.plans)

    @property
    def features(self) -> Array:
        return np.array(self._rows, dtype=np.float64).reshape(len(self._rows), len(LENGTHS))

    def add(self, plan: InheritancePlan) -> list[float] | None:
        """Keep the plan; returns its features, None for one that cannot run or be predicted."""
        try:
            key = plan.key(self.screen.evaluations(plan))
            if key in self._places:
                return self._rows[self._places[key]]
            row = describe(plan, self.screen)
        except StudyError:
            raise  # the storage's trouble, not the plan's
        except ExplorerError:
            return None
        self._places[key] = len(self.plans)
        self.plans.append(plan)
        self._keys.append(key)
        self._rows.append(row)
        return row

    def keep(self, places: list[int]) -> None:
        """Forget all others."""
        self.plans = [self.plans[place] for place in places]
        self._keys = [self._keys[place] for place in places]
        self._rows = [self._rows[place] for place in places]
        self._places = {key: place for place, key in enumerate(self._keys)}
