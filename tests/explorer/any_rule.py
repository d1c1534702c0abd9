"""Plans under any rule, the fitted ones with made-up weights: what they combine, not how well, is under test."""

from __future__ import annotations

import random

from explorer import InheritancePlan
from explorer.plans.coefficients import Coefficients, Row
from explorer.plans.plan import resolve_run
from explorer.plans.rules import FITTED_RULES, RULES, Rule, extrapolation
from explorer.unet.mask import Feature, liveness

ALL_RULES = (*RULES, *FITTED_RULES)


def under(plan: InheritancePlan, rule: str, evaluations: int) -> InheritancePlan:
    """`plan` under the rule of this name; fitted weights lie near the extrapolation, others for each feature."""
    if rule in RULES:
        return plan.with_rule(Rule.parse(rule))
    order = FITTED_RULES[rule].order
    run = resolve_run(plan.with_rule(Rule("forecast", order)), evaluations)
    draw = random.Random(0)
    steps: dict[int, tuple[int, ...]] = {}
    rows: dict[Feature, dict[int, Row]] = {
        feature: {} for mask in plan.masks[: plan.masks_wanted] for feature in liveness(plan.architecture, mask).reads
    }
    for i, choice in enumerate(run.choices):
        if choice:
            sources = tuple(s for s in range(i) if run.choices[s] == 0)[-order - 1 :]
            steps[i] = sources
            for feature in liveness(plan.architecture, plan.mask(choice)).reads:
                rows[feature][i] = tuple(w + draw.uniform(-0.1, 0.1) for w in extrapolation(i, sources))
    return plan.with_rule(Rule("fitted", order, Coefficients.of(evaluations, steps, rows)))
