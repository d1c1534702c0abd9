"""The networks of a plan's cast: the teacher's UNet and its students, and a plan's masks as each runs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from explorer.errors import PlanError
from explorer.networks.student import Student
from explorer.plans.cast import TEACHER
from explorer.plans.plan import InheritancePlan
from explorer.runtime.speed_up import has_speed_up
from explorer.unet.mask import Mask, without
from explorer.unet.program import Program

Students = Mapping[str, "Student | str | os.PathLike[str]"]
"""Students, or their folders, by the names that a cast gives them."""


@dataclass(frozen=True)
class Network:
    """One network of a cast.

    Attributes:
        program: Of its UNet.
        masks: The mask of each choice of the schedule, the extract step's first; a student's lack its nodes too.
    """

    program: Program
    masks: tuple[Mask, ...]

    def follow(self, sample: Tensor) -> None:
        """Move to the device of `sample`: a pipeline moves its own UNet alone."""
        if next(self.program.unet.parameters()).device != sample.device:
            self.program.unet.to(sample.device)


def networks_of(unet: nn.Module, plan: InheritancePlan, students: Students) -> dict[str, Network]:
    """Every network of the plan's cast by its name; the teacher's UNet alone without a cast.

    Args:
        unet: The teacher.
        plan: With the cast.
        students: Those given by the user, all of the cast among them.

    Raises:
        PlanError: For a student that does not take the plan's masks, and where one cannot run on this UNet (a LoRA,
            offloading).
        ModelError: For a student of another teacher.
    """
    choices = range(plan.masks_wanted + 1)
    found = {TEACHER: Network(Program(unet), tuple(plan.mask(choice) for choice in choices))}
    if plan.cast is None:
        return found
    _check_unet(unet)
    for name in plan.cast.students:
        given = students[name]
        student = given if isinstance(given, Student) else Student.load(given)
        masks = tuple(without(plan.mask(choice), student.removed) for choice in choices)
        for mask in masks:
            try:
                mask.check(plan.architecture)
            except PlanError as error:
                raise PlanError(f"the plan's masks do not fit its student {name!r}: {error}") from error
        found[name] = Network(Program(student.network(unet)), masks)
    return found


def _check_unet(unet: Any) -> None:
    if has_speed_up(unet):
        raise PlanError(
            "the UNet has a speed-up adapter, which its students' attention does not have; take the adapter off, or "
            "take a plan without students."
        )
    if getattr(unet, "peft_config", None):
        raise PlanError(
            f"the UNet has the LoRA {next(iter(unet.peft_config))!r}, which a student cannot share; unload it, or take "
            "a plan without students."
        )
    if hasattr(unet, "_hf_hook") or any(hasattr(module, "_hf_hook") for module in unet.modules()):
        raise PlanError(
            "the UNet is offloaded, and a plan with students keeps all of its networks on the device; do without "
            "offloading, or take a plan without students."
        )
