"""The Front page's filters: which of a study's plans are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import streamlit as st

from dashboard.wording import axis_words, plain
from search_spaces.axes import AXES, Axis, Choice
from studies.results.board import Board, Flags, Labels
from studies.results.charts import FAMILIES, SERIES


def in_order(labels: Iterable[str]) -> list[str]:
    """Modes as people count: P2 before P10."""
    return sorted(labels, key=lambda text: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", text)])


def filters(board: Board, metrics: list[str], view: tuple[str, str], study: int) -> Flags:
    """Draw the filters and return (n,) which plans they leave. They are kept while other pages are open.

    metrics: those that get a slider. view: the metrics of the axes, which a plan must have. study: its id.
    """
    shown = ~np.isnan(board.columns[view[0]].value) & ~np.isnan(board.columns[view[1]].value)
    found = set(board.series.tolist())
    families = [name for name in SERIES if name in found]
    with st.expander("Filters", icon=":material/filter_alt:"):
        chosen = st.pills(
            "Series", families, selection_mode="multi", default=families, key=f"series-{study}", persist_state="session"
        )
        shown &= np.isin(board.series, chosen)
        shown &= _by_family(board, study)
        labelled = [axis for axis in AXES if axis.name in board.axes and has_choice(axis, board.axes[axis.name])]
        for place, axis in zip(st.columns(len(labelled)), labelled, strict=True):
            with place:
                shown &= _labelled(board.axes[axis.name], axis, f"{axis.title.lower()}-{study}")
        for place, metric in zip(_columns(len(metrics)), metrics, strict=True):
            with place:
                shown &= _within(board, metric, study)
        if not board.whole.all():
            words = "Plans that a race dropped after a few pictures. They lack some of the scores."
            if not st.toggle(
                f"Show {int((~board.whole).sum()):,} screened-out plans", key=f"screened-{study}", help=words,
                persist_state="session",
            ):  # fmt: skip
                shown &= board.whole
    return shown


def _by_family(board: Board, study: int) -> Flags:
    """Where a study has more than one way of being faster, those that are ticked; all while none is."""
    found = set(board.families.tolist())
    if len(found) < 2:
        return np.ones(len(board), dtype=bool)
    chosen = st.pills(
        "Family", [name for name in FAMILIES if name in found], selection_mode="multi", key=f"family-{study}",
        help="The way in which a plan is faster; joint: several of them, or masks that the search chose freely.",
        persist_state="session",
    )  # fmt: skip
    return np.isin(board.families, chosen) if chosen else np.ones(len(board), dtype=bool)


def _columns(count: int) -> list[st.delta_generator.DeltaGenerator]:
    columns: list[st.delta_generator.DeltaGenerator] = []
    while len(columns) < count:
        columns += st.columns(3)
    return columns[:count]


def has_choice(axis: type[Axis], labels: Labels) -> bool:
    """Whether a filter of the axis is shown: one that a study may lack has something to choose from."""
    return not issubclass(axis, Choice) or len(set(labels.tolist())) > 1


def _labelled(labels: Labels, axis: type[Axis], key: str) -> Flags:
    options = in_order(set(labels.tolist()))
    chosen = st.multiselect(
        axis.title, options, key=key, placeholder="all", help=axis.help, persist_state="session"
    )  # fmt: skip
    return np.isin(labels, chosen) if chosen else np.ones(len(labels), dtype=bool)


def _within(board: Board, metric: str, study: int) -> Flags:
    """A slider over the metric's values; a plan that lacks the metric is shown while the slider is untouched."""
    values = board.columns[metric].value
    known = values[~np.isnan(values)]
    low, high = (_outward(float(known.min()), -1), _outward(float(known.max()), 1)) if len(known) else (0.0, 0.0)
    if not low < high:
        return np.ones(len(values), dtype=bool)
    key, ends = f"range-{study}-{metric}", f"ends-{study}-{metric}"
    kept, before = st.session_state.get(key), st.session_state.get(ends)
    if kept is None or kept == before:  # untouched: new plans widen it
        st.session_state[key] = (low, high)
    else:  # a slider keeps its value only inside its own ends
        st.session_state[key] = (max(low, min(kept[0], high)), min(high, max(kept[1], low)))
    st.session_state[ends] = (low, high)
    step = 10 ** np.floor(np.log10((high - low) / 200))
    span: Any = st.slider(plain(axis_words(metric)), low, high, step=float(step), format="%.4g", key=key,
                          persist_state="session")  # fmt: skip
    start, end = span
    if (start, end) == (low, high):
        return np.ones(len(values), dtype=bool)
    return (values >= start) & (values <= end)


def _outward(value: float, sign: int) -> float:
    """Rounded away from the data to three digits, so that the slider's ends are round and hold every plan."""
    if value == 0:
        return 0.0
    unit = 10 ** (np.floor(np.log10(abs(value))) - 2)
    return float((np.ceil if sign > 0 else np.floor)(value / unit) * unit)
