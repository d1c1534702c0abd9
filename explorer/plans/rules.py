"""What an inheriting node takes: a linear combination of the features of earlier extract steps. Each rule is declared
once, in `RULES` or `FITTED_RULES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from explorer.errors import PlanError
from explorer.plans.coefficients import Coefficients
from explorer.unet.mask import Feature


@lru_cache(maxsize=65536)
def extrapolation(at: int, points: tuple[int, ...]) -> tuple[float, ...]:
    """Weights of the values at `points` in the polynomial through them (Lagrange), at `at`."""
    weights = []
    for m, point in enumerate(points):
        weight = 1.0
        for k, other in enumerate(points):
            if k != m:
                weight *= (at - other) / (point - other)
        weights.append(weight)
    return tuple(weights)


@dataclass(frozen=True)
class RuleType:
    """What is known of a rule. Plan files, spaces, calibrations, charts and the docs read it.

    Attributes:
        name: What people ask for.
        kind: Its name in plan files.
        order: Beside the kind in plan files.
        terms: How many extract steps it reads at most.
        suffix: How the name of a plan shows it; empty for the rule that needs no mention.
        label: What it is, in a few words.
        colour: Of its line in charts.
        fitted: Whether a plan holds weights of its own for each feature, which were fitted on calibration runs.
        searched: Whether spaces hold it and calibrations measure it.
        weigh: The evaluation that inherits and the extract steps that are read (ascending, at most `terms`), to a
            weight for each of them. Of a fitted rule: where no weights were fitted.
    """

    name: str
    kind: str
    order: int
    terms: int
    suffix: str
    label: str
    colour: str
    fitted: bool = False
    searched: bool = True
    weigh: Callable[[int, tuple[int, ...]], tuple[float, ...]] = extrapolation


RULES: dict[str, RuleType] = {
    each.name: each
    for each in (
        RuleType("copy", "copy", 0, 1, "", "copy", "#000000"),
        RuleType("forecast1", "forecast", 1, 2, "+f1", "forecast, order 1", "#0072B2"),
        RuleType("forecast2", "forecast", 2, 3, "+f2", "forecast, order 2", "#56B4E9"),
    )
}
"""The rules that need nothing but the extract steps: those of every space and of the named strategies."""
FITTED_RULES: dict[str, RuleType] = {
    each.name: each
    for each in (
        RuleType("fitted", "fitted", 1, 2, "+fit", "fitted", "#D55E00", fitted=True),
        RuleType("fitted3", "fitted", 2, 3, "+fit3", "fitted, 3 terms", "#E69F00", fitted=True, searched=False),
    )
}
"""The rules whose coefficients are fitted on calibration runs, of two terms and of three."""
FITTED = "fitted"
"""The default of these."""


def every_rule() -> tuple[RuleType, ...]:
    """Every rule, those that are fitted last."""
    return (*RULES.values(), *FITTED_RULES.values())


def searched_rules(fitted: bool = True) -> tuple[str, ...]:
    """The names of the rules that spaces hold; without those that are fitted where a study has no calibration."""
    return tuple(each.name for each in every_rule() if each.searched and (fitted or not each.fitted))


def rule_type(name: str) -> RuleType:
    """What is known of the rule of this name. Raises PlanError."""
    for each in every_rule():
        if each.name == name:
            return each
    raise PlanError(f"unknown rule {name!r}; expected one of {', '.join((*RULES, *FITTED_RULES))}.")


def written_as(kind: Any, order: Any) -> RuleType | None:
    """The rule that a plan file writes so. The order says nothing where the kind has but one, and may be a text where
    there are no weights; None for no rule."""
    of_kind = [each for each in every_rule() if each.kind == kind]

    def meant(each: RuleType) -> bool:
        return each.order == order if each.fitted else len(of_kind) == 1 or str(each.order) == str(order)

    return next(filter(meant, of_kind), None)


@dataclass(frozen=True)
class Rule:
    """`copy` (order 0): the feature of the last extract step, as in A-SDM. `forecast` of order 1 or 2: the polynomial
    through the last two or three extract steps, extrapolated to the current evaluation (TaylorSeer's idea on units).
    `fitted` of order 1 or 2: a linear combination of the last two or three, with `weights` of its own for each feature
    and evaluation that were fitted by least squares (`explorer.calibration.fitting`; L2P's idea on units).

    Raises:
        PlanError: for an order that the kind does not have, or `fitted` without weights.
    """

    kind: str = "copy"
    order: int = 0
    weights: Coefficients | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        known = self.type
        if (self.weights is None) == known.fitted:
            raise PlanError(NEEDS_WEIGHTS.format(self.name) if known.fitted else f"{self.name} has no weights.")
        if self.weights is not None and self.weights.terms > self.history:
            raise PlanError(f"{self.name} reads {self.history} extract steps and its weights {self.weights.terms}.")

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read `copy`, `forecast1`, `forecast2`. Raises PlanError, also for `fitted`, which is more than its name."""
        found = RULES.get(text) if isinstance(text, str) else None
        if isinstance(text, str) and text in FITTED_RULES:
            raise PlanError(NEEDS_WEIGHTS.format(text))
        if found is None:
            raise PlanError(f"unknown rule {text!r}; expected one of {', '.join(RULES)}.")
        return cls(found.kind, found.order)

    @cached_property
    def type(self) -> RuleType:
        """What is known of it. Raises PlanError for a kind and order that no rule has."""
        for each in every_rule():
            if each.kind == self.kind and each.order == self.order:
                return each
        raise PlanError(f"unknown rule {self.kind} of order {self.order!r}; expected one of {', '.join(RULES)}.")

    @property
    def name(self) -> str:
        return self.type.name

    @property
    def suffix(self) -> str:
        """How a plan's name shows the rule: nothing for copy, `+f2` for a forecast of order 2, `+fit` or `+fit3`."""
        return self.type.suffix

    @property
    def history(self) -> int:
        """How many extract steps the rule reads at most."""
        return self.type.terms

    def coefficients(
        self, evaluation: int, sources: tuple[int, ...], feature: Feature | None = None
    ) -> tuple[float, ...]:
        """Weights of `feature` as extracted at the last `history` of `sources` (ascending), for the step `evaluation`.

        They sum to 1 and are of fewer terms while there are fewer extract steps. Fitted weights where they were fitted
        for these sources; otherwise (a run of the tail of the timesteps, a change inside a run) the straight line
        through the last two.
        """
        read = sources[-self.history :]
        if self.weights is not None and feature is not None:
            line = extrapolation(evaluation, read[-2:])
            return self.weights.at(evaluation, read, feature) or (0.0,) * (len(read) - len(line)) + line
        return self.type.weigh(evaluation, read)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "order": self.order} | (self.weights.to_json() if self.weights is not None else {})

    @classmethod
    def from_json(cls, data: Any) -> Rule:
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            raise PlanError("the plan's rule cannot be read; expected an object with 'kind' and 'order'.")
        kind, order = data["kind"], data.get("order")
        found = written_as(kind, order)
        if found is None and kind == FITTED:
            raise PlanError(f"a fitted rule is of order 1 or 2, got {order!r}; export the plan again.")
        if found is None:
            raise PlanError(f"unknown rule {f'{kind}{order}'!r}; expected one of {', '.join(RULES)}.")
        return cls(found.kind, found.order, Coefficients.from_json(data) if found.fitted else None)


NEEDS_WEIGHTS = (
    "the rule {} needs weights that are fitted for the plan; make the plan with another rule and give it to "
    "explorer.calibration.fitting.fit."
)


def rule_of_suffix(suffix: str) -> str:
    """The name of the rule that a plan's name shows by this suffix. Raises PlanError."""
    for each in every_rule():
        if each.suffix == suffix:
            return each.name
    known = ", ".join(each.suffix for each in every_rule() if each.suffix)
    raise PlanError(f"unknown rule {suffix!r}; expected {known} or nothing.")
