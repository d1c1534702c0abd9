"""(c) The speed of all 69 rows of A-SDM's Table V and of the controls: what MACs promise, what the cost model predicts,
and what the whole denoising loop of the real pipeline takes, in turn with the un-accelerated one.

    python -m benchmarks.table5_speed --model arch:sd15 --device cuda --resolution 512 --steps 50
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import plotly.graph_objects as go

from benchmarks import measure
from benchmarks.report import options, write_figure, write_result
from explorer.architecture import Architecture
from explorer.costs import Anatomy, anatomy
from explorer.devices import describe, resolve_device
from explorer.latency import Latency
from explorer.models import default_guidance
from explorer.plan import InheritancePlan
from explorer.profiles import Profile
from explorer.strategies import baselines
from explorer.workload import evaluations_of, latent_size, random_embeds, vae_factor
from studies.evaluator import CandidateEvaluator

QUICK_ROWS = 12


def chosen(architecture: Architecture, steps: int, quick: bool) -> list[InheritancePlan]:
    """The 69 rows and the controls; with --quick every n-th of them."""
    plans = list(baselines(architecture, steps))
    return plans[:: len(plans) // QUICK_ROWS] if quick else plans


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
    return CandidateEvaluator(
        pipe, steps=arguments.steps, guidance=default_guidance(arguments.model), prompts=(), scorer=None,
        device=device, info=describe(device), latency_batch=arguments.batch, pairs=3 if arguments.quick else 7,
        size=profile.workload.resolution, compile=arguments.compile,
        embeds=random_embeds(pipe, arguments.batch, device),
    )  # fmt: skip


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--steps", type=int, default=50, help="steps of the un-accelerated pipeline")
    arguments = parser.parse_args()
    pipe = measure.load(arguments)
    profile = measure.profiled(pipe, arguments, arguments.steps)
    costs = anatomy(pipe.unet, latent_size(profile.workload.resolution, vae_factor(pipe)))
    evaluator = evaluator_of(pipe, arguments, profile)
    rows, samples = [], {}
    plans = chosen(profile.architecture, arguments.steps, arguments.quick)
    for number, plan in enumerate(plans, start=1):
        scored = evaluator.score(plan)
        pairs = tuple((float(a), float(b)) for a, b in scored.samples["latency"])
        latency = Latency(scored.estimates["latency"], scored.estimates["speedup"], pairs, arguments.batch, 5)
        rows.append(row_of(plan, latency, profile, costs, evaluator))
        samples[plan.describe()] = latency.to_json()
        print(f"{number} of {len(plans)}: {plan.describe()} {latency.speedup.value:.2f}x", file=sys.stderr)
    errors = [abs(row["predicted"] / row["measured"]["value"] - 1) for row in rows]
    over = [row["macs_limit"] / row["measured"]["value"] for row in rows]
    figures = {
        "evaluations": evaluations_of(pipe.scheduler, arguments.steps),
        "speedup_error": {"median": statistics.median(errors), "worst": max(errors)},
        "macs_over_measured": {"median": statistics.median(over), "worst": max(over)},
        "rows": rows,
    }
    path = write_result("table5-speed", figures, {"profile": profile.to_json(), "loops": samples}, arguments)
    write_figure(figure_of(rows, f"Speed-ups: {arguments.model}, {profile.device.name}, {arguments.steps} steps"), path)
    print(
        f"{len(rows)} rows: predicted speed-ups err by {statistics.median(errors):.1%} in the median and "
        f"{max(errors):.1%} at worst; MACs promise {statistics.median(over):.2f} times the measured one in the median, "
        f"{max(over):.2f} at worst"
    )


if __name__ == "__main__":
    measure.run(main)
