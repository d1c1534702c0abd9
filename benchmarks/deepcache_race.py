"""Our engine, DeepCache 0.1.1 and the stock pipeline: one mask, one pipeline, taking turns in one process.

DeepCache runs eager only, as it cannot be compiled. Its patches stand on modules that all contenders share, so it is
enabled for its own turns alone, outside of the clock. Pictures of ours in every mode are held against DeepCache's, and
an eager run, outside of the clock where it is not asked for, must equal them to the bit on a CPU and to rounding on a
GPU; compiled ones to rounding. Otherwise nothing is written.

What DeepCache pays beside the mask is its own and is timed with it: at every UNet call it reads the timestep to the
host and compares it with the scheduler's timesteps one by one, up to the call's place (`list(timesteps).index(...)`);
where those lie on a GPU each read waits for the queue. And it decides in Python at every block. So its time on a GPU
is that of its host work as much as of the mask, above all at batch 1.

Under PNDM one timestep comes twice, and that search finds the first of the two both times: DeepCache then extracts and
inherits at the evaluations that follow from there (with period 2 it inherits at the third). Ours races with DeepCache's
own choice at every evaluation.

    python -m benchmarks.deepcache_race --model arch:sd15 --device cuda --modes off,default,cudagraphs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.shared.measure import load, run
from benchmarks.shared.report import options, write_figure, write_result
from explorer.compile_modes import check_mode, compile_mode
from explorer.devices import clock_for, resolve_device, resolve_dtype
from explorer.errors import ScoreError
from explorer.models.loading import default_guidance, has_weights
from explorer.models.workload import random_embeds, twin
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Segments
from explorer.plans.strategies import strategy
from explorer.runtime.inherit import inherit
from studies.scoring.running import encode

WARMUPS = 3
ROUNDING = 0.02
"""Share of the largest latent by which half precision on a GPU may move one over a whole loop."""


@dataclass(frozen=True)
class Contender:
    """`run` makes the pictures once; `before` and `after` stand outside of the clock."""

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


def deepcache_choices(scheduler: Any, steps: int, period: int) -> list[int]:
    """What DeepCache does at each UNet evaluation: 0 extracts, 1 inherits. It goes by the place at which a search by
    value finds the timestep in the scheduler's list (`DeepCacheSDHelper.wrap_unet_forward`, `is_skip_step`)."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    values = fresh.timesteps.tolist()
    return [int(values.index(value) % period != 0) for value in values]


def same_plan(pipe: Any, arguments: argparse.Namespace) -> InheritancePlan:
    """DeepCache's mask at the evaluations at which it inherits: `DC0/P5`, or written out where those are others."""
    plan = strategy(f"DC{arguments.branch}", mode=f"P{arguments.period}", steps=arguments.steps, unet=pipe.unet)
    choices = deepcache_choices(pipe.scheduler, arguments.steps, arguments.period)
    if not plan.masks or list(plan.resolve(len(choices))) == choices:
        return plan
    return InheritancePlan(plan.architecture, plan.steps, plan.masks, Segments.of(choices))


def contenders(pipe: Any, arguments: argparse.Namespace, batch: int) -> tuple[list[Contender], list[Any]]:
    """Everyone who races at `batch`, with the handles of the plans that are applied."""
    import torch
    from DeepCache import DeepCacheSDHelper

    device = resolve_device(arguments.device)
    words = ["a red car"] * batch
    embeds = encode(pipe, words, device) if has_weights(arguments.model) else random_embeds(pipe, batch, device)
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
        handles.append(inherit(mine, same_plan(mine, arguments), compile=compile_mode(mode)))
        racers.append(Contender("ours" if mode == "off" else f"ours, {mode}", loop(mine), timed=mode in modes))
    theirs = twin(pipe)
    helper = DeepCacheSDHelper(pipe=theirs)
    helper.set_params(cache_interval=arguments.period, cache_branch_id=arguments.branch)
    racers.append(Contender("DeepCache", loop(theirs), helper.enable, helper.disable))
    return racers, handles


def race(racers: list[Contender], rounds: int, device: Any) -> dict[str, list[float]]:
    """Seconds a call of each contender; the order turns by one place every round."""
    clock = clock_for(device)
    seconds: dict[str, list[float]] = {racer.name: [] for racer in racers}
    for number in range(rounds):
        turn = number % len(racers)
        for racer in [*racers[turn:], *racers[:turn]]:
            racer.before()
            try:
                seconds[racer.name].append(clock.time(racer.run))
            finally:
                racer.after()
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return seconds


def check_pictures(racers: list[Contender], device: Any) -> dict[str, float]:
    """How far the latents of ours in each mode and DeepCache's are apart, as a share of the largest.

    Raises ScoreError unless those of the eager mode are equal to the bit, or on a GPU, whose libraries choose kernels,
    to rounding, and those of every other mode to rounding: otherwise no race is fair.
    """
    import torch

    # DeepCache first: its first turn leaves a forward of its own on modules that all share, and a compiler that had
    # seen them without would compile again within the clock
    theirs = next(racer for racer in racers if racer.name == "DeepCache").once().float()
    found: dict[str, float] = {}
    for racer in racers:
        if not racer.name.startswith("ours"):
            continue
        mine = racer.once().float()
        same = torch.equal(mine, theirs)
        found[racer.name] = difference = 0.0 if same else float((mine - theirs).abs().max() / theirs.abs().max())
        exact = racer.name == "ours" and device.type == "cpu"
        if difference and (exact or not difference < ROUNDING):
            allowed = "they must be equal" if exact else f"up to {ROUNDING} is rounding"
            raise ScoreError(
                f"the pictures of {racer.name!r} and DeepCache's differ by {difference:.2g} of the largest latent, and "
                f"{allowed}, so they do not run the same mask; check the versions, or the dtype where they are no "
                "numbers."
            )
    if "ours" not in found:
        raise ScoreError("no eager run of ours was held against DeepCache's pictures.")
    return found


def figures_of(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Median seconds, and median ratios taken within each round."""
    return {
        name: {
            "seconds": median(values),
            "speedup over stock": median(a / b for a, b in zip(seconds["stock"], values, strict=True)),
            "speedup over DeepCache": median(a / b for a, b in zip(seconds["DeepCache"], values, strict=True)),
        }
        for name, values in seconds.items()
    }


def chart(figures: dict[str, Any]) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    for batch, rows in figures.items():
        figure.add_bar(name=batch, x=list(rows), y=[row["speedup over stock"] for row in rows.values()])
    return figure.update_layout(yaxis_title="speed-up over the stock pipeline", template="plotly_white")


def main() -> None:
    parser = options(str(__doc__).splitlines()[0])
    parser.add_argument("--modes", default="off", help="compile modes of ours: off, default, cudagraphs ...")
    parser.add_argument("--batches", default="1,8", help="pictures a call, one race each (--batch is not read)")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--period", type=int, default=5, help="extract every so many evaluations")
    parser.add_argument("--branch", type=int, default=0, help="DeepCache's branch: 0, 1 or 2")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    figures: dict[str, Any] = {}
    samples: dict[str, Any] = {}
    differences: dict[str, dict[str, float]] = {}
    device = resolve_device(arguments.device)
    for mode in arguments.modes.split(","):
        check_mode(compile_mode(mode), device)
    arguments.device = str(device)
    arguments.dtype = str(resolve_dtype(arguments.dtype, device)).removeprefix("torch.")
    pipe = load(arguments)
    for batch in map(int, arguments.batches.split(",")):
        racers, handles = contenders(pipe, arguments, batch)
        differences[f"batch {batch}"] = check_pictures(racers, device)
        racers = [racer for racer in racers if racer.timed]
        for racer in racers:
            for _ in range(1 if arguments.quick else WARMUPS):
                racer.once()
        samples[f"batch {batch}"] = race(racers, rounds, device)
        figures[f"batch {batch}"] = figures_of(samples[f"batch {batch}"])
        for handle in handles:
            handle.remove()
        # after every batch: what was measured is kept where the next does not come to its end
        path = write_result("deepcache-race", {**figures, "differences": differences}, samples, arguments)
    write_figure(chart(figures), path)
    for batch_name, rows in figures.items():
        for name, row in rows.items():
            print(f"{batch_name:9s} {name:24s} {row['seconds']:.3f} s   {row['speedup over stock']:.2f}x stock   "
                  f"{row['speedup over DeepCache']:.2f}x DeepCache")  # fmt: skip


if __name__ == "__main__":
    run(main)
