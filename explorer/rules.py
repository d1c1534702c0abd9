"""What an inheriting node takes: a linear combination of the features of earlier extract steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from explorer.errors import PlanError

RuleKind = Literal["copy", "forecast"]
RULES = ("copy", "forecast1", "forecast2")


@dataclass(frozen=True)
class Rule:
    """`copy` (order 0): the feature of the last extract step, as in A-SDM. `forecast` of order 1 or 2: the polynomial
    through the last two or three extract steps, extrapolated to the current evaluation (TaylorSeer's idea on units)."""

    kind: RuleKind = "copy"
    order: int = 0

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read `copy`, `forecast1`, `forecast2`. Raises PlanError."""
        match = re.fullmatch(r"copy|forecast([12])", text) if isinstance(text, str) else None
        if match is None:
            raise PlanError(f"unknown rule {text!r}; expected one of {', '.join(RULES)}.")
        return cls("forecast", int(match[1])) if match[1] else cls()

    @property
    def name(self) -> str:
        return f"forecast{self.order}" if self.order else "copy"

    @property
    def suffix(self) -> str:
        """How a plan's name shows the rule: nothing for copy, `+f2` for a forecast of order 2."""
        return f"+f{self.order}" if self.order else ""

    @property
    def history(self) -> int:
        """How many extract steps the rule reads at most."""
        return self.order + 1

    def coefficients(self, evaluation: int, sources: tuple[int, ...]) -> tuple[float, ...]:
        """Weights of the features extracted at `sources` (ascending) for the step `evaluation`; they sum to 1.

        Lagrange extrapolation through the last `history` sources; of a lower order while fewer stand.
        """
        return _lagrange(evaluation, sources[-self.history :])

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "order": self.order}

    @classmethod
    def from_json(cls, data: Any) -> Rule:
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            raise PlanError("the plan's rule cannot be read; expected an object with 'kind' and 'order'.")
        return cls.parse(data["kind"] + (str(data.get("order")) if data["kind"] != "copy" else ""))


@lru_cache(maxsize=65536)
def _lagrange(at: int, points: tuple[int, ...]) -> tuple[float, ...]:
    weights = []
    for m, point in enumerate(points):
        weight = 1.0
        for k, other in enumerate(points):
            if k != m:
                weight *= (at - other) / (point - other)
        weights.append(weight)
    return tuple(weights)
