"""Search for plans in predictions: thousands of predictions cost less than one measurement.

The pool holds seeds and the plans of the study at first, then neighbours of those that are expected on the front,
generation by generation. Before every proposal all measurements correct the predictions (`studies.proposing.outlook`),
and the plan with the greatest expected gain in hypervolume is proposed. (Greedy masks by predicted error per saved
time, and the sampler's suggestions, were never the best of 60.)
"""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from explorer.errors import ExplorerError
from explorer.plans.plan import InheritancePlan
from search_spaces.neighbour import neighbour
from studies.pareto.front import Array
from studies.proposing.descriptors import width
from studies.proposing.outlook import MOST, Outlook, behind_front
from studies.proposing.proposers.base import Proposal, Tools
from studies.proposing.proposers.pool import Pool, ProposedPlan
from studies.proposing.proposers.seeds import seeds
from studies.storage.tables import FAILED, SCREENED

if TYPE_CHECKING:
    from studies.predicting.drift_model import DriftModel

SEEDS, MOVES = "seeds", "moves"
"""Who thinks of plans, as the study records it."""
FIRST, LATER = 1000, 200
"""Neighbours that are made before the first proposal, and before each later one."""
GENERATIONS = 5
"""How often the pool is evaluated again meanwhile."""
KEPT = 4000
"""Plans that stay in mind: those nearest to the expected front."""
AT_ONCE, CHANCES = (1, 2, 3), (0.6, 0.25, 0.15)
"""How many moves a plan makes at once, and how often."""
SURELY = 0.25
"""How much of its uncertainty makes a plan worth a look; at 1, plans are proposed for being unlike all others."""
LONG_SHOTS = 100
"""Plans that are tried in turn where the first cannot be had: it is being measured, or beyond a limit."""


class Planned:
    """Of all plans in mind the one that is expected to add most to the front."""

    name = "planned"

    def __init__(self, tools: Tools) -> None:
        assert tools.setting is not None
        self.tools, self.setting = tools, tools.setting
        self.random = Random(tools.seed(2))
        self._most = tools.space.name == "joint"  # which holds most plans: one that it does not is passed over later
        self.pool = Pool(cast("DriftModel", tools.predictor))
        self._last = 0
        self._standing: dict[int, ProposedPlan] = {}

    def propose(self) -> Proposal | None:
        first = not len(self.pool)
        self._read()
        if first:
            for plan in seeds(self.setting):
                self._think(plan, SEEDS)
        outlook, others = self._outlook()
        for _ in range(GENERATIONS):
            self._breed(outlook, (FIRST if first else LATER) // GENERATIONS)
        gains = outlook.gains(self.pool.features, others, SURELY)
        known = self.tools.record.keys  # a long study has measured more than the first hundred of them
        best_first = (self.pool.candidates[place] for place in np.argsort(-gains, kind="stable"))
        for best in itertools.islice((each for each in best_first if each.key not in known), LONG_SHOTS):
            if self.tools.is_new(best.plan):
                found = self.tools.proposal(best.plan, best.kind, best.parents)
                if found is not None:
                    return found
        return None

    def _think(self, plan: InheritancePlan, kind: str, parents: tuple[int, ...] = ()) -> None:
        """Keep a plan in mind that the space holds."""
        if self._most or self.tools.proposal(plan, kind) is not None:
            self.pool.add(plan, kind, parents)

    def _read(self) -> None:
        """Add the plans that are new in the study to the pool."""
        for id, document in self.tools.record.documents(after=self._last):
            self._last = id
            standing = self.tools.record.plans.get(id)
            try:
                found = self.pool.add(self.tools.read_plan(document), (standing and standing.proposed_by) or SEEDS)
            except ExplorerError:  # one that can no longer be read tells nothing
                continue
            if found is not None:
                self._standing[id] = found

    def _outlook(self) -> tuple[Outlook, Array]:
        """What to expect of plans, and the points of those that are being measured, as far as they are predicted."""
        record = self.tools.record
        measured: list[tuple[list[float], Any]] = []
        pending: list[list[float]] = []
        dropped: list[list[float]] = []
        for id, candidate in self._standing.items():
            plan = record.plans.get(id)
            if plan is None:
                continue
            if plan.number is not None:
                candidate.parents = (plan.number,)
            if plan.losses is not None:
                measured.append((candidate.features, plan.losses))
            elif plan.state in (SCREENED, FAILED):
                dropped.append(candidate.features)
            elif plan.key in record.keys and not record.finished(id):
                pending.append(candidate.features)
        objectives = self.tools.study.settings.objectives
        features = width(self.pool.predictor)
        rows = np.array([row for row, _ in measured]).reshape(len(measured), features)
        losses = np.array([each for _, each in measured]).reshape(len(measured), len(objectives))
        outlook = Outlook(rows, losses, objectives, record.scale, np.array(dropped[-MOST:]))
        open_ = np.array(pending).reshape(len(pending), features)
        return outlook, np.stack(outlook(open_)[:2], axis=1)

    def _breed(self, outlook: Outlook, count: int) -> None:
        """Neighbours of the plans that are expected on the front."""
        time, quality, _ = outlook(self.pool.features)
        behind = behind_front(np.stack([time, quality], axis=1), outlook.corner)
        if len(self.pool) > KEPT:
            kept = sorted(np.argsort(behind, kind="stable")[:KEPT].tolist())
            self.pool.keep(kept)
            time, quality, behind = time[kept], quality[kept], behind[kept]
        front = np.flatnonzero((behind <= 0) & (time < outlook.corner[0]) & (quality < outlook.corner[1]))
        if not len(front):
            front = np.arange(len(self.pool))
        if not len(front):
            return
        weights = room(np.stack([time[front], quality[front]], axis=1))
        parents = [self.pool.candidates[place] for place in front]
        for parent in self.random.choices(parents, weights, k=count):
            moved: InheritancePlan | None = parent.plan
            for _ in range(self.random.choices(AT_ONCE, CHANCES)[0]):
                moved = moved and neighbour(moved, self.setting, self.random)
            if moved is not None:
                self._think(moved, MOVES, parent.parents)


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
