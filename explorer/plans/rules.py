"""What an inheriting node takes: a linear combination of the features of earlier extract steps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from explorer.errors import PlanError
from explorer.plans.coefficients import Coefficients
from explorer.unet.mask import Feature

RuleKind = Literal["copy", "forecast", "fitted"]
RULES = ("copy", "forecast1", "forecast2")
"""The rules that need nothing but the extract steps: those of every space and of the named strategies."""
FITTED_RULES = ("fitted", "fitted3")
"""The rules whose coefficients are fitted on calibration runs, of two terms and of three."""


@dataclass(frozen=True)
class Rule:
    """`copy` (order 0): the feature of the last extract step, as in A-SDM. `forecast` of order 1 or 2: the polynomial
    through the last two or three extract steps, extrapolated to the current evaluation (TaylorSeer's idea on units).
    `fitted` of order 1 or 2: a linear combination of the last two or three, with `weights` of its own for each feature
    and evaluation that were fitted by least squares (`explorer.calibration.fitting`; L2P's idea on units).

    Raises:
        PlanError: for an order that the kind does not have, or `fitted` without weights.
    """

    kind: RuleKind = "copy"
    order: int = 0
    weights: Coefficients | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.order not in {"copy": (0,), "forecast": (1, 2), "fitted": (1, 2)}[self.kind]:
            raise PlanError(f"unknown rule {self.kind} of order {self.order!r}; expected one of {', '.join(RULES)}.")
        if (self.weights is None) == (self.kind == "fitted"):
            raise PlanError(
                NEEDS_WEIGHTS.format(self.name) if self.kind == "fitted" else f"{self.name} has no weights."
            )
        if self.weights is not None and self.weights.terms > self.history:
            raise PlanError(f"{self.name} reads {self.history} extract steps and its weights {self.weights.terms}.")

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read `copy`, `forecast1`, `forecast2`. Raises PlanError, also for `fitted`, which is more than its name."""
        if text in FITTED_RULES:
            raise PlanError(NEEDS_WEIGHTS.format(text))
        match = re.fullmatch(r"copy|forecast([12])", text) if isinstance(text, str) else None
        if match is None:
            raise PlanError(f"unknown rule {text!r}; expected one of {', '.join(RULES)}.")
        return cls("forecast", int(match[1])) if match[1] else cls()

    @property
    def name(self) -> str:
        if self.kind == "fitted":
            return FITTED_RULES[self.order - 1]
        return f"forecast{self.order}" if self.order else "copy"

    @property
    def suffix(self) -> str:
        """How a plan's name shows the rule: nothing for copy, `+f2` for a forecast of order 2, `+fit` or `+fit3`."""
        return suffix_of(self.name)

    @property
    def history(self) -> int:
        """How many extract steps the rule reads at most."""
        return self.order + 1

    def coefficients(
        self, evaluation: int, sources: tuple[int, ...], feature: Feature | None = None
    ) -> tuple[float, ...]:
        """Weights of `feature` as extracted at the last `history` of `sources` (ascending), for the step `evaluation`.

        Lagrange extrapolation, of a lower order while fewer stand; these weights sum to 1. Fitted weights where they
        were fitted for these sources; otherwise (a run of the tail of the timesteps, a change inside a run) the
        straight line through the last two.
        """
        read = sources[-self.history :]
        if self.weights is not None and feature is not None:
            line = extrapolation(evaluation, read[-2:])
            return self.weights.at(evaluation, read, feature) or (0.0,) * (len(read) - len(line)) + line
        return extrapolation(evaluation, read)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "order": self.order} | (self.weights.to_json() if self.weights is not None else {})

    @classmethod
    def from_json(cls, data: Any) -> Rule:
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            raise PlanError("the plan's rule cannot be read; expected an object with 'kind' and 'order'.")
        if data["kind"] == "fitted":
            if data.get("order") not in (1, 2):
                raise PlanError(f"a fitted rule is of order 1 or 2, got {data.get('order')!r}; export the plan again.")
            return cls("fitted", int(data["order"]), Coefficients.from_json(data))
        return cls.parse(data["kind"] + (str(data.get("order")) if data["kind"] != "copy" else ""))


NEEDS_WEIGHTS = (
    "the rule {} needs weights that are fitted for the plan; make the plan with another rule and give it to "
    "explorer.calibration.fitting.fit."
)
_SUFFIXES = {"copy": "", "forecast1": "+f1", "forecast2": "+f2", "fitted": "+fit", "fitted3": "+fit3"}


def suffix_of(rule: str) -> str:
    """How a plan's name shows the rule of this name."""
    return _SUFFIXES[rule]


def rule_of_suffix(suffix: str) -> str:
    """The name of the rule that a plan's name shows by this suffix. Raises PlanError."""
    for rule, shown in _SUFFIXES.items():
        if shown == suffix:
            return rule
    raise PlanError(f"unknown rule {suffix!r}; expected {', '.join(s for s in _SUFFIXES.values() if s)} or nothing.")


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
