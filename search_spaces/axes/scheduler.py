"""The scheduler that a plan runs under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan, plain_name
from explorer.plans.schedulers import OWN, check_name, evaluations_of, scheduler_for, short
from explorer.plans.strategies import plain_controls
from search_spaces.axes.base import UNKNOWN, Choice, Study
from search_spaces.moves import stretched
from search_spaces.space import Setting


def move_scheduler(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """Another scheduler of the study; a schedule that is written out is stretched."""
    others = [name for name in (None, *setting.schedulers) if name != plan.scheduler]
    if not others:
        return None
    to = random.choice(others)
    schedule = stretched(plan.schedule, setting.evaluations_of(plan), setting.at(plan.steps, to))
    return replace(plan, scheduler=to, schedule=schedule)


class Scheduler(Choice):
    """A better solver is a rival of inheritance, and combines with it. A fitted rule belongs to the study's own
    scheduler, so under another one the plan gets what `Setting.fit` gives it, a copy.

    What a space must know of one is the UNet evaluations of a full run under it.
    """

    name = column = "scheduler"
    option = "schedulers"
    own = OWN
    moves = (move_scheduler,)
    title = "Scheduler"
    help = "What the plan runs under: the pipeline's own, or one that it names."
    alone = "another scheduler alone"
    in_names = "A scheduler that is not the pipeline's own ends it."

    def baselines(self) -> Iterator[InheritancePlan]:
        setting = self.setting
        for name in setting.schedulers:
            for plan in plain_controls(setting.architecture, setting.steps):
                yield self.control(plan, name)

    @property
    def holds(self) -> str:
        return f" of {', '.join(self.own if name is None else name for name in self.values)}"

    @classmethod
    def known(cls, names: Sequence[str], pipe: Any, steps: int) -> dict[str, int]:
        """One of the class of the pipeline's, with no other options, is its own."""
        own = pipe.scheduler
        made = {name: scheduler_for(own, name) for name in names if name != cls.own}
        return {name: evaluations_of(each, steps) for name, each in made.items() if each is not own}

    @classmethod
    def control(cls, plan: InheritancePlan, value: str) -> InheritancePlan:
        return replace(plan, scheduler=value, name=plain_name(plan.steps, value))

    @classmethod
    def fact(cls, document: Mapping[str, Any]) -> str | None:
        name = document.get("scheduler")
        try:
            return None if name is None else short(check_name(name))
        except PlanError:
            return UNKNOWN

    @classmethod
    def shown(cls, value: str) -> str:
        return short(value)

    @classmethod
    def own_shown(cls, study: Study) -> str:
        return short(study.scheduler)

    @classmethod
    def applied(cls, value: str) -> str:
        return f"The plan puts a `{value}` on it."
