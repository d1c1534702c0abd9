"""Neighbours of the plans of the measured front: one of them, or the best of many by what the calibration predicts."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import numpy as np

from explorer.errors import ExplorerError
from explorer.plan import InheritancePlan
from search_spaces.moves import neighbour
from studies.front import Array
from studies.proposers.base import POOL, Proposal, Tools
from studies.proposers.record import Standing

AT_ONCE, CHANCES = (1, 2, 3), (0.7, 0.2, 0.1)
"""How many moves a plan makes at once, and how often."""
ATTEMPTS = 50


class Moves:
    """A neighbour of a plan of the front; a plan with much room around it on the front is the parent more often."""

    name = "moves"

    def __init__(self, tools: Tools[InheritancePlan], purpose: int = 2) -> None:
        self.tools = tools
        self.random = Random(tools.seed(purpose))
        self._parents: dict[int, InheritancePlan | None] = {}

    def propose(self) -> Proposal[InheritancePlan] | None:
        for _ in range(ATTEMPTS):
            found = self.neighbours(1)
            if not found:
                return None
            plan, parents = found[0]
            if (proposal := self.tools.proposal(plan, self.name, parents)) is not None:
                return proposal
        return None

    def neighbours(self, count: int) -> list[tuple[InheritancePlan, tuple[int, ...]]]:
        """Up to `count` new plans that do different things, each with its parent's trial."""
        setting = self.tools.setting
        front = [plan for plan in self.tools.record.front if plan.number is not None]
        if setting is None or not front:
            return []
        weights = room(np.array([plan.losses for plan in front]))
        found: dict[str, tuple[InheritancePlan, tuple[int, ...]]] = {}
        for _ in range(ATTEMPTS + count):
            if len(found) == count:
                break
            chosen = self.random.choices(front, weights)[0]
            moved = self._parent(chosen)
            for _ in range(self.random.choices(AT_ONCE, CHANCES)[0]):
                moved = moved and neighbour(moved, setting, self.random)
            if moved is not None and self.tools.is_new(moved):
                assert chosen.number is not None
                found.setdefault(moved.key(self.tools.evaluations(moved)), (moved, (chosen.number,)))
        return list(found.values())

    def _parent(self, standing: Standing) -> InheritancePlan | None:
        if standing.id not in self._parents:
            self._parents[standing.id] = None
            for _, document in self.tools.record.documents(only=(standing.id,)):
                with suppress(ExplorerError):  # one that can no longer be read is nobody's parent
                    self._parents[standing.id] = self.tools.read_plan(document)
        return self._parents[standing.id]


class ScreenedMoves(Moves):
    """Of POOL neighbours the one that ranks first."""

    name = "screened-moves"

    def __init__(self, tools: Tools[InheritancePlan]) -> None:
        super().__init__(tools, purpose=3)

    def propose(self) -> Proposal[InheritancePlan] | None:
        return self.tools.best(self.name, self.neighbours(POOL))


def room(points: Array) -> list[float]:
    """How far apart the neighbours of each point (n, k) of a front are, summed over the objectives, each scaled to the
    front's range (NSGA-II's crowding distance, Deb et al. 2002, Sec. III-B; an end counts its one gap twice)."""
    total = np.zeros(len(points))
    for column in points.T:
        spread = float(column.max() - column.min())
        if spread <= 0:
            continue
        order = np.argsort(column, kind="stable")
        gaps = np.diff(column[order]) / spread
        total[order] += np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])
    return (total + 1e-6).tolist()
