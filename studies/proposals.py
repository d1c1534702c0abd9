"""The sampler's proposals, with those that stand already told and left.

Every sampler proposes duplicates. One is told the standing values, so that the sampler goes on from them; after a run
of them plans are drawn at random, outside of the database, until one is new; when none is, the space seems exhausted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import BaseTrial

from explorer.errors import ExplorerError, StudyError
from studies import queue
from studies.mirror import Mirror
from studies.queue import Claim, Full, Standing
from studies.scored import P, Part, Space
from studies.store import Store, StudyRecord
from studies.tables import DONE, FAILED

PATIENCE = 6  # duplicates in a row before plans are drawn at random
DRAWS = 500  # random draws without a new plan before the space counts as exhausted


class Exhausted(Exception):
    """No new plan was found in the space."""


class Proposer(Generic[P]):
    """One worker's source of new plans."""

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        space: Space[P],
        evaluations: Callable[[P], int],
        mirror: Mirror[P],
        random_seed: int,
        part: Part | None = None,
    ) -> None:
        self.store, self.study, self.space, self.evaluations, self.mirror = store, study, space, evaluations, mirror
        self.random_seed, self.part = random_seed, part
        self.duplicates = 0
        self._in_a_row = 0

    def next(self, worker_id: int, total: int | None) -> tuple[Claim, P, int] | None:
        """A new plan, claimed, with its trial's number; None when the proposal stood already, was no plan, or the
        study's total was reached meanwhile (ask again).

        Raises:
            Exhausted: when no new plan can be found.
        """
        if self._in_a_row >= PATIENCE:
            return self._draw(worker_id, total)
        trial = self.mirror.ask()
        try:
            plan = self.mirror.suggest(trial)
            row = self._row(plan, trial)
        except StudyError:
            raise  # the storage's trouble, not the plan's
        except ExplorerError as error:
            self.mirror.fail(trial.number, str(error))
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
        return queue.row_of(self.study, plan.key(self.evaluations(plan)), plan, dict(trial.params), "search")

    def _tell_duplicate(self, number: int, standing: Standing) -> None:
        self.duplicates += 1
        self._in_a_row += 1
        if standing.state == DONE:
            self.mirror.tell(number, queue.values_of(self.store, self.study, standing.id), standing.number)
        else:
            words = "failed already" if standing.state == FAILED else "is being scored by another worker"
            self.mirror.fail(number, f"the plan {words}", standing.number)

    def _draw(self, worker_id: int, total: int | None) -> tuple[Claim, P, int] | None:
        known = queue.finished_keys(self.store, self.study)
        self.random_seed += 1
        draws = optuna.create_study(
            sampler=RandomSampler(seed=self.random_seed % 2**32),
            directions=["minimize"] * len(self.study.settings.objectives),
        )
        for _ in range(DRAWS):
            trial = draws.ask()
            try:
                plan = self.space.suggest(trial)
                row = self._row(plan, trial)
            except ExplorerError:
                continue
            if row["key"] in known:
                continue
            claim = queue.claim_new(self.store, self.study, worker_id, total, row, None, self.part)
            if isinstance(claim, Full):
                return None
            if isinstance(claim, Claim):
                self._in_a_row = 0
                return claim, plan, self.mirror.begin(claim)
            known.add(row["key"])
        raise Exhausted
