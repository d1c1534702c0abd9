"""Two to four plans' pictures of what is computed, laid over each other: where they agree, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.palette import style
from dashboard.pictures.steps import COMPUTED, ROW, Steps, row_axis, stepped

LETTERS = "ABCD"
ALL, NONE, SOME = "all compute", "none computes", "some compute"
COLOURS = {ALL: "#0072B2", NONE: "rgba(128,128,128,0.22)", SOME: "#E69F00"}
ONLY = ("#E69F00", "#CC79A7")  # with two plans, what A alone and what B alone computes


@dataclass(frozen=True)
class Overlay:
    """cells: (nodes, evaluations), indices into `legend`; who: the same shape, which plans compute, in letters.
    legend: (words, colour). stretched: whether runs of different lengths were laid over each other by their course."""

    nodes: tuple[str, ...]
    cells: NDArray[np.int8]
    who: NDArray[np.object_]
    legend: tuple[tuple[str, str], ...]
    stretched: bool

    @property
    def agree(self) -> float:
        """The share of cells in which all plans do the same."""
        return float((self.cells < 2).mean())


def overlay(each: Sequence[Steps]) -> Overlay:
    """Lay the plans' steps over each other; all are of one architecture. The longest run sets the columns, and each of
    the others shows the evaluation that stands at the same part of its course."""
    longest = max(steps.evaluations for steps in each)
    computed = np.stack([steps.states[:, _course(steps.evaluations, longest)] == COMPUTED for steps in each])
    count = computed.sum(axis=0)
    legend: tuple[tuple[str, str], ...] = ((ALL, COLOURS[ALL]), (NONE, COLOURS[NONE]))
    cells = np.where(count == len(each), 0, np.where(count == 0, 1, 2)).astype(np.int8)
    if len(each) == 2:
        cells[computed[1] & ~computed[0]] = 3
        legend += tuple((f"only {letter} computes", colour) for letter, colour in zip(LETTERS, ONLY, strict=False))
    else:
        legend += ((SOME, COLOURS[SOME]),)
    who = np.empty(count.shape, dtype=object)
    for index in np.ndindex(*count.shape):
        letters = [LETTERS[i] for i in range(len(each)) if computed[(i, *index)]]
        who[index] = f"computed by {', '.join(letters)}" if letters else "computed by none"
    return Overlay(each[0].nodes, cells, who, legend, len({steps.evaluations for steps in each}) > 1)


def _course(evaluations: int, longest: int) -> NDArray[np.int64]:
    """For each of `longest` columns the evaluation of a shorter run at the same part of its course."""
    middles = (np.arange(longest) + 0.5) / longest
    return np.minimum((middles * evaluations).astype(np.int64), evaluations - 1)


def overlay_figure(shown: Overlay) -> go.Figure:
    """The heat map, a column an evaluation, a row a node, with a legend of who computes."""
    figure = go.Figure(
        go.Heatmap(
            z=shown.cells, x=list(range(shown.cells.shape[1])), y=list(shown.nodes), customdata=shown.who, xgap=1,
            ygap=1, zmin=-0.5, zmax=len(shown.legend) - 0.5, showscale=False,
            colorscale=stepped([colour for _, colour in shown.legend]),
            hovertemplate="evaluation %{x}, %{y}: %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    for name, colour in shown.legend:
        marker = {"symbol": "square", "size": 12, "color": colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))
    style(figure, 120 + ROW * len(shown.nodes))
    figure.update_xaxes(
        title_text="UNet evaluation of the run", showgrid=False, range=[-0.5, shown.cells.shape[1] - 0.5]
    )
    figure.update_yaxes(**row_axis(shown.nodes))
    return figure
