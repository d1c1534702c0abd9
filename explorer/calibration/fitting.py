"""Fits a plan's rule: for each inheriting node and evaluation the weights of its extract steps, by least squares.

The weights are shared over pictures, channels and positions (L2P, as used for transformers, learns such per-step
weights by gradient; here the normal equations are solved). They come from un-accelerated runs, so one calibration
serves every plan of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from explorer.calibration.moments import Array, Moments, collect_moments
from explorer.errors import PlanError
from explorer.models.prompts import Prompt
from explorer.plans.coefficients import MAX_WEIGHT, Coefficients, Row
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.rules import FITTED, FITTED_RULES, Rule, extrapolation, rule_type
from explorer.plans.schedulers import scheduled
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Feature, liveness

RIDGE = 1e-4
"""Damping toward the straight line through the last two extract steps, relative to what the sources' differences
hold: where two features are nearly one, what their weights are is noise, and only the sum counts."""


def fit(
    pipe: Any,
    plan: InheritancePlan,
    prompts: Sequence[str | Prompt],
    *,
    guidance: float,
    rule: str = "fitted",
    seed: int = 0,
    batch_size: int = 4,
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> InheritancePlan:
    """`plan` with the rule `fitted` (two terms) or `fitted3`, its weights fitted on un-accelerated runs of `pipe`.

    The runs are under the plan's scheduler. Eight prompts are enough. To fit many plans of one model, take the moments
    once (`explorer.calibration.moments`) and call `fitted`.

    Raises:
        PlanError: when the plan is for another architecture.
    """
    if Architecture.of(pipe.unet) != plan.architecture:
        raise PlanError("the plan was made for another UNet than the pipeline's; make a plan for this model.")
    with scheduled(pipe, plan.scheduler):
        moments = collect_moments(
            pipe, prompts, steps=plan.steps, guidance=guidance, seed=seed, batch_size=batch_size, size=size,
            progress=progress,
        )  # fmt: skip
    return fitted(plan, moments, rule)


def fitted(plan: InheritancePlan, moments: Moments, rule: str = "fitted") -> InheritancePlan:
    """`plan` with the weights that `moments` give; a plan that inherits nothing comes back with the rule copy.

    Raises:
        PlanError: when the moments are of another architecture, step count or scheduler, or the rule is none of the
            fitted ones.
    """
    if rule not in FITTED_RULES:
        raise PlanError(f"{rule!r} is no fitted rule; expected one of {', '.join(FITTED_RULES)}.")
    if moments.architecture != plan.architecture.signature or moments.steps != plan.steps:
        raise PlanError(
            f"the calibration is of UNet {moments.architecture} at {moments.steps} steps and the plan is for UNet "
            f"{plan.architecture.signature} at {plan.steps}; calibrate this model at the plan's steps."
        )
    if plan.scheduler not in (None, moments.scheduler):
        raise PlanError(
            f"the calibration is of runs under {moments.scheduler} and the plan is for {plan.scheduler}; calibrate "
            "under the plan's scheduler."
        )
    if plan.spacing is not None:
        raise PlanError(
            f"the calibration is of runs with the scheduler's own timesteps and the plan is for {plan.spacing} ones; "
            "take another rule, or a plan without a spacing."
        )
    plan.check_runnable()
    if not any(liveness(plan.architecture, mask).reads for mask in plan.masks[: plan.masks_wanted]):
        return plan.with_rule(Rule())
    chosen = FITTED_RULES[rule]
    plan = plan.with_rule(Rule("forecast", chosen.terms - 1))  # which reads as many extract steps
    run = resolve_run(plan, moments.evaluations)
    steps: dict[int, tuple[int, ...]] = {}
    rows: dict[Feature, dict[int, Row]] = {
        feature: {} for mask in plan.masks[: plan.masks_wanted] for feature in liveness(plan.architecture, mask).reads
    }
    extracts: list[int] = []
    for i, choice in enumerate(run.choices):
        if not choice:
            extracts.append(i)
            continue
        reads = liveness(plan.architecture, plan.mask(choice)).reads
        if reads:  # a step that only removes nodes takes no weights
            steps[i] = tuple(extracts[-chosen.terms :])
        for feature in reads:
            rows[feature][i] = solve(moments.gram[feature], steps[i], i)
    return plan.with_rule(Rule(chosen.kind, chosen.order, Coefficients.of(moments.evaluations, steps, rows)))


class Fitter:
    """Fits any number of plans from the moments of one model: `fitter(plan)`.

    moments: by step count. A plan of another step count, scheduler, spacing or with other networks is given `copy`, the
    rule that asks for nothing: a straight line is the worst guess under PNDM, whose second evaluation repeats the first
    one's timestep.
    """

    def __init__(self, moments: Mapping[int, Moments]) -> None:
        self.moments = dict(moments)

    def __call__(self, plan: InheritancePlan, rule: str = FITTED) -> InheritancePlan:
        moments = self.moments.get(plan.steps)
        own = plan.spacing is None and plan.cast is None
        if moments is not None and own and plan.scheduler in (None, moments.scheduler):
            return fitted(plan, moments, rule)
        return plan.with_rule(Rule())


def weights_of(rule: str, gram: Array, sources: tuple[int, ...], at: int) -> Row:
    """The weights of the rule of this name at the evaluation `at`, fitted to `gram` where the rule is."""
    known = rule_type(rule)
    return solve(gram, sources, at) if known.fitted else known.weigh(at, sources)


def solve(gram: Array, sources: tuple[int, ...], at: int, ridge: float = RIDGE) -> Row:
    """The weights w that minimise |F(at) - sum w F(source)|^2 + ridge * v |w - w0|^2.

    w0: the straight line through the last two sources (with one: its copy). v: mean square of the sources' differences
    from the last one, so that damping is relative to what tells the sources apart. Falls back to w0 where the solution
    is beyond what a plan may hold.
    """
    line = extrapolation(at, sources[-2:])
    prior = np.zeros(len(sources))
    prior[-len(line) :] = line
    products = gram[np.ix_(sources, sources)]
    last = len(sources) - 1
    spread = [products[k, k] + products[last, last] - 2 * products[k, last] for k in range(last)]
    scale = max(float(np.mean(spread)) if spread else float(products[0, 0]), 1e-12 * float(np.trace(products)), 1e-30)
    damped = products + ridge * scale * np.eye(len(sources))
    found = np.linalg.solve(damped, gram[np.ix_(sources, (at,))][:, 0] + ridge * scale * prior)
    if not np.isfinite(found).all() or np.abs(found).max() > MAX_WEIGHT:
        found = prior
    return tuple(float(weight) for weight in found)
