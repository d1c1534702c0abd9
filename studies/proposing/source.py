"""A worker's source of new plans: a kind of proposer, and the sampler where it has nothing to give.

Every proposer gives duplicates, if only because other workers propose as well. The sampler learns the known values of a
duplicate. After several duplicates plans are drawn at random until one is new; if none is, the space seems exhausted.
"""

from __future__ import annotations

from typing import Any

from optuna.samplers import RandomSampler

from explorer.errors import ExplorerError, StudyError
from explorer.plans.plan import InheritancePlan
from studies.proposing.proposers import Kind, Proposal, Tools, make_kinds
from studies.proposing.proposers.from_sampler import in_memory
from studies.queue import finishing, queue
from studies.queue.queue import Claim, Full
from studies.queue.queue import KnownPlan as Duplicate
from studies.scored import Part
from studies.storage.tables import DONE, FAILED, SCREENED

PATIENCE = 6  # duplicates in a row before plans are drawn at random
DRAWS = 500  # random draws without a new plan before the space counts as exhausted
DRAWN = "drawn"
"""Who proposed a plan that was drawn at random after a number of duplicates."""


class Exhausted(Exception):
    """No new plan was found in the space."""


class Proposer:
    """One worker's source of new plans.

    Raises:
        StudyError: for proposals that the study cannot have.
    """

    def __init__(self, tools: Tools, proposals: str = "sampler", part: Part | None = None) -> None:
        self.tools, self.part = tools, part
        self.kinds: list[Kind] = make_kinds(proposals, tools)
        self.random_seed = tools.seed(1)
        self.duplicates = 0
        self._in_a_row = 0

    def next(self, worker_id: int, total: int | None) -> tuple[Claim, InheritancePlan, int] | None:
        """A new plan, claimed, with its trial's number; None when the proposal existed already, was no plan, or the
        study's total was reached meanwhile (ask again).

        Raises:
            Exhausted: when no new plan can be found.
        """
        self.tools.record.refresh()
        if self._in_a_row >= PATIENCE:
            return self._draw(worker_id, total)
        for kind in self.kinds:
            proposal = kind.propose()
            if proposal is not None:
                return self._claim(proposal, worker_id, total)
        self._in_a_row += 1
        return None

    def _claim(
        self, proposal: Proposal, worker_id: int, total: int | None
    ) -> tuple[Claim, InheritancePlan, int] | None:
        mirror, trial, plan = self.tools.mirror, proposal.trial, proposal.plan
        if trial is not None and (reason := self._unwanted(plan)) is not None:
            mirror.fail(trial.number, reason)
            self._in_a_row += 1
            return None
        row = queue.row_of(
            self.tools.study, plan, self.tools.evaluations(plan), proposal.parameters, "search", proposal.kind
        )
        number = None if trial is None else trial.number
        claim = queue.claim_new(self.tools.store, self.tools.study, worker_id, total, row, number, self.part)
        if isinstance(claim, Claim):
            self._in_a_row = 0
            if trial is None:
                return claim, plan, mirror.begin(claim, proposal.parents)
            mirror.describe(trial, claim)
            return claim, plan, trial.number
        if isinstance(claim, Full):
            if trial is not None:
                mirror.fail(trial.number, "the study's total was reached")
            return None
        self.duplicates += 1
        self._in_a_row += 1
        if trial is not None:
            self._tell_duplicate(trial.number, claim)
        return None

    def _unwanted(self, plan: InheritancePlan) -> str | None:
        """Why a plan is not to be measured."""
        try:
            plan.key(self.tools.evaluations(plan))
            return self.tools.rejection(plan)
        except StudyError:
            raise  # the storage's trouble, not the plan's
        except ExplorerError as error:
            return str(error)

    def _tell_duplicate(self, number: int, standing: Duplicate) -> None:
        mirror = self.tools.mirror
        if standing.state == DONE:
            values = finishing.values_of(self.tools.store, self.tools.study, standing.id)
            mirror.tell(number, values, standing.number)
        elif standing.state == SCREENED:
            mirror.prune(number, "the plan was screened out already", standing.number)
        else:
            words = "failed already" if standing.state == FAILED else "is being scored by another worker"
            mirror.fail(number, f"the plan {words}", standing.number)

    def _draw(self, worker_id: int, total: int | None) -> tuple[Claim, InheritancePlan, int] | None:
        self.random_seed += 1
        draws = in_memory(self.tools.study, RandomSampler(seed=self.random_seed % 2**32))
        for _ in range(DRAWS):
            trial = draws.ask()
            try:
                plan = self.tools.space.suggest(trial)
            except ExplorerError:
                continue
            if not self.tools.is_new(plan):
                continue
            parameters: dict[str, Any] = dict(trial.params)
            row = queue.row_of(
                self.tools.study, plan, self.tools.evaluations(plan), parameters, "search", DRAWN
            )  # fmt: skip
            claim = queue.claim_new(self.tools.store, self.tools.study, worker_id, total, row, None, self.part)
            if isinstance(claim, Full):
                return None
            if isinstance(claim, Claim):
                self._in_a_row = 0
                return claim, plan, self.tools.mirror.begin(claim)
            self.tools.record.keys.add(row["key"])
        raise Exhausted
