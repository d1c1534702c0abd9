"""The spacing of the timesteps that a plan runs at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from random import Random
from typing import TYPE_CHECKING, Any

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan, plain_name
from explorer.plans.schedulers import OWN, SPACINGS, check_spacing, scheduler_for
from explorer.plans.strategies import strategy
from search_spaces.axes.base import UNKNOWN, Choice, Draft, Study
from search_spaces.space import Setting

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


def move_spacing(plan: InheritancePlan, setting: Setting, random: Random) -> InheritancePlan | None:
    """Another spacing of the study, where the plan's scheduler can have it."""
    values = setting.values["spacing"]
    possible = (None, *(kind for kind, changes in values.items() if changes(plan.scheduler)))
    others = [kind for kind in possible if kind != plan.spacing]
    return replace(plan, spacing=random.choice(others)) if others else None


class Spacings(Choice):
    """It decides runs of few steps.

    What a space must know of one is for which schedulers it changes anything, a function of their names (None: the
    pipeline's own): under others a plan has none, so that no plan has two keys.
    """

    name = column = "spacing"
    after = ("scheduler",)
    option = "spacings"
    own = OWN
    moves = (move_spacing,)
    title = "Spacing"
    help = "How the timesteps are spaced: as the scheduler does by its own, or as the plan names it."
    alone = "another spacing of the timesteps alone"
    in_names = "~trailing is the spacing of its timesteps."

    def suggest(self, trial: BaseTrial, draft: Draft) -> None:
        super().suggest(trial, draft)
        kind = draft.fields[self.name]
        if not self._changes(kind, draft.fields.get("scheduler")):
            draft.fields[self.name] = None

    def repaired(self, plan: InheritancePlan) -> InheritancePlan:
        return plan if self._changes(plan.spacing, plan.scheduler) else replace(plan, spacing=None)

    def _changes(self, kind: str | None, scheduler: str | None) -> bool:
        return kind is None or bool(self.setting.values[self.name][kind](scheduler))

    def baselines(self) -> Iterator[InheritancePlan]:
        setting = self.setting
        for scheduler in (None, *setting.schedulers):
            for kind in setting.values[self.name]:
                if self._changes(kind, scheduler):
                    for steps in setting.plain_steps():
                        yield strategy(plain_name(steps, scheduler, kind), unet=setting.architecture)

    @property
    def holds(self) -> str:
        return f" with timesteps {', '.join(self.own if kind is None else kind for kind in self.values)}"

    @classmethod
    def known(cls, names: Sequence[str], pipe: Any, steps: int) -> dict[str, Any]:
        own = pipe.scheduler

        @cache
        def changes(kind: str, scheduler: str | None) -> bool:
            try:
                plain = scheduler_for(own, scheduler)
                return scheduler_for(plain, None, kind) is not plain
            except PlanError:
                return False

        return {kind: partial(changes, kind) for kind in names if kind != cls.own}

    @classmethod
    def control(cls, plan: InheritancePlan, value: str) -> InheritancePlan:
        return replace(plan, spacing=value, name=plain_name(plan.steps, plan.scheduler, value))

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        return (OWN, *SPACINGS)

    @classmethod
    def kind(cls, plan: InheritancePlan) -> str:
        return plan.spacing or OWN

    @classmethod
    def fact(cls, document: Mapping[str, Any]) -> str | None:
        spacing = document.get("spacing")
        try:
            return None if spacing is None else check_spacing(spacing)
        except PlanError:
            return UNKNOWN

    @classmethod
    def shown(cls, value: str) -> str:
        return value

    @classmethod
    def own_shown(cls, study: Study) -> str:
        return OWN

    @classmethod
    def applied(cls, value: str) -> str:
        return f"The plan gives its scheduler `{value}` timesteps."

    @classmethod
    def suffix(cls, value: str | None) -> str:
        return "" if value is None else f"~{value}"
