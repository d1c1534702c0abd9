"""The Front page's filters: which of a study's plans are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import streamlit as st

from dashboard.wording import axis_words, plain
from studies.board import Board, Flags, Labels
from studies.charts import SERIES


def in_order(labels: Iterable[str]) -> list[str]:
    """Modes as people count: P2 before P10."""
    return sorted(labels, key=lambda text: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", text)])


def filters(board: Board, metrics: list[str], view: tuple[str, str]) -> Flags:
    """Draw the filters and return (n,) which plans they leave. view: the metrics of the axes, which a plan must have."""
    shown = ~np.isnan(board.columns[view[0]].value) & ~np.isnan(board.columns[view[1]].value)
    found = set(board.series.tolist())
    families = [name for name in SERIES if name in found]
    chosen = st.pills("Series", families, selection_mode="multi", default=families, key="series")
    shown &= np.isin(board.series, chosen)
    with st.expander("More filters", icon=":material/filter_alt:"):
        left, middle, right = st.columns(3)
        for place, labels, title, key, words in (
            (left, board.modes, "Mode", "mode", "When features are extracted anew: P5 at every fifth evaluation, P5† with "
             "a full tail, N along DeepCache's curve, free: written out step by step."),
            (middle, board.forms, "Kind", "form", "What is inherited: residual branches, whole outputs, or both."),
            (right, board.rules, "Rule", "rule", "What an inherited feature is: a copy, or a forecast from earlier ones."),
        ):
            shown &= _labelled(place, labels, title, key, words)
        for place, metric in zip(_columns(len(metrics)), metrics, strict=True):
            with place:
                shown &= _within(board, metric)
        if not board.whole.all():
            count = int((~board.whole).sum())
            if not st.toggle(f"Show {count} screened-out plans", key="screened",
                             help="Plans that a cheap first look ruled out: they lack some of the study's scores."):  # fmt: skip
                shown &= board.whole
    return shown


def _columns(count: int) -> list[st.delta_generator.DeltaGenerator]:
    columns: list[st.delta_generator.DeltaGenerator] = []
    while len(columns) < count:
        columns += st.columns(3)
    return columns[:count]


def _labelled(place: st.delta_generator.DeltaGenerator, labels: Labels, title: str, key: str, words: str) -> Flags:
    options = in_order(set(labels.tolist()))
    chosen = place.multiselect(title, options, key=key, placeholder="all", help=words)
    return np.isin(labels, chosen) if chosen else np.ones(len(labels), dtype=bool)


def _within(board: Board, metric: str) -> Flags:
    """A slider over the metric's values; a plan that lacks the metric is shown while the slider is untouched."""
    values = board.columns[metric].value
    known = values[~np.isnan(values)]
    low, high = (_outward(float(known.min()), -1), _outward(float(known.max()), 1)) if len(known) else (0.0, 0.0)
    if not low < high:
        return np.ones(len(values), dtype=bool)
    key, ends = f"range-{metric}", f"ends-{metric}"
    kept, before = st.session_state.get(key), st.session_state.get(ends)
    if kept is None or kept == before:  # untouched: new plans widen it
        st.session_state[key] = (low, high)
    else:  # a slider keeps its value only inside its own ends
        st.session_state[key] = (max(low, min(kept[0], high)), min(high, max(kept[1], low)))
    st.session_state[ends] = (low, high)
    step = 10 ** np.floor(np.log10((high - low) / 200))
    start, end = st.slider(plain(axis_words(metric)), low, high, step=float(step), format="%.4g", key=key)
    if (start, end) == (low, high):
        return np.ones(len(values), dtype=bool)
    return (values >= start) & (values <= end)


def _outward(value: float, sign: int) -> float:
    """Rounded away from the data to three digits, so that the slider's ends are round and hold every plan."""
    if value == 0:
        return 0.0
    unit = 10 ** (np.floor(np.log10(abs(value))) - 2)
    return float((np.ceil if sign > 0 else np.floor)(value / unit) * unit)
