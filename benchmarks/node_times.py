"""(a) Node and variant times: what each node takes, each strategy's inherit step, and the inherit step's overhead, its
time over that of the nodes it runs (the goal is at most 1.05).

Nodes count as the cost model has them, which is fitted to whole steps, and as their own samples say, taken one after
another within a step (with a full queue on a GPU where steps are captured or compiled).

    python -m benchmarks.node_times --model arch:sd15 --device cuda --resolution 512
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.shared import measure
from benchmarks.shared.report import options, write_figure, write_result
from explorer.models.workload import latent_size, vae_factor
from explorer.timing.anatomy import anatomy
from explorer.timing.profile import Profile
from studies.cli.commands.profile import node_documents, over_nodes, over_sampled_nodes, strategy_documents

if TYPE_CHECKING:
    import plotly.graph_objects as go

STEPS = 50


def figure_of(profile: Profile, strategies: list[dict[str, float]]) -> go.Figure:
    """Inherit steps in the order of their time: measured, predicted, and the sum of their nodes."""
    import plotly.graph_objects as go

    rows = sorted(strategies, key=lambda row: row["seconds"])
    names = [row["name"] for row in rows]
    sums = [profile.cost_model.node_seconds(profile.tested[str(name)]) for name in names]
    made = go.Figure()
    for label, values, symbol in (
        ("measured", [row["seconds"] for row in rows], "circle"),
        ("predicted", [row["predicted_seconds"] for row in rows], "x-thin-open"),
        ("sum of its nodes", sums, "line-ew-open"),
    ):
        made.add_scatter(x=names, y=[1e3 * v for v in values], mode="markers", name=label, marker={"symbol": symbol})
    work = profile.workload
    title = f"Inherit steps: {profile.model}, {profile.device.name}, {work.dtype}, batch {work.batch}, {work.compile}"
    made.update_layout(title=title, yaxis_title="ms", template="simple_white")
    made.add_hline(y=1e3 * profile.extract_seconds, line_dash="dot", annotation_text="extract step")
    return made


def main() -> None:
    arguments = options(__doc__ or "").parse_args()
    pipe = measure.load(arguments)
    publish(pipe, measure.profiled(pipe, arguments, STEPS), arguments)


def publish(pipe: Any, profile: Profile, arguments: argparse.Namespace, out: Path | None = None) -> None:
    """Write and print what a profile says of nodes and variants."""
    costs = anatomy(pipe.unet, latent_size(profile.workload.resolution, vae_factor(pipe)))
    strategies = strategy_documents(profile, costs, STEPS)
    figures = {
        "extract_ms": 1e3 * profile.extract_seconds,
        "sum_of_nodes_in_passing_ms": 1e3 * sum(profile.sampled_nodes.values()),
        "inherit_step_over_its_nodes": {
            "median": over_nodes(profile),
            "worst": max(row["over_nodes"] for row in strategies),
        },
        "inherit_step_over_its_nodes_in_passing": {
            "median": over_sampled_nodes(profile),
            "worst": max(row["over_sampled_nodes"] for row in strategies),
        },
        "prediction_errors": dict(profile.step_errors.__dict__),
        "noise": profile.noise,
        "nodes": node_documents(profile, costs),
        "strategies": strategies,
    }
    path = write_result("node-times", figures, profile.to_json(), arguments, out)
    write_figure(lambda: figure_of(profile, strategies), path)
    print(
        f"extract step {figures['extract_ms']:.2f} ms; an inherit step over its nodes: median "
        f"{over_nodes(profile):.3f} by the cost model, {over_sampled_nodes(profile):.3f} by their samples in passing"
    )


if __name__ == "__main__":
    measure.run(main)
