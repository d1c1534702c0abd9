"""What a plan computes, in a form that is equal for plans that do the same, and its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from explorer.plans.cast import TEACHER
from explorer.plans.rules import Rule
from explorer.unet.mask import Mask, liveness

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan


def canonical_form(plan: InheritancePlan, evaluations: int) -> dict[str, Any]:
    """What `plan` computes at each evaluation of a run, without names or unread entries."""
    order: dict[Mask, int] = {Mask(): 0}
    networks = plan.networks(evaluations)
    steps = []
    for choice in plan.resolve(evaluations):
        steps.append(order.setdefault(plan.mask(choice).effective(plan.architecture), len(order)))
    inherits = any(liveness(plan.architecture, mask).reads for mask in order)
    rule = plan.rule if inherits else Rule()
    if rule.weights is not None:
        rule = replace(rule, weights=rule.weights.used())
    return {
        "architecture": plan.architecture.signature,
        "steps": plan.steps,
        "masks": [mask.entries for mask in list(order)[1:]],
        "choices": steps,
        "rule": rule.to_json(),
        **({} if plan.scheduler is None else {"scheduler": plan.scheduler}),
        **({} if plan.spacing is None else {"spacing": plan.spacing}),
        **({} if set(networks) == {TEACHER} else {"networks": list(networks)}),
        **({} if plan.speedup is None else {"speedup": plan.speedup}),
    }


def hash_of(plan: InheritancePlan, evaluations: int) -> str:
    """Twenty hexadecimal digits of the canonical form."""
    return hashlib.sha256(json.dumps(canonical_form(plan, evaluations), sort_keys=True).encode()).hexdigest()[:20]
