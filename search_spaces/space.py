"""What a space is: from a trial's suggestions to a plan, and from a plan back to the parameters that give it."""

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
    def name(self) -> str:
        """One of `SPACES`, or the name of a space of your own."""

    def suggest(self, trial: BaseTrial) -> InheritancePlan:
        """The plan of an Optuna trial. Every combination of values gives a valid plan."""

    def parameters(self, plan: InheritancePlan) -> Parameters:
        """The values for which `suggest` gives a plan that does the same as `plan`.

        Raises:
            PlanError: When the plan is outside of the space.
        """


@dataclass(frozen=True)
class Setting:
    """What the plans of a study are for.

    Attributes:
        architecture: Of the UNet.
        steps: The study's `num_inference_steps`.
        evaluations: UNet evaluations of these steps.
        fit: Gives a plan the weights of a fitted rule. Without it no plan of the space has that rule.
        values: Of each optional axis, by its name: the values that plans may have besides the pipeline's own, each with
            what a space must know of it (`search_spaces.axes.base.Choice.known`).
        forms: The forms that a unit may have in a mask. Those of `explorer.unet.mask.REMOVALS` remove parts.
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
        """Whether a calibration of the pipeline holds for the plan: it uses none of `values`."""
        return all(getattr(plan, name, None) is None for name in self.values)

    @property
    def rules(self) -> tuple[str, ...]:
        return searched_rules(fitted=self.fit is not None)

    def at(self, steps: int, scheduler: str | None = None) -> int:
        """UNet evaluations of a run of `steps` under the study's scheduler, or another one.

        A scheduler makes q evaluations a step and r more in a run: q = 1, r = 1 for PNDM; q = 2, r = -1 for Heun. A run
        of one step is one evaluation with all of them.

        Raises:
            PlanError: For a scheduler that the study does not have.
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
        """UNet evaluations of a run of the plan under its scheduler.

        Raises:
            PlanError: For a scheduler that the study does not have.
        """
        return self.at(plan.steps, plan.scheduler)

    def plain_steps(self) -> tuple[int, ...]:
        """The step counts of the study's `plain@n` controls, most first."""
        return self.fractions(PLAIN_STEPS)

    def fractions(self, of_fifty: tuple[int, ...]) -> tuple[int, ...]:
        """Step counts in proportion to the study's steps as the given ones are to 50, most first, with the study's."""
        counts = {self.steps, *(round(self.steps * n / 50) for n in of_fifty)}
        return tuple(sorted((count for count in counts if count >= 1), reverse=True))


class BaseSpace(ABC):
    """A space whose inverse makes guesses and checks each of them with `suggest`.

    Attributes:
        name: As on the command line.
        holds: What its plans are, for error messages.
    """

    name: str
    holds: str

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def suggest(self, trial: BaseTrial) -> InheritancePlan: ...

    @abstractmethod
    def _guesses(self, plan: InheritancePlan, evaluations: int) -> Iterator[Parameters]:
        """Parameters that may give `plan`, the likeliest first; none when the plan is clearly outside."""

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
    """The plan under the rule of this name. `Setting.fit` gives a fitted rule its weights, or the rule `copy` if there
    are no moments of the plan's step count and scheduler."""
    if rule in FITTED_RULES and setting.fit is not None:
        return setting.fit(plan, rule)
    return plan.with_rule(Rule.parse(rule))


def inherits(plan: InheritancePlan, evaluations: int) -> bool:
    """Whether the plan inherits anything in such a run. If not, its schedule and rule have no effect."""
    return any(len(plan.mask(choice)) for choice in set(plan.resolve(evaluations)))


def plan_of(
    setting: Setting, masks: tuple[Mask, ...], schedule: Any, rule: str, steps: int | None = None
) -> InheritancePlan:
    count = setting.steps if steps is None else steps
    return with_rule(InheritancePlan(setting.architecture, count, masks, schedule), rule, setting)
