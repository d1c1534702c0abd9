"""The space `joint`, the default: masks, their granularity and form, schedule, rule, number of steps and, where a study
has several, the scheduler together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Every, Segments
from explorer.plans.schedulers import OWN
from explorer.unet.mask import REMOVALS, liveness
from search_spaces.mask_genome import MaskGenome
from search_spaces.schedule_genome import EVERY, FAMILIES, MOST_MASKS, ScheduleGenome
from search_spaces.space import BaseSpace, Parameters, Setting, inherits, plan_of, suggest_rule

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

STEPS_OF_FIFTY = (50, 40, 35, 30, 25, 20, 15, 10)


class JointSpace(BaseSpace):
    """Any plan of up to three masks at one of the step counts, every baseline among them.

    Fewer steps and inheritance combine, as plain fewer steps are the rival that inheritance has to beat; so does a
    better solver. A fitted rule belongs to the study's own scheduler, so under another one the plan gets what
    `Setting.fit` gives it, a copy.
    """

    name = "joint"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.steps = setting.fractions(STEPS_OF_FIFTY)
        counts = ", ".join(str(count) for count in self.steps)
        self.schedulers = tuple(OWN if name is None else name for name in setting.schedulers)
        of = f" of {', '.join(self.schedulers)}" if len(self.schedulers) > 1 else ""
        self.holds = f"plans of up to {MOST_MASKS} masks at {counts} steps{of}"
        self.masks = MaskGenome(setting.architecture, forms=setting.forms)
        removes = any(form in REMOVALS for form in setting.forms)
        self.schedules = ScheduleGenome(setting.evaluations, (*FAMILIES, EVERY) if removes else FAMILIES)

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        steps = trial.suggest_categorical("steps", self.steps)
        scheduler = None
        if len(self.schedulers) > 1:
            chosen = trial.suggest_categorical("scheduler", self.schedulers)
            scheduler = None if chosen == OWN else chosen
        rule = suggest_rule(trial, self.setting)
        count = trial.suggest_int("masks", 1, MOST_MASKS)
        masks = tuple(self.masks.suggest(trial, f"m{k}") for k in range(1, count + 1))
        evaluations = self.setting.at(steps, scheduler)
        schedule = self.schedules.suggest(trial, count, evaluations)
        architecture = self.setting.architecture
        if isinstance(schedule, Every) and any(liveness(architecture, mask).reads for mask in masks):
            schedule = Segments.of([0, *schedule.resolve(evaluations)[1:]])  # what inherits needs an extract step
        return plan_of(self.setting, masks, schedule, rule, steps, scheduler)

    def _guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        if plan.steps not in self.steps:
            return
        rule = plan.rule.name if inherits(plan, evaluations) else "copy"
        named = {"scheduler": plan.scheduler or OWN} if len(self.schedulers) > 1 else {}
        for masks, schedule in self.schedules.guesses(plan, evaluations):
            chosen: dict[str, Any] = {}
            encoded = [self.masks.encode(mask, f"m{k}") for k, mask in enumerate(masks, 1)]
            if None in encoded:
                continue  # a form that the space has not, or a bypassed sampler: the level `node` has all others
            for each in encoded:
                chosen |= each or {}
            yield {"steps": plan.steps, **named, "rule": rule, "masks": len(masks), **chosen, **schedule}
