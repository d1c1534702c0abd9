"""What a plan may be applied to: refuse by name what a plan would run differently from the stock pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

from torch import nn

from explorer.compile_modes import CompileMode, check_compiler, uses_compiler, uses_graphs
from explorer.errors import ModelError, PlanError
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedulers import is_named, name_of, spacing_of
from explorer.runtime.graphs import why_not
from explorer.unet.architecture import Architecture
from explorer.unet.layouts import check_places
from explorer.unet.module_walk import ModuleWalk
from explorer.unet.own_forward import is_own, is_replaced


def check_target(
    unet: Any, plan: InheritancePlan, students: Collection[str] = (), speedups: Collection[str] = ()
) -> None:
    """Refuse what is no supported UNet, or another one than the plan's, and a plan that cannot be run with what
    is given.

    Raises:
        PlanError: when the plan was made for another architecture, or `InheritancePlan.check_runnable` refuses it.
        ModelError: for everything else, by name.
    """
    if not isinstance(unet, nn.Module):
        raise ModelError(f"{type(unet).__name__} has no UNet; give a Stable Diffusion pipeline or its UNet.")
    if hasattr(unet, "_orig_mod"):
        raise ModelError(
            "the UNet is wrapped by torch.compile, which would compile the plan's bookkeeping; take the wrapper off "
            "(pipe.unet = pipe.unet._orig_mod) and let the plan compile: inherit(pipe, plan, compile=True)."
        )
    architecture = Architecture.of(unet)
    if architecture != plan.architecture:
        raise PlanError(
            f"the plan was made for a UNet of {plan.architecture.describe()}, and this one has "
            f"{architecture.describe()}; make or search a plan for this model, or keep the nodes of both with "
            "inherit(pipe, plan, transfer=True)."
        )
    if not inspect.ismethod(getattr(unet, "get_time_embed", None)):
        raise ModelError(
            f"{type(unet).__name__} is not a UNet2DConditionModel of diffusers; give a Stable Diffusion UNet."
        )
    _check_forward("the UNet", unet)
    plan.check_runnable(students, speedups)


def check_compilable(mode: CompileMode, walk: ModuleWalk, plan: InheritancePlan) -> None:
    """Refuse a compile mode that cannot be had.

    Raises:
        ModelError: When the steps of this plan or UNet cannot be captured.
        DeviceError: When the compiler's backend is missing.
    """
    if mode == "off":
        return
    device = next(walk.unet.parameters()).device  # where it computes: an offloaded module lies elsewhere
    if uses_graphs(mode):
        reason = why_not(walk, device)
        if plan.cast is not None:
            reason = "the plan has a cast of several networks, whose steps are not captured; use off or default."
        if reason is not None:
            raise ModelError(f"the compile mode {mode} cannot be had: {reason}")
    if uses_compiler(mode):
        check_compiler(device)


def check_scheduler(scheduler: Any, plan: InheritancePlan) -> None:
    """Refuse a scheduler that was given for a run by a plan that is for another one, or for another spacing of its
    timesteps. Raises PlanError."""
    if plan.scheduler is not None and not is_named(scheduler, plan.scheduler):
        raise PlanError(
            f"the plan is for {plan.scheduler} and the scheduler given is {name_of(scheduler)}; give one of the plan's "
            "class and options, or take another plan."
        )
    if plan.spacing is not None and (spacing := spacing_of(scheduler)) != plan.spacing:
        raise PlanError(
            f"the plan is for {plan.spacing} timesteps and the {type(scheduler).__name__} given has "
            f"{spacing or 'no spacing'}; give one with timestep_spacing={plan.spacing!r}, or take another plan."
        )


def check_untouched(walk: ModuleWalk) -> None:
    """Refuse what another tool has put on a module whose forward a plan does not call, as it calls the parts. Looked at
    before every run: such a thing may come after the plan.

    Raises:
        ModelError: naming the tool or the module.
    """
    unet = walk.unet
    if getattr(unet, "_compiled_call_impl", None) is not None:
        raise ModelError(
            "the UNet was compiled in place (unet.compile()), which would compile the plan's bookkeeping; load the "
            "model again and let the plan compile: inherit(pipe, plan, compile=True)."
        )
    for module in walk.modules:
        if "_diffusers_hook" not in module.__dict__:
            continue
        hooks = getattr(module.__dict__["_diffusers_hook"], "hooks", {})
        if any("group_offloading" in hook for hook in hooks):
            raise ModelError(
                "diffusers' group offloading loads the modules in a fixed order, which inherit steps break; use model "
                "or sequential offloading with a plan."
            )
    for name, module in walk.bypassed:
        _check_bypassed(name, module)
    for name, config in getattr(unet, "peft_config", {}).items():
        modules = config.target_modules
        check_places(unet, [modules] if isinstance(modules, str) else modules or (), f"the LoRA {name!r}")
    for block in getattr(unet, "up_blocks", []):
        if all(getattr(block, part, None) for part in ("s1", "s2", "b1", "b2")):
            raise ModelError("FreeU is enabled and is not supported with a plan; call pipe.disable_freeu() first.")


def _check_forward(name: str, module: nn.Module) -> None:
    if is_replaced(module) or not is_own(type(module)):
        raise ModelError(f"another tool has replaced the forward of {name}; undo it, or load the model again.")


def _check_bypassed(name: str, module: nn.Module) -> None:
    _check_forward(name, module)
    if module._forward_hooks or module._forward_pre_hooks:
        raise ModelError(f"{name} has forward hooks, which a plan would not run; remove them first.")
