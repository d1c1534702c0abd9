"""What a plan must be, checked whenever one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.errors import PlanError
from explorer.plans.cast import check_label
from explorer.plans.coefficients import Coefficients
from explorer.plans.document import MAX_MASKS
from explorer.plans.schedule import MAX_EVALUATIONS, Every
from explorer.plans.schedulers import check_name, check_spacing
from explorer.unet.mask import liveness

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan


def check_plan(plan: InheritancePlan) -> None:
    """Check the fields of a plan and that they fit together.

    Raises:
        PlanError: For the first field that is wrong.
    """
    if plan.scheduler is not None and check_name(plan.scheduler) != plan.scheduler:
        raise PlanError(f"a plan names its scheduler by its class, {check_name(plan.scheduler)}; use that name.")
    if plan.spacing is not None:
        check_spacing(plan.spacing)
    if plan.speedup is not None:
        check_label(plan.speedup, "a speed-up adapter")
    if plan.cast is not None and not plan.cast.students:
        raise PlanError("a cast of only the teacher is the same as no cast; leave it out.")
    if not isinstance(plan.steps, int) or not 1 <= plan.steps <= MAX_EVALUATIONS:
        raise PlanError(f"a plan is for 1 to {MAX_EVALUATIONS} steps, got {plan.steps!r}.")
    if len(plan.masks) > MAX_MASKS:
        raise PlanError(f"a plan has at most {MAX_MASKS} masks, got {len(plan.masks)}.")
    for mask in plan.masks:
        mask.check(plan.architecture)
    wanted = plan.masks_wanted
    if wanted > len(plan.masks):
        raise PlanError(f"the schedule asks for mask {wanted} and the plan has {len(plan.masks)}.")
    _check_first_extract(plan)
    if plan.rule.weights is not None:
        _check_weights(plan, plan.rule.weights)


def _check_first_extract(plan: InheritancePlan) -> None:
    """A mask that inherits has an extract step before it. One that only removes nodes needs none."""
    every = [(choice, 1) for choice in range(1, plan.masks_wanted + 1)] if isinstance(plan.schedule, Every) else ()
    for choice, _ in getattr(plan.schedule, "runs", every):
        live = liveness(plan.architecture, plan.mask(choice))
        if live.reads:
            raise PlanError(
                "a schedule whose first step inherits has nothing to inherit (steps that only remove nodes aside); "
                "begin with an extract step."
            )
        if not live.removed:
            return


def _check_weights(plan: InheritancePlan, weights: Coefficients) -> None:
    """What the masks read has weights, and nothing else has: a file cannot hide entries that mean nothing."""
    read = {f for mask in plan.masks[: plan.masks_wanted] for f in liveness(plan.architecture, mask).reads}
    for name, form in sorted(weights.features - read):
        raise PlanError(f"the weights name {name} ({form}), which no mask reads; fit the plan again.")
    for name, form in sorted(read - weights.features):
        raise PlanError(f"the fitted rule has no weights for {name} ({form}); fit the plan again.")
