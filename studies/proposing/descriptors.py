"""Feature vector of a plan for the surrogate: plans with similar vectors behave alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from explorer.plans.plan import InheritancePlan, resolve_run
from search_spaces.axes import AXES, PlanRun
from studies.scored import Prediction

if TYPE_CHECKING:
    from studies.predicting.drift_model import DriftModel

LEAST_DRIFT = 1e-3
"""Drift below which pictures of 8 bits are the same."""
NEUTRAL_DRIFT = 0.3
"""Stands for the drift of a plan that is not predicted, of which a feature of its own tells."""
_DRIFT, _COST, _KIND = 1.5, 0.3, 1.0


def width(predictor: DriftModel) -> int:
    """How many features `describe` gives: more where the study has other schedulers, spacings or students."""
    return len(lengths()) + predictor.extra


def lengths(features: int = 0) -> tuple[float, ...]:
    """Of each of the features of `describe`: how far apart plans have little in common
    (`studies.proposing.surrogate`). features: how many there are, where there are more than in every study."""
    kinds = [_KIND for axis in AXES for _ in axis.kinds()]
    known = (_DRIFT, _COST, *(length for axis in AXES for length in axis.lengths), *kinds)
    return (*known, *(_KIND for _ in range(features - len(known))))


def describe(plan: InheritancePlan, predictor: DriftModel) -> list[float]:
    """The plan in numbers: log of the predicted drift, predicted cost, the numbers of every axis, then 1 for the kind
    that the plan is and 0 for others, of every axis that has kinds, and last those that the study has of its own
    (`DriftModel.kinds`). Where the calibration left out the plan's scheduler, spacing or student, a neutral drift.

    Raises:
        ExplorerError: for a plan that cannot run, or that the calibration does not reach.
    """
    if predictor.extra and predictor.unmeasured(plan):
        plan.check_runnable(predictor.students)
        found = Prediction(NEUTRAL_DRIFT, predictor.cost(plan))
    else:
        found = predictor(plan)
    choices = resolve_run(plan, predictor.evaluations(plan)).choices
    of_mask = {choice: predictor.time(plan.mask(choice).effective(plan.architecture)) for choice in {*choices} - {0}}
    times = [of_mask[choice] for choice in choices if choice] or [1.0]
    run = PlanRun(plan, choices, times, predictor.moments.evaluations)
    kinds = [float(axis.kind(plan) == kind) for axis in AXES for kind in axis.kinds()]
    return [
        math.log(max(found.drift, LEAST_DRIFT)), found.cost,
        *(number for axis in AXES for number in axis.encode(run)), *kinds, *predictor.kinds(plan),
    ]  # fmt: skip
