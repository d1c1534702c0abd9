"""Colours of the charts in the light and the dark theme, and the layout that every Plotly figure shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from studies.results.charts import LEGEND, SERIES

# Okabe and Ito 2008: colour-blind people can tell these apart.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
SEQUENTIAL = "Cividis"
"""The scale of a third metric: made for colour-blind readers, rising in lightness, so that it also reads in grey."""


# Black vanishes on a dark page, and blue and green are too deep on it: the same hues, lighter, with 4.5:1 or more.
_ON_DARK = {"#000000": "#E6EBF0", "#0072B2": "#4BA3E3", "#009E73": "#2DC49A", "#D55E00": "#F0803C"}


@dataclass(frozen=True)
class Palette:
    """dark: whether the page's background is. text, faint, grid, paper, accent: the theme's own colours."""

    dark: bool
    text: str
    faint: str
    grid: str
    paper: str
    accent: str

    def series(self, name: str) -> tuple[str, str]:
        """Colour and symbol of a series of `studies.results.charts.SERIES`."""
        colour, symbol = SERIES[name]
        return self.shade(colour), symbol

    def shade(self, colour: str) -> str:
        """A colour of the charts as this theme shows it."""
        return _ON_DARK.get(colour, colour) if self.dark else colour

    @property
    def warning(self) -> str:
        return self.shade("#D55E00")


LIGHT = Palette(False, "#1D2733", "#66727F", "#E3E8ED", "#FFFFFF", "#0072B2")
DARK = Palette(True, "#E6EBF0", "#9AA7B4", "#2A343F", "#11161C", "#56B4E9")


def palette() -> Palette:
    """That of the theme which the browser shows; the light one where it has not said yet."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def style(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """Give a figure the dashboard's layout, to be shown with Streamlit's own Plotly theme. height: pixels.

    `uirevision` keeps what a reader has zoomed and hidden when new data arrive.
    """
    shown = palette()
    axis = {"gridcolor": shown.grid, "zeroline": False, "automargin": True, "title_standoff": 10}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis | {"title_standoff": 16})  # at 10 it touches the widest of the numbers
    figure.update_layout(
        height=height, margin={"t": 16, "b": 48, "l": 8, "r": 8}, legend=LEGEND, uirevision="kept",
        hoverlabel={"align": "left", "font_size": 13}, paper_bgcolor=shown.paper, plot_bgcolor=shown.paper,
    )  # fmt: skip
    return figure.update_layout(**layout)


CONFIG: dict[str, Any] = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}
"""Plotly's configuration of every chart: no link to elsewhere, only the buttons that mean something here."""
