"""The schedulers that a plan may name, and how one comes onto a pipeline: by class name, out of a fixed list.

A plan file is untrusted, so no name is ever imported: it is one of `SCHEDULERS`, or the plan is refused. Left out of
the schedulers of docs/schedulers.md are those that are made for distilled models (LCM, TCD), those with a noise
schedule of their own (EDM), and those of which a run leaves something to the next (SA-Solver) or draws noise that a
pipeline's generator does not fix (DPM++ SDE).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from explorer.errors import PlanError, brief

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
_SUFFIX, _SPACING = "Scheduler", "timestep_spacing"
_SHORT = 7
"""Steps of the run by which spacings are told apart."""


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


def scheduler_for(own: Any, name: str | None, spacing: str | None = None) -> Any:
    """The scheduler of a run.

    Args:
        own: The pipeline's.
        name: Of the scheduler that the plan is for, which is made with the settings of `own`; None for `own` itself,
            which also comes back where it is of that class. Latents are not clipped, also where `own` does not say so.
        spacing: Of its timesteps; None for the scheduler's own.

    Raises:
        PlanError: When `own` cannot be exchanged for it, or the scheduler cannot space its timesteps so; both sides are
            named.
    """
    made = _named(own, name)
    return made if spacing is None else _spaced(made, spacing)


def _named(own: Any, name: str | None) -> Any:
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


def _spaced(scheduler: Any, spacing: str) -> Any:
    """The scheduler with timesteps of this spacing; itself where it has them."""
    kind = type(scheduler)
    words = f"the plan is for {check_spacing(spacing)} timesteps, and {kind.__name__}"
    remedy = "take a plan without a spacing, or for another scheduler."
    if _SPACING not in inspect.signature(kind.__init__).parameters:
        raise PlanError(f"{words} has no option for them; {remedy}")

    def made(each: str) -> Any:
        return kind.from_config(scheduler.config, **{_SPACING: each})

    try:
        several = len({_short_run(made(each)) for each in SPACINGS}) > 1
    except ValueError as error:
        raise PlanError(f"{words} does not know them ({brief(error, 200)}); {remedy}") from error
    if not several:
        raise PlanError(f"{words} with its settings sets the same ones for every spacing; {remedy}")
    return scheduler if spacing_of(scheduler) == spacing else made(spacing)


def _short_run(scheduler: Any) -> tuple[float, ...]:
    """The timesteps and noise levels of a few steps."""
    scheduler.set_timesteps(_SHORT)
    return (*scheduler.timesteps.tolist(), *getattr(scheduler, "sigmas", scheduler.timesteps).tolist())


def spacing_of(scheduler: Any) -> str | None:
    """How the scheduler spaces its timesteps; None where it does not say."""
    spacing: str | None = getattr(scheduler, "config", {}).get(_SPACING)
    return spacing


def evaluations_of(scheduler: Any, steps: int) -> int:
    """UNet evaluations of a run of `steps` steps."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    return len(fresh.timesteps)


def evaluations_of_plan(own: Any, plan: InheritancePlan) -> int:
    """UNet evaluations of a run of `plan` on a pipeline whose own scheduler is `own`. Raises PlanError."""
    return evaluations_of(scheduler_for(own, plan.scheduler, plan.spacing), plan.steps)


@contextmanager
def scheduled(pipe: Any, name: str | None, spacing: str | None = None) -> Iterator[None]:
    """Within it the pipeline runs under the scheduler `name` with timesteps of `spacing`; then it has the same object
    again. Raises PlanError."""
    own = pipe.scheduler
    chosen = scheduler_for(own, name, spacing)
    if chosen is own:
        yield
        return
    pipe.scheduler = chosen
    try:
        yield
    finally:
        pipe.scheduler = own
