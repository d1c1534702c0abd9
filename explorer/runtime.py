"""Attach a plan to a pipeline or a bare UNet, and take it off again.

The stock `unet.forward` is replaced on the instance; weights, attention processors, adapters and the pipeline stay as
they are. A run begins when the scheduler's timesteps are set: no timestep value is ever looked at (PNDM repeats one,
and reading one from a GPU stalls its queue).
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor, nn

from explorer.architecture import Architecture
from explorer.conditions import read_conditions
from explorer.errors import ModelError, PlanError
from explorer.mask import Feature, Mask
from explorer.plan import InheritancePlan, Run, resolve_run
from explorer.program import Conditions, Program
from explorer.variant import Features, Variant

_MARK = "_inheritance"


def inherit(target: Any, plan: InheritancePlan, *, scheduler: Any = None, compile: bool = False) -> Inheritance:
    """Run `target` (a diffusers pipeline with a UNet, or a UNet2DConditionModel) by `plan`.

    Returns a handle: a context manager with `.remove()`, which restores the target exactly. For a bare UNet give the
    `scheduler` whose `set_timesteps` begins a run, or call `handle.begin(evaluations)` before each run.
    compile: compile each variant whole (`torch.compile(fullgraph=True)`).

    Raises:
        PlanError: when the plan was made for another architecture, or a plan is applied already.
        ModelError: when the target has no supported UNet, or another tool has patched it.
    """
    return Inheritance(target, plan, scheduler=scheduler, compile=compile)


class Inheritance:
    """A plan at work on one UNet. See `inherit`."""

    def __init__(self, target: Any, plan: InheritancePlan, *, scheduler: Any, compile: bool) -> None:
        pipe = target if hasattr(target, "unet") else None
        unet = target.unet if pipe is not None else target
        self.plan = plan
        self.unet: nn.Module = unet
        _check_target(unet, plan)
        self._pipe = pipe
        self._compile = compile
        self._program = Program(unet)
        self._variants: dict[tuple[Mask, frozenset[Feature]], Any] = {}
        self._run: Run | None = None
        self._pending: tuple[int, int] | None = None
        self._evaluation = 0
        self._shape: tuple[Any, ...] | None = None
        self._cache: dict[Feature, dict[int, Tensor]] = {}
        self._patches: list[tuple[Any, str, Any]] = []
        self._scheduler: Any = None
        self._attached = True
        self._patch_forward()
        self._follow(scheduler if scheduler is not None else getattr(pipe, "scheduler", None))
        if pipe is not None and hasattr(pipe, "get_timesteps"):
            self._patch(pipe, "get_timesteps", self._watch_tail(pipe.get_timesteps))
        setattr(unet, _MARK, self)

    # Life ------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Inheritance:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Restore the pipeline exactly and drop every feature. Doing it twice is no error."""
        if not self._attached:
            return
        for owner, name, mine in reversed(self._patches):
            _unpatch(owner, name, mine)
        self._patches.clear()
        delattr(self.unet, _MARK)
        self._end()
        self._variants.clear()
        self._attached = False

    def begin(self, evaluations: int, *, start: int = 0) -> None:
        """Begin a run of `evaluations` UNet evaluations, of which the first `start` are left out (img2img).

        Called by the scheduler's `set_timesteps`; call it yourself only when driving a bare UNet.

        Raises:
            PlanError: when the plan's schedule was written out for another number of evaluations.
        """
        self._end()
        self._run = resolve_run(self.plan, evaluations, start)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the features held now."""
        return sum(t.numel() * t.element_size() for held in self._cache.values() for t in held.values())

    def _end(self) -> None:
        self._run, self._pending, self._shape, self._evaluation = None, None, None, 0
        self._cache.clear()

    # Patching --------------------------------------------------------------------------------------------------------

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        object.__setattr__(owner, name, value) if not isinstance(owner, nn.Module) else owner.__dict__.update(
            {name: value}
        )
        self._patches.append((owner, name, value))

    def _patch_forward(self) -> None:
        unet: Any = self.unet
        forward = apply_lora_scale("cross_attention_kwargs")(self._forward)

        @functools.wraps(type(unet).forward)
        def patched(*args: Any, **kwargs: Any) -> Any:
            return forward(unet, *args, **kwargs)

        # accelerate's offloading hooks wrap `forward` and call `_old_forward`: stay inside of them.
        self._patch(unet, "_old_forward" if "_old_forward" in unet.__dict__ else "forward", patched)

    def _follow(self, scheduler: Any) -> None:
        """Learn from `scheduler` when a run begins."""
        self._scheduler = scheduler
        if scheduler is None:
            return
        original = scheduler.set_timesteps

        @functools.wraps(original)
        def set_timesteps(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._timesteps_set()
            return result

        self._patch(scheduler, "set_timesteps", set_timesteps)

    def _timesteps_set(self) -> None:
        self._end()
        self._pending = (len(self._scheduler.timesteps), 0)

    def _watch_tail(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """img2img and inpainting run the tail of the timesteps: count what their `get_timesteps` leaves."""

        @functools.wraps(original)
        def get_timesteps(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._follow_exchanged()
            total = len(self._scheduler.timesteps)
            self._end()
            self._pending = (total, max(0, total - len(result[0])))
            return result

        return get_timesteps

    # Running ---------------------------------------------------------------------------------------------------------

    def _follow_exchanged(self) -> None:
        """Move to the pipeline's scheduler when it was exchanged after the plan was applied (its timesteps are set)."""
        if self._pipe is None or self._pipe.scheduler is self._scheduler:
            return
        stale = [patch for patch in self._patches if patch[0] is self._scheduler]
        self._patches = [patch for patch in self._patches if patch[0] is not self._scheduler]
        for owner, name, mine in stale:
            _unpatch(owner, name, mine)
        self._follow(self._pipe.scheduler)
        self._timesteps_set()

    def _current_run(self) -> Run:
        self._follow_exchanged()
        if self._pending is not None:
            evaluations, start = self._pending
            self.begin(evaluations, start=start)
        if self._run is None:
            raise PlanError(
                "the UNet was called before a run began; call scheduler.set_timesteps first (for a bare UNet: give "
                "inherit() the scheduler, or call handle.begin(evaluations))."
            )
        if self._evaluation >= len(self._run.choices):
            raise PlanError(
                f"the pipeline evaluates the UNet more often than its {len(self._run.choices)} timesteps; one that "
                "runs guidance in separate calls cannot inherit features, as it would mix them."
            )
        return self._run

    def _forward(
        self,
        unet: Any,
        sample: Tensor,
        timestep: Any,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        down_block_additional_residuals: tuple[Tensor, ...] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        down_intrablock_additional_residuals: list[Tensor] | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        run = self._current_run()
        sample, at = read_conditions(
            unet, self._program.architecture, sample, timestep, encoder_hidden_states, class_labels, timestep_cond,
            attention_mask, cross_attention_kwargs, added_cond_kwargs, down_block_additional_residuals,
            mid_block_additional_residual, down_intrablock_additional_residuals, encoder_attention_mask,
        )  # fmt: skip
        noise = self._step(run, sample, at, encoder_hidden_states.shape)
        return UNet2DConditionOutput(sample=noise) if return_dict else (noise,)

    def _step(self, run: Run, sample: Tensor, at: Conditions, context: torch.Size) -> Tensor:
        i = self._evaluation
        shape = (sample.shape, sample.dtype, sample.device, context)
        choice, stores = run.choices[i], run.stores[i]
        if self._shape is not None and shape != self._shape:
            # Batch, size, dtype, device or guidance changed inside the run: nothing that is kept fits.
            self._cache.clear()
            choice, stores = 0, frozenset().union(*run.stores)
        self._shape = shape
        mask = self.plan.mask(choice)
        variant = self._variant(mask, frozenset() if choice else stores)
        noise, stored = variant(sample, at, self._inherited(mask, i))
        for feature, value in stored.items():
            self._cache.setdefault(feature, {})[i] = value
        self._drop_unread(run, i)
        self._evaluation += 1
        return noise

    def _variant(self, mask: Mask, stores: frozenset[Feature]) -> Any:
        key = (mask, stores)
        if key not in self._variants:
            variant = Variant(self._program, mask, stores)
            self._variants[key] = _compiled(variant, len(self._variants)) if self._compile else variant
        return self._variants[key]

    def _inherited(self, mask: Mask, evaluation: int) -> Features:
        """The features that the mask's nodes take, combined by the rule from what stands in the cache."""
        inherited: Features = {}
        for feature in mask.entries:
            held = self._cache.get(feature)
            if held:
                sources = tuple(held)[-self.plan.rule.history :]
                weights = self.plan.rule.coefficients(evaluation, sources, feature)
                inherited[feature] = combine([held[s] for s in sources], weights)
        return inherited

    def _drop_unread(self, run: Run, now: int) -> None:
        for feature, held in self._cache.items():
            for source in [s for s in held if run.last_read.get((s, feature), -1) <= now and not self._late(run, s)]:
                del held[source]

    def _late(self, run: Run, source: int) -> bool:
        """Whether `source` is an extract step that the schedule did not foresee (a change inside the run)."""
        return source > 0 and run.choices[source] != 0


def combine(features: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Linear combination of features of one shape; a single one of weight 1 is given back as it is, without a copy."""
    if weights == (1.0,):
        return features[0]
    total = features[0] * weights[0]
    for feature, weight in zip(features[1:], weights[1:], strict=True):
        total = torch.add(total, feature, alpha=weight)
    return total


def _compiled(variant: Variant, number: int) -> Any:
    """The variant compiled whole, under a code object of its own: the compiler limits recompilations by code object,
    and every variant is another program."""
    call = Variant.__call__
    code = call.__code__.replace(co_name=f"variant_{number}")
    own = types.FunctionType(code, call.__globals__, code.co_name, call.__defaults__, call.__closure__)
    return torch.compile(types.MethodType(own, variant), fullgraph=True)


def _unpatch(owner: Any, name: str, mine: Any) -> None:
    """Take our attribute off, also where a hook was put over it or taken from under it since."""
    for place in {name, "forward", "_old_forward"} if isinstance(owner, nn.Module) else {name}:
        if owner.__dict__.get(place) is not mine:
            continue
        if place == "_old_forward":
            owner.__dict__[place] = types.MethodType(type(owner).forward, owner)
        else:
            del owner.__dict__[place]


def _check_target(unet: Any, plan: InheritancePlan) -> None:
    if not isinstance(unet, nn.Module):
        raise ModelError(f"{type(unet).__name__} has no UNet; give a Stable Diffusion pipeline or its UNet.")
    architecture = Architecture.of(unet)
    if getattr(unet, _MARK, None) is not None:
        raise PlanError("a plan is applied to this UNet already; call .remove() on its handle first.")
    if architecture != plan.architecture:
        raise PlanError(
            f"the plan was made for a UNet of {plan.architecture.describe()}, and this one has "
            f"{architecture.describe()}; make or search a plan for this model."
        )
    for name, module in unet.named_modules():
        _check_untouched(name, module)
    for block in [*getattr(unet, "up_blocks", [])]:
        if all(getattr(block, part, None) for part in ("s1", "s2", "b1", "b2")):
            raise ModelError("FreeU is enabled and is not supported with a plan; call pipe.disable_freeu() first.")
    if not inspect.ismethod(getattr(unet, "get_time_embed", None)):
        raise ModelError(
            f"{type(unet).__name__} is not a UNet2DConditionModel of diffusers; give a Stable Diffusion UNet."
        )


def _check_untouched(name: str, module: nn.Module) -> None:
    """Refuse what another tool has put on a module whose forward a program replaces or repeats."""
    if "_diffusers_hook" in module.__dict__:
        raise ModelError(
            "diffusers' group offloading is not supported with a plan; use model or sequential offloading."
        )
    own = module.__dict__.get("forward")
    # accelerate leaves a module's own bound forward behind when its hooks are removed.
    replaced = own is not None and getattr(own, "__func__", None) is not type(module).forward
    if replaced and "_hf_hook" not in module.__dict__:
        raise ModelError(
            f"another tool has replaced the forward of {name or 'the UNet'}; undo it, or load the model again."
        )
    bypassed = hasattr(module, "resnets") or type(module).__name__ in ("ResnetBlock2D", "Transformer2DModel")
    if bypassed and (module._forward_hooks or module._forward_pre_hooks):
        raise ModelError(f"{name} has forward hooks, which a plan would not run; remove them first.")
