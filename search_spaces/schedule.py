"""The space `schedule`: one to three masks of the registry under every kind of schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from explorer.plans.plan import InheritancePlan
from explorer.plans.strategies import STRATEGIES
from explorer.unet.mask import Mask
from search_spaces.schedule_genome import MOST_MASKS, ScheduleGenome
from search_spaces.space import BaseSpace, Parameters, Setting, inherits, plan_of, suggest_rule

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class ScheduleSpace(BaseSpace):
    """The dimensions: rule, masks by their strategy's name, schedule; the number of steps is the study's."""

    name = "schedule"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.holds = f"one to {MOST_MASKS} masks of the registry and {setting.steps} steps"
        self.schedules = ScheduleGenome(setting.evaluations)
        self.registry = {name: s.mask(setting.architecture) for name, s in STRATEGIES.items()}
        self.names: dict[Mask, str] = {Mask(): next(iter(STRATEGIES))}  # for a schedule that always extracts
        for name, mask in self.registry.items():
            self.names.setdefault(mask.effective(setting.architecture), name)

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        rule = suggest_rule(trial, self.setting)
        count = trial.suggest_int("masks", 1, MOST_MASKS)
        names = [trial.suggest_categorical(f"m{k}.strategy", tuple(self.registry)) for k in range(1, count + 1)]
        schedule = self.schedules.suggest(trial, count, self.setting.evaluations)
        return plan_of(self.setting, tuple(self.registry[name] for name in names), schedule, rule)

    def _guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        if plan.steps != self.setting.steps:
            return
        rule = plan.rule.name if inherits(plan, evaluations) else "copy"
        for masks, schedule in self.schedules.guesses(plan, evaluations):
            names = [self.names.get(mask.effective(plan.architecture)) for mask in masks]
            if None not in names:
                chosen = {f"m{k}.strategy": name for k, name in enumerate(names, 1)}
                yield {"rule": rule, "masks": len(masks), **chosen, **schedule}
