"""What `benchmarks.candidate_cost` measured, as figures, a table and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared.rank_correlation import KINDS, cell, correlate, difference, document
from explorer.bootstrap import interval, resample
from explorer.estimate import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array = NDArray[np.float64]
Row = Mapping[str, Any]
RESAMPLES = 2000


def ratio(numerator: Array, denominator: Array) -> Estimate:
    """Sum over sum of seconds (n,) and (n,), with its interval over plans."""
    rows = resample(len(numerator), RESAMPLES)
    draws = numerator[rows].sum(axis=1) / denominator[rows].sum(axis=1)
    return interval(float(numerator.sum() / denominator.sum()), draws, len(numerator))


def figures_of(rows: Sequence[Row], signs: Mapping[str, float], plain: float, once: float) -> dict[str, Any]:
    """plain: seconds of the naive loop's un-accelerated pictures, which it makes for each plan; once: those that ours
    spends before the first plan, of which each plan bears its part. rows: of plans that both sides scored."""
    lean = np.array([row["naive"]["seconds"]["pictures"] + row["naive"]["seconds"]["scores"] for row in rows])
    whole = lean + plain + np.array([row["naive"]["seconds"]["reference"] for row in rows])
    ours = np.array([row["ours"]["seconds"] for row in rows])
    borne = ours + once / max(1, len(rows))
    screened = [row for row in rows if row["ours"]["state"] == "screened"]
    return {
        "plans": len(rows),
        "screened out": len(screened),
        "pictures a plan, ours": float(np.mean([row["ours"]["pictures"] for row in rows])),
        "seconds a plan": {
            "naive": float(whole.mean()),
            "naive, un-accelerated pictures and reference once": float(lean.mean()),
            "ours": float(borne.mean()),
            "ours, without what is shared": float(ours.mean()),
        },
        "seconds shared by all plans, ours": once,
        "seconds of un-accelerated pictures, naive": plain,
        "seconds of timing loops a plan, ours, not counted": float(np.mean([row["ours"]["latency"] for row in rows])),
        "naive over ours": ratio(whole, borne).to_json(),
        "naive without repetition over ours": ratio(lean, borne).to_json(),
        "ranks": {name: _ranks(rows, name, sign) for name, sign in signs.items()},
    }


def _ranks(rows: Sequence[Row], name: str, sign: float) -> dict[str, Any]:
    """Each side's correlation with the truth in one metric, on the plans that ours has it of and on all."""
    both = [row for row in rows if name in row["ours"]["scores"]]
    truth, naive = (
        sign * np.array([row[side][name] if side == "truth" else row[side]["scores"][name] for row in both])
        for side in ("truth", "naive")
    )
    ours = sign * np.array([row["ours"]["scores"][name] for row in both])
    every = sign * np.array([[row["naive"]["scores"][name], row["truth"][name]] for row in rows]).reshape(-1, 2)
    found: dict[str, Any] = {"plans": len(both)}
    for kind in KINDS:
        found[kind] = {
            "naive": document(correlate(naive, truth, kind)),
            "ours": document(correlate(ours, truth, kind)),
            "ours less naive": document(difference(ours, naive, truth, kind)),
            "naive, all plans": document(correlate(every[:, 0], every[:, 1], kind)),
        }
    return found


def table(figures: Mapping[str, Any]) -> str:
    lines = [
        f"{figures['plans']} plans of {figures['count']} prompts, {figures['screened out']} dropped by the race "
        f"({figures['pictures a plan, ours']:.1f} pictures a plan); truth: {figures['truth']} pictures each",
        "",
        "| seconds a plan | |",
        "|---|---|",
        *(f"| {name} | {value:.2f} |" for name, value in figures["seconds a plan"].items()),
        f"| naive over ours | {cell(figures['naive over ours'])} |",
        f"| naive without repetition over ours | {cell(figures['naive without repetition over ours'])} |",
        "",
        "| metric | plans | tau: naive | ours | ours less naive | rho: naive | ours | tau: naive on all plans |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in figures["ranks"].items():
        tau, rho = row["kendall"], row["spearman"]
        cells = [tau["naive"], tau["ours"], tau["ours less naive"], rho["naive"], rho["ours"], tau["naive, all plans"]]
        lines.append(f"| {name} | {row['plans']} | {' | '.join(cell(each) for each in cells)} |")
    return "\n".join(lines)


def chart(figures: Mapping[str, Any], rows: Sequence[Row]) -> go.Figure:
    """Seconds of each plan on both sides; those that the race dropped stand apart."""
    import plotly.graph_objects as go

    plain = figures["seconds of un-accelerated pictures, naive"]
    figure = go.Figure()
    for state, symbol in (("done", "circle"), ("screened", "x")):
        chosen = [row for row in rows if row["ours"]["state"] == state]
        figure.add_scatter(
            x=[plain + sum(row["naive"]["seconds"].values()) for row in chosen],
            y=[row["ours"]["seconds"] for row in chosen], text=[row["words"] for row in chosen], mode="markers",
            name={"done": "scored whole", "screened": "dropped by the race"}[state], marker={"symbol": symbol},
        )  # fmt: skip
    longest = max((plain + sum(row["naive"]["seconds"].values()) for row in rows), default=1.0)
    figure.add_scatter(
        x=[0, longest], y=[0, longest / 5], mode="lines", name="a fifth", line={"dash": "dot", "color": "#666"}
    )
    figure.update_xaxes(title_text="seconds a plan, naive loop", rangemode="tozero")
    figure.update_yaxes(title_text="seconds a plan, ours", rangemode="tozero")
    return figure.update_layout(template="simple_white", width=760, height=520)
