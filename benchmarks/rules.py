"""What each rule is worth: `python -m benchmarks.rules --steps 20 --batch 8`.

Mean PSNR (dB, 8-bit pictures) to the un-accelerated pictures of the same seeds, for some strategies under every rule
and solver. Fitted weights are calibrated on other prompts and seeds than those that are scored. The share is that of
the plan's MACs.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch
from diffusers import DDIMScheduler, PNDMScheduler

from benchmarks.shared.measure import load, run
from benchmarks.shared.report import options, write_figure, write_result
from explorer import anatomy, inherit, strategy
from explorer.calibration.fitting import Fitter
from explorer.calibration.moments import collect_moments
from explorer.models.loading import default_guidance
from explorer.models.pictures import generate
from explorer.models.prompts import load_prompts
from explorer.plans.plan import InheritancePlan, resolve_run
from explorer.plans.rules import every_rule, rule_type

RULES = tuple(each.name for each in every_rule())
PLANS = ("DC0/P3", "DC0/P5", "CO6/P3", "RI/P2")
SOLVERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "DDIM": (DDIMScheduler, {"clip_sample": False}),
    "PNDM": (PNDMScheduler, {"skip_prk_steps": True}),
}


def drift(pictures: torch.Tensor, target: torch.Tensor) -> list[float]:
    """PSNR of each picture; 100 where nothing differs."""
    mean = ((pictures.float() - target.float()) ** 2).flatten(1).mean(dim=1)
    return [min(100.0, float(value)) for value in 10 * torch.log10(255**2 / mean.clamp(min=1e-12))]


def share(costs: Any, plan: InheritancePlan, evaluations: int) -> float:
    choices = resolve_run(plan, evaluations).choices
    return sum(costs.share(plan.mask(choice)) for choice in choices) / len(choices)


def measure(solver: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    pipe = load(arguments)
    kind, options = SOLVERS[solver]
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **options)
    guidance = default_guidance(arguments.model)
    prompts = load_prompts(arguments.prompts).prompts
    known, held_out = prompts[: arguments.count], prompts[-arguments.count :]
    size = (arguments.resolution,) * 2 if arguments.resolution else None
    how: dict[str, Any] = {"steps": arguments.steps, "guidance": guidance, "batch_size": arguments.batch, "size": size}
    started = time.perf_counter()
    moments = collect_moments(pipe, known, seed=1000, **how)
    calibration = time.perf_counter() - started
    target = generate(pipe, held_out, seed=0, **how)
    costs = anatomy(pipe.unet)
    rows = []
    for name in PLANS:
        for rule in RULES:
            plan = strategy(
                name, steps=arguments.steps, unet=pipe.unet, rule=rule, fit=Fitter({arguments.steps: moments})
            )
            with inherit(pipe, plan):
                values = drift(generate(pipe, held_out, seed=0, **how), target)
            row = {
                "solver": solver, "plan": name, "rule": rule, "share": share(costs, plan, moments.evaluations),
                "psnr": sum(values) / len(values), "each": values, "calibration_seconds": calibration,
            }  # fmt: skip
            print(f"{solver} {plan.name}: {row['psnr']:.1f} dB", file=sys.stderr)
            rows.append(row)
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"| solver, plan (MACs) | {' | '.join(RULES)} |")
    print("|---|" + "---|" * len(RULES))
    for start in range(0, len(rows), len(RULES)):
        group = rows[start : start + len(RULES)]
        values = " | ".join(f"{row['psnr']:.1f}" for row in group)
        print(f"| {group[0]['solver']}, {group[0]['plan']} ({group[0]['share']:.0%}) | {values} |")


def chart(rows: list[dict[str, Any]]) -> Any:
    """A line a solver and rule: PSNR over the plan's share of the MACs."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for solver, rule in dict.fromkeys((row["solver"], row["rule"]) for row in rows):
        mine = sorted((r for r in rows if (r["solver"], r["rule"]) == (solver, rule)), key=lambda r: r["share"])
        figure.add_scatter(
            x=[row["share"] for row in mine], y=[row["psnr"] for row in mine], text=[row["plan"] for row in mine],
            mode="lines+markers", name=f"{solver}, {rule}",
            line={"dash": "solid" if solver == "DDIM" else "dot", "color": rule_type(rule).colour},
        )  # fmt: skip
    figure.update_xaxes(title="share of the MACs", tickformat=".0%")
    return figure.update_layout(yaxis_title="mean PSNR, dB", template="simple_white")


def main() -> None:
    parser = options("The drift of some strategies under every rule and solver.")
    parser.add_argument("--prompts", default="emoji-search", help="a shipped set, a .txt or a .jsonl file")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--count", type=int, default=8, help="prompts to calibrate on, and as many others to score")
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.count = 4, 2
    rows = [row for solver in arguments.solvers.split(",") for row in measure(solver, arguments)]
    print_table(rows)
    figures = {f"{row['solver']} {row['plan']} {row['rule']}": row["psnr"] for row in rows}
    write_figure(chart(rows), write_result("rules", figures, rows, arguments))


if __name__ == "__main__":
    run(main)
