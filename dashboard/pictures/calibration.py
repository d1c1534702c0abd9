"""The charts of the Calibration page: errors of single steps, what they do to the picture, how well that predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.palette import SEQUENTIAL, palette, style
from dashboard.pictures.steps import ROW, row_axis
from dashboard.wording import axis_words, number
from studies.metrics import PREDICTED
from studies.predicting.calibration import Calibration
from studies.results.charts import SERIES, group_of
from studies.results.rows import TrialRow

Array = NDArray[np.float64]
TALL = 26  # pixels of a row whose cells have their numbers written in
MOST = 2000  # points of the scatter; of more plans every n-th is drawn
PALE = 0.55  # of the colour scale: from here on it is lighter than the text that reads on it


def error_map(
    values: Array, rows: Sequence[str], steps: Sequence[int], what: str, ends: tuple[float, float]
) -> go.Figure:
    """values: (rows, steps) relative errors; NaN cells stay empty. what: a row in the words of the hover. ends: of the
    colours, as `ends_of`."""
    figure = go.Figure(_cells(values, rows, steps, what, ends))
    at = np.argwhere(np.isfinite(values))
    shares = np.clip((_logs(values)[at[:, 0], at[:, 1]] - ends[0]) / (ends[1] - ends[0]), 0, 1)
    figure.add_trace(
        go.Scatter(
            x=[str(steps[k]) for k in at[:, 1]], y=[rows[k] for k in at[:, 0]], mode="text", hoverinfo="skip",
            text=[percent(values[i, k]) for i, k in at], showlegend=False,
            textfont={"size": 11, "color": ["#FFFFFF" if share < PALE else "#1D2733" for share in shares]},
        )
    )  # fmt: skip
    style(figure, 112 + TALL * len(rows), margin={"t": 8, "b": 48, "l": 8, "r": 8})
    columns = {"categoryorder": "array", "categoryarray": [str(step) for step in steps]}
    figure.update_xaxes(type="category", title_text="UNet evaluation that inherits", showgrid=False, **columns)
    lines = {"categoryorder": "array", "categoryarray": list(rows)}
    return figure.update_yaxes(autorange="reversed", showgrid=False, type="category", dtick=1, **lines)


def ends_of(values: Array) -> tuple[float, float]:
    """The ends of the colours, as logarithms to 10: the few least and largest values share a colour."""
    known = _logs(values)[np.isfinite(_logs(values))]
    if not known.size:
        return -2.0, 0.0
    low, high = (float(end) for end in np.percentile(known, [2, 98]))
    return low, max(high, low + 0.3)


def _logs(values: Array) -> Array:
    return np.asarray(np.log10(np.where(values > 0, values, np.nan)))


def node_map(calibration: Calibration) -> go.Figure:
    """Of each node alone, from the UNet's input at the top to its output."""
    names, values = tuple(escape(name) for name, _ in calibration.design.nodes), calibration.node_map()
    figure = go.Figure(_cells(values, names, calibration.design.steps, "node", ends_of(values)))
    style(figure, 96 + ROW * len(names))
    figure.update_xaxes(type="category", title_text="UNet evaluation at which one node is copied", showgrid=False)
    return figure.update_yaxes(**row_axis(names))


def _cells(
    values: Array, rows: Sequence[str], steps: Sequence[int], what: str, ends: tuple[float, float]
) -> go.Heatmap:
    ticks = _ticks(*ends)
    return go.Heatmap(
        z=_logs(values), x=[str(step) for step in steps], y=list(rows), zmin=ends[0], zmax=ends[1], xgap=1, ygap=1,
        colorscale=SEQUENTIAL, customdata=[[percent(value) for value in row] for row in values], hoverongaps=False,
        colorbar={"thickness": 12, "tickvals": [float(np.log10(tick)) for tick in ticks], "outlinewidth": 0,
                  "ticktext": [percent(tick) for tick in ticks]},
        hovertemplate=f"{what} %{{y}}, evaluation %{{x}}: error %{{customdata}}<extra></extra>",
    )  # fmt: skip


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 ... between powers of ten `low` and `high`: fewer of each ten where there are many, more where the
    whole is less than one."""
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8) if high - low < 0.7 else (1, 2, 5) if high - low < 2 else (1,)
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps if low <= np.log10(step * 10.0**power) <= high]


def percent(value: float) -> str:
    """Two digits are what a few pictures tell; nothing for what was not measured."""
    if not np.isfinite(value):
        return ""
    if value >= 10:
        return f"{value:.0f}x"
    return f"{100 * value:.0f}%" if value >= 0.1 else f"{100 * value:.2g}%" if value >= 1e-4 else "<0.01%"


def effects_line(calibration: Calibration) -> go.Figure:
    """What an error at each step does to the final latents."""
    steps, values = calibration.design.steps, calibration.relative_effects()
    shown = palette()
    figure = go.Figure(
        go.Scatter(
            x=list(steps), y=values.tolist(), mode="lines+markers", line={"color": shown.accent, "width": 2.4},
            marker={"size": 8}, hovertemplate="evaluation %{x}: %{y:.3g}% for an error of 1%<extra></extra>",
        )
    )  # fmt: skip
    style(figure, 320, showlegend=False)
    figure.update_xaxes(title_text="UNet evaluation with the error", range=[-0.5, calibration.design.evaluations - 0.5])
    return figure.update_yaxes(
        title_text="move of the final latents", ticksuffix="%", rangemode="tozero", zeroline=True,
        zerolinecolor=shown.grid,
    )  # fmt: skip


def bars(values: Mapping[str, float], words: Sequence[str], title: str) -> go.Figure:
    """A bar for each name, its value as a share, with what it says written at its end."""
    shown = palette()
    figure = go.Figure(
        go.Bar(
            x=list(values.values()), y=[f"{escape(name)} " for name in values], orientation="h", text=list(words),
            textposition="outside", cliponaxis=False, marker={"color": shown.accent}, hoverinfo="skip",
            textfont={"color": shown.text, "size": 12},
        )
    )  # fmt: skip
    style(figure, 84 + 27 * len(values), showlegend=False, bargap=0.35)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category", dtick=1)
    largest = max((value for value in values.values() if np.isfinite(value)), default=1.0)
    return figure.update_xaxes(title_text=title, tickformat=".0%", range=[0, 1.3 * largest], nticks=5)


def prediction_chart(rows: Sequence[TrialRow], metric: str) -> go.Figure:
    """Predicted drift across, on a logarithmic axis, against what was measured; a point a plan, the un-accelerated one
    left out, as it has no drift. The trial's number stands in `customdata`."""
    drawn = [row for row in rows if row.scores[PREDICTED].value > 0]
    drawn = drawn[:: max(1, -(-len(drawn) // MOST))]
    shown = palette()
    figure = go.Figure()
    for name in SERIES:
        members = [row for row in drawn if group_of(row) == name]
        if not members:
            continue
        colour, symbol = shown.series(name)
        marker = {"color": colour, "symbol": symbol, "size": 8, "opacity": 0.8}
        figure.add_trace(
            go.Scatter(
                x=[row.scores[PREDICTED].value for row in members], y=[row.scores[metric].value for row in members],
                mode="markers", name=name, marker=marker, customdata=[row.number for row in members],
                hovertext=[_hover(row, metric) for row in members], hoverinfo="text",
            )
        )  # fmt: skip
    style(figure, 440, clickmode="event+select", hovermode="closest", showlegend=True)
    values = [row.scores[PREDICTED].value for row in drawn] or [0.01, 1.0]
    ticks = _ticks(float(np.log10(min(values))), float(np.log10(max(values))))
    figure.update_xaxes(
        type="log", title_text="predicted drift (share of the final latents)", tickvals=ticks,
        ticktext=[percent(tick) for tick in ticks],
    )  # fmt: skip
    return figure.update_yaxes(title_text=f"measured {escape(axis_words(metric))}")


def _hover(row: TrialRow, metric: str) -> str:
    drift = row.scores[PREDICTED].value
    return (
        f"<b>{escape(row.title)}</b><br>predicted drift {percent(drift)}<br>measured {escape(axis_words(metric))} "
        f"{number(row.scores[metric].value)}"
    )
