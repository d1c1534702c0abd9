"""Where a UNet's parameters, multiply-accumulates and time go, and how much its units change from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import plotly.graph_objects as go

from dashboard.palette import SEQUENTIAL, palette, style
from dashboard.pictures.steps import ROW, row_axis
from explorer.calibration.sensitivity import Sensitivity
from explorer.timing.anatomy import Anatomy

KINDS = {"res": ("residual units", "#0072B2"), "attn": ("attention units", "#E69F00")}
OTHER = ("samplers, input, output", "#8A8A8A")


def kind_of(kind: str) -> tuple[str, str]:
    """Words and colour of a kind of node."""
    return KINDS.get(kind, OTHER)


def treemap(anatomy: Anatomy, values: Mapping[str, float], unit: str) -> go.Figure:
    """A rectangle a node, as large as its value, within its block's; nodes of value 0 are left out.

    values: by node, in `unit`; what belongs to no node (the time embedding) is not drawn.
    """
    shown = palette()
    nodes = [node for node in anatomy.nodes if values.get(node.name, 0) > 0]
    total = sum(values[node.name] for node in nodes)
    blocks: dict[str, float] = {}
    for node in nodes:
        blocks[node.block] = blocks.get(node.block, 0.0) + values[node.name]
    ids = ["unet", *(f"block {b}" for b in blocks), *(node.name for node in nodes)]
    labels = ["UNet", *blocks, *(_short(node.name, node.block) for node in nodes)]
    parents = ["", *("unet" for _ in blocks), *(f"block {node.block}" for node in nodes)]
    sizes = [total, *blocks.values(), *(values[node.name] for node in nodes)]
    frame = "#2A343F" if shown.dark else "#E8EDF2"
    colours = [frame, *(frame for _ in blocks), *(kind_of(node.kind)[1] for node in nodes)]
    figure = go.Figure(
        go.Treemap(
            ids=ids, labels=labels, parents=parents, values=sizes, branchvalues="total",
            marker={"colors": colours, "line": {"width": 1, "color": shown.paper},
                    "pad": {"t": 18, "l": 3, "r": 3, "b": 3}},
            texttemplate="%{label}<br>%{percentRoot:.1%}", tiling={"pad": 1}, pathbar={"visible": False},
            customdata=[_amount(size, unit) for size in sizes],
            hovertemplate="%{id}: %{customdata}, %{percentRoot:.1%} of the UNet<extra></extra>",
        )
    )  # fmt: skip
    return style(figure, 460, margin={"t": 4, "b": 4, "l": 0, "r": 0})


def _short(name: str, block: str) -> str:
    return name.removeprefix(f"{block}.")


def _amount(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def sensitivity_figure(found: Sensitivity, costs: Mapping[str, float] | None, unit: str) -> go.Figure:
    """The heat map: a row a unit, a column an evaluation. costs: of each unit; with them the change is divided by it,
    and the colours are of its logarithm, as it spans powers of ten."""
    values = found.values[:, 1:]
    if costs is not None:
        values = values / np.array([max(costs.get(unit_, 0.0), 1e-12) for unit_ in found.units])[:, None]
        colours, ticks = np.log10(np.maximum(values, 1e-12)), _decades(values)
        bar = {"tickvals": [float(np.log10(tick)) for tick in ticks], "ticktext": [f"{tick:g}" for tick in ticks]}
    else:
        colours, bar = values, {"tickformat": ".0%"}
    low, high = np.nanpercentile(colours, [1, 99]) if colours.size else (0.0, 1.0)
    names = tuple(escape(name) for name in found.units)  # text of a database is no markup
    figure = go.Figure(
        go.Heatmap(
            z=colours, x=list(range(1, found.evaluations)), y=names, customdata=values, xgap=1, ygap=1,
            zmin=low, zmax=high, colorscale=SEQUENTIAL, colorbar={"thickness": 12, "title": {"text": unit}, **bar},
            hovertemplate="evaluation %{x}, %{y}: %{customdata:.3g} " + unit + "<extra></extra>",
        )
    )  # fmt: skip
    style(figure, 96 + ROW * len(found.units))
    figure.update_xaxes(title_text="UNet evaluation of the un-accelerated run", showgrid=False)
    return figure.update_yaxes(**row_axis(names))


def _decades(values: np.ndarray) -> list[float]:
    """1, 10, 100 ... within the values, with 3 of each where they span little."""
    low, high = np.nanpercentile(values, [1, 99])
    powers = range(int(np.floor(np.log10(max(low, 1e-12)))), int(np.ceil(np.log10(max(high, 1e-12)))) + 1)
    steps = (1,) if len(powers) > 3 else (1, 3)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def steady(found: Sensitivity, costs: Mapping[str, float], count: int = 6) -> list[str]:
    """The units with the least change for their cost: what to give up first."""
    change = found.of_units()
    known = [unit for unit in change if costs.get(unit, 0.0) > 0]
    return sorted(known, key=lambda unit: change[unit] / costs[unit])[:count]


def trade_figure(anatomy: Anatomy, found: Sensitivity, costs: Mapping[str, float], unit: str) -> go.Figure:
    """A point a unit: what it costs against how much it changes, those of `steady` ringed."""
    change, chosen = found.of_units(), steady(found, costs)
    figure = go.Figure()
    rings = {"color": "rgba(0,0,0,0)", "size": 17, "line": {"color": palette().text, "width": 1.5}}
    figure.add_trace(
        go.Scatter(
            x=[costs[name] for name in chosen], y=[change[name] for name in chosen], mode="markers", marker=rings,
            name="least change for its cost", hoverinfo="skip",
        )
    )  # fmt: skip
    for kind, symbol in (("res", "circle"), ("attn", "diamond")):
        words, colour = kind_of(kind)
        units = [node.name for node in anatomy.units if node.kind == kind and node.name in change]
        figure.add_trace(
            go.Scatter(
                x=[costs.get(name, 0.0) for name in units], y=[change[name] for name in units], name=words,
                mode="markers", customdata=units,
                marker={"color": colour, "symbol": symbol, "size": 9, "opacity": 0.85},
                hovertemplate="%{customdata}: %{y:.1%} a step, %{x:.3g} " + unit + "<extra></extra>",
            )
        )  # fmt: skip
    style(figure, 420)
    figure.update_xaxes(title_text=f"cost of the unit ({unit} an evaluation)", rangemode="tozero")
    return figure.update_yaxes(title_text="mean change from step to step", tickformat=".0%", rangemode="tozero")
