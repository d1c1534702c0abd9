"""The UNet drawn as a U: down the left side, through the middle, up the right side, each node coloured by how much of a
run it still works."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from dashboard.palette import palette, style
from dashboard.pictures.steps import COMPUTED, LEGEND, NOT_RUN, Steps
from explorer.unet.architecture import Architecture, Node

LETTERS = {"conv_in": "in", "res": "R", "attn": "A", "down": "↓", "up": "↑", "out": "out"}
ROW, EDGES = 58, 110
# Orange where all is given up, blue where all is computed, as in the picture of the steps; grey between.
SCALE = [[0.0, "#E69F00"], [0.5, "#A9A9A9"], [1.0, "#0072B2"]]


def places(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """Node -> (row, column) on a grid: row 0 is the full size, each row below half of the one above. Levels step
    inwards, so that the whole reads as a U. Concatenations have no place of their own."""
    depth = len(architecture.down)
    left: dict[int, list[Node]] = {}
    middle: list[Node] = []
    right: dict[int, list[Node]] = {}
    for node in architecture.nodes:
        if node.kind == "cat":
            continue
        if node.block == "mid":
            middle.append(node)
        elif node.block.startswith("up") or node.kind == "out":
            right.setdefault(architecture.level(node.block), []).append(node)
        else:
            left.setdefault(architecture.level(node.block), []).append(node)
    indent = [sum(2 for _ in range(level)) for level in range(depth + 1)]
    inner = max(indent[level] + len(nodes) for level, nodes in left.items())
    start = max(inner, indent[depth - 1] + 1) + 1
    width = start + max(len(nodes) + indent[level] for level, nodes in right.items()) + 1
    width = max(width, start + len(middle))
    found: dict[str, tuple[int, int]] = {}
    for level, nodes in left.items():
        found.update({node.name: (level, indent[level] + i) for i, node in enumerate(nodes)})
    centre = (width - len(middle)) // 2
    found.update({node.name: (depth, centre + i) for i, node in enumerate(middle)})
    for level, nodes in right.items():
        first = width - indent[level] - len(nodes)
        found.update({node.name: (level, first + i) for i, node in enumerate(nodes)})
    return found


def shares(steps: Steps) -> dict[str, tuple[float, ...]]:
    """Node -> share of the evaluations in each state, in the order of `LEGEND`."""
    each = np.stack([(steps.states == state).mean(axis=1) for state in range(len(LEGEND))], axis=1)
    return dict(zip(steps.nodes, map(tuple, each.tolist()), strict=True))


def unet_figure(architecture: Architecture, steps: Steps) -> go.Figure:
    """The U with each node's share of evaluations in which it is computed."""
    found = places(architecture)
    worked = shares(steps)
    values = {name: worked[name][COMPUTED] if name in worked else 1.0 for name in found}
    hover = {name: _words(name, worked.get(name)) for name in found}
    return u_figure(architecture, values, hover, "computed in", SCALE)


def colour_bar(title: str) -> dict[str, object]:
    """A bar below the picture, in percent."""
    return {
        "orientation": "h", "thickness": 10, "len": 0.6, "y": -0.02, "yanchor": "top", "tickformat": ".0%",
        "title": {"text": title, "side": "top"},
    }  # fmt: skip


def _words(name: str, share: tuple[float, ...] | None) -> str:
    if share is None:
        return f"{name}: computed in every evaluation"
    parts = [f"{name}: computed in {share[COMPUTED]:.0%} of the evaluations"]
    states = (state for state in range(COMPUTED + 1, NOT_RUN + 1) if share[state] > 1e-9)
    return "<br>".join([*parts, *(f"{LEGEND[state][0]} in {share[state]:.0%}" for state in states)])


def u_figure(
    architecture: Architecture,
    values: Mapping[str, float],
    hover: Mapping[str, str],
    title: str,
    scale: list[list[object]],
) -> go.Figure:
    found = places(architecture)
    rows = 1 + max(row for row, _ in found.values())
    width = 1 + max(column for _, column in found.values())
    z = np.full((rows, width), np.nan)
    text = np.full((rows, width), "", dtype=object)
    words = np.full((rows, width), "", dtype=object)
    for name, (row, column) in found.items():
        z[row, column], words[row, column] = values[name], hover[name]
        text[row, column] = LETTERS[architecture.by_name[name].kind]
    shown = palette()
    figure = go.Figure(
        go.Heatmap(
            z=z, text=text, customdata=words, texttemplate="%{text}", textfont={"size": 11},
            hovertemplate="%{customdata}<extra></extra>", hoverongaps=False, colorscale=scale, zmin=0, zmax=1,
            xgap=2, ygap=22,
            colorbar=colour_bar(title),
        )
    )  # fmt: skip
    for block in dict.fromkeys(node.block for node in architecture.nodes if node.is_unit):
        members = [found[node.name] for node in architecture.nodes if node.block == block and node.name in found]
        figure.add_annotation(
            x=min(c for _, c in members) - 0.5, y=members[0][0] - 0.33, text=block, showarrow=False, xanchor="left",
            yanchor="bottom", font={"size": 12, "color": shown.text},
        )  # fmt: skip
    for level in range(rows - 1):
        here = [column for row, column in found.values() if row == level]
        gap = [(a, b) for a, b in zip(sorted(here), sorted(here)[1:], strict=False) if b - a > 1]
        for left, right in gap:
            figure.add_shape(
                type="line", x0=left + 0.6, x1=right - 0.6, y0=level, y1=level,
                line={"color": shown.faint, "width": 1.5, "dash": "dot"},
            )  # fmt: skip
    style(figure, EDGES + ROW * rows, margin={"t": 8, "b": 56, "l": 4, "r": 4})
    axis = {"visible": False, "showgrid": False, "fixedrange": True}
    figure.update_xaxes(**axis, range=[-0.7, width - 0.3])
    figure.update_yaxes(**axis, range=[rows - 0.4, -0.8])
    return figure
