"""The charts of the Progress page: how the fronts grew, and which units matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from dashboard.palette import OKABE_ITO, palette, style
from dashboard.wording import axis_words
from studies.results.history import History
from studies.results.importance import Effects

DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Line:
    """A study's growth. proposals: how its plans are proposed, which gives the line its colour."""

    study: str
    proposals: str
    history: History


def growth_chart(lines: Sequence[Line], over: str, unit: str) -> go.Figure:
    """Hypervolume over `trials` or `seconds`. Studies with one way of proposing share a colour and differ in their
    dashes; where there are several of one way, their median is drawn thick."""
    figure = go.Figure()
    shown = palette()
    ways = list(dict.fromkeys(line.proposals for line in lines))
    for index, way in enumerate(ways):
        colour = shown.shade(OKABE_ITO[index % 6])
        members = [line for line in lines if line.proposals == way]
        for place, line in enumerate(members):
            alone = len(members) == 1
            figure.add_trace(
                go.Scatter(
                    x=getattr(line.history, over), y=line.history.volume, mode="lines",
                    name=escape(f"{way}: {line.study}"), opacity=1.0 if alone else 0.55,
                    line={"color": colour, "width": 2.6 if alone else 1.2, "dash": DASHES[place % 4], "shape": "hv"},
                    hovertemplate="%{x:,.4~g}: %{y:.4g}<extra>" + escape(line.study) + "</extra>",
                )
            )  # fmt: skip
        if len(members) > 1:
            figure.add_trace(_median(members, over, way, colour))
    figure.update_xaxes(title_text="plans finished" if over == "trials" else unit, rangemode="tozero")
    figure.update_yaxes(title_text="hypervolume, higher is better")
    return style(figure, 420, showlegend=True, font={"color": shown.text})


def _median(members: Sequence[Line], over: str, way: str, colour: str) -> go.Scatter:
    ends = [getattr(line.history, over)[-1] for line in members]
    grid = np.linspace(0, min(ends), 200)
    values = []
    for line in members:
        at = np.searchsorted(getattr(line.history, over), grid, side="right") - 1
        volume = np.asarray(line.history.volume)
        values.append(np.where(at >= 0, volume[np.maximum(at, 0)], 0.0))
    return go.Scatter(
        x=grid.tolist(), y=np.median(values, axis=0).tolist(), mode="lines", line={"color": colour, "width": 3.2},
        name=escape(f"{way}: median of {len(members)}"), hoverinfo="skip",
    )  # fmt: skip


def effects_chart(found: Effects, metric: str, better_low: bool) -> go.Figure:
    """A bar for each unit: what giving it up does to `metric`. Blue helps, vermilion hurts, grey may be nothing."""
    shown = palette()
    names, effect = [n for n, ok in zip(found.names, found.varied, strict=True) if ok], found.effect[found.varied]
    low, high = found.low[found.varied], found.high[found.varied]
    helps = effect < 0 if better_low else effect > 0
    unsure = (low <= 0) & (high >= 0)
    colours = np.where(unsure, shown.faint, np.where(helps, shown.accent, shown.warning))
    words = np.where(unsure, "not different from zero", np.where(helps, "better", "worse"))
    figure = go.Figure(
        go.Bar(
            x=effect.tolist(), y=names, orientation="h", marker={"color": colours.tolist()}, customdata=words.tolist(),
            error_x={
                "type": "data", "symmetric": False, "array": (high - effect).tolist(),
                "arrayminus": (effect - low).tolist(), "color": shown.text, "thickness": 0.9, "width": 0,
            },
            hovertemplate="%{y}: %{x:.4g} (%{customdata})<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", dtick=1, tickfont={"size": 11}, showgrid=False)
    figure.update_xaxes(title_text=f"change of {escape(axis_words(metric))}", zeroline=True,
                        zerolinecolor=shown.faint)  # fmt: skip
    style(figure, 90 + 18 * len(names), showlegend=False, bargap=0.3)
    return figure.update_xaxes(zeroline=True)
