"""The Compare page's numbers: scores side by side, and each plan's difference from the first with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.palette import palette, style
from dashboard.parts.plan_scores import VERDICTS, difference_words
from dashboard.wording import axis_words, score_words
from studies.choosing.paired import Difference
from studies.metrics import AUXILIARY, direction_of
from studies.results.rows import TrialRow
from studies.settings import Objective

COLOURS = {"better": "#0072B2", "worse": "#D55E00", "tied": "#8A8A8A"}
SYMBOLS = {"better": "triangle-up", "worse": "triangle-down", "tied": "circle"}
LINE, HEAD = 26, 62  # pixels: a plan's line in a panel, a panel's title and axis

Differences = Mapping[tuple[str, str], Difference | None]
"""(letter, metric) -> that plan less the first."""


def metrics_of(rows: Sequence[TrialRow], objectives: Sequence[Objective]) -> list[str]:
    """What at least two plans were scored by: the speed-up, the objectives, then the rest."""
    names = dict.fromkeys(["speedup", *(o.name for o in objectives), *(name for row in rows for name in row.scores)])
    told = [name for name in names if name not in AUXILIARY]
    return [name for name in told if sum(name in row.scores for row in rows) >= 2]


def compare_table(
    named: Mapping[str, TrialRow], metrics: Sequence[str], differences: Differences
) -> list[dict[str, Any]]:
    """A line for each metric: every plan's value with its interval, and each one's difference from the first."""
    first = next(iter(named))
    lines = []
    for metric in metrics:
        line: dict[str, Any] = {"metric": axis_words(metric)}
        for letter, row in named.items():
            line[letter] = score_words(row.scores[metric]) if metric in row.scores else ""
        for letter in list(named)[1:]:
            found = differences.get((letter, metric))
            line[f"{letter} less {first}"] = f"{VERDICTS[found.verdict][0]} {difference_words(found)}" if found else ""
        line["N"] = ", ".join(
            str(n) for n in sorted({r.scores[metric].n for r in named.values() if metric in r.scores})
        )
        lines.append(line)
    return lines


def difference_figure(
    named: Mapping[str, TrialRow], metrics: Sequence[str], differences: Differences, objectives: Sequence[Objective]
) -> go.Figure:
    """A panel for each metric: a bar from low to high of each plan's difference from the first, beside a line at 0."""
    first, *others = named
    shown = [m for m in metrics if any(differences.get((letter, m)) for letter in others)]
    titles = [_title(metric, objectives) for metric in shown]
    gap = HEAD / (len(shown) * (HEAD + LINE * len(others)))
    figure = make_subplots(rows=len(shown), cols=1, subplot_titles=titles, vertical_spacing=min(gap, 0.9 / len(shown)))
    for place, metric in enumerate(shown, start=1):
        for letter in others:
            found = differences.get((letter, metric))
            if found is not None:
                figure.add_trace(_bar(letter, first, found), row=place, col=1)
        figure.add_vline(x=0, line={"color": palette().faint, "width": 1}, row=place, col=1)
    style(figure, 40 + len(shown) * (HEAD + LINE * len(others)), showlegend=False, margin={"t": 28, "b": 28})
    figure.update_yaxes(showgrid=False, categoryorder="array", categoryarray=[f"{x} " for x in others[::-1]])
    figure.update_annotations(font={"size": 13, "color": palette().text}, x=0, xanchor="left")
    return figure


def _title(metric: str, objectives: Sequence[Objective]) -> str:
    better = "right" if direction_of(metric, objectives) == "maximize" else "left"
    return f"{escape(axis_words(metric))}: further {better} is better"


def _bar(letter: str, first: str, found: Difference) -> go.Scatter:
    each = found.estimate
    colour = COLOURS[found.verdict]
    return go.Scatter(
        x=[each.value], y=[f"{letter} "], mode="markers",
        marker={"size": 11, "color": colour, "symbol": SYMBOLS[found.verdict]},
        error_x={"type": "data", "symmetric": False, "array": [each.high - each.value],
                 "arrayminus": [each.value - each.low], "color": colour, "thickness": 2, "width": 5},
        hovertemplate=f"{letter} less {first}: {difference_words(found)}, {VERDICTS[found.verdict]}<extra></extra>",
    )  # fmt: skip
