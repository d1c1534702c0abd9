"""The space `named`: the registry as a grid of strategy, sampling mode and rule, and the controls `plain@n`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Schedule, parse_mode
from explorer.plans.strategies import STRATEGIES, deepcache_curve, strategy
from search_spaces.space import BaseSpace, Parameters, Setting, inherits, suggest_rule

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

PLAIN = "plain"
PERIODS = (2, 3, 4, 5, 6, 8, 10)
MODES = (*(f"P{n}" for n in PERIODS), *(f"P{n}†" for n in PERIODS), "N")


class NamedSpace(BaseSpace):
    """Every baseline of `explorer.plans.strategies.baselines` is in it, and gets its name here."""

    name = "named"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.steps = setting.plain_steps()
        plain = ", ".join(str(count) for count in self.steps)
        self.holds = f"the registry's strategies in the modes {', '.join(MODES)}, and plain@n for n of {plain}"

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        name = trial.suggest_categorical("strategy", (PLAIN, *STRATEGIES))
        if name == PLAIN:
            steps = trial.suggest_categorical("steps", self.steps)
            return strategy(f"{PLAIN}@{steps}", unet=self.setting.architecture)
        mode = trial.suggest_categorical("mode", MODES)
        rule = suggest_rule(trial, self.setting)
        setting = self.setting
        return strategy(name, mode=mode, steps=setting.steps, unet=setting.architecture, rule=rule, fit=setting.fit)

    def _guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        if not inherits(plan, evaluations):
            if plan.steps in self.steps:
                yield {"strategy": PLAIN, "steps": plan.steps}
            return
        if plan.steps != self.setting.steps:
            return
        architecture, choices = self.setting.architecture, plan.resolve(evaluations)
        masks = {plan.mask(choice).effective(architecture) for choice in choices if choice}
        modes = [m for m in MODES if _schedule(m, plan.steps).resolve(evaluations) == choices]
        for name, entry in STRATEGIES.items():
            if masks == {entry.mask(architecture).effective(architecture)}:
                yield from ({"strategy": name, "mode": mode, "rule": plan.rule.name} for mode in modes)


def _schedule(mode: str, steps: int) -> Schedule:
    return deepcache_curve(steps) if mode == "N" else parse_mode(mode)
