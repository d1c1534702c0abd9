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
        own: The weights that are not the teacher's, each with one of the teacher's that it goes along with.
    """

    program: Program
    masks: tuple[Mask, ...]
    own: tuple[tuple[nn.Parameter, nn.Parameter], ...] = ()

    def follow(self, sample: Tensor) -> None:
        """Move to the device of `sample` and to the teacher's precision: a pipeline moves its own UNet alone."""
        if all(p.device == sample.device and p.dtype == like.dtype for p, like in self.own[:1]):
            return  # they are moved together
        self.program.unet.to(sample.device)
        for p, like in self.own:
            p.data = p.data.to(like.dtype)


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
        made = student.network(unet)
        found[name] = Network(Program(made), masks, _own(made, unet))
    return found


def _own(made: nn.Module, unet: nn.Module) -> tuple[tuple[nn.Parameter, nn.Parameter], ...]:
    """The parameters of a student that it does not share, each with the teacher's of that name, or its first."""
    teacher = dict(unet.named_parameters())
    first = next(iter(teacher.values()))
    return tuple((p, teacher.get(name, first)) for name, p in made.named_parameters() if p is not teacher.get(name))


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
