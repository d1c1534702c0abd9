"""Attach a plan to a pipeline or a bare UNet, and take it off again.

The stock `unet.forward` is replaced on the instance; weights, attention processors, adapters and the pipeline stay as
they are. A run begins when a call comes from timesteps that were set anew: no timestep value is ever looked at
(see `explorer.timesteps`).
"""

from __future__ import annotations

import functools
import os
import types
import warnings
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor, nn

from explorer.architecture import Architecture
from explorer.combining import Combining
from explorer.compiling import Compiled, CompileMode, check_compiler, compile_mode, uses_compiler, uses_graphs
from explorer.conditions import read_conditions
from explorer.errors import CompileError, ExplorerError, ModelError, PlanError
from explorer.graphs import StaticSteps, why_not
from explorer.mask import Feature, Mask
from explorer.module_walk import ModuleWalk
from explorer.plan import InheritancePlan, Run, features_read, resolve_run
from explorer.program import Program
from explorer.replay import Recording, Replay
from explorer.schedulers import scheduler_for
from explorer.targets import check_scheduler, check_target, check_untouched
from explorer.timesteps import Timesteps
from explorer.variant import Variant

_MARK = "_inheritance"


def inherit(
    target: Any,
    plan: InheritancePlan | str | os.PathLike[str],
    *,
    scheduler: Any = None,
    compile: bool | str = False,
    fallback: bool = False,
    transfer: bool = False,
) -> Inheritance:
    """Run `target` (a diffusers pipeline with a UNet, or a UNet2DConditionModel) by `plan`, or by the plan of a file,
    an export's folder or a hub id (`InheritancePlan.from_pretrained`).

    Returns a handle: a context manager with `.remove()`, which restores the target exactly. For a bare UNet give the
    `scheduler` whose `set_timesteps` begins a run, or call `handle.begin(evaluations)` before each run.
    A plan that names a scheduler puts it on the pipeline, made from the settings of the pipeline's own, which comes
    back with `.remove()`; a bare UNet has none, so there it is the caller's to run under the plan's.
    compile: off (False), default (True: each variant compiled whole), cudagraphs (compiled, over static buffers, each
    variant captured as one CUDA graph) or cudagraphs-eager (captured without the compiler).
    fallback: where that cannot be had (no GPU, offloading, no compiler, one that fails at a step ...), warn and run
    eager instead of raising.
    transfer: carry a plan of another architecture over by the names of blocks and layers, with a warning that names
    what was dropped (`InheritancePlan.transfer`).

    Raises:
        DeviceError: when the compiler's backend is missing. One that is there and fails raises CompileError at the
            first step that it does not take.
        PlanError: when the plan was made for another architecture, or for a scheduler that the pipeline's cannot be
            exchanged for or that is not the one given; or a plan is applied already.
        ModelError: when the target has no supported UNet, or another tool has patched it.
    """
    mode = compile_mode(compile)
    chosen = plan if isinstance(plan, InheritancePlan) else InheritancePlan.from_pretrained(plan)
    if transfer:
        chosen = chosen.transfer(Architecture.of(getattr(target, "unet", target)))
    return Inheritance(target, chosen, scheduler=scheduler, compile=mode, fallback=fallback)


class Inheritance:
    """A plan at work on one UNet. See `inherit`."""

    def __init__(
        self, target: Any, plan: InheritancePlan, *, scheduler: Any, compile: CompileMode, fallback: bool
    ) -> None:
        pipe = target if hasattr(target, "unet") else None
        unet = target.unet if pipe is not None else target
        self.plan = plan
        self.unet: nn.Module = unet
        if getattr(unet, _MARK, None) is not None:
            raise PlanError(
                "a plan is applied to this UNet already; call .remove() on its handle first, or handle.follow(pipe) "
                "when this is another pipeline with the same UNet."
            )
        check_target(unet, plan)
        self._walk = ModuleWalk(unet)
        check_untouched(self._walk)
        self._program = Program(unet)
        self._compile, self._fallback = compile, fallback
        self._static: StaticSteps | None = None
        self._warned: set[str] = set()
        self._failed = False
        self._mode = self._usable_mode()
        self._variants: dict[tuple[Mask, frozenset[Feature]], Any] = {}
        self._run: Run | None = None
        self._start = 0
        self._evaluation = 0
        self._timesteps: Tensor | None = None
        self._shape: tuple[Any, ...] | None = None
        self._cache: dict[Feature, dict[int, Tensor]] = {}
        self._peak = 0
        self.recording: Recording | None = None
        """Records outputs of eager runs and replays shared beginnings: for pictures, not for what is timed."""
        self._replay: Replay | None = None
        self._schedules = Timesteps()
        self._exchanged: list[tuple[Any, Any, Any]] = []
        if scheduler is not None:
            check_scheduler(scheduler, plan)
            self._schedules.follow(scheduler)
        elif pipe is not None:
            self._put_scheduler(pipe)
            self._schedules.follow(pipe)
        self._attached = True
        setattr(unet, _MARK, self)
        self._patch_forward()

    # Life ------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Inheritance:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Restore the pipeline exactly and drop every feature. Doing it twice is no error."""
        if not self._attached:
            return
        _unpatch(self.unet, self._patched)
        delattr(self.unet, _MARK)
        for pipe, own, put in self._exchanged:
            if pipe.scheduler is put:  # otherwise the user has chosen another one since
                pipe.scheduler = own
        self._exchanged.clear()
        self._end()
        self._variants.clear()
        self._static = None
        self._attached = False

    def begin(self, evaluations: int, *, start: int = 0) -> None:
        """Begin a run of `evaluations` UNet evaluations, of which the first `start` are left out (img2img).

        Called when newly set timesteps come in; call it yourself only when driving a bare UNet without a scheduler.

        Raises:
            PlanError: when the plan's schedule was written out for another number of evaluations.
            ModelError: when something was put on the UNet since that a plan would not run.
        """
        self._end()
        self._peak = 0
        walk = self._walk if self._walk.is_current() else ModuleWalk(self.unet)
        check_untouched(walk)
        if walk is not self._walk and not self._program.is_current():
            self._program = Program(self.unet)
            self._variants.clear()
            self._static = None
        self._walk = walk
        self._run, self._start = resolve_run(self.plan, evaluations, start), start
        self._mode = self._usable_mode()
        if uses_graphs(self._mode):
            if self._static is None:
                self._static = StaticSteps(self._program, self.plan, compile=uses_compiler(self._mode))
            self._static.begin(self._walk)

    def follow(self, other: Any) -> None:
        """Let another pipeline that has the same UNet (`from_pipe`, `**pipe.components`) run by the plan too, when its
        scheduler is another one; or follow one more scheduler. A pipeline that shares the scheduler is followed anyway.
        A scheduler that the plan names is put on this pipeline as well.

        Raises:
            PlanError: when the pipeline has another UNet, or as `inherit` for its scheduler.
        """
        if getattr(other, "unet", self.unet) is not self.unet:
            raise PlanError(f"this {type(other).__name__} has another UNet; apply a plan to it with inherit().")
        if hasattr(other, "unet"):
            self._put_scheduler(other)
        else:
            check_scheduler(other, self.plan)
        self._schedules.follow(other)

    def _put_scheduler(self, pipe: Any) -> None:
        own = pipe.scheduler
        put = scheduler_for(own, self.plan.scheduler)
        if put is not own:
            pipe.scheduler = put
            self._exchanged.append((pipe, own, put))

    @property
    def cache_bytes(self) -> int:
        """Bytes of the features held now; of the present form's static buffers where steps are captured."""
        if self._static is not None:
            return self._static.bytes
        return sum(t.numel() * t.element_size() for held in self._cache.values() for t in held.values())

    @property
    def peak_cache_bytes(self) -> int:
        """The most bytes of features that were held at once since the last run began, with those that the rule had
        combined for a step."""
        return self._peak

    def _end(self) -> None:
        self._run, self._timesteps, self._shape = None, None, None
        self._start = self._evaluation = 0
        self._replay = None
        self._cache.clear()

    def _usable_mode(self) -> CompileMode:
        """The compile mode asked for, or `off` with a warning where it cannot be had and a fallback was allowed."""
        if self._failed:
            return "off"
        try:
            if uses_graphs(self._compile):
                reason = why_not(self._walk, _device(self.unet))
                if reason is not None:
                    raise ModelError(f"the compile mode {self._compile} cannot be had: {reason}")
            if uses_compiler(self._compile):
                check_compiler(_device(self.unet))
        except ExplorerError as error:
            if not self._fallback:
                raise
            self._warn(f"{error} The plan runs eager.")
            return "off"
        return self._compile

    def _warn(self, message: str) -> None:
        """Once, not at every run."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=4)

    def _give_up_compiling(self, error: CompileError) -> None:
        """Go on eager from this evaluation, which extracts anew, where a fallback was allowed; otherwise raise."""
        message = f"the compile mode {self._mode} cannot be had: {error}"
        if not self._fallback:
            raise CompileError(message) from error
        self._warn(f"{message} The plan runs eager.")
        self._failed, self._mode, self._static = True, "off", None
        self._variants.clear()
        self._cache.clear()
        self._shape = ()

    def __reduce_ex__(self, _: Any) -> Any:
        raise PlanError(
            "a UNet with a plan cannot be copied or pickled, as the copy would run the original's weights; call "
            ".remove() on the handle first and apply the plan to the copy."
        )

    # Patching --------------------------------------------------------------------------------------------------------

    def _patch_forward(self) -> None:
        unet: Any = self.unet
        forward = apply_lora_scale("cross_attention_kwargs")(self._forward)

        @functools.wraps(type(unet).forward)
        def patched(*args: Any, **kwargs: Any) -> Any:
            return forward(unet, *args, **kwargs)

        # accelerate's offloading hooks wrap `forward` and call `_old_forward`: stay inside of them.
        unet.__dict__["_old_forward" if "_old_forward" in unet.__dict__ else "forward"] = patched
        self._patched = patched

    # Running ---------------------------------------------------------------------------------------------------------

    def _current_run(self, timestep: Any) -> Run:
        place = self._schedules.locate(timestep)
        if place is not None:
            index = place.index
            at = self._evaluation if index is None else index - self._start
            if place.timesteps is not self._timesteps or at < self._evaluation - 1:
                self.begin(len(place.timesteps), start=index or 0)
                self._timesteps = place.timesteps
            elif at == self._evaluation - 1:
                raise PlanError(
                    "the pipeline evaluates the UNet more than once at one timestep; one that runs guidance in "
                    "separate calls cannot inherit features, as it would mix them; remove the plan for it."
                )
            elif at > self._evaluation:
                self._evaluation, self._shape = at, ()  # evaluations were left out: what is kept is too old
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
        run = self._current_run(timestep)
        arguments = {
            "sample": sample,
            "timestep": timestep,
            "context": encoder_hidden_states,
            "class_labels": class_labels,
            "timestep_cond": timestep_cond,
            "attention_mask": attention_mask,
            "attention_kwargs": cross_attention_kwargs,
            "added": added_cond_kwargs,
            "down_residuals": down_block_additional_residuals,
            "mid_residual": mid_block_additional_residual,
            "intrablock": down_intrablock_additional_residuals,
            "context_mask": encoder_attention_mask,
        }
        try:
            noise = self._captured_step(run, arguments) if uses_graphs(self._mode) else self._step(run, arguments)
        except CompileError as error:
            self._give_up_compiling(error)
            noise = self._step(run, arguments)
        return UNet2DConditionOutput(sample=noise) if return_dict else (noise,)

    def _captured_step(self, run: Run, arguments: dict[str, Any]) -> Tensor:
        assert self._static is not None
        if not isinstance(arguments["timestep"], Tensor):
            # A number would be built into the graph.
            dtype = torch.float64 if isinstance(arguments["timestep"], float) else torch.int64
            device = arguments["sample"].device
            arguments["timestep"] = torch.tensor(arguments["timestep"], dtype=dtype, device=device)
        if self._shape == ():  # evaluations were left out: what is kept is too old
            self._static.begin(self._walk)
            self._shape = None
        at = self._start + self._evaluation  # in the whole run, as fitted weights count
        noise = self._static.step(at, run.choices[self._evaluation], arguments)
        self._peak = max(self._peak, self.cache_bytes)
        self._evaluation += 1
        return noise

    def _step(self, run: Run, arguments: dict[str, Any]) -> Tensor:
        i = self._evaluation
        if self.recording is not None and i == 0 and not self._start and not uses_compiler(self._mode):
            self._replay = self.recording.begin(self.plan, run, arguments)
        known = None if self._replay is None else self._replay.output(i)
        if known is not None:
            self._evaluation += 1
            return known.to(arguments["sample"].device, copy=True)
        sample, at = read_conditions(self.unet, self._program.architecture, **arguments)
        shape = (sample.shape, sample.dtype, sample.device, arguments["context"].shape)
        choice, stores = run.choices[i], run.stores[i]
        if self._shape is not None and shape != self._shape:
            # Batch, size, dtype, device or guidance changed inside the run: nothing that is kept fits.
            self._cache.clear()
            self._replay = None
            choice, stores = 0, frozenset().union(*run.stores)
        self._shape = shape
        if not choice and uses_compiler(self._mode):
            stores = features_read(self.plan)  # one extract variant, not one for each set that is read later
        mask = self.plan.mask(choice)
        variant = self._variant(mask, frozenset() if choice else stores)
        inherited = Combining(self.plan.rule, self._cache, mask, i, self._start)
        # A compiled variant is given all at once, as its arguments.
        noise, stored = variant(sample, at, dict(inherited) if uses_compiler(self._mode) else inherited)
        for feature, value in stored.items():
            self._cache.setdefault(feature, {})[i] = value
        if stored or inherited.peak:
            self._peak = max(self._peak, self.cache_bytes + inherited.peak)
        self._drop_unread(run, i)
        if self._replay is not None:
            self._replay.keep(i, noise)
        self._evaluation += 1
        return noise

    def _variant(self, mask: Mask, stores: frozenset[Feature]) -> Any:
        key = (mask, stores)
        if key not in self._variants:
            variant = Variant(self._program, mask, stores)
            number = len(self._variants)
            self._variants[key] = Compiled(variant, number) if uses_compiler(self._mode) else variant
        return self._variants[key]

    def _drop_unread(self, run: Run, now: int) -> None:
        for feature, held in self._cache.items():
            for source in [s for s in held if run.last_read.get((s, feature), -1) <= now and not self._late(run, s)]:
                del held[source]

    def _late(self, run: Run, source: int) -> bool:
        """Whether `source` is an extract step that the schedule did not foresee (a change inside the run)."""
        return source > 0 and run.choices[source] != 0


def _device(unet: nn.Module) -> torch.device:
    """Where the UNet computes: of its first parameter, as an offloaded one lies elsewhere."""
    return next(unet.parameters()).device


def _unpatch(unet: nn.Module, mine: Any) -> None:
    """Take our forward off, also where a hook was put over it or taken from under it since."""
    for place in ("forward", "_old_forward"):
        if unet.__dict__.get(place) is not mine:
            continue
        if place == "_old_forward":
            unet.__dict__[place] = types.MethodType(type(unet).forward, unet)
        else:
            del unet.__dict__[place]
