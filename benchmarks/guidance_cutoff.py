"""Does it pay to leave out guidance's unconditional half late in a run? `python -m benchmarks.guidance_cutoff`.

From a share f of the run's UNet evaluations on only the conditional half is computed, in a batch half as large, and the
guidance difference (conditional less unconditional prediction) is

    drop@f      zero: the prediction is the conditional one
    keep@f      that of the last full evaluation
    line@f      on the line through those of the last two full evaluations
    every2@f    that of the last full evaluation, of which every second (every3: third) one stays full

alone, and together with inheriting plans, whose features are cut to the half. Beside them stand plain runs of fewer
steps and the plans as they are. Quality: mean PSNR (dB, 8-bit pictures) to the un-accelerated pictures of the same
seeds. Cost: the sum over the run of its evaluations' times, which are measured in turn at both batch sizes, over
that of the un-accelerated run. A setting pays where it is further up than every rival of at most its cost.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from benchmarks.measure import load, run
from benchmarks.report import options, write_figure, write_result
from benchmarks.rules import SOLVERS, drift
from explorer import inherit, strategy
from explorer.devices import clock_for, resolve_device
from explorer.fitting import Fitter
from explorer.mask import Mask
from explorer.models import default_guidance
from explorer.moments import collect_moments
from explorer.pictures import generate
from explorer.plan import InheritancePlan, resolve_run
from explorer.program import Program
from explorer.prompts import load_prompts
from explorer.variant import Variant
from explorer.workload import Workload, evaluations_of, unet_inputs

ALL_SOLVERS = SOLVERS | {"DPM++ 2M": (DPMSolverMultistepScheduler, {})}
PLAIN = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
RIVALS = ("DC0/P2", "DC0/P3", "DC1/P2", "CO6/P2", "RI/P2", "AI/P2", "LI3/P2", "EX2/P2")
BASES = ("DC0/P2", "RI/P2")
SHARES = (0.5, 0.7, 0.9)
FORMS = ("drop", "keep", "line")
EVERY = ("every2@0.2", "every2@0.5")


@dataclass(frozen=True)
class Cut:
    """How guidance goes on from a share of the run: see the module's text."""

    form: str
    share: float

    @classmethod
    def parse(cls, text: str) -> Cut:
        form, _, share = text.partition("@")
        return cls(form, float(share))

    def halves(self, evaluations: int) -> list[bool]:
        """Whether only the conditional half is computed, for each evaluation."""
        start = max(2, round(self.share * evaluations))
        period = re.fullmatch(r"every(\d)", self.form)
        return [i >= start and (period is None or (i - start) % int(period[1]) != 0) for i in range(evaluations)]


class Halved:
    """`pipe` by `plan`, with guidance cut: a context manager."""

    def __init__(self, pipe: Any, plan: InheritancePlan, cut: Cut | None, evaluations: int) -> None:
        self.pipe, self.plan, self.cut, self.evaluations = pipe, plan, cut, evaluations
        self.halves = cut.halves(evaluations) if cut else [False] * evaluations

    def __enter__(self) -> None:
        self.handle = inherit(self.pipe, self.plan)
        self.inner = self.pipe.unet.forward
        self.calls = 0
        self.differences: list[tuple[int, Tensor]] = []
        self.pipe.unet.forward = self.forward

    def __exit__(self, *_: object) -> None:
        self.pipe.unet.forward = self.inner
        self.handle.remove()

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **more: Any) -> tuple[Tensor]:
        at = self.calls % self.evaluations
        self.calls += 1
        if not self.halves[at]:
            (noise,) = self.inner(sample, timestep, encoder_hidden_states, **more)
            without, with_text = noise.chunk(2)
            before = self.differences[-1:] if at else []
            self.differences = [*before, (at, with_text - without)]
            return (noise,)
        half = sample.shape[0] // 2
        if self.handle._shape is not None and self.handle._shape[0][0] == 2 * half:
            self._cut_features(half)
        (with_text,) = self.inner(sample[half:], timestep, encoder_hidden_states[half:], **more)
        return (torch.cat([with_text - self._difference(at), with_text]),)

    def _difference(self, at: int) -> Tensor:
        assert self.cut is not None
        last_at, last = self.differences[-1]
        if self.cut.form == "drop":
            return torch.zeros_like(last)
        if self.cut.form == "line" and len(self.differences) > 1:
            first_at, first = self.differences[0]
            return last + (last - first) * ((at - last_at) / (last_at - first_at))
        return last

    def _cut_features(self, half: int) -> None:
        """Of what the plan holds the conditional half goes on; the plan is not to take the batch for another run's."""
        handle = self.handle
        assert handle._shape is not None
        for held in handle._cache.values():
            for source in held:
                held[source] = held[source][half:]
        sample, dtype, device, context = handle._shape
        handle._shape = (torch.Size((half, *sample[1:])), dtype, device, torch.Size((half, *context[1:])))


def step_seconds(
    pipe: Any, masks: list[Mask], batch: int, rounds: int, arguments: argparse.Namespace
) -> dict[Any, float]:
    """(mask, whether half) -> median seconds of an evaluation, measured in turn."""
    from explorer.conditions import read_conditions

    device = resolve_device(arguments.device)
    side = arguments.resolution or int(pipe.unet.config.sample_size) * pipe.vae_scale_factor
    work = Workload(batch, (side, side), str(device), str(pipe.unet.dtype).removeprefix("torch."))
    inputs = unet_inputs(pipe, work, device)
    program, clock = Program(pipe.unet), clock_for(device)
    calls = {}
    for mask in masks:
        variant = Variant(program, mask)
        reads = dict.fromkeys(variant.reads)
        for half in (False, True):
            part = slice(batch, None) if half else slice(None)
            context = inputs["encoder_hidden_states"][part]
            given = read_conditions(
                pipe.unet, program.architecture, inputs["sample"][part], inputs["timestep"], context
            )
            held = Variant(program, Mask(), frozenset(reads))(*given, {})[1]
            calls[mask, half] = lambda variant=variant, given=given, held=held: variant(*given, held)
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for number in range(rounds + 1):
        for key, call in calls.items():
            seconds = clock.time(call)
            if number:  # the first round warms up
                times[key].append(seconds)
    return {key: statistics.median(each) for key, each in times.items()}


@torch.no_grad()
def measure(solver: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    pipe = load(arguments)
    kind, changes = ALL_SOLVERS[solver]
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **changes)
    steps, full = arguments.steps, evaluations_of(pipe.scheduler, arguments.steps)
    guidance = default_guidance(arguments.model)
    prompts = load_prompts(arguments.prompts).prompts
    size = (arguments.resolution,) * 2 if arguments.resolution else None
    how: dict[str, Any] = {"guidance": guidance, "batch_size": arguments.pictures, "size": size}
    moments = collect_moments(pipe, prompts[:8], seed=1000, steps=steps, **how)
    fit, scored = Fitter({steps: moments}), prompts[-arguments.count :]
    target = generate(pipe, scored, seed=0, steps=steps, **how)

    def named(name: str, rule: str) -> InheritancePlan:
        return strategy(name, steps=steps, unet=pipe.unet, rule=rule, fit=fit)

    whole = strategy(f"plain@{steps}", unet=pipe.unet)
    tried: list[tuple[InheritancePlan, Cut | None]] = [
        (strategy(f"plain@{round(steps * share)}", unet=pipe.unet), None) for share in PLAIN
    ]
    tried += [(named(name, rule), None) for name in RIVALS for rule in arguments.rules.split(",")]
    cuts = [f"{form}@{share}" for share in SHARES for form in FORMS] + list(EVERY)
    tried += [(whole, Cut.parse(text)) for text in cuts]
    for base in BASES:
        tried += [(named(base, "fitted"), Cut.parse(f"{form}@{share}")) for share in SHARES[::2] for form in FORMS[1:]]
    if arguments.quick:
        tried = tried[::9]
    rows: list[dict[str, Any]] = []
    for plan, cut in tried:
        count = evaluations_of(pipe.scheduler, plan.steps)
        with Halved(pipe, plan, cut, count):
            values = drift(generate(pipe, scored, seed=0, steps=plan.steps, **how), target)
        choices = resolve_run(plan, count).choices
        halves = cut.halves(count) if cut else [False] * count
        rows.append(
            {
                "solver": solver, "plan": plan.describe(), "cut": f"{cut.form}@{cut.share:g}" if cut else None,
                "psnr": sum(values) / len(values), "each": values,
                "evaluations": [(plan.mask(choice), half) for choice, half in zip(choices, halves, strict=True)],
            }
        )  # fmt: skip
        print(f"{solver} {rows[-1]['plan']} {rows[-1]['cut'] or ''}: {rows[-1]['psnr']:.1f} dB", file=sys.stderr)
    masks = list(dict.fromkeys([Mask(), *(mask for row in rows for mask, _ in row["evaluations"])]))
    rounds = 3 if arguments.quick else arguments.rounds
    for batch in sorted({1, arguments.batch}):
        seconds = step_seconds(pipe, masks, batch, rounds, arguments)
        for row in rows:
            total = sum(seconds[each] for each in row["evaluations"])
            row[f"cost_b{batch}"] = total / (full * seconds[Mask(), False])
            row[f"half_b{batch}"] = seconds[Mask(), True] / seconds[Mask(), False]
    for row in rows:
        del row["evaluations"]
    judge(rows, sorted({1, arguments.batch}))
    return rows


def judge(rows: list[dict[str, Any]], batches: list[int]) -> None:
    """To each cut setting the best rival of at most its cost, and how far it is above."""
    for batch in batches:
        cost = f"cost_b{batch}"
        for row in (row for row in rows if row["cut"]):
            rivals = [each for each in rows if not each["cut"] and each[cost] <= row[cost]]
            if rivals:
                best = max(rivals, key=lambda each: each["psnr"])
                row[f"rival_b{batch}"], row[f"above_b{batch}"] = best["plan"], row["psnr"] - best["psnr"]


def print_table(rows: list[dict[str, Any]], batch: int) -> None:
    cost = f"cost_b{batch}"
    print(f"\n{rows[0]['solver']}, batch {batch}: half a batch takes {rows[0][f'half_b{batch}']:.0%} of the whole")
    print("| cost | plan | guidance | PSNR | above its best rival |\n|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: row[cost]):
        above = f"{row[f'above_b{batch}']:+.1f} ({row[f'rival_b{batch}']})" if f"above_b{batch}" in row else ""
        print(f"| {row[cost]:.0%} | {row['plan']} | {row['cut'] or ''} | {row['psnr']:.1f} | {above} |")


def chart(rows: list[dict[str, Any]], batch: int) -> Any:
    """PSNR over the cost: what cuts guidance beside what does not, of each solver."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for solver in dict.fromkeys(row["solver"] for row in rows):
        for cut, symbol in ((True, "circle"), (False, "x")):
            mine = [row for row in rows if row["solver"] == solver and bool(row["cut"]) == cut]
            figure.add_scatter(
                x=[row[f"cost_b{batch}"] for row in mine], y=[row["psnr"] for row in mine],
                text=[f"{row['plan']} {row['cut'] or ''}" for row in mine], mode="markers",
                name=f"{solver}, guidance {'cut' if cut else 'whole'}", marker={"symbol": symbol},
            )  # fmt: skip
    figure.update_xaxes(title=f"time over that of the un-accelerated run, {batch} pictures a call", tickformat=".0%")
    return figure.update_layout(yaxis_title="mean PSNR, dB", template="simple_white")


def main() -> None:
    parser = options("Guidance's unconditional half dropped or inherited late in a run, beside plans and fewer steps.")
    parser.add_argument("--prompts", default="emoji-search", help="a shipped set, a .txt or a .jsonl file")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--count", type=int, default=16, help="prompts that are scored")
    parser.add_argument("--pictures", type=int, default=16, help="pictures a call where pictures are made")
    parser.add_argument("--solvers", default="PNDM,DPM++ 2M", help=f"some of {', '.join(ALL_SOLVERS)}")
    parser.add_argument("--rules", default="fitted", help="rules of the inheriting plans that stand beside")
    parser.set_defaults(rounds=15)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for solver in arguments.solvers.split(","):
        made = measure(solver, arguments)
        for batch in sorted({1, arguments.batch}):
            print_table(made, batch)
        rows += made
    figures = {
        f"{row['solver']} {row['plan']} {row['cut']}": {
            name: round(value, 3) for name, value in row.items() if name.startswith(("psnr", "cost", "above", "half"))
        }
        for row in rows
        if row["cut"]
    }  # fmt: skip
    write_figure(chart(rows, arguments.batch), write_result("guidance-cutoff", figures, rows, arguments))


if __name__ == "__main__":
    run(main)
