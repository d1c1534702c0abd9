"""The schedulers that a plan may name, and how one comes onto a pipeline: by class name, out of a fixed list, with
options out of another.

A plan file is untrusted, so no name is ever imported: it is one of `SCHEDULERS`, or the plan is refused. Left out of
the schedulers of docs/schedulers.md are those that are made for distilled models (LCM, TCD), those with a noise
schedule of their own (EDM), and those of which a run leaves something to the next (SA-Solver) or draws noise that a
pipeline's generator does not fix (DPM++ SDE).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class SchedulerOption:
    """A setting that a plan may give to the scheduler that it names: `DPMSolverMultistepScheduler+karras`.

    Attributes:
        name: After the `+`.
        settings: Of the scheduler's configuration, as far as its class has them. Two options that set the same one
            exclude each other.
        schedulers: Those that have it.
    """

    name: str
    settings: Mapping[str, Any]
    schedulers: tuple[str, ...]


def _noise_levels(chosen: str) -> dict[str, bool]:
    """The settings by which a scheduler takes one row of noise levels and no other."""
    rows = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
    return {row: row == chosen for row in rows}


_BY_SIGMAS = (
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
    "DEISMultistepScheduler",
)
OPTIONS = {
    option.name: option
    for option in (
        SchedulerOption("karras", _noise_levels("use_karras_sigmas"), _BY_SIGMAS),
        SchedulerOption("exponential", _noise_levels("use_exponential_sigmas"), _BY_SIGMAS),
        SchedulerOption(
            "sde",
            {"algorithm_type": "sde-dpmsolver++"},
            ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
        ),
    )
}
"""Every option by its name, in the order in which a plan writes them."""
SPACINGS = ("leading", "linspace", "trailing")
"""The spacings of timesteps that a plan may name, as diffusers calls them."""
_SUFFIX, _SPACING = "Scheduler", "timestep_spacing"
_SHORT = 7
"""Steps of the run by which spacings are told apart."""


def short(name: str) -> str:
    """`DPMSolverMultistep+karras` for `DPMSolverMultistepScheduler+karras`: how the name of a plan ends."""
    kind, plus, options = name.partition("+")
    return kind.removesuffix(_SUFFIX) + plus + options


def check_name(name: Any) -> str:
    """A scheduler with its options as a plan names it, also where the class was given without its ending or the options
    in another order.

    Raises:
        PlanError: For a class or an option that a plan may not name, and for options that exclude each other.
    """
    kind, *asked = name.split("+") if isinstance(name, str) else [name]
    known = next((each for each in SCHEDULERS if kind in (each, short(each))), None)
    if known is None:
        raise PlanError(f"a plan may not name the scheduler {name!r:.80}; expected one of {', '.join(SCHEDULERS)}.")
    usable = [option for option in OPTIONS.values() if known in option.schedulers]
    names, seen = [option.name for option in usable], set[str]()
    for each in asked:
        if each not in names:
            raise PlanError(
                f"a plan may not name the option {each!r:.40} of {known}; expected "
                f"{', '.join(names) if names else 'no option'}."
            )
        if not seen.isdisjoint(OPTIONS[each].settings):
            raise PlanError(f"the options of {known} exclude each other in {name!r:.80}; name one of them.")
        seen.update(OPTIONS[each].settings)
    return known + "".join(f"+{each}" for each in names if each in asked)


def check_spacing(spacing: Any) -> str:
    """`spacing`, where a plan may name it. Raises PlanError."""
    if spacing not in SPACINGS:
        raise PlanError(f"a plan may not name the spacing {spacing!r:.80}; expected one of {', '.join(SPACINGS)}.")
    return str(spacing)


def scheduler_for(own: Any, name: str | None, spacing: str | None = None) -> Any:
    """The scheduler of a run.

    Args:
        own: The pipeline's.
        name: Of the scheduler that the plan is for, which is made with the settings of `own` and its options; None for
            `own` itself, which also comes back where it is of that class and has these options. Latents are not
            clipped, also where `own` does not say so.
        spacing: Of its timesteps; None for the scheduler's own.

    Raises:
        PlanError: When `own` cannot be exchanged for it, or the scheduler cannot space its timesteps so; both sides are
            named.
    """
    made = _named(own, name)
    return made if spacing is None else _spaced(made, spacing)


def _named(own: Any, name: str | None) -> Any:
    if name is None or is_named(own, name):
        return own
    known = {kind.__name__: kind for kind in getattr(own, "compatibles", ())}
    wanted, *asked = check_name(name).split("+")
    if wanted not in known:
        usable = [each for each in SCHEDULERS if each in known]
        raise PlanError(
            f"the plan is for {name}, and the pipeline's {type(own).__name__} cannot be exchanged for it (it can for: "
            f"{', '.join(usable) or 'none that a plan may name'}); give the pipeline another scheduler, or take "
            "another plan."
        )
    has = _settings_of(known[wanted])
    given = {key: value for each in asked for key, value in OPTIONS[each].settings.items() if key in has}
    if "clip_sample" in has and "clip_sample" not in own.config:
        given["clip_sample"] = False
    return known[wanted].from_config(own.config, **given)


def _settings_of(kind: type) -> Mapping[str, Any]:
    """What the configuration of a scheduler's class has by its own; others that are kept there do nothing."""
    return inspect.signature(kind).parameters


def name_of(scheduler: Any) -> str:
    """A scheduler by its class and those of its settings that are options of plans."""
    kind, config = type(scheduler), getattr(scheduler, "config", {})

    def has(option: SchedulerOption) -> bool:
        known = {key: value for key, value in option.settings.items() if key in _settings_of(kind)}
        return kind.__name__ in option.schedulers and all((config.get(k) or False) == v for k, v in known.items())

    return kind.__name__ + "".join(f"+{option.name}" for option in OPTIONS.values() if has(option))


def is_named(scheduler: Any, name: str) -> bool:
    """Whether a scheduler is of the class that `name` has, with all of its options."""
    kind, *asked = name.split("+")
    found, *options = name_of(scheduler).split("+")
    return kind == found and {*asked} <= {*options}


def _spaced(scheduler: Any, spacing: str) -> Any:
    """The scheduler with timesteps of this spacing; itself where it has them."""
    kind = type(scheduler)
    words = f"the plan is for {check_spacing(spacing)} timesteps, and {kind.__name__}"
    remedy = "take a plan without a spacing, or for another scheduler."
    if _SPACING not in _settings_of(kind):
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
