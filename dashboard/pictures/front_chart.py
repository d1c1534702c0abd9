"""The chart of the Front page: one point a plan, speed against a metric, quick with tens of thousands of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.palette import SEQUENTIAL, Palette, palette, style
from dashboard.parts.proposed import mark
from dashboard.wording import axis_words, number
from studies.metrics import direction_of
from studies.pareto.front import non_dominated
from studies.results.board import Board, Flags
from studies.results.charts import SERIES
from studies.results.labels import Label, Range, padded, placed_labels
from studies.storage.judged import judged

# Maximum number of points; with more plans one point represents those next to it. They are SVG, which every browser
# draws as fast as 4,000 points in WebGL; browsers without a graphics card cannot draw WebGL.
MOST = 2000
BARS = 250  # up to this many points, all intervals are drawn; beyond, those of the front and the baselines
GRID = (220, 140)
TAKE = "the plan to take"
"""The words of the ring whose plan is also named."""


@dataclass(frozen=True)
class View:
    """What the chart shows. x, y, colour: metrics (colour None: series). chosen: trials that are ringed, with words."""

    x: str
    y: str
    colour: str | None = None
    bars: bool = True
    chosen: tuple[tuple[int, str], ...] = ()


def better(metric: str, board: Board) -> str:
    return "lower" if direction_of(metric, board.objectives) == "minimize" else "higher"


def front_line(board: Board, shown: Flags, view: View) -> list[int]:
    """Positions of the shown plans that none beats in the two metrics of the axes, in the order of x."""
    positions = np.flatnonzero(shown)
    counting = [judged(metric, board.columns[metric])[positions] for metric in (view.x, view.y)]
    axes = np.stack(counting, axis=1)
    signs = [1.0 if better(metric, board) == "lower" else -1.0 for metric in (view.x, view.y)]
    kept = non_dominated(axes * np.array(signs))
    line = positions[kept]
    return [int(i) for i in line[np.argsort(board.columns[view.x].value[line], kind="stable")]]


def thinned(board: Board, shown: Flags, view: View, keep: Iterable[int], most: int = MOST) -> Flags:
    """The plans to draw: all when they are at most `most`; otherwise those of `keep`, every baseline, and one of the
    others for each cell of a grid over the chart, so that its shape stays."""
    if int(shown.sum()) <= most:
        return shown
    drawn = np.zeros(len(board), dtype=bool)
    drawn[list(keep)] = True
    drawn |= board.series != "searched"
    drawn &= shown
    rest = np.flatnonzero(shown & ~drawn)
    if not len(rest):
        return drawn
    cells = np.zeros(len(rest), dtype=np.int64)
    for metric, parts in zip((view.x, view.y), GRID, strict=True):
        values = board.columns[metric].value[rest]
        low, high = np.percentile(values, [0.5, 99.5])  # a few wild values must not squeeze all others into one cell
        scaled = np.clip((values - low) / (high - low or 1.0), 0, 1)
        cells = cells * parts + np.minimum((scaled * parts).astype(np.int64), parts - 1)
    _, first = np.unique(cells, return_index=True)
    room = max(0, most - int(drawn.sum()))
    chosen = rest[first]
    if len(chosen) > room:
        chosen = chosen[np.linspace(0, len(chosen) - 1, room).astype(int)]
    drawn[chosen] = True
    return drawn


@dataclass(frozen=True)
class Drawn:
    """The figure, how many of the shown plans it holds, and whether every one of them has its intervals."""

    figure: go.Figure
    points: int
    all_bars: bool


def front_chart(board: Board, shown: Flags, view: View) -> Drawn:
    """shown: (n,) the plans that the filters leave, at least one, each with both metrics."""
    colours = palette()
    line = front_line(board, shown, view)
    chosen = [board.by_number[trial] for trial, _ in view.chosen if trial in board.by_number]
    front = np.flatnonzero(board.on_front & shown)
    drawn = thinned(board, shown, view, [*line, *front.tolist(), *(i for i in chosen if shown[i])])
    count = int(drawn.sum())
    figure = go.Figure()
    figure.add_trace(_line(board, line, view, colours))
    all_bars = view.bars and count <= BARS
    for name in SERIES:
        members = np.flatnonzero(drawn & (board.series == name))
        if len(members):
            bars = members if all_bars else members[board.on_front[members] | (name != "searched")]
            if view.bars and len(bars) and len(bars) < len(members):
                hue, symbol = colours.series(name)
                figure.add_trace(_bars_alone(board, bars, view, colours.faint if view.colour else hue, symbol, name))
            whole = view.bars and len(bars) == len(members)
            figure.add_trace(_points(board, members, view, name, colours, whole))
    if view.colour:
        low, high = _range(board.columns[view.colour].value[drawn])
        bar = {"title": {"text": escape(axis_words(view.colour)), "side": "top"}, "thickness": 8, "outlinewidth": 0}
        bar |= {"orientation": "h", "y": 1, "yanchor": "bottom", "len": 0.6, "x": 0, "xanchor": "left"}
        figure.update_layout(coloraxis={"colorscale": SEQUENTIAL, "cmin": low, "cmax": high, "colorbar": bar})
    ties = np.flatnonzero(drawn & board.tied)
    if len(ties):
        figure.add_trace(
            _rings(board, ties, view, colours.faint, 12 if len(ties) <= BARS else 9, 1, "tied within noise")
        )
    for trial, words in view.chosen:
        if trial in board.by_number and drawn[board.by_number[trial]]:
            at = [board.by_number[trial]]
            figure.add_trace(_rings(board, at, view, colours.warning, 19, 2.5, words))
    ranges = _range_of(board, drawn, view.x, view.bars), _range_of(board, drawn, view.y, view.bars)
    points = np.stack([board.columns[metric].value[drawn] for metric in (view.x, view.y)], axis=1)
    for note in placed_labels(
        _labels(board, line, drawn, view, colours), points, ranges, (colours.text, colours.paper)
    ):
        figure.add_annotation(note)
    suffix = "x" if view.x == "speedup" else ""
    figure.update_xaxes(title_text=escape(axis_words(view.x)), ticksuffix=suffix, range=ranges[0])
    figure.update_yaxes(range=ranges[1], title_text=f"{escape(axis_words(view.y))}, {better(view.y, board)} is better")
    style(figure, 560, clickmode="event+select", hovermode="closest", dragmode="zoom")
    return Drawn(figure, count, all_bars)


def _labels(board: Board, line: list[int], drawn: Flags, view: View, colours: Palette) -> list[Label]:
    """Of the plan to take, then of the baselines on the line; the others are named when somebody points at them."""
    taken = [board.by_number[trial] for trial, words in view.chosen if words == TAKE and trial in board.by_number]
    marked = [(i, colours.warning) for i in taken if drawn[i]]
    baselines = [i for i in line if board.series[i] != "searched" and i not in taken]
    marked += [(i, colours.series(board.series[i])[0]) for i in baselines]
    x, y = board.columns[view.x].value, board.columns[view.y].value
    return [Label(float(x[i]), float(y[i]), board.measured[i].nickname, colour) for i, colour in marked]


def _range_of(board: Board, drawn: Flags, metric: str, bars: bool) -> Range:
    """Of an axis: the ends of all intervals, where they are drawn and do not squeeze the points into half of it."""
    column = board.columns[metric]
    inner, outer = padded(column.value[drawn]), padded(np.concatenate([column.low[drawn], column.high[drawn]]))
    if not bars:
        return inner
    room = (inner[1] - inner[0]) / 2
    return max(outer[0], inner[0] - room), min(outer[1], inner[1] + room)


def _values(board: Board, metric: str, members: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in board.columns[metric].value[members]]  # a third of the page's bytes


def _points(board: Board, members: Any, view: View, name: str, colours: Palette, with_bars: bool) -> go.Scatter:
    colour, symbol = colours.series(name)
    on_front = board.on_front[members]
    marker: dict[str, Any] = {
        "symbol": symbol, "size": np.where(on_front, 10, 7).tolist(), "opacity": np.where(on_front, 1.0, 0.6).tolist(),
        "color": colour, "line": {"width": 0},
    }  # fmt: skip
    if view.colour:
        values = board.columns[view.colour].value[members]
        # The scale's dark end would vanish on a dark page without an edge.
        edge = {"width": 0.8, "color": colours.faint}
        marker |= {"color": [None if np.isnan(v) else v for v in values], "coloraxis": "coloraxis", "line": edge}
    bars = {} if not with_bars else _bars(board, members, view, colours.faint if view.colour else colour)
    return go.Scatter(
        x=_values(board, view.x, members), y=_values(board, view.y, members), name=name, legendgroup=name,
        mode="markers", marker=marker,
        customdata=[board.measured[i].number for i in members],
        hovertext=[_hover(board, i, view) for i in members], hoverinfo="text", **bars,
    )  # fmt: skip


def _bars(board: Board, members: Any, view: View, colour: str) -> dict[str, Any]:
    made = {}
    for axis, metric in (("error_x", view.x), ("error_y", view.y)):
        column = board.columns[metric]
        value, low, high = column.value[members], column.low[members], column.high[members]
        made[axis] = {
            "type": "data", "symmetric": False, "array": (high - value).tolist(), "arrayminus": (value - low).tolist(),
            "color": _faint(colour), "thickness": 1, "width": 0,
        }  # fmt: skip
    return made


def _faint(colour: str) -> str:
    """A bar must not hide the points behind it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.38)"


def _bars_alone(board: Board, members: Any, view: View, colour: str, symbol: str, name: str) -> go.Scatter:
    return go.Scatter(
        x=_values(board, view.x, members), y=_values(board, view.y, members), mode="markers",
        marker={"symbol": symbol, "size": 1, "color": colour}, legendgroup=name, showlegend=False, hoverinfo="skip",
        **_bars(board, members, view, colour),
    )  # fmt: skip


def _rings(board: Board, members: Any, view: View, colour: str, size: int, width: float, name: str) -> go.Scatter:
    return go.Scatter(
        x=_values(board, view.x, members), y=_values(board, view.y, members), mode="markers", name=escape(name),
        marker={"symbol": "circle-open", "size": size, "color": colour, "line": {"width": width, "color": colour}},
        hoverinfo="skip", customdata=[board.measured[i].number for i in members],
    )  # fmt: skip


def _line(board: Board, line: list[int], view: View, colours: Palette) -> go.Scatter:
    return go.Scatter(
        x=_values(board, view.x, line), y=_values(board, view.y, line), mode="lines", name="front of this chart",
        line={"color": colours.faint, "width": 1.4, "dash": "dot"}, hoverinfo="skip",
    )  # fmt: skip


def _hover(board: Board, i: int, view: View) -> str:
    # Plotly reads tags and links in its texts, and a plan's name may come from anybody.
    row = board.measured[i]
    words = row.words if len(row.words) <= 90 else row.words[:87] + "..."
    lines = [f"<b>{escape(row.title)}</b>", *([] if row.words == row.nickname else [escape(words)])]
    for metric in dict.fromkeys([view.x, view.y, *([view.colour] if view.colour else [])]):
        score = row.scores.get(metric)
        if score is not None:
            lines.append(
                f"{escape(axis_words(metric))}: {number(score.value)} ({number(score.low)} to {number(score.high)})"
            )
    place = "on the front" if board.on_front[i] else "tied with the front within noise" if board.tied[i] else ""
    return "<br>".join(line for line in (*lines, place, mark(row, palette())) if line)


def _range(values: Any) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)
