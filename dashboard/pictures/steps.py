"""What a plan computes, as a picture: the UNet's nodes by the evaluations of a run, with what each evaluation costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dashboard.palette import palette, style
from dashboard.step_costs import StepCosts
from explorer.plans.plan import InheritancePlan
from explorer.plans.schedule import Segments
from explorer.unet.architecture import Architecture
from explorer.unet.mask import Mask, liveness, without

COMPUTED, RESIDUAL, OUTPUT, REMOVED, NOT_RUN = range(5)
# Of Okabe and Ito's palette, with a faint grey for what does not run: apart for colour-blind people, in grey print, and
# on a light and a dark page.
LEGEND = (
    ("computed", "#0072B2"),
    ("residual inherited", "#E69F00"),
    ("output inherited", "#CC79A7"),
    ("removed", "#D55E00"),
    ("not run", "rgba(128,128,128,0.22)"),
)
SHOWN = ("res", "attn", "down", "up")
WHOLE = 12  # evaluations up to which each has its number
ROW, BARS, BAND, EDGES = 13, 110, 24, 120  # pixels: a node's row, bars and networks above, titles and margins
BAND_COLOURS = ("#56B4E9", "#F0E442", "#CC79A7", "#E69F00")  # light enough for black letters, in both themes


@dataclass(frozen=True)
class Steps:
    """states: (nodes, evaluations), each COMPUTED, RESIDUAL, OUTPUT, REMOVED or NOT_RUN; nodes in the order they
    run. networks: of each evaluation."""

    nodes: tuple[str, ...]
    states: NDArray[np.int8]
    networks: tuple[str, ...] = ()

    @property
    def evaluations(self) -> int:
        return int(self.states.shape[1])

    @property
    def full(self) -> int:
        """Evaluations that compute everything."""
        return int((self.states == COMPUTED).all(axis=0).sum())

    @property
    def removes(self) -> bool:
        """Whether a node is removed at any evaluation."""
        return bool((self.states == REMOVED).any())

    @property
    def saved(self) -> float:
        """The fraction of the cells that is not computed. A count of nodes, not of time: nodes differ in cost."""
        return float((self.states != COMPUTED).mean())


def evaluations_of(plan: InheritancePlan, key: str) -> int | None:
    """The UNet evaluations of the plan's run where its study kept them in the plan's key alone; None if none fits it.

    A scheduler evaluates as often as there are steps, or once more (PNDM), or about twice (Heun).
    """
    if plan.rule.weights is not None:
        return plan.rule.weights.evaluations
    if isinstance(plan.schedule, Segments):
        return plan.schedule.evaluations
    steps = plan.steps
    likely = [steps, steps + 1, 2 * steps - 1, 2 * steps]
    wide = range(1, 2 * steps + 16) if steps <= 200 else ()
    return next((count for count in dict.fromkeys([*likely, *wide]) if plan.key(count) == key), None)


def steps_of(plan: InheritancePlan, evaluations: int, lacks: Mapping[str, Mask] | None = None) -> Steps:
    """The picture of a run of this many evaluations.

    Args:
        plan: The plan.
        evaluations: UNet evaluations of the run.
        lacks: What each student lacks, by its name; a student that is not among them is drawn whole.

    Raises:
        PlanError: when the plan's schedule does not fit so many.
    """
    architecture, gone = plan.architecture, lacks or {}
    nodes = tuple(node.name for node in architecture.nodes if node.kind in SHOWN)
    networks = plan.networks(evaluations)
    each = list(zip(plan.resolve(evaluations), networks, strict=True))
    masks = {(choice, name): without(plan.mask(choice), gone.get(name, Mask())) for choice, name in set(each)}
    columns = {kind: _column(architecture, mask, nodes) for kind, mask in masks.items()}
    return Steps(nodes, np.array([columns[kind] for kind in each], dtype=np.int8).T, networks)


def network_words(networks: Sequence[str]) -> str:
    """`base in evaluations 0 to 7, teacher in 8 to 19`."""
    words = [
        f"{run.name} in {'' if i else 'evaluations '}{run.first} to {run.last}"
        if run.last > run.first
        else f"{run.name} in {'' if i else 'evaluation '}{run.first}"
        for i, run in enumerate(runs_of(networks))
    ]
    return ", ".join(words)


@dataclass(frozen=True)
class NetworkRun:
    """Evaluations in turn of one network, the first and the last of them."""

    name: str
    first: int
    last: int


def runs_of(networks: Sequence[str]) -> list[NetworkRun]:
    """The networks of a run, in turn."""
    found, at = [], 0
    for name, members in groupby(networks):
        count = len(list(members))
        found.append(NetworkRun(name, at, at + count - 1))
        at += count
    return found


def removed_steps(architecture: Architecture, removed: Mask) -> Steps:
    """One evaluation of a network that lacks nodes and computes all others."""
    nodes = tuple(node.name for node in architecture.nodes if node.kind in SHOWN)
    return Steps(nodes, np.array([_column(architecture, removed, nodes)], dtype=np.int8).T)


def _column(architecture: Architecture, mask: Mask, nodes: tuple[str, ...]) -> list[int]:
    alive = liveness(architecture, mask)
    states = dict.fromkeys(alive.run, COMPUTED)
    states.update({name: RESIDUAL if form == "residual" else OUTPUT for name, form in alive.reads})
    states.update(dict.fromkeys(dict(alive.removed), REMOVED))
    return [states.get(name, NOT_RUN) for name in nodes]


def steps_figure(steps: Steps, costs: StepCosts | None = None) -> go.Figure:
    """The heat map: a column an evaluation, a row a node, input at the top; above each column what it costs."""
    inner = ROW * len(steps.nodes)
    above = [height for height, needed in ((BARS, costs is not None), (BAND, len({*steps.networks}) > 1)) if needed]
    parts = [*above, inner]
    whole = sum(parts)
    figure = make_subplots(
        rows=len(parts), cols=1, shared_xaxes=True, row_heights=[part / whole for part in parts],
        vertical_spacing=24 / whole if above else None,
    )  # fmt: skip
    if costs is not None:
        figure.add_trace(_bars(costs), row=1, col=1)
        figure.update_yaxes(title_text=costs.unit, rangemode="tozero", nticks=4, row=1, col=1)
    last = len(parts)
    if BAND in above:
        _band(figure, steps, last - 1)
    figure.add_trace(_cells(steps.nodes, steps.states), row=last, col=1)
    for state, (name, colour) in enumerate(LEGEND):
        if state == REMOVED and not steps.removes:
            continue
        marker = {"symbol": "square", "size": 12, "color": colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name), row=last, col=1)
    style(figure, sum(above) + EDGES + inner, bargap=0.15, barmode="overlay")
    figure.update_xaxes(showgrid=False, range=[-0.5, steps.evaluations - 0.5])
    if steps.evaluations <= WHOLE:
        figure.update_xaxes(dtick=1)  # there is no evaluation at 0.5
    figure.update_xaxes(title_text="UNet evaluation of the run", row=last, col=1)
    figure.update_yaxes(row=last, col=1, **row_axis(steps.nodes))
    return figure


def _band(figure: go.Figure, steps: Steps, row: int) -> None:
    """Which network runs when: a bar each, with its name where it has room, told in full to who points at it."""
    names = list(dict.fromkeys(steps.networks))
    for run in runs_of(steps.networks):
        colour = BAND_COLOURS[names.index(run.name) % len(BAND_COLOURS)]
        span = run.last - run.first + 1
        room = 30 * span / steps.evaluations  # letters, on a phone
        figure.add_trace(
            go.Bar(
                x=[span], base=[run.first - 0.5], y=["network"], orientation="h", width=0.9, showlegend=False,
                marker={"color": colour, "line": {"width": 0}}, textangle=0, insidetextanchor="middle",
                text=escape(run.name) if len(run.name) <= room else "", textposition="inside",
                textfont={"color": "#000000", "size": 11}, constraintext="none", cliponaxis=True,
                hovertemplate=f"{escape(run.name)}: evaluations {run.first} to {run.last}<extra></extra>",
            ),
            row=row, col=1,
        )  # fmt: skip
    figure.update_yaxes(showgrid=False, tickfont={"size": 9}, row=row, col=1)


def row_axis(nodes: tuple[str, ...]) -> dict[str, object]:
    """A y axis with every node's name, the input at the top."""
    return {
        "autorange": "reversed", "tickfont": {"size": 9}, "showgrid": False, "tickmode": "array",
        "tickvals": list(nodes), "title_text": None,
    }  # fmt: skip


def _cells(nodes: tuple[str, ...], states: NDArray[np.int8]) -> go.Heatmap:
    words = np.array([name for name, _ in LEGEND])[states]
    return go.Heatmap(
        z=states, x=list(range(states.shape[1])), y=list(nodes), zmin=-0.5, zmax=len(LEGEND) - 0.5,
        colorscale=stepped([colour for _, colour in LEGEND]), showscale=False, xgap=1, ygap=1, customdata=words,
        hovertemplate="evaluation %{x}, %{y}: %{customdata}<extra></extra>",
    )  # fmt: skip


def stepped(colours: list[str]) -> list[list[object]]:
    """A colour scale of flat steps: value i of so many in colour i."""
    count = len(colours)
    return [[edge / count, colour] for i, colour in enumerate(colours) for edge in (i, i + 1)]


def _bars(costs: StepCosts) -> go.Bar:
    full = max(costs.values)
    return go.Bar(
        x=list(range(len(costs.values))), y=list(costs.values), marker_color=palette().faint, showlegend=False,
        customdata=[value / full if full else 0.0 for value in costs.values],
        hovertemplate=f"evaluation %{{x}}: %{{y:.4g}} {costs.unit}, %{{customdata:.0%}} of the largest<extra></extra>",
    )  # fmt: skip
