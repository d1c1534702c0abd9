"""What the study's sampler proposes."""

from __future__ import annotations

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from explorer.errors import ExplorerError, StudyError
from studies.proposing.proposers.base import Proposal, Tools
from studies.storage.store import StudyRecord


class FromSampler:
    """What the study's sampler (tpe, nsgaii or random) proposes next. It asks in the database, so that the samplers of
    all workers know of each other; a duplicate is told the standing values."""

    name = "sampler"

    def __init__(self, tools: Tools) -> None:
        self.mirror = tools.mirror

    def propose(self) -> Proposal | None:
        trial = self.mirror.ask()
        try:
            plan = self.mirror.suggest(trial)
        except StudyError:
            raise  # the storage's trouble, not the plan's
        except ExplorerError as error:
            self.mirror.fail(trial.number, str(error))
            return None
        return Proposal(plan, self.name, dict(trial.params), trial=trial)


def in_memory(study: StudyRecord, sampler: BaseSampler) -> optuna.Study:
    """A study outside of the database, for proposals of which few or none are scored."""
    directions = [StudyDirection[objective.direction.upper()] for objective in study.settings.objectives]
    return optuna.create_study(sampler=sampler, directions=directions)
