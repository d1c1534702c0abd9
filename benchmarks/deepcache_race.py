"""Our engine, DeepCache 0.1.1 and the stock pipeline: one mask, one pipeline, taking turns in one process.

DeepCache runs eager only, as it cannot be compiled. Its patches stand on modules that all contenders share, so it is
enabled for its own turns alone, outside of the clock. Eager pictures of both must be equal to the bit, or nothing is
written.

    python -m benchmarks.deepcache_race --model arch:sd15 --device cuda --modes off,default,cudagraphs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.report import options, write_figure, write_result
from explorer.compiling import compile_mode
from explorer.devices import clock_for, resolve_device, resolve_dtype
from explorer.errors import ExplorerError, ScoreError
from explorer.models import default_guidance, has_weights, load_pipeline
from explorer.runtime import inherit
from explorer.strategies import strategy
from explorer.workload import random_embeds, twin
from studies.evaluator import encode

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

    def once(self) -> Any:
        self.before()
        try:
            return self.run()
        finally:
            self.after()


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

    racers, handles = [Contender("stock", loop(twin(pipe)))], []
    for mode in arguments.modes.split(","):
        mine = twin(pipe)
        plan = strategy(f"DC{arguments.branch}", mode=f"P{arguments.period}", steps=arguments.steps, unet=mine.unet)
        handles.append(inherit(mine, plan, compile=compile_mode(mode)))
        racers.append(Contender("ours" if mode == "off" else f"ours, {mode}", loop(mine)))
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
    """How far the latents of each of ours and DeepCache's are apart, as a share of the largest.

    Raises ScoreError unless those of the eager mode are equal to the bit, or on a GPU, whose libraries choose kernels,
    to rounding: otherwise no race is fair.
    """
    import torch

    # DeepCache first: its first turn leaves a forward of its own on modules that all share, and a compiler that had
    # seen them without would compile again within the clock
    theirs = next(racer for racer in racers if racer.name == "DeepCache").once().float()
    found: dict[str, float] = {}
    for racer in racers:
        if racer.name.startswith("ours"):
            mine = racer.once().float()
            same = torch.equal(mine, theirs)
            found[racer.name] = 0.0 if same else float((mine - theirs).abs().max() / theirs.abs().max())
    difference = found.get("ours", 0.0)
    if difference and (device.type == "cpu" or not difference < ROUNDING):
        raise ScoreError(
            f"ours and DeepCache's pictures differ by {difference:.2g}, so they do not run the same mask; check the "
            "versions, or the dtype where they are no numbers."
        )
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
    try:
        arguments.device = str(resolve_device(arguments.device))
        arguments.dtype = str(resolve_dtype(arguments.dtype, resolve_device(arguments.device))).removeprefix("torch.")
        pipe = load_pipeline(arguments.model, device=arguments.device, dtype=arguments.dtype)
        for batch in map(int, arguments.batches.split(",")):
            racers, handles = contenders(pipe, arguments, batch)
            differences[f"batch {batch}"] = check_pictures(racers, resolve_device(arguments.device))
            for racer in racers:
                for _ in range(1 if arguments.quick else WARMUPS):
                    racer.once()
            samples[f"batch {batch}"] = race(racers, rounds, resolve_device(arguments.device))
            figures[f"batch {batch}"] = figures_of(samples[f"batch {batch}"])
            for handle in handles:
                handle.remove()
            # after every batch: what was measured is kept where the next does not come to its end
            path = write_result("deepcache-race", {**figures, "differences": differences}, samples, arguments)
        write_figure(chart(figures), path)
    except ExplorerError as error:
        sys.exit(f"error: {error}")
    for batch_name, rows in figures.items():
        for name, row in rows.items():
            print(f"{batch_name:9s} {name:24s} {row['seconds']:.3f} s   {row['speedup over stock']:.2f}x stock   "
                  f"{row['speedup over DeepCache']:.2f}x DeepCache")  # fmt: skip


if __name__ == "__main__":
    main()
