"""The Front page's answer to "which plan do I take?": a sentence to choose and its number."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboard.context import PLAN, choose_trial, go
from dashboard.wording import plain
from explorer.errors import StudyError
from studies.choosing.choice import Choice, Limit, Paired, Wish, choose
from studies.metrics import direction_of, is_clip, is_paired, metric_of, of_pictures
from studies.results.board import Board

USUAL = 0.1
"""The limit to begin with, of a paired metric that declares none."""


@dataclass(frozen=True)
class Template:
    """A wish that lacks its number.

    Attributes:
        metric: What the number bounds; of `speedup`, `goal` is then what should be best.
        unit: What the number counts.
        start: The number to begin with.
        goal: What should be best within the bound.
    """

    metric: str
    unit: str
    start: float
    goal: str = "speedup"

    def wish(self, number: float) -> Wish:
        loss = self.unit == PER_CENT
        return Wish((Limit(self.metric, number / 100 if loss else number, relative=loss),), self.goal)


PER_CENT, TIMES, VALUE = "Per cent", "Times", "Value"


def templates(board: Board) -> dict[str, Template]:
    """By the sentence that offers it, with `#` for the number."""
    made: dict[str, Template] = {}
    quality = of_pictures(board.columns)
    for metric in quality:
        if is_paired(metric):  # of which the un-accelerated pictures are perfect, so a loss in per cent says nothing
            side = "at least" if direction_of(metric, board.objectives) == "maximize" else "at most"
            made[f"As fast as possible at {metric} of {side} #"] = Template(metric, VALUE, _usual(metric))
        elif board.control is not None and metric in board.control.scores:
            made[f"As fast as possible at a {metric} loss of at most # %"] = Template(metric, PER_CENT, 1.0)
    for metric in quality:
        made[f"The best {metric} at # times the speed or more"] = Template("speedup", TIMES, 2.0, goal=metric)
    # Most users ask for a loss in a score of all pictures: CLIP first, if there is one.
    return dict(sorted(made.items(), key=lambda item: not (item[1].unit == PER_CENT and is_clip(item[1].metric))))


def _usual(metric: str) -> float:
    known = metric_of(metric)
    return USUAL if known is None or known.usual is None else known.usual


def wish(board: Board, study: int, paired: Paired | None) -> Choice | None:
    """Draw the question and return the answer; None while there is none, which is said. paired: for being sure."""
    known = templates(board)
    if not known:
        return None
    with st.container(border=True):
        ask, amount, certain = st.columns([5, 2, 2], vertical_alignment="bottom")
        sentence = ask.selectbox(
            "**Which plan do I take?**", list(known), key=f"wish-{study}", persist_state="session",
            help="Choose a sentence and set its number.",
        )  # fmt: skip
        template = known[sentence]
        number = amount.number_input(
            template.unit, value=template.start, min_value=0.0, step=0.01 if template.start < 1 else 0.5,
            key=f"wish-number-{study}-{sentence}", format="%g", persist_state="session",
        )  # fmt: skip
        sure = certain.toggle(
            "Be sure", key="wish-sure", persist_state="session",
            help="Compare the worse end of each 95% interval with the limit, instead of the value.",
        )  # fmt: skip
        try:
            found = choose(board.measured, template.wish(number), board.control, sure=sure, paired=paired)
        except StudyError as error:
            st.caption(plain(error))
            return None
        shown = found.plan or found.nearest
        said, button = st.columns([5, 2], vertical_alignment="center")
        said.markdown(
            plain(found.words) if found.plan is None else f"**{found.plan.speedup:.2f}x: {plain(found.plan.title)}**",
            help=None if found.plan is None else plain(found.plan.words),
        )
        if found.plan is not None:
            said.caption(plain(found.words))
        if shown is not None and shown.number is not None:
            label = f"Open trial {shown.number}"
            if button.button(label, key="wish-open", width="stretch", type="primary" if found.plan else "secondary"):
                choose_trial(shown.number)
                go(PLAN)
        return found
