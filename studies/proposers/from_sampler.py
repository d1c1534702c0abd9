"""The sampler's proposals, to be scored or to be thought of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from explorer.errors import ExplorerError, StudyError
from studies import samplers
from studies.proposers.base import Proposal, Tools
from studies.scored import P
from studies.settings import SamplerSettings
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


class Suggestions(Generic[P]):
    """What the study's sampler would propose, made outside of the database from what has been told: plans to be thought
    of, most of which are never scored. (NSGA-II's generations need every proposal scored: draws at random stand in.)"""

    def __init__(self, tools: Tools[P]) -> None:
        self.tools = tools
        chosen = tools.study.settings.sampler
        if chosen.name == "nsga2":
            chosen = SamplerSettings("random", {}, chosen.seed)
        self.pool = in_memory(tools.study, samplers.make(chosen, tools.worker, tools.standing))
        self._told: set[int] = set()

    def take(self, count: int) -> Iterator[P]:
        """Up to `count` plans that the space holds and that are not measured yet."""
        for told in self.tools.mirror.told():
            if told.number not in self._told:
                self._told.add(told.number)
                self.pool.add_trial(told)
        for _ in range(count):
            trial = self.pool.ask()
            try:
                plan = self.tools.space.suggest(trial)
            except StudyError:
                raise
            except ExplorerError:
                plan = None
            self.pool.tell(trial, state=TrialState.FAIL)  # what is scored comes back from the study
            if plan is not None and self.tools.is_new(plan):
                yield plan


def in_memory(study: StudyRecord, sampler: BaseSampler) -> optuna.Study:
    """A study outside of the database, for proposals of which few or none are scored."""
    directions = [StudyDirection[objective.direction.upper()] for objective in study.settings.objectives]
    return optuna.create_study(sampler=sampler, directions=directions)
