"""Feature vector of a plan for the surrogate: plans with similar vectors behave alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from explorer.plans.plan import InheritancePlan, resolve_run
from search_spaces.axes import AXES, PlanRun

if TYPE_CHECKING:
    from studies.predicting.drift_model import DriftModel

LEAST_DRIFT = 1e-3
"""Drift below which pictures of 8 bits are the same."""
NEUTRAL_DRIFT = 0.3
"""Stands for the drift of a plan that is not predicted, of which a feature of its own tells."""
_DRIFT, _COST, _KIND = 1.5, 0.3, 1.0


def lengths() -> tuple[float, ...]:
    """Of each of the features of `describe`: how far apart plans have little in common
    (`studies.proposing.surrogate`)."""
    kinds = [_KIND for axis in AXES for _ in axis.kinds()]
    return (_DRIFT, _COST, *(length for axis in AXES for length in axis.lengths), *kinds, _KIND)


def describe(plan: InheritancePlan, predictor: DriftModel) -> list[float]:
    """The plan in numbers: log of the predicted drift, predicted cost, the numbers of every axis, then 1 for the kind
    that the plan is and 0 for others, of every axis that has kinds, and last 1 for a plan whose drift is not predicted.

    Raises:
        ExplorerError: for a plan that cannot run.
    """
    plan.check_runnable(predictor.students)
    unknown = bool(predictor.unknown(plan))
    drift = NEUTRAL_DRIFT if unknown else predictor.drift(plan)
    choices = resolve_run(plan, predictor.evaluations(plan)).choices
    of_mask = {choice: predictor.time(plan.mask(choice).effective(plan.architecture)) for choice in {*choices} - {0}}
    times = [of_mask[choice] for choice in choices if choice] or [1.0]
    run = PlanRun(plan, choices, times, predictor.moments.evaluations)
    kinds = [float(axis.kind(plan) == kind) for axis in AXES for kind in axis.kinds()]
    return [
        math.log(max(drift, LEAST_DRIFT)), predictor.cost(plan),
        *(number for axis in AXES for number in axis.encode(run)), *kinds, float(unknown),
    ]  # fmt: skip
