"""The sampler's proposals: one by one, or the best of many by what the calibration predicts."""

from __future__ import annotations

from typing import Generic

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from explorer.errors import ExplorerError, StudyError
from studies import samplers
from studies.proposers.base import POOL, Proposal, Tools
from studies.scored import P
from studies.store import StudyRecord


class FromSampler(Generic[P]):
    """What the study's sampler (tpe, nsga2 or random) proposes next. It asks in the database, so that the samplers of
    all workers know of each other; a duplicate is told the standing values."""

    name = "sampler"

    def __init__(self, tools: Tools[P]) -> None:
        self.mirror = tools.mirror

    def propose(self) -> Proposal[P] | None:
        trial = self.mirror.ask()
        try:
            plan = self.mirror.suggest(trial)
        except StudyError:
            raise  # the storage's trouble, not the plan's
        except ExplorerError as error:
            self.mirror.fail(trial.number, str(error))
            return None
        return Proposal(plan, self.name, dict(trial.params), trial=trial)


class Screened(Generic[P]):
    """Of POOL proposals, made outside of the database from what has been told, the one that ranks first."""

    name = "screened"

    def __init__(self, tools: Tools[P]) -> None:
        self.tools = tools
        sampler = samplers.make(tools.study.settings.sampler, tools.worker, tools.standing)
        self.pool = in_memory(tools.study, sampler)
        self._told: set[int] = set()

    def propose(self) -> Proposal[P] | None:
        for told in self.tools.mirror.told():
            if told.number not in self._told:
                self._told.add(told.number)
                self.pool.add_trial(told)
        found: dict[str, tuple[P, tuple[int, ...]]] = {}
        for _ in range(POOL):
            trial = self.pool.ask()
            try:
                plan = self.tools.space.suggest(trial)
                if self.tools.is_new(plan):
                    found[plan.key(self.tools.evaluations(plan))] = plan, ()
            except StudyError:
                raise
            except ExplorerError:
                pass
            self.pool.tell(trial, state=TrialState.FAIL)  # what is scored comes back from the study
        return self.tools.best(self.name, list(found.values()))


def in_memory(study: StudyRecord, sampler: BaseSampler) -> optuna.Study:
    """A study outside of the database, for proposals of which few or none are scored."""
    directions = [StudyDirection[objective.direction.upper()] for objective in study.settings.objectives]
    return optuna.create_study(sampler=sampler, directions=directions)
