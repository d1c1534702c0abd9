"""Plans that are searched for in predictions: many generations there cost less than one measurement.

A pool of plans, the seeds at first, grows by neighbours of those that are expected to stand on the front; predictions
are corrected by all that has been measured (`studies.outlook`), anew before every proposal. The plan from which most
hypervolume is expected is proposed.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from explorer.errors import ExplorerError
from explorer.plan import InheritancePlan
from search_spaces.moves import neighbour
from studies.descriptors import LENGTHS
from studies.front import Array
from studies.outlook import Outlook, behind_front
from studies.proposers.base import Proposal, Tools
from studies.proposers.from_moves import room
from studies.proposers.pool import Pool
from studies.proposers.seeds import seeds

if TYPE_CHECKING:
    from studies.screen import Screen

FIRST, LATER = 1000, 200
"""Neighbours that are made before the first proposal, and before each later one."""
GENERATIONS = 5
"""So many times the pool is looked at anew meanwhile."""
KEPT = 4000
"""Plans that the pool keeps: those nearest to the expected front."""
AT_ONCE, CHANCES = (1, 2, 3), (0.6, 0.25, 0.15)
SURELY = 0.25
"""How much of its uncertainty makes a plan worth a look; at 1, plans are proposed for being unlike all others."""
LONG_SHOTS = 100
"""Plans that are tried in turn where the space does not hold the first."""


class Planned:
    """Of all plans in mind the one that is expected to add most to the front."""

    name = "planned"

    def __init__(self, tools: Tools[InheritancePlan]) -> None:
        self.tools = tools
        self.random = Random(tools.seed(4))
        self.pool = Pool(cast("Screen", tools.predictor))
        self._last = 0
        self._features: dict[int, list[float]] = {}

    def propose(self) -> Proposal[InheritancePlan] | None:
        count = LATER if len(self.pool) else FIRST
        if not len(self.pool):
            assert self.tools.setting is not None
            for plan in seeds(self.tools.setting):
                self.pool.add(plan)
        self._read()
        outlook, others = self._outlook()
        for _ in range(GENERATIONS):
            self._grow(outlook, count // GENERATIONS)
        gains = outlook.gains(self.pool.features, others, SURELY)
        for place in np.argsort(-gains, kind="stable")[:LONG_SHOTS]:
            plan = self.pool.plans[place]
            if self.tools.is_new(plan) and (found := self.tools.proposal(plan, self.name)) is not None:
                return found
        return None

    def _read(self) -> None:
        """The plans that are new in the study: in mind from now on, whoever proposed them."""
        for id, document in self.tools.record.documents(after=self._last):
            self._last = id
            try:
                features = self.pool.add(self.tools.read_plan(document))
            except ExplorerError:  # one that can no longer be read tells nothing
                continue
            if features is not None:
                self._features[id] = features

    def _outlook(self) -> tuple[Outlook, Array]:
        """What to expect of plans, and the points of those that are being measured, as far as they are foretold."""
        record = self.tools.record
        measured: list[tuple[list[float], Any]] = []
        open_: list[list[float]] = []
        for id, features in self._features.items():
            standing = record.plans.get(id)
            if standing is None:
                continue
            if standing.losses is not None:
                measured.append((features, standing.losses))
            elif standing.key in record.keys and not record.finished(id):
                open_.append(features)
        objectives = self.tools.study.settings.objectives
        rows = np.array([features for features, _ in measured]).reshape(len(measured), len(LENGTHS))
        losses = np.array([each for _, each in measured]).reshape(len(measured), len(objectives))
        outlook = Outlook(rows, losses, objectives, record.scale)
        pending = np.array(open_).reshape(len(open_), len(LENGTHS))
        return outlook, np.stack(outlook(pending)[:2], axis=1)

    def _grow(self, outlook: Outlook, count: int) -> None:
        setting = self.tools.setting
        assert setting is not None
        time, quality, _ = outlook(self.pool.features)
        behind = behind_front(np.stack([time, quality], axis=1), outlook.corner)
        if len(self.pool) > KEPT:
            kept = sorted(np.argsort(behind, kind="stable")[:KEPT].tolist())
            self.pool.keep(kept)
            time, quality, behind = time[kept], quality[kept], behind[kept]
        front = np.flatnonzero((behind <= 0) & (time < outlook.corner[0]) & (quality < outlook.corner[1]))
        if not len(front):
            front = np.arange(len(self.pool))
        weights = room(np.stack([time[front], quality[front]], axis=1))
        parents = [self.pool.plans[place] for place in front]
        for parent in self.random.choices(parents, weights, k=count):
            moved: InheritancePlan | None = parent
            for _ in range(self.random.choices(AT_ONCE, CHANCES)[0]):
                moved = moved and neighbour(moved, setting, self.random)
            if moved is not None:
                self.pool.add(moved)
