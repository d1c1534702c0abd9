"""The number of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import MAX_EVALUATIONS
from explorer.plans.strategies import plain_controls
from search_spaces.axes.base import Axis, Draft, PlanRun
from search_spaces.moves import stretched
from search_spaces.space import Parameters, Setting

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

STEPS_OF_FIFTY = (50, 40, 35, 30, 25, 20, 15, 10)


def move_steps(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """One place up or down the row of step counts; a schedule that is written out is stretched."""
    counts = setting.fractions(STEPS_OF_FIFTY)
    if plan.steps not in counts:
        return None
    to = counts.index(plan.steps) + random.choice((-1, 1))
    if not 0 <= to < len(counts):
        return None
    schedule = stretched(plan.schedule, setting.evaluations_of(plan), setting.at(counts[to], plan.scheduler))
    return replace(plan, steps=counts[to], schedule=schedule)


class Steps(Axis):
    """Fewer steps and inheritance combine, as plain fewer steps are the rival that inheritance has to beat."""

    name = column = "steps"
    moves = (move_steps,)
    lengths = (0.3,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.counts = setting.fractions(STEPS_OF_FIFTY)

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        draft.fields["steps"] = trial.suggest_categorical("steps", self.counts)

    def guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        if plan.steps in self.counts:
            yield {"steps": plan.steps}

    def baselines(self) -> Iterator[InheritancePlan]:
        return plain_controls(self.setting.architecture, self.setting.steps)

    @property
    def holds(self) -> str:
        return f" at {', '.join(map(str, self.counts))} steps"

    @classmethod
    def encode(cls, run: PlanRun) -> list[float]:
        """Evaluations over those of the un-accelerated run."""
        return [len(run.choices) / run.whole]

    @classmethod
    def fact(cls, document: Mapping[str, Any]) -> int | None:
        steps = document.get("steps")
        return steps if type(steps) is int and 1 <= steps <= MAX_EVALUATIONS else None
