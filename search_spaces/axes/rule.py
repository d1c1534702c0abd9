"""The rule: what an inheriting node takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import every_rule, searched_rules, written_as
from search_spaces.axes.base import UNKNOWN, Axis, Draft
from search_spaces.space import Parameters, Setting, inherits, suggest_rule, with_rule

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


def move_rule(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """Another rule of the space; a fitted one only where the calibration tells of the plan."""
    rules = setting.rules if setting.calibrates(plan) else searched_rules(fitted=False)
    others = [rule for rule in rules if rule != plan.rule.name]
    return with_rule(plan, random.choice(others), setting)


class Rules(Axis):
    name = column = "rule"
    moves = (move_rule,)
    title = "Rule"
    help = "What an inherited feature is: a copy, a forecast from earlier ones, or what was fitted."

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        draft.rule = suggest_rule(trial, self.setting)

    def guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        yield {"rule": plan.rule.name if inherits(plan, evaluations) else "copy"}

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        return tuple(each.name for each in every_rule())

    @classmethod
    def kind(cls, plan: InheritancePlan) -> str:
        return plan.rule.name

    @classmethod
    def fact(cls, document: Mapping[str, Any]) -> str:
        """The name of a rule's JSON. Its weights are not read."""
        rule = document.get("rule")
        known = written_as(rule.get("kind"), rule.get("order")) if isinstance(rule, Mapping) else None
        return UNKNOWN if known is None else known.name
