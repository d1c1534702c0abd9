"""The Pareto front as a Plotly figure: one panel for each quality objective against the measured speed-up."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.errors import StudyError
from explorer.files import write_whole
from explorer.plans.cast import TEACHER
from studies.metrics import SPEEDS
from studies.pareto.front import losses, non_dominated
from studies.results.labels import Label, padded, placed_labels
from studies.results.rows import TrialRow
from studies.results.summary import scored_rows
from studies.settings import Objective
from studies.storage.facts import NONE
from studies.storage.judged import judged

PICTURE_FORMATS = ("png", "jpg", "jpeg", "webp", "svg", "pdf")
# Colour tells where a plan comes from, the symbol its family. Okabe and Ito's palette, which colour-blind people can
# tell apart.
SERIES = {
    "searched": ("#0072B2", "circle"),
    "plain steps": ("#000000", "diamond"),
    "DeepCache": ("#E69F00", "square"),
    "encoder propagation": ("#CC79A7", "cross"),
    "A-SDM layer": ("#009E73", "triangle-up"),
    "A-SDM unit": ("#009E73", "triangle-down"),
    "A-SDM block": ("#009E73", "pentagon"),
    "A-SDM concurrent": ("#009E73", "star"),
    "students": ("#56B4E9", "hexagon"),
    "casts": ("#D55E00", "bowtie"),
}
INK = ("#1D2733", "#FFFFFF")  # of text and page
LEGEND = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"}
"""Below the axis' title at every width, however many lines it takes."""
# The paper's strategies by its own headings: Sec. V-A layers, V-B units, V-C blocks (loops), V-D concurrent.
_PAPER = {"LI": "layer", "AI": "unit", "RI": "unit", "CO": "concurrent"}


def group_of(row: TrialRow) -> str:
    """Which of the charts' series a plan belongs to."""
    if row.facts.plain:
        return "plain steps"
    name = row.name
    if row.origin != "baseline" or name is None:
        return "searched"
    if row.facts.networks != (TEACHER,):
        return "students" if len(row.facts.networks) == 1 else "casts"
    if name.startswith("DC"):
        return "DeepCache"
    return "encoder propagation" if name.startswith("EP") else f"A-SDM {_PAPER.get(name[:2], 'block')}"


FAMILIES = ("fewer steps", "solver", "DeepCache", "encoder propagation", "A-SDM", "students", "cast", "joint")


def family_of(row: TrialRow) -> str:
    """Which way of being faster a plan takes, of `FAMILIES`: one way alone, or several and freely chosen masks
    (joint). By what it does, whoever proposed it."""
    facts = row.facts
    if facts.plain:
        return "fewer steps" if facts.scheduler is None and facts.spacing is None else "solver"
    if facts.mode == NONE:
        return "students" if len(facts.networks) == 1 else "cast"
    group = group_of(row)
    if group in ("students", "casts"):  # of a baseline, which is one of Table III
        return "cast" if group == "casts" else group
    return "joint" if group == "searched" else "A-SDM" if group.startswith("A-SDM") else group


def front_figure(rows: list[TrialRow], objectives: tuple[Objective, ...], title: str) -> go.Figure:
    """Scored plans with 95% intervals, baselines labelled, the front of each panel drawn as a line.

    Each point's `customdata` is the trial's number. Raises StudyError when nothing has been scored.
    """
    scored = [row for row in scored_rows(rows, objectives) if row.speedup is not None]
    quality = [objective for objective in objectives if objective.name not in SPEEDS]
    if not scored:
        raise StudyError("nothing has been scored in this study yet, so it has no front to draw; continue the search.")
    if not quality:
        quality = list(objectives[:1])
    figure = make_subplots(rows=len(quality), cols=1, vertical_spacing=0.2 / len(quality))
    for place, objective in enumerate(quality, start=1):
        for name, (colour, symbol) in SERIES.items():
            members = [row for row in scored if group_of(row) == name]
            if members:
                figure.add_trace(_points(name, members, objective, colour, symbol, place == 1), row=place, col=1)
        line = _line_of(scored, objective)
        figure.add_trace(_front_line(line, objective, place == 1), row=place, col=1)
        _ranged_and_named(figure, scored, line, objective, place)
        better = "lower is better" if objective.direction == "minimize" else "higher is better"
        figure.update_xaxes(ticksuffix="x", row=place, col=1)
        figure.update_yaxes(title_text=escape(f"{objective.name} ({better})"), row=place, col=1)
    figure.update_xaxes(title_text=SPEEDS["speedup"].axis, row=len(quality), col=1)
    figure.update_layout(
        title=escape(title), template="simple_white", legend=LEGEND, height=height_of(len(quality)),
        margin={"t": 80, "b": 60, "l": 64, "r": 12}, hoverlabel={"align": "left"},
    )  # fmt: skip
    return figure


def height_of(panels: int) -> int:
    """Pixels of the whole figure."""
    return 200 + 360 * panels


def _ranged_and_named(
    figure: go.Figure, scored: list[TrialRow], line: list[TrialRow], objective: Objective, place: int
) -> None:
    """Set both ranges of a panel, and name the baselines on its front."""
    speeds, values = ([row.scores[name] for row in scored] for name in ("speedup", objective.name))
    ranges = (
        padded(np.array([end for score in speeds for end in (score.low, score.high)])),
        padded(np.array([end for score in values for end in (score.low, score.high)])),
    )
    names = [
        Label(row.scores["speedup"].value, row.scores[objective.name].value, row.nickname, SERIES[group_of(row)][0])
        for row in line
        if group_of(row) != "searched"
    ]
    points = np.array([[s.value, v.value] for s, v in zip(speeds, values, strict=True)])
    number = "" if place == 1 else str(place)
    for note in placed_labels(names, points, ranges, INK, (f"x{number}", f"y{number}")):
        figure.add_annotation(note)
    figure.update_xaxes(range=ranges[0], row=place, col=1)
    figure.update_yaxes(range=ranges[1], row=place, col=1)


def _points(
    group: str, members: list[TrialRow], objective: Objective, colour: str, symbol: str, legend: bool
) -> go.Scatter:
    values = [row.scores[objective.name] for row in members]
    speeds = [row.scores["speedup"] for row in members]
    return go.Scatter(
        x=[s.value for s in speeds],
        y=[v.value for v in values],
        error_x=_bars([s.value for s in speeds], [s.low for s in speeds], [s.high for s in speeds], colour),
        error_y=_bars([v.value for v in values], [v.low for v in values], [v.high for v in values], colour),
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8 if group == "searched" else 9, "opacity": 0.85},
        name=group,
        legendgroup=group,
        showlegend=legend,
        customdata=[row.number for row in members],
        hovertext=[_hover(row) for row in members],
        hoverinfo="text",
    )


def _bars(values: list[float], lows: list[float], highs: list[float], colour: str) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, high in zip(values, highs, strict=True)],
        "arrayminus": [value - low for value, low in zip(values, lows, strict=True)],
        "color": colour,
        "thickness": 0.6,
        "width": 0,
    }


def _hover(row: TrialRow) -> str:
    # Plotly reads tags and links in its texts, and a plan's name may come from anybody.
    lines = [f"<b>{escape(row.title)}</b>", *([] if row.words == row.nickname else [escape(row.words)])]
    lines += [
        f"{metric}: {score.value:.4g} ({score.low:.4g} to {score.high:.4g}) @{score.n}"
        for metric, score in row.scores.items()
    ]
    return "<br>".join(lines)


def _line_of(scored: list[TrialRow], objective: Objective) -> list[TrialRow]:
    """The plans that none beats in the two metrics of a panel, the slowest first."""
    counting = [[judged(name, row.scores[name]) for name in ("speedup", objective.name)] for row in scored]
    kept = non_dominated(losses(counting, ["maximize", objective.direction]))
    return sorted(
        (row for row, on in zip(scored, kept, strict=True) if on), key=lambda row: row.scores["speedup"].value
    )


def _front_line(line: list[TrialRow], objective: Objective, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=[row.scores["speedup"].value for row in line],
        y=[row.scores[objective.name].value for row in line],
        mode="lines",
        line={"color": "#999999", "width": 1, "dash": "dot"},
        name="front of this panel",
        legendgroup="front",
        showlegend=legend,
        hoverinfo="skip",
    )


def write_html(figure: go.Figure, path: Path) -> None:
    """One page that opens without a network. Raises StudyError when it cannot be written."""
    try:
        figure.write_html(path, include_plotlyjs=True)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}; choose another place.") from error


def write_png(figure: go.Figure, path: Path, width: int = 1300, height: int = 620) -> None:
    """A picture, drawn by Chrome or Chromium.

    Raises:
        StudyError: when the ending of `path` names no format, there is no browser or it fails, or `path` cannot be
            written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in PICTURE_FORMATS:
        raise StudyError(f"cannot draw {path}: its name must end in one of .{', .'.join(PICTURE_FORMATS)}.")
    if not path.absolute().parent.is_dir():
        raise StudyError(f"cannot write {path}: there is no folder {path.absolute().parent}; make it first.")
    try:
        content = figure.to_image(kind, width=width, height=height, scale=1.5)
    except Exception as error:  # Plotly, Kaleido and Choreographer each raise their own for a browser that is not there
        raise StudyError(
            f"drawing {path} needs Chrome or Chromium, which was not found or did not start; install "
            "it (`plotly_get_chrome`), name it in BROWSER_PATH, or use --html instead."
        ) from error
    try:
        write_whole(path, content)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}; choose another place.") from error
