"""One mask at one granularity with a periodic schedule: what the spaces block, layer and unit have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from explorer.plans.plan import InheritancePlan
from search_spaces.mask_genome import MaskGenome
from search_spaces.schedule_genome import ScheduleGenome
from search_spaces.space import BaseSpace, Parameters, Setting, inherits, plan_of, suggest_rule

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

PREFIX = "m1"


class SingleMaskSpace(BaseSpace):
    """`level` (a granularity of `mask_genome`) is set by the space. The dimensions: rule, form, mask, period, offset,
    full tail; the number of steps is the study's."""

    level: str

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.holds = f"one mask over whole {self.level}s in one form, a period and {setting.steps} steps"
        self.masks = MaskGenome(setting.architecture, (self.level,), setting.forms)
        self.schedules = ScheduleGenome(setting.evaluations, ("periodic",))

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        rule = suggest_rule(trial, self.setting)
        mask = self.masks.suggest(trial, PREFIX)
        schedule = self.schedules.suggest(trial, 1, self.setting.evaluations)
        return plan_of(self.setting, (mask,), schedule, rule)

    def _guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        if plan.steps != self.setting.steps:
            return
        rule = plan.rule.name if inherits(plan, evaluations) else "copy"
        for (mask,), schedule in self.schedules.guesses(plan, evaluations, most_masks=1):
            chosen = self.masks.encode(mask, PREFIX)
            if chosen is not None:
                yield {"rule": rule, **chosen, **schedule}
