"""The schedulers that a plan may name, and how one comes onto a pipeline: by class name, out of a fixed list.

A plan file is untrusted, so no name is ever imported: it is one of `SCHEDULERS`, or the plan is refused. Left out of
the schedulers of docs/schedulers.md are those that are made for distilled models (LCM, TCD), those with a noise
schedule of their own (EDM), and those of which a run leaves something to the next (SA-Solver) or draws noise that a
pipeline's generator does not fix (DPM++ SDE).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from explorer.errors import PlanError

if TYPE_CHECKING:
    from explorer.plans.plan import InheritancePlan

OWN = "own"
"""The pipeline's own scheduler, where names of schedulers are asked for."""
SCHEDULERS = (
    "PNDMScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
    "DEISMultistepScheduler",
)
SPACINGS = ("leading", "linspace", "trailing")
"""The spacings of timesteps that a plan may name, as diffusers calls them."""
_SUFFIX = "Scheduler"


def short(name: str) -> str:
    """`DPMSolverMultistep` for `DPMSolverMultistepScheduler`: how the name of a plan ends."""
    return name.removesuffix(_SUFFIX)


def check_name(name: Any) -> str:
    """The name of a scheduler that a plan may name, also where it was given without its ending. Raises PlanError."""
    for known in SCHEDULERS:
        if isinstance(name, str) and name in (known, short(known)):
            return known
    raise PlanError(f"a plan may not name the scheduler {name!r:.80}; expected one of {', '.join(SCHEDULERS)}.")


def check_spacing(spacing: Any) -> str:
    """`spacing`, where a plan may name it. Raises PlanError."""
    if spacing not in SPACINGS:
        raise PlanError(f"a plan may not name the spacing {spacing!r:.80}; expected one of {', '.join(SPACINGS)}.")
    return str(spacing)


def scheduler_for(own: Any, name: str | None) -> Any:
    """The scheduler `name` with the settings of the pipeline's `own`, which itself comes back where it is of that class
    or none is named. Latents are not clipped, also where `own` does not say so.

    Raises:
        PlanError: when `own` cannot be exchanged for it; both sides are named.
    """
    if name is None or type(own).__name__ == name:
        return own
    known = {kind.__name__: kind for kind in getattr(own, "compatibles", ())}
    if check_name(name) not in known:
        usable = [each for each in SCHEDULERS if each in known]
        raise PlanError(
            f"the plan is for {name}, and the pipeline's {type(own).__name__} cannot be exchanged for it (it can for: "
            f"{', '.join(usable) or 'none that a plan may name'}); give the pipeline another scheduler, or take "
            "another plan."
        )
    says = "clip_sample" in own.config
    made = known[name].from_config(own.config)
    if not says and "clip_sample" in made.config:
        made = known[name].from_config(own.config, clip_sample=False)
    return made


def evaluations_of(scheduler: Any, steps: int) -> int:
    """UNet evaluations of a run of `steps` steps."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    return len(fresh.timesteps)


def evaluations_of_plan(own: Any, plan: InheritancePlan) -> int:
    """UNet evaluations of a run of `plan` on a pipeline whose own scheduler is `own`. Raises PlanError."""
    return evaluations_of(scheduler_for(own, plan.scheduler), plan.steps)


@contextmanager
def scheduled(pipe: Any, name: str | None) -> Iterator[None]:
    """Within it the pipeline runs under the scheduler `name`; then it has the same object again. Raises PlanError."""
    own = pipe.scheduler
    chosen = scheduler_for(own, name)
    if chosen is own:
        yield
        return
    pipe.scheduler = chosen
    try:
        yield
    finally:
        pipe.scheduler = own
