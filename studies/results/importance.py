"""Which units matter: what giving each one up does to a score, estimated over the plans that were scored.

A study's own parameters do not tell: baselines have none, and a unit is reached through many (a level, a form, one to
three masks, a schedule). So each plan is described by what it does: for each unit the fraction of its evaluations at
which the unit is not computed. Ridge regression on these shares the effect among units that were given up together;
a bootstrap over plans says how sure each share is, and the explained variance of plans left out says whether any of it
may be believed. (Optuna's PED-ANOVA on the same fractions looks at one feature at a time: on the plans of a study with
planted effects it ranked the units with Spearman 0.03, this with 0.39.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.errors import PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Segments
from explorer.unet.mask import liveness
from studies.pareto.front import Array

FEWER_STEPS = "fewer steps"
DRAWS, FOLDS, LEAST = 200, 5, 20
_PENALTIES = np.logspace(-3, 3, 13)


@dataclass(frozen=True)
class Effects:
    """Of p features (units in the order they run, then `fewer steps`): the change of the score when the unit is given
    up at every evaluation, with its 95% interval. explained: share of the variance of left-out plans that the fit
    explains (cross-validated R^2; 0 or less: nothing). n: plans. varied: features that differ between the plans at all;
    of the others nothing is known and the effect is NaN."""

    names: tuple[str, ...]
    effect: Array
    low: Array
    high: Array
    varied: npt.NDArray[np.bool_]
    explained: float
    n: int


def given_up(plan: InheritancePlan, units: Sequence[str], steps: int) -> list[float]:
    """For each unit the fraction of the run's evaluations at which it is not computed, then the fraction of the study's
    `steps` that the plan does not take. Every evaluation is counted once; PNDM's additional one is left out."""
    schedule = plan.schedule
    # Of the schedule itself: fitted weights fit one number of evaluations alone, which is not that of the steps.
    choices = schedule.resolve(schedule.evaluations if isinstance(schedule, Segments) else plan.steps)
    absent = {
        choice: 1.0 - np.isin(units, list(liveness(plan.architecture, plan.mask(choice)).run))
        for choice in set(choices)
    }
    mean = np.mean([absent[choice] for choice in choices], axis=0)
    return [*mean.tolist(), 1.0 - plan.steps / steps]


def describe(documents: Sequence[Any], steps: int) -> tuple[tuple[str, ...], Array]:
    """The features' names and (n, p) values of plans given as JSON. A document that is no plan of the first one's
    architecture gets a row of NaN."""
    plans: list[InheritancePlan | None] = []
    for document in documents:
        try:
            plans.append(InheritancePlan.from_json(document))
        except PlanError:
            plans.append(None)
    first = next((plan for plan in plans if plan is not None), None)
    if first is None:
        return (), np.empty((len(documents), 0))
    units = [node.name for node in first.architecture.nodes if node.is_unit]
    names = (*units, FEWER_STEPS)
    values = np.full((len(plans), len(names)), np.nan)
    for i, plan in enumerate(plans):
        if plan is not None and plan.architecture.signature == first.architecture.signature:
            values[i] = given_up(plan, units, steps)
    return names, values


def by_block(names: tuple[str, ...], features: Array) -> tuple[tuple[str, ...], Array]:
    """The features of whole blocks: the mean over a block's units. Few plans tell blocks apart better than units."""
    blocks = tuple(dict.fromkeys(name.split(".")[0] for name in names))
    members = [[i for i, name in enumerate(names) if name.split(".")[0] == block] for block in blocks]
    return blocks, np.stack([features[:, chosen].mean(axis=1) for chosen in members], axis=1)


def effects(names: tuple[str, ...], features: Array, scores: Array, seed: int = 0) -> Effects | None:
    """features: (n, p); scores: (n,). Rows with a NaN are left out; None when less than 20 plans remain, or all have
    one score."""
    whole = ~np.isnan(features).any(axis=1) & ~np.isnan(scores)
    x, y = features[whole], scores[whole]
    if len(x) < LEAST or y.std() == 0:
        return None
    varied = x.std(axis=0) > 1e-9
    if not varied.any():
        return None
    used = x[:, varied]
    generator = np.random.default_rng(seed)
    folds = generator.permutation(len(used)) % FOLDS
    errors = [_left_out(used, y, folds, penalty) for penalty in _PENALTIES]
    penalty = float(_PENALTIES[int(np.argmin(errors))])
    explained = 1.0 - float(min(errors)) / float(np.var(y))
    draws = np.array(
        [_ridge(used[d], y[d], penalty)[0] for d in generator.integers(len(used), size=(DRAWS, len(used)))]
    )
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    fitted = _ridge(used, y, penalty)[0]
    spread = np.full((3, len(names)), np.nan)
    spread[:, varied] = fitted, np.minimum(low, fitted), np.maximum(high, fitted)
    return Effects(names, spread[0], spread[1], spread[2], varied, explained, len(used))


def _ridge(x: Array, y: Array, penalty: float) -> tuple[Array, float]:
    """Coefficients (p,) and intercept of ridge regression; the penalty is on features of their own scale, a fraction of
    the evaluations, times the number of plans."""
    middle, mean = x.mean(axis=0), float(y.mean())
    centred = x - middle
    gram = centred.T @ centred + penalty * len(x) * 1e-2 * np.eye(x.shape[1])
    coefficients = np.linalg.solve(gram, centred.T @ (y - mean))
    return coefficients, mean - float(middle @ coefficients)


def _left_out(x: Array, y: Array, folds: npt.NDArray[np.int_], penalty: float) -> float:
    """Mean squared error on plans that the fit has not seen."""
    errors = np.empty(len(y))
    for fold in range(FOLDS):
        out = folds == fold
        coefficients, intercept = _ridge(x[~out], y[~out], penalty)
        errors[out] = (y[out] - x[out] @ coefficients - intercept) ** 2
    return float(errors.mean())
