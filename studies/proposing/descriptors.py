"""A plan in numbers, of which those that are alike behave alike: what measurements of some tell of others by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.rules import every_rule

if TYPE_CHECKING:
    from studies.predicting.drift_model import DriftModel

LEAST_DRIFT = 1e-3
"""Drift below which pictures of 8 bits are the same."""
_LENGTHS = (1.5, 0.3, 0.3, 0.15, 0.15, 0.15, 0.15)


def lengths() -> tuple[float, ...]:
    """Of each of the features of `describe`: how far apart plans have little in common
    (`studies.proposing.surrogate`)."""
    return (*_LENGTHS, *(1.0 for _ in every_rule()))


def describe(plan: InheritancePlan, predictor: DriftModel) -> list[float]:
    """The plan in numbers: log of the predicted drift, predicted cost, evaluations over those of the un-accelerated
    run, share and mean place of the extract steps, mean and spread of the inherit steps' times, and the rule.

    Raises:
        ExplorerError: for a plan that cannot run, or that the calibration does not reach.
    """
    found = predictor(plan)
    count = predictor.evaluations(plan)
    choices = resolve_run(plan, count).choices
    extracts = [i for i, choice in enumerate(choices) if not choice]
    of_mask = {choice: predictor.time(plan.mask(choice).effective(plan.architecture)) for choice in {*choices} - {0}}
    times = [of_mask[choice] for choice in choices if choice] or [1.0]
    return [
        math.log(max(found.drift, LEAST_DRIFT)), found.cost, count / predictor.moments.evaluations,
        len(extracts) / count, float(np.mean(extracts)) / count, float(np.mean(times)), float(np.std(times)),
        *(float(plan.rule.name == each.name) for each in every_rule()),
    ]  # fmt: skip
