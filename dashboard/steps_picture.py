"""What a plan computes, as a picture: the UNet's nodes by the evaluations of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.architecture import Architecture
from explorer.mask import Mask, liveness
from explorer.plan import InheritancePlan
from explorer.schedule import Segments

COMPUTED, RESIDUAL, OUTPUT, NOT_RUN = range(4)
# Of Okabe and Ito's palette, with a light grey for what does not run: apart for colour-blind people, and in grey print.
LEGEND = (
    ("computed", "#0072B2"),
    ("residual inherited", "#E69F00"),
    ("output inherited", "#8F3B6E"),
    ("not run", "#E4E4E4"),
)
SHOWN = ("res", "attn", "down", "up")


@dataclass(frozen=True)
class Steps:
    """states: (nodes, evaluations), each COMPUTED, RESIDUAL, OUTPUT or NOT_RUN; nodes in the order they run."""

    nodes: tuple[str, ...]
    states: NDArray[np.int8]

    @property
    def evaluations(self) -> int:
        return int(self.states.shape[1])

    @property
    def full(self) -> int:
        """Evaluations that compute everything."""
        return int((self.states == COMPUTED).all(axis=0).sum())

    @property
    def saved(self) -> float:
        """The fraction of the cells that is not computed. A count of nodes, not of time: nodes differ in cost."""
        return float((self.states != COMPUTED).mean())


def evaluations_of(plan: InheritancePlan, key: str) -> int | None:
    """The UNet evaluations of the plan's run, which the study keeps in the plan's key alone; None if none fits it.

    A scheduler evaluates as often as there are steps, or once more (PNDM), or about twice (Heun).
    """
    if isinstance(plan.schedule, Segments):
        return plan.schedule.evaluations
    steps = plan.steps
    likely = [steps, steps + 1, 2 * steps - 1, 2 * steps]
    wide = range(1, 2 * steps + 16) if steps <= 200 else ()
    return next((count for count in dict.fromkeys([*likely, *wide]) if plan.key(count) == key), None)


def steps_of(plan: InheritancePlan, evaluations: int) -> Steps:
    """The picture of a run of so many evaluations. Raises PlanError when the plan's schedule does not fit it."""
    architecture = plan.architecture
    nodes = tuple(node.name for node in architecture.nodes if node.kind in SHOWN)
    choices = plan.resolve(evaluations)
    columns = {choice: _column(architecture, plan.mask(choice), nodes) for choice in set(choices)}
    return Steps(nodes, np.array([columns[choice] for choice in choices], dtype=np.int8).T)


def _column(architecture: Architecture, mask: Mask, nodes: tuple[str, ...]) -> list[int]:
    alive = liveness(architecture, mask)
    states = dict.fromkeys(alive.run, COMPUTED)
    states.update({name: RESIDUAL if form == "residual" else OUTPUT for name, form in alive.reads})
    return [states.get(name, NOT_RUN) for name in nodes]


def steps_figure(steps: Steps) -> go.Figure:
    """The heat map: a column an evaluation, a row a node, input at the top, with a legend of the four states."""
    words = np.array([name for name, _ in LEGEND])[steps.states]
    scale = [[edge / 4, colour] for i, (_, colour) in enumerate(LEGEND) for edge in (i, i + 1)]
    figure = go.Figure(
        go.Heatmap(
            z=steps.states, x=list(range(steps.evaluations)), y=list(steps.nodes), zmin=-0.5, zmax=3.5,
            colorscale=scale, showscale=False, xgap=1, ygap=1, customdata=words,
            hovertemplate="evaluation %{x}, %{y}: %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    for name, colour in LEGEND:
        marker = {"symbol": "square", "size": 12, "color": colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))
    figure.update_yaxes(autorange="reversed", tickfont={"size": 10}, dtick=1, showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="UNet evaluation of the run", showgrid=False, zeroline=False, range=_x_range(steps))
    figure.update_layout(
        template="simple_white", height=110 + 14 * len(steps.nodes), margin={"t": 40, "b": 50, "l": 8, "r": 8},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure


def _x_range(steps: Steps) -> list[float]:
    return [-0.5, steps.evaluations - 0.5]
