"""The curves of a student's distillation: its losses, and how close its pictures come to the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.palette import OKABE_ITO, palette, style

Rows = Sequence[dict[str, float]]
CLOCK = ("step", "seconds", "lr")  # columns of losses.csv that are no loss


def curves_figure(losses: Rows, drift: Rows) -> go.Figure:
    """A panel for each log that has rows, over one axis of steps.

    Args:
        losses: Rows of `losses.csv`: `step` and the mean of each loss since the row before.
        drift: Rows of `drift.csv`: `step`, `psnr` in dB, and its 95% interval `low` and `high`.
    """
    panels = [rows for rows in (losses, drift) if rows]
    figure = make_subplots(rows=max(1, len(panels)), cols=1, shared_xaxes=True, vertical_spacing=0.08)
    if losses:
        names = [name for name in losses[0] if name not in CLOCK]
        for name, colour in zip(names, ("#000000", *OKABE_ITO), strict=False):
            x, y = zip(*((row["step"], row[name]) for row in losses if name in row), strict=True)
            line = {"color": palette().shade(colour), "width": 2 if name == "loss" else 1}
            figure.add_trace(go.Scatter(x=x, y=y, name=escape(name), line=line, mode="lines"), row=1, col=1)
        figure.update_yaxes(title_text="loss", type="log", row=1, col=1)
    if drift:
        psnr = [row["psnr"] for row in drift]
        bars = {
            "symmetric": False, "array": [row["high"] - row["psnr"] for row in drift],
            "arrayminus": [row["psnr"] - row["low"] for row in drift],
        }  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[row["step"] for row in drift], y=psnr, error_y=bars, mode="lines+markers",
                name="PSNR to the teacher", line={"color": "#CC79A7"},
            ),
            row=len(panels), col=1,
        )  # fmt: skip
        figure.update_yaxes(title_text="PSNR (dB)", row=len(panels), col=1)
    figure.update_xaxes(title_text="step of the distillation", row=max(1, len(panels)), col=1)
    return style(figure, 120 + 200 * max(1, len(panels)))
