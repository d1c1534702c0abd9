"""(c) The speed of all 69 rows of A-SDM's Table V and of the controls: what MACs promise, what the cost model predicts,
and what the whole denoising loop of the real pipeline takes, in turn with the un-accelerated one.

    python -m benchmarks.table5_speed --model arch:sd15 --device cuda --resolution 512 --steps 50 --only paper

The result is written after each round of the profile and after each row, so that one that is ended early stands as far
as it came; the rows are taken in an order of which every beginning holds some of each kind. `--resume` goes on with it,
with the same profile, and `--part 2/4` measures the second of four parts (each with a file of its own, or one after
another with `--resume` in one).
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.shared import measure
from benchmarks.shared.report import options, resumable, resumed, write_figure, write_result
from explorer.devices import describe, resolve_device
from explorer.errors import StudyError
from explorer.models.loading import default_guidance
from explorer.models.workload import latent_size, random_embeds, vae_factor
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedulers import evaluations_of
from explorer.plans.strategies import PAPER_STRATEGIES, baselines
from explorer.timing.anatomy import Anatomy, anatomy
from explorer.timing.latency import PAIRS, Latency
from explorer.timing.profile import Profile
from explorer.unet.architecture import Architecture
from studies.scoring.assembly import make_evaluator
from studies.scoring.evaluator import CandidateEvaluator

if TYPE_CHECKING:
    import plotly.graph_objects as go

NAME = "table5-speed"
QUICK_ROWS = 12


def chosen(
    architecture: Architecture, steps: int, quick: bool, only: str = "all", part: tuple[int, int] = (1, 1)
) -> list[InheritancePlan]:
    """The 69 rows and the controls, each n-th of them first, then their neighbours; with quick the first few of that
    order. only: `paper` leaves out DeepCache's and encoder propagation's plans. part: (2, 4) is the second of four."""
    plans = list(baselines(architecture, steps))
    if only == "paper":
        kept = (*PAPER_STRATEGIES, "plain@")
        plans = [plan for plan in plans if plan.describe().split("/")[0].startswith(kept)]
    apart = max(1, len(plans) // QUICK_ROWS)
    spread = [plan for first in range(apart) for plan in plans[first::apart]]
    number, parts = part
    return (spread[:QUICK_ROWS] if quick else spread)[number - 1 :: parts]


def part_of(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4). Raises argparse's error for what is no part."""
    match = re.fullmatch(r"([1-9]\d{0,2})/([1-9]\d{0,2})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part; write 2/4 for the second of four")
    return int(match[1]), int(match[2])


def macs_limit(costs: Anatomy, plan: InheritancePlan, evaluations: int, whole: int) -> float:
    """The speed-up if time were MACs of the UNet and nothing else. whole: evaluations of the un-accelerated run."""
    spent = sum(costs.share(plan.mask(choice)) for choice in plan.resolve(evaluations))
    return whole / spent


def row_of(
    plan: InheritancePlan, latency: Latency, profile: Profile, costs: Anatomy, evaluator: CandidateEvaluator
) -> dict[str, Any]:
    count, whole = evaluator.evaluations(plan), InheritancePlan(plan.architecture, evaluator.steps)
    base = profile.cost_model.loop_seconds(whole, evaluator.evaluations(whole))
    return {
        "plan": plan.describe(),
        "macs_limit": macs_limit(costs, plan, count, evaluator.evaluations(whole)),
        "predicted": base / profile.cost_model.loop_seconds(plan, count),
        "measured": latency.speedup.to_json(),
        "seconds": latency.seconds.to_json(),
        "cache_mib": profile.cache_bytes(plan, count) / 2**20,
    }


def figure_of(rows: list[dict[str, Any]], title: str) -> go.Figure:
    import plotly.graph_objects as go

    made = go.Figure()
    measured = [row["measured"]["value"] for row in rows]
    names = [row["plan"] for row in rows]
    for label, key in (("by MACs", "macs_limit"), ("by the cost model", "predicted")):
        made.add_scatter(x=measured, y=[row[key] for row in rows], text=names, mode="markers", name=label)
    top = max(measured) * 1.05
    made.add_scatter(x=[1, top], y=[1, top], mode="lines", line={"dash": "dot"}, name="equal")
    made.update_layout(
        title=title, xaxis_title="measured speed-up", yaxis_title="predicted speed-up", template="simple_white"
    )
    return made


def evaluator_of(pipe: Any, arguments: argparse.Namespace, profile: Profile) -> CandidateEvaluator:
    """Latency alone, exactly as a search measures it."""
    device = resolve_device(arguments.device)
    return make_evaluator(
        pipe, steps=arguments.steps, guidance=default_guidance(arguments.model), prompts=(), scorer=None,
        device=device, info=describe(device), latency_batch=arguments.batch,
        pairs=max(3, arguments.rounds or (3 if arguments.quick else PAIRS)),
        size=profile.workload.resolution, compile=arguments.compile,
        embeds=random_embeds(pipe, arguments.batch, device),
    )  # fmt: skip


class SpeedResult:
    """The rows so far with their samples and the profile; written whenever something was added."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.planned, self.evaluations = arguments, 0, 0
        self.rows: list[dict[str, Any]] = []
        self.loops: dict[str, Any] = {}
        self.profile: Profile | None = None
        document = resumed(NAME, arguments)
        if document is not None:
            self.rows, self.loops = list(document["figures"]["rows"]), dict(document["samples"]["loops"])
            self.profile = Profile.from_json(document["samples"]["profile"])
            if {row["plan"] for row in self.rows} != set(self.loops):
                raise StudyError(
                    "the rows of the result to go on with are not those of its samples; give another --out."
                )

    def keep(self, profile: Profile) -> None:
        self.profile = profile
        self.write(say=False)

    def write(self, say: bool = True) -> Path:
        assert self.profile is not None
        document = {"profile": self.profile.to_json(), "loops": self.loops}
        return write_result(NAME, self.figures(), document, self.arguments, say=say)

    def figures(self) -> dict[str, Any]:
        errors = [abs(row["predicted"] / row["measured"]["value"] - 1) for row in self.rows]
        over = [row["macs_limit"] / row["measured"]["value"] for row in self.rows]
        summary = {
            "speedup_error": {"median": statistics.median(errors), "worst": max(errors)},
            "macs_over_measured": {"median": statistics.median(over), "worst": max(over)},
        } if self.rows else {}  # fmt: skip
        return {
            "rows_measured": len(self.rows),
            "rows_planned": max(self.planned, len(self.rows)),
            "evaluations": self.evaluations,
            **summary,
            "rows": self.rows,
        }


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=50, help="steps of the un-accelerated pipeline")
    parser.add_argument("--only", choices=("all", "paper"), default="all", help="paper: 69 rows and 5 plain controls")
    parser.add_argument("--part", type=part_of, default=(1, 1), help="2/4: the second of four parts of the rows")
    resumable(parser)
    arguments = parser.parse_args()
    result = SpeedResult(arguments)
    pipe = measure.load(arguments)
    result.evaluations = evaluations_of(pipe.scheduler, arguments.steps)
    profile = measure.profiled(pipe, arguments, arguments.steps, result.profile, result.keep)
    costs = anatomy(pipe.unet, latent_size(profile.workload.resolution, vae_factor(pipe)))
    evaluator = evaluator_of(pipe, arguments, profile)
    plans = chosen(profile.architecture, arguments.steps, arguments.quick, arguments.only, arguments.part)
    missing = [plan for plan in plans if plan.describe() not in result.loops]
    result.planned = len(result.rows) + len(missing)
    pace = measure.Pace(len(plans), len(plans) - len(missing))
    for plan in missing:
        latency = evaluator.latency(plan)
        if latency.unsteady is not None:
            pace.tell(f"{plan.describe()} is left out until the next run: {latency.unsteady}")
            continue
        result.rows.append(row_of(plan, latency, profile, costs, evaluator))
        result.loops[plan.describe()] = latency.to_json()
        result.write(say=False)
        pace.tell(f"{plan.describe()} {latency.speedup.value:.2f}x")
    figures, path = result.figures(), result.write()
    title = f"Speed-ups: {arguments.model}, {profile.device.name}, {arguments.steps} steps"
    write_figure(lambda: figure_of(result.rows, title), path)
    error, over = figures["speedup_error"], figures["macs_over_measured"]
    print(
        f"{len(result.rows)} rows: predicted speed-ups err by {error['median']:.1%} in the median and "
        f"{error['worst']:.1%} at worst; MACs promise {over['median']:.2f} times the measured one in the median, "
        f"{over['worst']:.2f} at worst"
    )


if __name__ == "__main__":
    measure.run(main)
