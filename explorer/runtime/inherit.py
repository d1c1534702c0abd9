"""Attach a plan to a pipeline or a bare UNet, and take it off again.

The stock `unet.forward` is replaced on the instance; weights, attention processors, adapters and the pipeline stay as
they are. A run begins when a call comes from newly set timesteps (see `explorer.runtime.timesteps`).
"""

from __future__ import annotations

import os
import threading
import warnings
from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor, nn

from explorer.compile_modes import CompileMode, compile_mode, uses_compiler, uses_graphs
from explorer.errors import CaptureError, CompileError, ExplorerError, PlanError
from explorer.networks.found import students_beside
from explorer.plans.cast import TEACHER, cast_students
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.schedulers import scheduler_for
from explorer.runtime.calls import read_call
from explorer.runtime.compiling import CHANNELS_LAST, ChannelsLast
from explorer.runtime.eager import EagerSteps
from explorer.runtime.graphs import StaticSteps
from explorer.runtime.networks import Students, networks_of
from explorer.runtime.patching import Patch, clear
from explorer.runtime.replay import Recording
from explorer.runtime.runs import Everywhere, Running, ThreadRuns
from explorer.runtime.speed_up import SpeedUpHandle, SpeedUps, check_alone, speed_up_of_plan
from explorer.runtime.targets import check_compilable, check_scheduler, check_target, check_untouched
from explorer.runtime.timesteps import Timesteps, Walk
from explorer.unet.architecture import Architecture
from explorer.unet.layouts import check_control_networks
from explorer.unet.module_walk import ModuleWalk
from explorer.unet.program import Program

_MARK = "_inheritance"


def inherit(
    target: Any,
    plan: InheritancePlan | str | os.PathLike[str],
    *,
    scheduler: Any = None,
    compile: bool | str = False,
    fallback: bool = False,
    transfer: bool = False,
    students: Students | None = None,
    speedups: SpeedUps | None = None,
) -> Inheritance:
    """Run a pipeline or a `UNet2DConditionModel` by a plan.

    Args:
        target: A diffusers pipeline with a UNet, or the UNet.
        plan: A plan, its file, an export's folder or a hub id. The pipeline gets the scheduler and spacing it names.
        scheduler: For a bare UNet. Its `set_timesteps` begins a run; without it call `handle.begin` before each run.
        compile: `off` (False), `default` (True; each variant is compiled), `cudagraphs` (each variant is compiled and
            captured as a CUDA graph over static buffers) or `cudagraphs-eager` (captured, not compiled).
        fallback: Warn and run eager where that mode is not available (no GPU, offloading, no compiler ...).
        transfer: Map a plan of another architecture to this one, with a warning that names what was dropped.
        students: The networks of the plan's cast by name, each a `Student` or its folder. An export's folder and a hub
            id bring their own.
        speedups: Speed-up adapters by name, each a `SpeedUp` or its folder. The pipeline gets the one that the plan
            names, at the adapter's own guidance; call it with `guidance_scale=1.0`.

    Returns:
        A context manager. Its `.remove()` restores the target exactly.

    Raises:
        DeviceError: When the compiler's backend is missing. If it fails at a step, that step raises CompileError.
        PlanError: When the plan is for another architecture or for a scheduler that the pipeline cannot get, needs a
            student or an adapter that is not given, or when the UNet already has a plan.
        ModelError: When the UNet is not supported or is patched by another tool, its ControlNet or LoRA is for another
            layout, or a student has another teacher.
    """
    mode = compile_mode(compile)
    if isinstance(plan, InheritancePlan):
        chosen = plan
    else:
        chosen = InheritancePlan.from_pretrained(plan)
        missing = {*cast_students(chosen.cast)} - {*(students or ())}
        students = students_beside(plan, missing) | dict(students or {})
    if transfer:
        chosen = chosen.transfer(Architecture.of(getattr(target, "unet", target)))
    with speed_up_of_plan(target, chosen, speedups or {}) as put:
        how: Any = {"scheduler": scheduler, "compile": mode, "fallback": fallback, "students": students}
        return Inheritance(target, chosen, **how, adapter=put)


class Inheritance:
    """A plan applied to one UNet, as `inherit` returns it. Threads may share it: each run has a state of its own."""

    def __init__(
        self, target: Any, plan: InheritancePlan, *, scheduler: Any, compile: CompileMode, fallback: bool,
        students: Students | None = None, adapter: SpeedUpHandle | None = None, channels_last: bool = CHANNELS_LAST,
    ) -> None:  # fmt: skip
        pipe = target if hasattr(target, "unet") else None
        self.plan, unet = plan, target if pipe is None else target.unet
        self.unet: nn.Module = unet
        if getattr(unet, _MARK, None) is not None:
            raise PlanError(
                "a plan is applied to this UNet already; call .remove() on its handle first, or handle.follow(pipe) "
                "when this is another pipeline with the same UNet."
            )
        if isinstance(unet, nn.Module):
            clear(unet)
        self._adapter = adapter
        check_target(unet, plan, students or (), (plan.speedup,) if adapter is not None and plan.speedup else ())
        check_control_networks(pipe, plan.architecture)
        self._walk = ModuleWalk(unet)
        check_untouched(self._walk)
        self._students = students or {}
        self._networks = networks_of(unet, plan, self._students)
        self._compile, self._fallback = compile, fallback
        self._idle: list[StaticSteps] = []
        self._warned: set[str] = set()
        self._failed = False
        self._mode = self._usable_mode()
        self._eager = EagerSteps(self._networks, plan)
        self._everywhere = Everywhere()
        self._runs = ThreadRuns(self._everywhere)
        self._beginning = threading.Lock()
        self._peak = 0
        self.recording: Recording | None = None
        """Records outputs of eager runs and replays shared beginnings: for pictures, not for what is timed."""
        self._timesteps = Timesteps()
        self._exchanged: list[tuple[Any, Any, Any]] = []
        if scheduler is not None:
            check_scheduler(scheduler, plan)
            self._timesteps.follow(scheduler)
        elif pipe is not None:
            self._put_scheduler(pipe)
            self._timesteps.follow(pipe)
        setattr(unet, _MARK, self)
        self._patch = Patch(unet, apply_lora_scale("cross_attention_kwargs")(self._forward))
        self._layout = ChannelsLast(unet if channels_last and uses_compiler(self._mode) else None)

    def __enter__(self) -> Inheritance:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Restore the pipeline exactly and drop all features. A patch applied later stays on."""
        if self._patch.is_off():
            return
        self._patch.take_off()
        self._layout.restore()
        delattr(self.unet, _MARK)
        for pipe, own, put in self._exchanged:
            if pipe.scheduler is put:  # otherwise the user has chosen another one since
                pipe.scheduler = own
        self._exchanged.clear()
        if self._adapter is not None:
            self._adapter.remove()
        self._everywhere = Everywhere()
        self._runs = ThreadRuns(self._everywhere)
        self._eager = EagerSteps(self._networks, self.plan)
        self._idle.clear()

    @property
    def program(self) -> Program:
        """The target UNet as a list of nodes."""
        return self._networks[TEACHER].program

    def begin(self, evaluations: int, *, start: int = 0) -> None:
        """Begin a run in this thread. Needed only before each run of a bare UNet without a scheduler.

        Args:
            evaluations: UNet evaluations of the complete schedule.
            start: How many of the first evaluations are left out (img2img).

        Raises:
            PlanError: When the plan's schedule was written out for another number of evaluations.
            ModelError: When something was put on the UNet since then that a plan does not run.
        """
        self._begin(evaluations, start)

    def follow(self, other: Any) -> None:
        """Run another pipeline with the same UNet and another scheduler by the plan too.

        A pipeline that shares UNet and scheduler runs by the plan anyway. Pipelines in several threads need a scheduler
        each, as they do without a plan.

        Args:
            other: A pipeline (`from_pipe`, `**pipe.components`), which gets the plan's scheduler, or a scheduler alone.

        Raises:
            PlanError: For another UNet, or a scheduler that does not fit the plan.
            ModelError: For a ControlNet of another layout.
        """
        if getattr(other, "unet", self.unet) is not self.unet:
            raise PlanError(f"this {type(other).__name__} has another UNet; apply a plan to it with inherit().")
        if hasattr(other, "unet"):
            check_alone(self._adapter)
            check_control_networks(other, self.plan.architecture)
            self._put_scheduler(other)
        else:
            check_scheduler(other, self.plan)
        self._timesteps.follow(other)

    def _put_scheduler(self, pipe: Any) -> None:
        own = pipe.scheduler
        if (put := scheduler_for(own, self.plan.scheduler, self.plan.spacing)) is not own:
            pipe.scheduler = put
            self._exchanged.append((pipe, own, put))

    @property
    def cache_bytes(self) -> int:
        """Bytes of the features that all runs hold now, or of the static buffers where steps are captured."""
        return sum(run.bytes for run in self._everywhere.runs()) + sum(static.bytes for static in list(self._idle))

    @property
    def peak_cache_bytes(self) -> int:
        """The most bytes of features that the last run held at once, including those combined for a step."""
        return self._peak

    @property
    def student_bytes(self) -> int:
        """Bytes of the weights that the students of the plan's cast do not share with the UNet."""
        return sum(p.nbytes for network in self._networks.values() for p, _ in network.own)

    def __reduce_ex__(self, _: Any) -> Any:
        raise PlanError(
            "a UNet with a plan cannot be copied or pickled, as the copy would run the original's weights; call "
            ".remove() on the handle first and apply the plan to the copy."
        )

    def _usable_mode(self) -> CompileMode:
        """The compile mode asked for, or `off` with a warning where it cannot be had and a fallback was allowed."""
        if self._failed:
            return "off"
        try:
            check_compilable(self._compile, self._walk, self.plan)
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

    def _give_up_compiling(self, run: Running, error: CompileError) -> None:
        """Continue eager from this evaluation, which extracts, if a fallback is allowed; otherwise raise."""
        message = f"the compile mode {run.mode} cannot be had: {error}"
        if not self._fallback or isinstance(error, CaptureError):
            raise type(error)(message) from error
        self._warn(f"{message} The plan runs eager.")
        self._failed, self._mode = True, "off"
        self._layout.restore()
        self._eager = EagerSteps(self._networks, self.plan)
        self._idle.clear()
        run.mode, run.static = "off", None
        run.forget()

    def _static_steps(self) -> StaticSteps:
        """Steps over buffers that no run uses now, with what earlier runs have captured."""
        if self._idle:
            return self._idle.pop()
        return StaticSteps(self.program, self.plan, compile=uses_compiler(self._mode))

    # Runs ------------------------------------------------------------------------------------------------------------

    def _begin(self, evaluations: int, start: int, walk: Walk | None = None) -> Running:
        with self._beginning:
            modules = self._walk if self._walk.is_current() else ModuleWalk(self.unet)
            check_untouched(modules)
            if modules is not self._walk and not self.program.is_current():
                self._networks = networks_of(self.unet, self.plan, self._students)
                self._eager = EagerSteps(self._networks, self.plan)
                self._idle.clear()
            self._walk = modules
            if walk is not None:
                check_scheduler(self._timesteps.scheduler(walk.owner), self.plan)
            resolved = resolve_run(self.plan, evaluations, start)
            self._mode = self._usable_mode()
            run = Running(resolved, start, self._mode, walk, self._timesteps.seen() if walk is None else ())
            for ended in self._runs.add(run):
                self._release(ended)
            if uses_graphs(run.mode):
                run.static = self._static_steps()
                run.static.begin(modules)
            self._peak = 0
            return run

    def _release(self, run: Running) -> None:
        """Leave the buffers of a run that has ended to the next one."""
        static, run.static = run.static, None
        if static is not None and static.program.is_current():
            self._idle.append(static)

    def _running(self, timestep: Any, context: Any) -> Running:
        """The run of a call, at the call's evaluation."""
        runs = self._runs
        run = runs.latest
        if run is not None and run.walk is not None and run.holder is runs.me and isinstance(timestep, Tensor):
            index = run.walk.index(timestep)
            if index is not None and index - run.start == run.evaluation < run.count:
                return run  # the next evaluation of the run before: nearly every call
        found = runs.find(self._timesteps, timestep, context)
        run = found if isinstance(found, Running) else self._begin(found[0].count, found[1], found[0])
        run.check_left()
        return run

    def _forward(self, unet: Any, *given: Any, **named: Any) -> Any:
        arguments, return_dict = read_call(*given, **named)
        run = self._running(arguments["timestep"], arguments["context"])
        run.context = arguments["context"]
        try:
            noise = (self._step if run.static is None else self._captured_step)(run, arguments)
        except CompileError as error:
            self._give_up_compiling(run, error)
            noise = self._step(run, arguments)
        self._peak = max(self._peak, run.peak)
        if run.evaluation == run.count:
            run.context = None
            self._release(run)
        return UNet2DConditionOutput(sample=noise) if return_dict else (noise,)

    def _captured_step(self, run: Running, arguments: dict[str, Any]) -> Tensor:
        assert run.static is not None
        if run.shape == ():  # evaluations were left out: what is kept is too old
            run.static.begin(self._walk)
            run.shape = None
        at = run.start + run.evaluation  # of the complete schedule, as fitted weights count
        noise = run.static.step(at, run.resolved.choices[run.evaluation], arguments)
        run.peak = max(run.peak, run.bytes)
        run.evaluation += 1
        return noise

    def _step(self, run: Running, arguments: dict[str, Any]) -> Tensor:
        if (
            self.recording is not None
            and self.plan.cast is None
            and run.evaluation == run.start == 0
            and not uses_compiler(run.mode)
        ):
            run.replay = self.recording.begin(self.plan, run.resolved, arguments)
        return self._eager.step(run, arguments)
