"""The speed-up that no measurement of a plan can exceed: its inherit steps at no cost at all.

A measured speed-up beyond that is an error of the measurement, such as a stalled baseline, whatever its interval says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from explorer.plans.cast import TEACHER
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.unet.mask import Mask

if TYPE_CHECKING:
    from explorer.timing.profile import Profile

MARGIN = 0.3
"""By how much a measurement may exceed the bound, as a share of it. An extract step of a plan is not quite a step of
the stock UNet: the plan runs a list of nodes without the UNet's own Python, which on a model so small that the host
takes longer than the device made it up to 20% faster. A further 10% is for the noise of the measurement."""


def speed_limit(
    plan: InheritancePlan, evaluations: int, whole: int, profile: Profile | None = None,
    students: Mapping[str, Mask] | None = None,
) -> float:  # fmt: skip
    """The largest speed-up of `plan` over the un-accelerated run that a measurement can truly show: the bound and
    `MARGIN`, or the worst error of the profile where that is more.

    Args:
        plan: Of any kind; one that only takes fewer steps extracts at each of them.
        evaluations: UNet evaluations of its run.
        whole: UNet evaluations of the un-accelerated run.
        profile: Of the model, workload and device. Without one, a step counts by its MACs: an extract step has those
            of a full one, and a student's, which are not known here, counts nothing.
        students: What each student of the plan's cast lacks.

    Returns:
        Infinity for a plan without an extract step of the teacher whose run takes no time besides its UNet steps.
    """
    if profile is None:
        run = resolve_run(plan, evaluations)
        extracts = sum(not choice and name == TEACHER for choice, name in zip(run.choices, run.networks, strict=True))
        return (1 + MARGIN) * whole / extracts if extracts else math.inf
    cost = profile.cost_model
    plain = cost.run + whole * (cost.evaluation + cost.step_seconds(Mask()))
    least = cost.loop_seconds(plan, evaluations, free_inheriting=True, students=students)
    return (1 + max(MARGIN, profile.worst_error)) * plain / least if least else math.inf
