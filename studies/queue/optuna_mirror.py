"""Optuna's side of the study: a trial for each plan that is scored, from which the sampler learns.

The queue decides what is scored; a trial follows it. Whatever is interrupted in between is settled by `reconcile`,
which brings trials that a gone worker left running in line with what the queue says of their plans.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from explorer.errors import ExplorerError
from explorer.plans.plan import InheritancePlan
from search_spaces.space import Space
from studies.queue import finishing, heartbeats
from studies.queue.queue import Claim
from studies.scored import LATENCY
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, PARENTS, RUNNING, SCREENED, UNSTEADY, UNTIMED, plans

ORPHAN_SECONDS = 60.0  # a trial that was asked for and never given a worker's id is left over after this
WORKER_DIED = "worker died"


class Mirror:
    """One worker's hand on Optuna's study."""

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        space: Space,
        evaluations: Callable[[InheritancePlan], int],
        worker_id: int,
        sampler: BaseSampler,
    ) -> None:
        self.store, self.study, self.space, self.evaluations = store, study, space, evaluations
        self.worker_id = worker_id
        self.optuna = store.optuna_study(study, sampler)

    # Trials begin ----------------------------------------------------------------------------------------------------

    def ask(self) -> optuna.Trial:
        """A trial for the sampler's next proposal."""

        def ask() -> optuna.Trial:
            trial = self.optuna.ask()
            trial.set_user_attr("worker", self.worker_id)
            return trial

        return self.store.with_optuna(ask)

    def suggest(self, trial: optuna.Trial) -> InheritancePlan:
        """The space's plan for the sampler's suggestions, each of which is written as it is made."""
        return self.store.with_optuna(lambda: self.space.suggest(trial))

    def describe(self, trial: optuna.Trial, claim: Claim) -> None:
        def describe() -> None:
            for name, value in _attributes(claim).items():
                trial.set_user_attr(name, value)

        self.store.with_optuna(describe)

    def begin(self, claim: Claim, parents: tuple[int, ...] = ()) -> int:
        """A running trial for a plan out of the queue, with the parameters that give it where the space has some;
        returns its number. One whose quality was measured has a trial already. parents: trials that the plan
        was made from."""
        if claim.part == LATENCY and claim.number is not None and self._take_over(claim.number):
            return claim.number
        parameters, distributions = self._replay(claim)
        template = create_trial(
            state=TrialState.RUNNING,
            params=parameters,
            distributions=distributions,
            user_attrs=_attributes(claim) | {"worker": self.worker_id} | ({PARENTS: list(parents)} if parents else {}),
        )
        template.datetime_start = datetime.datetime.now()

        def create() -> int:
            storage = self.store.optuna_storage
            trial_id = storage.create_new_trial(storage.get_study_id_from_name(self.study.name), template)
            return storage.get_trial(trial_id).number

        number = self.store.with_optuna(create)
        finishing.set_number(self.store, claim, number)
        return number

    def _take_over(self, number: int) -> bool:
        """Make a running trial this worker's; False when it has ended."""

        def take_over() -> bool:
            storage = self.store.optuna_storage
            try:
                storage.set_trial_user_attr(self._trial_id(number), "worker", self.worker_id)
            except UpdateFinishedTrialError:
                return False
            return True

        return self.store.with_optuna(take_over)

    def _trial_id(self, number: int) -> int:
        storage = self.store.optuna_storage
        return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(self.study.name), number)

    def _replay(self, claim: Claim) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        if claim.parameters is None:
            return {}, {}
        trial = FixedTrial(claim.parameters)
        try:
            again = self.space.suggest(trial)
            if again.key(self.evaluations(again)) != claim.key:
                return {}, {}
        except (ExplorerError, ValueError):  # the parameters were of another space's version: the plan is what counts
            return {}, {}
        return trial.params, trial.distributions

    # Trials end ------------------------------------------------------------------------------------------------------

    def tell(self, number: int, values: list[float], duplicate_of: int | None = None) -> None:
        """End a trial with its objectives' values; duplicate_of: the trial that measured them."""
        self._end(number, TrialState.COMPLETE, None, duplicate_of, values)

    def fail(self, number: int, reason: str, duplicate_of: int | None = None) -> None:
        self._end(number, TrialState.FAIL, reason, duplicate_of)

    def prune(self, number: int, reason: str, duplicate_of: int | None = None) -> None:
        """End the trial of a plan that was screened out: the sampler learns that it was none of the good ones."""
        self._end(number, TrialState.PRUNED, reason, duplicate_of)

    def _end(
        self,
        number: int,
        state: TrialState,
        reason: str | None,
        duplicate_of: int | None,
        values: list[float] | None = None,
    ) -> None:
        given = {"reason": reason, "duplicate_of": duplicate_of}
        attributes = {name: value for name, value in given.items() if value is not None}

        def end() -> None:
            trial_id = self._trial_id(number)
            try:
                for name, value in attributes.items():
                    self.store.optuna_storage.set_trial_user_attr(trial_id, name, value)
                self.optuna.tell(number, values, state, skip_if_finished=True)
            except UpdateFinishedTrialError:
                pass  # another worker settled it first, from the same rows

        self.store.with_optuna(end)

    def reconcile(self) -> int:
        """Settle the trials that dead workers left running: with their plan's values when it is done, as pruned
        when it was screened out, otherwise as failed (the plan itself is in the queue again). Those of plans that wait
        for their latency go on. Returns how many were settled."""
        running = self.store.with_optuna(lambda: self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        if not running:
            return 0
        gone = heartbeats.gone_workers(self.store, self.study)
        settled = 0
        for trial in running:
            owner = trial.user_attrs.get("worker")
            if owner in gone or (owner is None and _age(trial) > ORPHAN_SECONDS):
                settled += self._settle(trial)
        return settled

    def _settle(self, trial: FrozenTrial) -> bool:
        query = sa.select(plans).where(plans.c.study_id == self.study.id, plans.c.trial_number == trial.number)
        found = self.store.read(query)
        row = found[0] if found else None
        if row is not None and row.state in (UNTIMED, UNSTEADY, RUNNING):
            return False
        if row is not None and row.state == DONE:
            self.tell(trial.number, finishing.values_of(self.store, self.study, row.id))
        elif row is not None and row.state == SCREENED:
            self.prune(trial.number, row.reason)
        else:
            self.fail(trial.number, (row.reason if row is not None else None) or WORKER_DIED)
        return True


def _attributes(claim: Claim) -> dict[str, Any]:
    return {"key": claim.key, "origin": claim.origin, "name": claim.name, "plan": claim.words}


def _age(trial: FrozenTrial) -> float:
    if trial.datetime_start is None:
        return 0.0
    return (datetime.datetime.now() - trial.datetime_start).total_seconds()
