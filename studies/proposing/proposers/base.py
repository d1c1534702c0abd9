"""What a kind of proposer is: it has a name and gives one new plan at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import optuna

from explorer.errors import ExplorerError, StudyError
from explorer.plans.plan import InheritancePlan
from search_spaces.space import BaseSpace, Setting, Space
from studies.proposing.proposers.record import Record
from studies.queue import samplers
from studies.queue.optuna_mirror import Mirror
from studies.scored import Prediction
from studies.storage.store import Store, StudyRecord

Predictor = Callable[[InheritancePlan], Prediction]
"""Drift and cost of a plan without running it; `studies.predicting.drift_model.DriftModel` is the one in use."""


@dataclass(frozen=True)
class Proposal:
    """A plan to be scored. parameters: of the space. parents: trials that it was made from. trial: the sampler's own,
    where it waits to be told."""

    plan: InheritancePlan
    kind: str
    parameters: dict[str, Any]
    parents: tuple[int, ...] = ()
    trial: optuna.Trial | None = None


class Kind(Protocol):
    """A way to propose. What it does follows from the study's seed, the worker's number and what exists."""

    @property
    def name(self) -> str:
        """As `--proposals` spells it and the study records it."""

    def propose(self) -> Proposal | None:
        """A new plan of the space; None if there is none at this turn."""


@dataclass
class Tools:
    """What kinds are made from. rejection: why a plan need not be measured. predictor: None without a calibration.
    worker, standing: what makes a worker's stream of random numbers its own (`studies.queue.samplers.make`)."""

    store: Store
    study: StudyRecord
    space: Space
    evaluations: Callable[[InheritancePlan], int]
    read_plan: Callable[[dict[str, Any]], InheritancePlan]
    mirror: Mirror
    record: Record
    rejection: Callable[[InheritancePlan], str | None]
    predictor: Predictor | None
    worker: int
    standing: int

    def seed(self, purpose: int) -> int:
        """A seed of this worker's run for one purpose."""
        return samplers.stream(self.study.settings.sampler, self.worker, self.standing, purpose)

    @property
    def setting(self) -> Setting | None:
        """What the space's plans are for; None for a space that is not of `search_spaces`."""
        return self.space.setting if isinstance(self.space, BaseSpace) else None

    def is_new(self, plan: InheritancePlan) -> bool:
        """Whether the plan can run, is new, and is worth a measurement."""
        try:
            return plan.key(self.evaluations(plan)) not in self.record.keys and self.rejection(plan) is None
        except StudyError:
            raise
        except ExplorerError:  # such as a schedule that does not fit the scheduler's evaluations
            return False

    def proposal(self, plan: InheritancePlan, kind: str, parents: tuple[int, ...] = ()) -> Proposal | None:
        """The plan as a proposal; None when the space does not hold it."""
        try:
            return Proposal(plan, kind, self.space.parameters(plan), parents)
        except ExplorerError:
            return None
