"""Our engine, DeepCache 0.1.1 and the stock pipeline: one mask, one pipeline, taking turns in one process.

DeepCache runs eager only, as it cannot be compiled. Its patches are on modules that all contenders share, so it is
enabled for its own turns alone, outside of the clock. Pictures of ours in every mode are held against DeepCache's, and
an eager run, outside of the clock where it is not asked for, must equal them to the bit on a CPU and to rounding on a
GPU; compiled ones to rounding. A race whose pictures differ more is marked `unfair` in the result, and the benchmark
ends with status 1.

What DeepCache pays beside the mask is its own and is timed with it: at every UNet call it reads the timestep to the
host and compares it with the scheduler's timesteps one by one, up to the call's place (`list(timesteps).index(...)`);
where those lie on a GPU each read waits for the queue. And it decides in Python at every block. So its time on a GPU
is that of its host work as much as of the mask, above all at batch 1. `DeepCache, host timesteps` looks the place up in
a list on the host: the released one with one read a call.

`plain, MODE` is the un-accelerated pipeline in a mode of ours, which tells what the compiler or the capture gains from
what the plan gains. A mode with `/channels-last` runs on a copy of the UNet with its weights laid out for the compiler.

Under PNDM one timestep comes twice, and DeepCache's search finds the first of the two both times: it then extracts and
inherits at the evaluations that follow from there (with period 2 it inherits at the third). Ours races with DeepCache's
own choice at every evaluation. PNDM itself reads the timesteps on the host, so every contender waits for the GPU;
`--scheduler DPMSolverMultistepScheduler` reads nothing.

The result is written after the pictures were held against each other, and after every round; `--resume` goes on with
one that was ended early. `--draw FILE` draws the chart of one that was measured elsewhere.

    python -m benchmarks.deepcache_race --model arch:sd15 --device cuda --modes off,default,cudagraphs
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.shared.deepcache import HostSchedule, deepcache_choices
from benchmarks.shared.gpu_state import gpu_state
from benchmarks.shared.measure import load, run
from benchmarks.shared.race_result import DEEPCACHE, RaceResult, RaceSamples, chart
from benchmarks.shared.report import options, resumable, write_figure
from explorer.compile_modes import check_mode, compile_mode
from explorer.devices import clock_for, resolve_device, resolve_dtype
from explorer.errors import ScoreError
from explorer.models.loading import default_guidance, has_weights
from explorer.models.workload import random_embeds, twin
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Segments
from explorer.plans.schedulers import SCHEDULERS, scheduler_for
from explorer.plans.strategies import strategy
from explorer.runtime.inherit import Inheritance, inherit

WARMUPS = 3


@dataclass(frozen=True)
class Contender:
    """`run` makes the pictures once; `before` and `after` are outside of the clock."""

    name: str
    run: Callable[[], Any]
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    timed: bool = True
    """Whether it races, or only shows its pictures."""

    def once(self) -> Any:
        self.before()
        try:
            return self.run()
        finally:
            self.after()


def same_plan(pipe: Any, arguments: argparse.Namespace) -> InheritancePlan:
    """DeepCache's mask at the evaluations at which it inherits: `DC0/P5`, or written out where those are others."""
    plan = strategy(f"DC{arguments.branch}", mode=f"P{arguments.period}", steps=arguments.steps, unet=pipe.unet)
    choices = deepcache_choices(pipe.scheduler, arguments.steps, arguments.period)
    if not plan.masks or list(plan.resolve(len(choices))) == choices:
        return plan
    return InheritancePlan(plan.architecture, plan.steps, plan.masks, Segments.of(choices))


def applied(pipe: Any, plan: InheritancePlan, mode: str) -> Inheritance:
    """The plan on the pipeline, in a mode as `--modes` names it."""
    name, _, layout = mode.partition("/")
    if not layout:
        return inherit(pipe, plan, compile=compile_mode(name))
    return Inheritance(
        pipe, plan, scheduler=None, compile=compile_mode(name), fallback=False, channels_last=True
    )  # fmt: skip


def contenders(pipe: Any, arguments: argparse.Namespace, batch: int) -> tuple[list[Contender], list[Any]]:
    """Everyone who races at `batch`, with the handles of the plans that are applied."""
    import torch
    from DeepCache import DeepCacheSDHelper

    device = resolve_device(arguments.device)
    if has_weights(arguments.model):
        from studies.scoring.running import encode

        embeds = encode(pipe, ["a red car"] * batch, device)
    else:
        embeds = random_embeds(pipe, batch, device)
    side = arguments.resolution
    guidance = default_guidance(arguments.model)

    def loop(each: Any) -> Callable[[], Any]:
        size = {} if side is None else {"height": side, "width": side}
        return lambda: each(
            num_inference_steps=arguments.steps, guidance_scale=guidance, output_type="latent",
            generator=torch.Generator("cpu").manual_seed(0), **embeds, **size,
        ).images  # fmt: skip

    modes = arguments.modes.split(",")
    racers, handles = [Contender("stock", loop(twin(pipe)))], []
    for mode in (*modes, *(() if "off" in modes else ("off",))):
        mine = twin(pipe)
        if "/" in mode:
            mine.unet = copy.deepcopy(pipe.unet)  # the others' weights stay as they are
        plan, plain = same_plan(mine, arguments), twin(mine)
        handles.append(applied(mine, plan, mode))
        racers.append(Contender("ours" if mode == "off" else f"ours, {mode}", loop(mine), timed=mode in modes))
        if mode != "off":
            handles.append(applied(plain, InheritancePlan(plan.architecture, plan.steps), mode))
            racers.append(Contender(f"plain, {mode}", loop(plain)))
    for name, schedule in ((DEEPCACHE, lambda of: of), (f"{DEEPCACHE}, host timesteps", HostSchedule)):
        theirs = twin(pipe)
        helper = DeepCacheSDHelper(pipe=SimpleNamespace(unet=theirs.unet, scheduler=schedule(theirs.scheduler)))
        helper.set_params(cache_interval=arguments.period, cache_branch_id=arguments.branch)
        racers.append(Contender(name, loop(theirs), helper.enable, helper.disable))
    return racers, handles


def race(
    racers: Sequence[Contender],
    rounds: int,
    device: Any,
    keep: Callable[[RaceSamples], object] = lambda _: None,
    samples: RaceSamples | None = None,
) -> RaceSamples:
    """Time every contender in every round, each round in an order of its own. `keep` is called after each. samples: of
    earlier rounds, to go on with."""
    clock = clock_for(device)
    samples = samples or RaceSamples({racer.name: [] for racer in racers})
    for number in range(samples.rounds, rounds):
        order = list(racers)
        random.Random(number).shuffle(order)  # in a rotation each would always follow the same one
        taken: dict[str, float] = {}
        reserved: dict[str, int] = {}
        for racer in order:
            racer.before()
            try:
                taken[racer.name], reserved[racer.name] = timed(clock, racer.run, device)
            finally:
                racer.after()
        for name, seconds in taken.items():
            samples.seconds[name].append(seconds)
            if reserved[name]:
                samples.reserved.setdefault(name, []).append(reserved[name])
        samples.states += filter(None, [gpu_state(device)])
        keep(samples)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return samples


def timed(clock: Any, call: Callable[[], Any], device: Any) -> tuple[float, int]:
    """Seconds of a call, and the most bytes that torch reserved in it (0 without a GPU)."""
    if device.type != "cuda":
        return clock.time(call), 0
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return clock.time(call), int(torch.cuda.max_memory_reserved(device))


def check_pictures(racers: Sequence[Contender]) -> dict[str, float]:
    """How far the latents of ours in each mode and DeepCache's are apart, as a share of the largest.

    Raises:
        ScoreError: Where no eager run of ours is among them.
    """
    import torch

    # DeepCache first: its first turn leaves a forward of its own on modules that all share, and a compiler that had
    # seen them without would compile again within the clock
    theirs = next(racer for racer in racers if racer.name == DEEPCACHE).once().float()
    found: dict[str, float] = {}
    for racer in racers:
        if racer.name.startswith(("ours", f"{DEEPCACHE}, ")):
            mine = racer.once().float()
            same = torch.equal(mine, theirs)
            found[racer.name] = 0.0 if same else float((mine - theirs).abs().max() / theirs.abs().max())
    if "ours" not in found:
        raise ScoreError("no eager run of ours was held against DeepCache's pictures.")
    return found


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--modes", default="off", help="modes of ours: off, default, default/channels-last ...")
    parser.add_argument("--batches", default="1,8", help="pictures a call, one race each (--batch is not read)")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--period", type=int, default=5, help="extract every so many evaluations")
    parser.add_argument("--branch", type=int, default=0, help="DeepCache's branch: 0, 1 or 2")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="of every contender; the pipeline's own by default")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw the chart of this result, and measure nothing")
    resumable(parser)
    arguments = parser.parse_args()
    if arguments.draw is not None:
        document = json.loads(arguments.draw.read_text(encoding="utf-8"))
        write_figure(lambda: chart(document["figures"]), arguments.draw)
        return
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    device = resolve_device(arguments.device)
    for mode in arguments.modes.split(","):
        check_mode(compile_mode(mode.partition("/")[0]), device)
    arguments.device = str(device)
    arguments.dtype = str(resolve_dtype(arguments.dtype, device)).removeprefix("torch.")
    pipe = load(arguments)
    pipe.scheduler = scheduler_for(pipe.scheduler, arguments.scheduler)
    result = RaceResult(arguments)
    for batch in map(int, arguments.batches.split(",")):
        racers, handles = contenders(pipe, arguments, batch)
        result.check(f"batch {batch}", check_pictures(racers), device)
        racers = [racer for racer in racers if racer.timed]
        standing = result.so_far(f"batch {batch}", [racer.name for racer in racers])
        for racer in racers:
            for _ in range(1 if arguments.quick else WARMUPS):
                racer.once()
        race(racers, rounds, device, partial(result.keep, f"batch {batch}"), standing)
        for handle in handles:
            handle.remove()
    path = result.write()
    write_figure(lambda: chart(result.figures), path)
    for name, rows in result.samples.items():
        for racer, row in ((racer, result.figures[name][racer]) for racer in rows["seconds"]):
            print(f"{name:9s} {racer:32s} {row['seconds']:.3f} s   {row['speedup over stock']:.2f}x stock   "
                  f"{row['speedup over DeepCache']:.2f}x DeepCache")  # fmt: skip
    reasons = [reason for each in result.figures["unfair"].values() for reason in each]
    if reasons:
        raise ScoreError(f"the race is not fair and not to be quoted: {reasons[0]}")


if __name__ == "__main__":
    run(main)
