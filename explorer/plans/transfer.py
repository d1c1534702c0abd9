"""A plan for another architecture: what it inherits is named by block and layer, and such names may exist there too."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from explorer.errors import PlanError
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan


class TransferWarning(UserWarning):
    """A transferred plan lost something, or was never measured on its new architecture."""


def transfer(plan: InheritancePlan, architecture: Architecture) -> InheritancePlan:
    """`plan` for `architecture`: each mask keeps the nodes whose name and kind exist there, the schedule and the rule
    stay. A mask of which nothing exists becomes an extract step.

    Between UNets of the same nodes (a fine-tune, SD1.5 and SD2.1, an inpainting UNet) nothing is lost. Up blocks are
    counted from the bottom: up3 of SD1.5 has no partner in SDXL, whose outermost is up2.

    Warns:
        TransferWarning: naming the nodes that do not exist there; the plan's scores do not hold for another
            architecture in any case.
    Raises:
        PlanError: when nothing that the plan inherits exists there, or what is left computes nothing new.
    """
    if architecture == plan.architecture:
        return plan
    ours, theirs = plan.architecture.by_name, architecture.by_name
    fits = {name for name, node in ours.items() if name in theirs and theirs[name].kind == node.kind}
    masks = tuple(Mask(tuple(entry for entry in mask.entries if entry[0] in fits)) for mask in plan.masks)
    inherited = {name for mask in plan.masks for name, _ in mask.entries}
    dropped = [name for name in ours if name in inherited - fits]
    both = f"a plan for a UNet of {plan.architecture.describe()} to one of {architecture.describe()}"
    if inherited and not inherited & fits:
        raise PlanError(f"cannot transfer {both}: nothing that it inherits exists there; make or search a plan for it.")
    try:
        moved = replace(plan, architecture=architecture, masks=masks, made_for=None)
    except PlanError as error:
        raise PlanError(f"cannot transfer {both}: {error}") from error
    if dropped:
        named = ", ".join(dropped[:12]) + (f" and {len(dropped) - 12} more" if len(dropped) > 12 else "")
        warnings.warn(
            f"transferred {both}: {len(dropped)} of {len(inherited)} inheriting nodes do not exist there and are "
            f"computed instead: {named}. Its scores and its speed-up do not hold there; measure it again.",
            TransferWarning,
            stacklevel=3,
        )
    return moved
