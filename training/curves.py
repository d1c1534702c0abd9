"""`curves.html`: the losses of a distillation and its paired drift on held-out prompts, by the step."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from explorer.files import write_whole
from explorer.networks.network_files import writing

CURVES = "curves.html"
# Okabe and Ito's palette, which colour-blind people can tell apart.
COLOURS = {
    "loss": "#000000", "task": "#E69F00", "out": "#0072B2", "features": "#009E73",
    "guidance": "#E69F00", "consistency": "#0072B2",  # of a speed-up adapter, which has no others
}  # fmt: skip


def draw_curves(folder: Path) -> None:
    """Draw the logs in `folder / "checkpoint"` into `folder / "curves.html"`, which opens without a network. Without a
    log nothing is drawn. Raises ModelError where the page cannot be written."""
    losses, drift = (_rows(folder / "checkpoint" / name) for name in ("losses.csv", "drift.csv"))
    if not losses and not drift:
        return
    page = curves_figure(losses, drift).to_html(include_plotlyjs=True)
    with writing(folder):
        write_whole(folder / CURVES, page.encode())


def curves_figure(losses: list[dict[str, float]], drift: list[dict[str, float]]) -> Any:
    """Two panels over one axis of steps.

    Args:
        losses: Rows of `losses.csv`: `step` and the mean of each loss since the row before.
        drift: Rows of `drift.csv`: `step`, `psnr` in dB, and its 95% interval `low` and `high`.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for name, colour in COLOURS.items():
        rows = [row for row in losses if name in row]
        if rows:
            line = {"color": colour, "width": 2 if name == "loss" else 1}
            figure.add_trace(
                go.Scatter(x=[row["step"] for row in rows], y=[row[name] for row in rows], name=name, line=line),
                row=1, col=1,
            )  # fmt: skip
    values = [row["psnr"] for row in drift]
    bars = {
        "symmetric": False,
        "array": [row["high"] - row["psnr"] for row in drift],
        "arrayminus": [row["psnr"] - row["low"] for row in drift],
    }
    figure.add_trace(
        go.Scatter(
            x=[row["step"] for row in drift], y=values, error_y=bars, mode="lines+markers", name="PSNR to the teacher",
            line={"color": "#CC79A7"},
        ),
        row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(title_text="loss, relative to the teacher's mean square", type="log", row=1, col=1)
    figure.update_yaxes(title_text="PSNR on held-out prompts (dB)", row=2, col=1)
    figure.update_xaxes(title_text="step", row=2, col=1)
    figure.update_layout(template="simple_white", legend={"orientation": "h", "y": 1.06}, margin={"t": 50}, height=700)
    return figure


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
