"""Write docs/schedulers.md: how often each scheduler evaluates the UNet, counted: `python docs/schedulers.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explorer.plans.schedulers import OPTIONS
from explorer.plans.schedulers import SCHEDULERS as NAMED

PAGE = Path(__file__).with_suffix(".md")
STEPS = (4, 10, 20, 50)
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# Name, class of diffusers, arguments beside the betas, whether a step draws noise.
SCHEDULERS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}, False),
    "PNDM, Runge-Kutta start": ("PNDMScheduler", {"skip_prk_steps": False}, False),
    "DDIM": ("DDIMScheduler", {"clip_sample": False}, False),
    "DDPM": ("DDPMScheduler", {"clip_sample": False}, True),
    "Euler": ("EulerDiscreteScheduler", {}, False),
    "Euler, Karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, False),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}, True),
    "Heun": ("HeunDiscreteScheduler", {}, False),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}, False),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, False),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, True),
    "DPM++ SDE": ("DPMSolverSDEScheduler", {}, True),
    "DPM++ single-step": ("DPMSolverSinglestepScheduler", {}, False),
    "KDPM2": ("KDPM2DiscreteScheduler", {}, False),
    "KDPM2 a": ("KDPM2AncestralDiscreteScheduler", {}, True),
    "UniPC": ("UniPCMultistepScheduler", {}, False),
    "LMS": ("LMSDiscreteScheduler", {}, False),
    "DEIS": ("DEISMultistepScheduler", {}, False),
    "SA-Solver": ("SASolverScheduler", {}, True),
    "LCM": ("LCMScheduler", {}, True),
    "TCD": ("TCDScheduler", {}, False),
    "EDM Euler": ("EDMEulerScheduler", {}, False),
    "EDM DPM++ 2M": ("EDMDPMSolverMultistepScheduler", {}, False),
}

HEAD = """# Schedulers

Written by `python docs/schedulers.py`, which sets the timesteps of each and counts them; the tests run each in a
pipeline and count the UNet's evaluations.

A plan counts **UNet evaluations**, not steps: PNDM makes one more than its steps, Heun and KDPM2 nearly two a step. The
evaluations are known when a run's timesteps are set, and the plan is fitted to them:

- A plan whose schedule comes from a **mode** (`P5`, `P5†`, DeepCache's curve) holds with every scheduler and every
  number of steps: it is refitted.
- A plan whose schedule is **written out** holds where the scheduler makes as many evaluations as it writes out.
  Elsewhere it is refused: "this plan writes out N UNet evaluations and the run has M". The last column tells this for a
  plan that was written out with DDIM at the same steps.

A plan's scores hold for the scheduler and the steps that they were measured with, refitted or not. A scheduler that
draws noise (called as pipelines do, with `eta` 0) needs a `generator` of a fixed seed to give one picture twice, with a
plan as without; DPM++ SDE draws its noise from torchsde (`pip install torchsde`), seeded by its own
`noise_sampler_seed` and not by the generator.

## A plan that names its scheduler

A plan may **name the scheduler** that it is for, by its class; the last column tells which. `inherit` then puts it on
the pipeline, made from the settings of the pipeline's own (`Class.from_config(pipe.scheduler.config)`, so Karras sigmas
stay Karras sigmas), and `.remove()` gives the pipeline its own object back. Only these classes are known by name, as a
plan file is not trusted, and only those that the pipeline's own scheduler lists as compatible can take its place. Not
among them are schedulers for distilled models, those with a noise schedule of their own, and those whose pictures the
generator alone does not fix. A variant *by its settings* is what the class becomes where the pipeline's own scheduler
has them. A bare UNet has no scheduler: run it under the one that `plan.scheduler` names.

**Options** follow the class: `DPMSolverMultistepScheduler+karras`. Without one the pipeline's settings hold.

{options}

## Spacing of the timesteps

A plan may also name the **spacing** of its timesteps: `leading`, `linspace` or `trailing`, as diffusers calls them. It
decides runs of few steps. `inherit` sets the scheduler's `timestep_spacing`, which gives the same pictures as
`from_config(config, timestep_spacing=...)` by hand. Without one the scheduler's own setting holds. A scheduler that has
no such option is refused by name, and so is one whose other settings decide the timesteps (DPM++ 2M with Karras
sigmas). Timesteps or sigmas that a call gives (`pipe(..., timesteps=[...])`) win over the spacing, with a plan as
without. A scheduler of another spacing that is put on the pipeline later is refused, as one of another class is.

## Search

    explorer search --schedulers own,DPMSolverMultistep+karras,UniPCMultistep --spacings own,trailing

searches plans under each of them in the space `joint`, with plain steps under each as controls
(`plain@20/UniPCMultistep~trailing`). A spacing that a scheduler cannot have, or has anyway, is its own. A
calibration's fitted rules hold for the pipeline's own scheduler and spacing alone; under others a plan copies or
forecasts. `explorer autotune` takes `--schedulers` too.

## Schedulers of diffusers
"""


def options() -> str:
    """One line an option."""
    rows = ["| option | settings | classes |", "|---|---|---|"]
    for name, option in OPTIONS.items():
        on = ", ".join(f"`{key}={value!r}`" for key, value in option.settings.items() if value is not False)
        rows.append(f"| `+{name}` | {on} | {', '.join(f'`{each}`' for each in option.schedulers)} |")
    return "\n".join(rows)


def scheduler(name: str) -> Any:
    """The scheduler of a row; a fresh one at each call."""
    import diffusers

    kind, more, _ = SCHEDULERS[name]
    betas = {} if kind.startswith("EDM") else BETAS
    return getattr(diffusers, kind)(**betas, **more)


def evaluations(name: str, steps: int) -> int | None:
    """UNet evaluations of a run of `steps`; None where the scheduler does not take so few."""
    made = scheduler(name)
    try:
        made.set_timesteps(steps)
    except (ValueError, IndexError):
        return None
    return len(made.timesteps)


def table() -> str:
    """One line a scheduler."""
    head = f"evaluations of {', '.join(map(str, STEPS))} steps | noise | mode | written out | named"
    rows = [f"| scheduler | class | {head} |", "|---|---|---|---|---|---|---|"]
    classes: set[str] = set()
    for name, (kind, more, noise) in SCHEDULERS.items():
        counts = [evaluations(name, steps) for steps in STEPS]
        shown = ", ".join("not possible" if count is None else str(count) for count in counts)
        arguments = ", ".join(f"{key}={value!r}" for key, value in more.items())
        held = "holds" if tuple(counts) == STEPS else f"refused: {counts[1]} for 10 evaluations"
        made = f"`{kind}{f'({arguments})' if arguments else ''}`"
        options = "".join(f"+{name}" for name, option in OPTIONS.items() if more.items() <= option.settings.items())
        named = "no" if kind not in NAMED else "yes" if kind not in classes else "by its settings"
        named = f"`{options}`" if more and options and named != "no" else named
        classes.add(kind)
        rows.append(f"| {name} | {made} | {shown} | {'yes' if noise else 'no'} | refitted | {held} | {named} |")
    return "\n".join(rows)


def page() -> str:
    return f"{HEAD.format(options=options())}\n{table()}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
