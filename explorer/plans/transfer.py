"""A plan for another architecture: what it inherits is mapped to the nodes that do the same work there."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from explorer.errors import PlanError
from explorer.unet.architecture import Architecture
from explorer.unet.counterparts import counterparts, stand_in
from explorer.unet.mask import REMOVALS, Form, Mask

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan


class TransferWarning(UserWarning):
    """A transferred plan lost something, or was never measured on its new architecture."""


def transfer(plan: InheritancePlan, architecture: Architecture) -> InheritancePlan:
    """`plan` for `architecture`: each mask keeps the nodes that have a counterpart there
    (`explorer.unet.counterparts`), the schedule and the rule stay. A mask of which nothing exists becomes an extract
    step.

    Between UNets of the same nodes (a fine-tune, SD1.5 and SD2.1, an inpainting UNet) nothing is lost. A pruned UNet
    counts its layers anew, and its nodes are mapped: `up1.l2` of SD1.5 is `up1.l1` of BK-SDM-Base. Where a removed
    node's output is inherited there, that of the node before it is; what a mask removes and the pruned UNet lacks needs
    no removing. Otherwise up blocks are counted from the bottom: up3 of SD1.5 has no partner in SDXL, whose outermost
    is up2.

    Warns:
        TransferWarning: naming the nodes that have no counterpart; the plan's scores do not hold for another
            architecture in any case.
    Raises:
        PlanError: when nothing that the plan inherits exists there, or what is left computes nothing new.
    """
    if architecture == plan.architecture:
        return plan
    ours = plan.architecture
    pairs = counterparts(ours, architecture)
    pruned = set(pairs.values()) == architecture.by_name.keys()  # nodes of ours were removed, and none is new

    def moved_to(name: str, form: Form) -> str | None:
        return stand_in(ours, pairs, name) if form == "output" and pruned else pairs.get(name)

    entries = list(dict.fromkeys(entry for mask in plan.masks for entry in mask.entries))
    places = {entry: place for entry in entries if (place := moved_to(*entry)) is not None}
    # What a mask removes and the pruned UNet lacks is removed there already.
    lost = {name for name, form in entries if (name, form) not in places and not (pruned and form in REMOVALS)}
    dropped = [name for name in ours.by_name if name in lost - {name for name, _ in places}]
    names = {name for name, _ in entries}
    masks = tuple(_moved(mask, places) for mask in plan.masks)
    both = f"a plan for a UNet of {ours.describe()} to one of {architecture.describe()}"
    if lost and not places:
        raise PlanError(f"cannot transfer {both}: nothing that it inherits exists there; make or search a plan for it.")
    try:
        moved = replace(plan, architecture=architecture, masks=masks, made_for=None)
    except PlanError as error:
        raise PlanError(f"cannot transfer {both}: {error}") from error
    if dropped:
        named = ", ".join(dropped[:12]) + (f" and {len(dropped) - 12} more" if len(dropped) > 12 else "")
        warnings.warn(
            f"transferred {both}: {len(dropped)} of {len(names)} nodes of its masks have no counterpart there and are "
            f"left out: {named}. Its scores and its speed-up do not hold there; measure it again.",
            TransferWarning,
            stacklevel=3,
        )
    return moved


def _moved(mask: Mask, places: dict[tuple[str, Form], str]) -> Mask:
    """A mask's entries at their places. Of two that meet at one place, that of a removed node's output counts: the
    tensor is inherited for whoever reads it."""
    found: dict[str, Form] = {}
    for entry in mask.entries:
        place = places.get(entry)
        if place is not None and found.get(place) != "output":
            found[place] = entry[1]
    return Mask.of(found)
