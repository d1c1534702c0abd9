"""The weights of a fitted rule: for each feature and evaluation, those of the extract steps that it combines."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from explorer.errors import PlanError
from explorer.plans.schedule import MAX_EVALUATIONS
from explorer.unet.mask import FORMS, Feature

MAX_WEIGHT = 100.0
"""No useful combination of features comes near it: a larger weight is a mistake, or hostile."""
MAX_TERMS = 3
_DIGITS = 4
_AGAIN = "export the plan again"

Step = tuple[int, tuple[int, ...]]
Row = tuple[float, ...]


@dataclass(frozen=True)
class Coefficients:
    """Immutable, validated weights for runs of `evaluations` UNet evaluations.

    steps: (evaluation, the extract steps that it combines, ascending), ascending. weights: for each feature a row for
    each of `steps`, as long as its extract steps; None where no mask reads the feature.

    Raises:
        PlanError: for steps out of order, a row of another length, and a weight that is not finite or above 100.
    """

    evaluations: int
    steps: tuple[Step, ...]
    weights: tuple[tuple[Feature, tuple[Row | None, ...]], ...]

    def __post_init__(self) -> None:
        if not 1 <= self.evaluations <= MAX_EVALUATIONS:
            raise PlanError(f"weights are for 1 to {MAX_EVALUATIONS} evaluations, got {self.evaluations}; {_AGAIN}.")
        before = 0
        for evaluation, sources in self.steps:
            points = (*sources, evaluation)
            ascending = all(a < b for a, b in pairwise(points))
            if not (before < evaluation < self.evaluations and ascending and points[0] >= 0):
                raise PlanError(f"the weights' steps must ascend within the run, got {evaluation}; {_AGAIN}.")
            if not 1 <= len(sources) <= MAX_TERMS:
                raise PlanError(f"weights combine 1 to {MAX_TERMS} extract steps, got {len(sources)}; {_AGAIN}.")
            before = evaluation
        for (name, _), rows in self.weights:
            if len(rows) != len(self.steps):
                raise PlanError(f"{name} has weights for {len(rows)} of {len(self.steps)} steps; {_AGAIN}.")
            for row, (evaluation, sources) in zip(rows, self.steps, strict=True):
                if row is None:
                    continue
                if len(row) != len(sources):
                    raise PlanError(
                        f"{name} has {len(row)} weights at evaluation {evaluation} for {len(sources)} extract steps; "
                        f"{_AGAIN}."
                    )
                if not all(math.isfinite(weight) and abs(weight) <= MAX_WEIGHT for weight in row):
                    raise PlanError(
                        f"{name} has a weight beyond {MAX_WEIGHT:g} at evaluation {evaluation}; fit the plan again."
                    )

    @classmethod
    def of(
        cls, evaluations: int, steps: dict[int, tuple[int, ...]], rows: dict[Feature, dict[int, Row]]
    ) -> Coefficients:
        """From extract steps by evaluation and rows by feature and evaluation. Weights are kept to four digits behind
        the point: an error of 0.005% of a feature, far below that of any forecast, in a quarter of the file."""
        order = sorted(steps)
        kept = {f: tuple(_rounded(at[i]) if i in at else None for i in order) for f, at in sorted(rows.items())}
        return cls(evaluations, tuple((i, steps[i]) for i in order), tuple(kept.items()))

    def used(self) -> Coefficients:
        """Without features that have no weights at any evaluation, as those of a mask that no evaluation takes."""
        return replace(
            self, weights=tuple((f, rows) for f, rows in self.weights if any(row is not None for row in rows))
        )

    @property
    def terms(self) -> int:
        """The most extract steps that a row combines."""
        return max((len(sources) for _, sources in self.steps), default=1)

    @property
    def features(self) -> frozenset[Feature]:
        return frozenset(feature for feature, _ in self.weights)

    @cached_property
    def _places(self) -> dict[Step, int]:
        return {step: place for place, step in enumerate(self.steps)}

    @cached_property
    def _rows(self) -> dict[Feature, tuple[Row | None, ...]]:
        return dict(self.weights)

    def at(self, evaluation: int, sources: tuple[int, ...], feature: Feature) -> Row | None:
        """The weights fitted for `feature` as extracted at exactly `sources`; None when there are none."""
        place = self._places.get((evaluation, sources))
        return None if place is None or feature not in self._rows else self._rows[feature][place]

    def to_json(self) -> dict[str, Any]:
        weights: dict[str, dict[str, Any]] = {}
        for (name, form), rows in self.weights:
            weights.setdefault(form, {})[name] = [None if row is None else list(row) for row in rows]
        return {
            "evaluations": self.evaluations,
            "steps": [[evaluation, list(sources)] for evaluation, sources in self.steps],
            "weights": weights,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Coefficients:
        """Inverse of `to_json` for untrusted input. Raises PlanError."""
        try:
            steps = tuple(
                (_integer(evaluation), tuple(_integer(source) for source in sources))
                for evaluation, sources in data["steps"]
            )
            weights = {
                (str(name), form): tuple(None if row is None else tuple(_number(w) for w in row) for row in rows)
                for form in FORMS
                for name, rows in data["weights"].get(form, {}).items()
            }
            return cls(_integer(data["evaluations"]), steps, tuple(sorted(weights.items())))
        except PlanError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PlanError(
                f"the plan's fitted weights cannot be read ({type(error).__name__}: {error}); expected 'evaluations', "
                f"'steps' and 'weights'; {_AGAIN}."
            ) from error


def _rounded(row: Row) -> Row:
    return tuple(round(weight, _DIGITS) + 0.0 for weight in row)  # + 0.0: no negative zero, which prints differently


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not an integer")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    return float(value)
