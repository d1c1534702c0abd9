"""What a space is: a trial's suggestions to a plan, and a plan back to the parameters that give it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import FITTED_RULES, Rule, searched_rules
from explorer.plans.strategies import PLAIN_STEPS, Fit
from explorer.unet.architecture import Architecture
from explorer.unet.mask import FORMS, Form, Mask

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Parameters = dict[str, Any]


class Space(Protocol):
    """A search space over plans for one architecture and one study's number of steps."""

    @property
    def name(self) -> str: ...

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        """The plan of a trial. Total: every combination of values gives a valid plan."""

    def parameters(self, plan: InheritancePlan) -> Parameters:
        """The values under which `suggest` gives a plan that does the same as `plan`. Raises PlanError when there
        are none."""


@dataclass(frozen=True)
class Setting:
    """What the plans of a study are for: architecture, pipeline steps, and the UNet evaluations of those steps.

    fit: what gives a plan the weights of a fitted rule; without it no plan of the space has that rule. values: of each
    axis that a study may lack, by its name: the values that plans may have beside the pipeline's own, each with what a
    space must know of it (`search_spaces.axes.base.Choice.known`). forms: those that a unit may have in a mask;
    those of removal (`explorer.unet.mask.REMOVALS`) need no training to be searched.
    """

    architecture: Architecture
    steps: int
    evaluations: int
    fit: Fit | None = None
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forms: tuple[Form, ...] = FORMS

    @property
    def schedulers(self) -> Mapping[str, int]:
        """The schedulers that plans may name, each with the UNet evaluations of `steps` under it."""
        return self.values.get("scheduler", {})

    def calibrates(self, plan: InheritancePlan) -> bool:
        """Whether a calibration of the pipeline tells of the plan: it names none of `values`."""
        return all(getattr(plan, name, None) is None for name in self.values)

    @property
    def rules(self) -> tuple[str, ...]:
        return searched_rules(fitted=self.fit is not None)

    def at(self, steps: int, scheduler: str | None = None) -> int:
        """UNet evaluations of a run of `steps` under the study's scheduler, or another one. Raises PlanError for one
        that the study does not have.

        Schedulers evaluate q times a step and r times more or less in a run: q = 1, r = 1 with PNDM; q = 2, r = -1
        with Heun. One pair of numbers tells both. A run of one step is one evaluation with all of them: PNDM has no
        second timestep to repeat.
        """
        if scheduler is not None and scheduler not in self.schedulers:
            raise PlanError(
                f"the study has no plans for {scheduler}; it has them for "
                f"{', '.join(['its own scheduler', *self.schedulers])}."
            )
        if steps == 1:
            return 1
        whole = self.evaluations if scheduler is None else self.schedulers[scheduler]
        per_step = max(1, round(whole / self.steps))
        return max(1, per_step * steps + whole - per_step * self.steps)

    def evaluations_of(self, plan: InheritancePlan) -> int:
        """UNet evaluations of a run of the plan under its scheduler. Raises PlanError as `at`."""
        return self.at(plan.steps, plan.scheduler)

    def plain_steps(self) -> tuple[int, ...]:
        """The step counts of the study's `plain@n` controls, most first."""
        return self.fractions(PLAIN_STEPS)

    def fractions(self, of_fifty: tuple[int, ...]) -> tuple[int, ...]:
        """Step counts that are to the study's as those given are to 50, most first, the study's own among them."""
        counts = {self.steps, *(round(self.steps * n / 50) for n in of_fifty)}
        return tuple(sorted((count for count in counts if count >= 1), reverse=True))


class BaseSpace(ABC):
    """A space whose inverse is a row of guesses, each proven by `suggest` itself.

    name: as the command line spells it. holds: what its plans are, for the refusal of others.
    """

    name: str
    holds: str

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def suggest(self, trial: BaseTrial) -> InheritancePlan: ...

    @abstractmethod
    def _guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        """Parameters that may give `plan`, the most telling first; none when the plan is clearly outside."""

    def parameters(self, plan: InheritancePlan) -> Parameters:
        from optuna.trial import FixedTrial

        architecture = self.setting.architecture
        if plan.architecture != architecture:
            raise PlanError(
                f"the plan is for a UNet of {plan.architecture.describe()} and the space {self.name} for one of "
                f"{architecture.describe()}; take a plan that was made for this model."
            )
        evaluations = self.setting.evaluations_of(plan)
        key = plan.key(evaluations)
        has_rule = plan.rule.name in self.setting.rules or not inherits(plan, evaluations)
        for guess in self._guesses(plan, evaluations) if has_rule else ():
            if self.suggest(FixedTrial(guess)).key(evaluations) == key:
                return guess
        raise PlanError(
            f"the plan {plan.describe()} is outside of the space {self.name}, which holds {self.holds}; choose another "
            "space or score the plan without one."
        )


def suggest_rule(trial: BaseTrial, setting: Setting) -> str:
    return trial.suggest_categorical("rule", setting.rules)


def with_rule(plan: InheritancePlan, rule: str, setting: Setting) -> InheritancePlan:
    """The plan under the rule of this name. What is to be fitted gets what `Setting.fit` gives it: weights, or a copy
    where there are no moments of the plan's step count and scheduler."""
    if rule in FITTED_RULES and setting.fit is not None:
        return setting.fit(plan, rule)
    return plan.with_rule(Rule.parse(rule))


def inherits(plan: InheritancePlan, evaluations: int) -> bool:
    """Whether the plan inherits anything at all in such a run; otherwise its schedule and rule mean nothing."""
    return any(len(plan.mask(choice)) for choice in set(plan.resolve(evaluations)))


def plan_of(
    setting: Setting, masks: tuple[Mask, ...], schedule: Any, rule: str, steps: int | None = None
) -> InheritancePlan:
    count = setting.steps if steps is None else steps
    return with_rule(InheritancePlan(setting.architecture, count, masks, schedule), rule, setting)
