"""The sampler's proposals, with those that stand already told and left.

Every sampler proposes duplicates. One is told the standing values, so that the sampler goes on from them; after a run
of them plans are drawn at random, outside of the database, until one is new; when none is, the space seems exhausted.
Where plans can be ranked before they are scored, the best of many proposals is taken instead of the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import BaseTrial, TrialState

from explorer.errors import ExplorerError, StudyError
from studies import queue
from studies.mirror import Mirror
from studies.queue import Claim, Full, Standing
from studies.scored import P, Part, Space
from studies.store import Store, StudyRecord
from studies.tables import DONE, FAILED

PATIENCE = 6  # duplicates in a row before plans are drawn at random
DRAWS = 500  # random draws without a new plan before the space counts as exhausted


POOL = 24  # proposals of which the best is scored, where the study can rank them

Rank = Callable[[Sequence[P]], Sequence[int]]
"""Places of plans in the order in which they are worth a measurement."""


class Exhausted(Exception):
    """No new plan was found in the space."""


class Proposer(Generic[P]):
    """One worker's source of new plans. screen: why a plan need not be measured, None when it is to be."""

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        space: Space[P],
        evaluations: Callable[[P], int],
        mirror: Mirror[P],
        random_seed: int,
        part: Part | None = None,
        screen: Callable[[P], str | None] = lambda _: None,
        rank: Rank[P] | None = None,
        sampler: BaseSampler | None = None,
    ) -> None:
        self.store, self.study, self.space, self.evaluations, self.mirror = store, study, space, evaluations, mirror
        self.random_seed, self.part, self.screen, self.rank = random_seed, part, screen, rank
        self.duplicates = 0
        self._in_a_row = 0
        self._pool = _in_memory(study, sampler) if rank is not None and sampler is not None else None
        self._seen: set[int] = set()

    def next(self, worker_id: int, total: int | None) -> tuple[Claim, P, int] | None:
        """A new plan, claimed, with its trial's number; None when the proposal stood already, was no plan, or the
        study's total was reached meanwhile (ask again).

        Raises:
            Exhausted: when no new plan can be found.
        """
        if self._in_a_row >= PATIENCE:
            return self._draw(worker_id, total)
        if self.rank is not None and self._pool is not None:
            return self._best_of_many(self.rank, self._pool, worker_id, total)
        trial = self.mirror.ask()
        try:
            plan = self.mirror.suggest(trial)
            row = self._row(plan, trial)
            reason = self.screen(plan)
        except StudyError:
            raise  # the storage's trouble, not the plan's
        except ExplorerError as error:
            reason = str(error)
        if reason is not None:
            self.mirror.fail(trial.number, reason)
            self._in_a_row += 1
            return None
        claim = queue.claim_new(self.store, self.study, worker_id, total, row, trial.number, self.part)
        if isinstance(claim, Claim):
            self.mirror.describe(trial, claim)
            self._in_a_row = 0
            return claim, plan, trial.number
        if isinstance(claim, Full):
            self.mirror.fail(trial.number, "the study's total was reached")
        else:
            self._tell_duplicate(trial.number, claim)
        return None

    def _row(self, plan: P, trial: BaseTrial) -> dict[str, Any]:
        return queue.row_of(self.study, plan, self.evaluations(plan), dict(trial.params), "search")

    def _tell_duplicate(self, number: int, standing: Standing) -> None:
        self.duplicates += 1
        self._in_a_row += 1
        if standing.state == DONE:
            self.mirror.tell(number, queue.values_of(self.store, self.study, standing.id), standing.number)
        else:
            words = "failed already" if standing.state == FAILED else "is being scored by another worker"
            self.mirror.fail(number, f"the plan {words}", standing.number)

    def _best_of_many(
        self, rank: Rank[P], pool: optuna.Study, worker_id: int, total: int | None
    ) -> tuple[Claim, P, int] | None:
        """Of POOL proposals, made outside of the database from what has been told, the one that ranks first."""
        for told in self.mirror.told():
            if told.number not in self._seen:
                self._seen.add(told.number)
                pool.add_trial(told)
        known = queue.finished_keys(self.store, self.study)
        found: list[tuple[P, dict[str, Any]]] = []
        for _ in range(POOL):
            trial = pool.ask()
            try:
                plan = self.space.suggest(trial)
                row = self._row(plan, trial)
                wanted = self.screen(plan) is None
            except ExplorerError:
                wanted = False
            pool.tell(trial, state=TrialState.FAIL)  # what is scored comes back from the study
            if not wanted:
                continue
            if row["key"] in known:
                self.duplicates += 1
                continue
            known.add(row["key"])
            found.append((plan, row))
        if not found:
            self._in_a_row = PATIENCE
        for place in rank([plan for plan, _ in found]):
            plan, row = found[place]
            claim = queue.claim_new(self.store, self.study, worker_id, total, row, None, self.part)
            if isinstance(claim, Full):
                return None
            if isinstance(claim, Claim):
                self._in_a_row = 0
                return claim, plan, self.mirror.begin(claim)
        self._in_a_row += 1
        return None

    def _draw(self, worker_id: int, total: int | None) -> tuple[Claim, P, int] | None:
        known = queue.finished_keys(self.store, self.study)
        self.random_seed += 1
        draws = _in_memory(self.study, RandomSampler(seed=self.random_seed % 2**32))
        for _ in range(DRAWS):
            trial = draws.ask()
            try:
                plan = self.space.suggest(trial)
                row = self._row(plan, trial)
                wanted = row["key"] not in known and self.screen(plan) is None
            except ExplorerError:
                continue
            if not wanted:
                continue
            claim = queue.claim_new(self.store, self.study, worker_id, total, row, None, self.part)
            if isinstance(claim, Full):
                return None
            if isinstance(claim, Claim):
                self._in_a_row = 0
                return claim, plan, self.mirror.begin(claim)
            known.add(row["key"])
        raise Exhausted


def _in_memory(study: StudyRecord, sampler: BaseSampler) -> optuna.Study:
    """A study outside of the database, for proposals of which few or none are scored."""
    directions = [StudyDirection[objective.direction.upper()] for objective in study.settings.objectives]
    return optuna.create_study(sampler=sampler, directions=directions)
