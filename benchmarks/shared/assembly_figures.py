"""What `benchmarks.students.assembly` measured, as tables, verdicts on the paper's orderings, and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from benchmarks.shared.assembly_rows import ORDERINGS, TEACHER_LABEL
from benchmarks.shared.rank_correlation import cell
from explorer.estimate import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects as go

NORMAL = 1.96
"""Half-widths of a 95% interval in standard errors."""


def pooled(estimates: Sequence[Mapping[str, float]]) -> Estimate:
    """The mean over training seeds, with a 95% interval of both the pictures and the seeds.

    All seeds are judged on the same prompts, so the errors of the pictures are not averaged down over them.
    """
    values = [each["value"] for each in estimates]
    pictures = fmean(((each["high"] - each["low"]) / (2 * NORMAL)) ** 2 for each in estimates)
    seeds = variance(values) / len(values) if len(values) > 1 else 0.0
    reach = NORMAL * math.sqrt(pictures + seeds)
    mean = fmean(values)
    return Estimate(mean, mean - reach, mean + reach, len(values))


def ordering_rows(differences: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Each ordering of the paper in each of our metrics: whether it `holds`, is `reversed`, or `not separated` where
    the interval of the difference holds 0."""
    found = []
    for ordering in ORDERINGS:
        for pair in ordering.pairs:
            for metric, estimate in differences.get(pair, {}).items():
                if metric.partition("_")[0] != ordering.metric:
                    continue
                better = -1 if ordering.metric == "fd" else 1
                low, high = sorted((better * estimate["low"], better * estimate["high"]))
                verdict = "holds" if low > 0 else "reversed" if high < 0 else "not separated"
                found.append({"table": ordering.table, "metric": metric, "better": pair[0], "worse": pair[1],
                              "difference": dict(estimate), "verdict": verdict})  # fmt: skip
    return found


def tables(figures: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    metrics = [name for name in figures["teacher"] if name != "psnr"]
    lines: list[str] = []
    for table in ("I", "II"):
        rows = {label: row for label, row in figures["rows"].items() if table in row["tables"]}
        if not rows:
            continue
        lines += [f"Table {table}", "", f"| student | parameters | MACs | time | psnr | {' | '.join(metrics)} |"]
        lines.append("|---" * (5 + len(metrics)) + "|")
        cells = " | ".join(cell(figures["teacher"][name]) for name in metrics)
        lines.append(f"| {TEACHER_LABEL} |  | 100.0% | 1.00 |  | {cells} |")
        for label, row in rows.items():
            time = cell(figures["times"].get(label, {}).get("share"))
            cells = " | ".join(cell(row.get(name)) for name in ("psnr", *metrics))
            lines.append(f"| {label} | {row['parameters']:,} | {row['macs_share']:.1%} | {time} | {cells} |")
        lines.append("")
    if figures["orderings"]:
        lines += ["| table | the paper's better | worse | metric | difference | verdict |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {row['table']} | {row['better']} | {row['worse']} | {row['metric']} | {cell(row['difference'])} | "
            f"{row['verdict']} |"
            for row in figures["orderings"]
        ]
        verdicts = [row["verdict"] for row in figures["orderings"]]
        counts = ", ".join(f"{verdicts.count(name)} {name}" for name in ("holds", "reversed", "not separated"))
        lines += ["", f"Of {len(verdicts)} orderings of the paper: {counts}.", ""]
    if figures["curve"]:
        names = [name for name in figures["curve"][0] if name != "step"]
        lines += [f"| steps | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
        lines += [f"| {row['step']} | {' | '.join(cell(row[name]) for name in names)} |" for row in figures["curve"]]
    return "\n".join([*lines, *figures["notes"]])


def chart(curve: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Quality against training steps, a panel for each metric."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names = [name for name in curve[0] if name != "step"]
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=names)
    for column, name in enumerate(names, start=1):
        values = [row[name] for row in curve]
        line = go.Scatter(
            x=[row["step"] for row in curve], y=[each["value"] for each in values], showlegend=False,
            error_y={
                "type": "data", "array": [each["high"] - each["value"] for each in values],
                "arrayminus": [each["value"] - each["low"] for each in values],
            },
        )  # fmt: skip
        figure.add_trace(line, row=1, col=column)
        figure.update_xaxes(title_text="training steps", row=1, col=column)
    return figure.update_layout(template="simple_white", width=300 * len(names), height=360)
