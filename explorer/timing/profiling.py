"""Measures a profile: every node, every named strategy's step, a rule's cost, and a few complete loops.

from explorer import load_pipeline
from explorer.compile_modes import CompileMode
from explorer.timing.profiling import profile_pipeline, workload_of

pipe = load_pipeline("emoji")
profile = profile_pipeline(pipe, "emoji", workload_of(pipe), steps=50)
profile.extract_seconds, profile.strategies[0].measured, profile.step_errors.median
profile.cost_model.loop_seconds(plan, evaluations)   # any plan for this architecture
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from explorer.compile_modes import CompileMode
from explorer.devices import clock_for, describe, resolve_device, resolve_dtype
from explorer.memory import Needed, check_memory, free_memory, memory_explained, needed_for
from explorer.models.loading import default_guidance, fingerprint
from explorer.models.workload import (
    Workload,
    latent_size,
    random_embeds,
    twin,
    unet_inputs,
    vae_factor,
)
from explorer.plans.document import MAX_MASKS
from explorer.plans.plan import InheritancePlan
from explorer.plans.rules import Rule
from explorer.plans.schedule import Segments
from explorer.plans.schedulers import evaluations_of
from explorer.plans.strategies import STRATEGIES, strategy
from explorer.timing.anatomy import Anatomy, anatomy
from explorer.timing.designed_masks import designed_masks
from explorer.timing.profile import Effort, Profile
from explorer.timing.step_times import at_work, round_order, time_nodes, time_steps
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask

RULED = ("CO6", "RI", "DC0", "EX2")
"""Strategies that are also timed with a rule: of many features and few, of large ones and small."""
RULE = Rule("forecast", 2)
INSIDE_LOOPS = "DC1"
"""The strategy whose cheap steps let the cost around the UNet be seen."""
LOOPS = (("DC0", "P5"), ("CO6", "P5†"), ("LI1", "P2†"))
"""Plans whose complete loop is timed to check predictions: with much and with little inheritance."""
LOOP_SECONDS = 2.0
"""A timed loop takes about so long at most; of a slow model it has fewer steps."""
NODE_LAPS = 2
"""Samples of every node in each round of steps."""


@dataclass(frozen=True)
class ProfileProgress:
    """The progress of a measurement. seconds_left: at the speed of this run; None while nothing has been timed."""

    stage: str
    done: int
    total: int
    seconds_left: float | None


def workload_of(
    pipe: Any,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch: int = 1,
    resolution: int | tuple[int, int] | None = None,
    compile: CompileMode = "off",
) -> Workload:
    """The workload of a pipeline that lies on `device` in `dtype`; its own resolution by default.

    Args:
        resolution: Both sides, or height and width, in pixels.

    Raises:
        DeviceError or ModelError: for a device, dtype, batch, resolution or compile mode that cannot be.
    """
    where = resolve_device(device)
    factor = vae_factor(pipe)
    side = resolution or int(pipe.unet.config.sample_size) * factor
    size = (side, side) if isinstance(side, int) else side
    latent_size(size, factor)
    name = str(resolve_dtype(dtype, where)).removeprefix("torch.")
    return Workload(batch, size, str(where), name, compile)


def profile_pipeline(
    pipe: Any,
    model: str,
    workload: Workload,
    *,
    steps: int = 50,
    rounds: int | None = None,
    started: Profile | None = None,
    on_progress: Callable[[ProfileProgress], None] | None = None,
    on_round: Callable[[Profile], None] | None = None,
) -> Profile:
    """Profile `pipe`, which lies on the workload's device in its dtype and is left as it was.

    steps: of the timed loops, fewer where the device is slow. rounds: of every measurement; chosen by the device's
    speed by default. started: an earlier, incomplete profile to go on with. on_round: called with the profile whenever
    a round has been added, to keep it.

    Raises:
        DeviceError: when memory does not do, with what is needed and what to lower.
    """
    device = resolve_device(workload.device)
    what, dtype = _words(model, workload), workload.dtype
    check_memory(_memory_needed(pipe, workload), free_memory(device), what, device=workload.device, dtype=dtype)
    with memory_explained(what, device=workload.device, dtype=dtype):
        inputs = unet_inputs(pipe, workload, device)
        profile = started or _empty_profile(pipe, model, workload, inputs, device, steps, rounds)
        _measure(pipe, profile, inputs, device, on_progress or (lambda _: None), on_round or (lambda _: None))
    return profile


def _words(model: str, workload: Workload) -> str:
    height, width = workload.resolution
    return f"profiling {model} at batch {workload.batch}, {height}x{width} px, {workload.dtype}"


def _costs(pipe: Any, workload: Workload) -> Anatomy:
    return anatomy(pipe.unet, latent_size(workload.resolution, vae_factor(pipe)))


def _itemsize(workload: Workload) -> int:
    dtype: torch.dtype = getattr(torch, workload.dtype)
    return dtype.itemsize


def _memory_needed(pipe: Any, workload: Workload) -> Needed:
    """Beside the weights: every feature that a round keeps (units by residual and by output), and the rule's three
    extract steps of some; where steps are compiled also those of the plan whose extract steps are timed."""
    sizes = _costs(pipe, workload).feature_bytes(2 * workload.batch, _itemsize(workload))
    return needed_for(sizes, workload.compile, copies=3 + (workload.compile != "off"))


def _empty_profile(
    pipe: Any,
    model: str,
    workload: Workload,
    inputs: dict[str, Any],
    device: torch.device,
    steps: int,
    rounds: int | None,
) -> Profile:
    architecture = Architecture.of(pipe.unet)
    tested = {name: each.mask(architecture) for name, each in STRATEGIES.items()}
    effort = _effort(_quick_look(pipe, inputs, device), workload, device, steps, rounds)
    designed = designed_masks(architecture, MAX_MASKS - len(tested), apart=tested.values())
    count = effort.loop_steps
    loops = [InheritancePlan(architecture, count, name=f"plain@{count}")]
    for each in (count, max(2, count // 3)):
        evaluations = evaluations_of(pipe.scheduler, each)
        throughout = Segments(((0, 1), (1, evaluations - 1)))
        loops.append(InheritancePlan(architecture, each, (tested[INSIDE_LOOPS],), throughout, name=INSIDE_LOOPS))
    loops += [strategy(name, mode=mode, steps=count, unet=architecture) for name, mode in LOOPS]
    return Profile(
        model=model,
        fingerprint=fingerprint(pipe),
        workload=workload,
        device=describe(device),
        architecture=architecture,
        effort=effort,
        tested=tested,
        designed=designed,
        ruled=RULED,
        rule=RULE,
        inside_loops=INSIDE_LOOPS,
        loops=loops,
        evaluations=[evaluations_of(pipe.scheduler, plan.steps) for plan in loops],
        feature_bytes=_costs(pipe, workload).feature_bytes(2 * workload.batch, _itemsize(workload)),
    )


def _quick_look(pipe: Any, inputs: dict[str, Any], device: torch.device) -> float:
    """Roughly the seconds of one evaluation."""
    clock = clock_for(device)
    with torch.no_grad():
        first = clock.time(lambda: pipe.unet(**inputs))
        return first if first > 2 else clock.time(lambda: pipe.unet(**inputs))


def _effort(seconds: float, workload: Workload, device: torch.device, steps: int, rounds: int | None) -> Effort:
    """More samples where they are cheap. A GPU samples a few evaluations in sequence, which fills its queue."""
    chosen = rounds or (9 if seconds < 0.5 else 5 if seconds < 2 else 3)
    eager_cpu = device.type == "cpu" and workload.compile == "off"
    warmups = (1 if seconds < 0.5 else 0) if eager_cpu else 3
    loop_steps = max(3, min(steps, max(6, int(LOOP_SECONDS / seconds))))
    return Effort(chosen, warmups, 1 if device.type == "cpu" else 4, loop_steps)


class _Ticker:
    """Counts what was timed, in evaluations, and tells how long the rest will take."""

    def __init__(self, total: int, on_progress: Callable[[ProfileProgress], None]) -> None:
        self.done, self.total, self._tell, self._start = 0, total, on_progress, time.monotonic()

    def tick(self, stage: str, evaluations: int) -> None:
        self.done += evaluations
        seconds = (time.monotonic() - self._start) / self.done
        self._tell(ProfileProgress(stage, self.done, self.total, seconds * max(0, self.total - self.done)))


def _measure(
    pipe: Any,
    profile: Profile,
    inputs: dict[str, Any],
    device: torch.device,
    on_progress: Callable[[ProfileProgress], None],
    on_round: Callable[[Profile], None],
) -> None:
    effort, mode = profile.effort, profile.workload.compile
    ruled = [profile.tested[name] for name in profile.ruled]
    blocks = sum(
        (effort.rounds - samples.rounds + effort.warmups) * _round_length(len(masks), mode != "off") * effort.calls
        for samples, masks in ((profile.step_samples, profile.masks), (profile.rule_samples, ruled))
        if samples.rounds < effort.rounds
    )
    left = effort.rounds - profile.loop_samples.rounds
    loops = (left + effort.warmups) * sum(profile.evaluations) if left else 0
    unheld = [name for name in profile.tested if name not in profile.held_bytes]
    ticker = _Ticker(2 * len(unheld) + blocks + loops, on_progress)
    kept = _Keeper(profile, on_round)
    for name in unheld:
        profile.held_bytes[name] = _held_bytes(twin(pipe).unet, profile.tested[name], inputs)
        ticker.tick("features", 2)
    for stage, masks, samples, rule in (
        ("steps", profile.masks, profile.step_samples, Rule()),
        ("rules", ruled, profile.rule_samples, profile.rule),
    ):
        if samples.rounds >= effort.rounds:
            continue
        for _ in time_steps(
            twin(pipe).unet, masks, inputs, device, samples,
            rounds=effort.rounds, warmups=effort.warmups, calls=effort.calls, compile=mode, rule=rule,
        ):  # fmt: skip
            ticker.tick(stage, effort.calls)
            if kept.new_round() and stage == "steps":
                for _ in range(NODE_LAPS):
                    time_nodes(pipe.unet, inputs, device, profile.nodes, queued=mode != "off")
            kept.keep()
    for _ in _time_loops(pipe, profile, inputs, device):
        ticker.tick("loops", sum(profile.evaluations))
        kept.keep()


def _held_bytes(unet: Any, mask: Mask, inputs: dict[str, Any]) -> int:
    """The most bytes of features that an extract step and an inherit step under `mask` held, eager."""
    with at_work(unet, (0, 1), (mask,)) as handle, torch.no_grad():
        for _ in range(2):
            unet(**inputs)
        return handle.peak_cache_bytes


def _round_length(masks: int, compiled: bool) -> int:
    return len(round_order(masks, 0, masks)) if compiled else len(round_order(masks, 0))


class _Keeper:
    """Hands the profile on whenever a round was added."""

    def __init__(self, profile: Profile, on_round: Callable[[Profile], None]) -> None:
        self._profile, self._on_round, self._kept = profile, on_round, self._count(profile)

    @staticmethod
    def _count(profile: Profile) -> int:
        return profile.step_samples.rounds + profile.rule_samples.rounds + profile.loop_samples.rounds

    def new_round(self) -> bool:
        return self._count(self._profile) != self._kept

    def keep(self) -> None:
        if self.new_round():
            self._kept = self._count(self._profile)
            self._on_round(self._profile)


def _time_loops(pipe: Any, profile: Profile, inputs: dict[str, Any], device: torch.device) -> Iterator[None]:
    """Time complete loops of the pipeline, every plan once a round, with extract steps of the bare UNet before each."""
    from explorer.runtime.inherit import inherit

    effort, samples, workload = profile.effort, profile.loop_samples, profile.workload
    if samples.rounds >= effort.rounds:
        return
    clock, embeds = clock_for(device), random_embeds(pipe, workload.batch, device)
    height, width = workload.resolution
    guidance = default_guidance(profile.model)

    def loop(at: Any, plan: InheritancePlan) -> None:
        at(
            num_inference_steps=plan.steps, guidance_scale=guidance, output_type="latent", height=height, width=width,
            generator=torch.Generator("cpu").manual_seed(0), **embeds,
        )  # fmt: skip

    bare = twin(pipe).unet
    time_block = clock.time if workload.compile == "off" else clock.time_block  # as `time_steps` does

    def block() -> None:
        for _ in range(effort.calls):
            bare(**inputs)

    pipes = [twin(pipe) for _ in profile.loops]
    handles = [inherit(each, plan, compile=workload.compile) for each, plan in zip(pipes, profile.loops, strict=True)]
    numbers = range(samples.rounds - effort.warmups, effort.rounds)
    try:
        with at_work(bare, [0] * (len(numbers) * len(pipes) * effort.calls), compile=workload.compile):
            for number in numbers:
                extracts, pairs = [], []
                for each, plan in zip(pipes, profile.loops, strict=True):
                    with torch.no_grad():
                        extracts.append(time_block(block) / effort.calls)
                    pairs.append((clock.time(lambda at=each, by=plan: loop(at, by)), extracts[-1]))  # type: ignore[misc]
                profile.loop_bytes = [handle.peak_cache_bytes for handle in handles]
                if number >= samples.rounds:
                    samples.add(pairs, extracts)
                yield
    finally:
        for handle in handles:
            handle.remove()
