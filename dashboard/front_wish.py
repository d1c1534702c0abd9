"""The Front page's answer to "which plan do I take?": a sentence to choose and a number, or one's own words."""

from __future__ import annotations

import re

import streamlit as st

from dashboard.context import PLAN, choose_trial, go
from dashboard.wording import plain
from explorer.errors import StudyError
from studies.board import Board
from studies.choice import Choice, Paired, choose, direction_of, parse_wish
from studies.summary import AUXILIARY, LATENCIES

# What compares with the un-accelerated pictures themselves is perfect for these: a loss in per cent says nothing.
PAIRED = ("psnr", "ssim", "lpips")
STARTS = {"psnr": 30.0, "ssim": 0.9, "lpips": 0.1}


def templates(board: Board) -> dict[str, tuple[str, float]]:
    """Sentences with `#` for the number, each with what goes into `parse_wish` and the number to begin with."""
    made: dict[str, tuple[str, float]] = {}
    quality = [metric for metric in board.columns if metric not in (*LATENCIES, *AUXILIARY)]
    for metric in quality:
        if metric.split("_")[0] in PAIRED:
            sign, words = (
                (">=", "at least") if direction_of(metric, board.objectives) == "maximize" else ("<=", "at most")
            )
            made[f"As fast as possible at {metric} of {words} #"] = (f"{metric} {sign} #", STARTS.get(metric, 0.1))
        elif board.control is not None and metric in board.control.scores:
            made[f"As fast as possible at a {metric} loss of at most # %"] = (f"at most #% {metric} loss", 1.0)
    for metric in quality:
        made[f"The best {metric} at # times the speed or more"] = (f"at least #x, best {metric}", 2.0)
    # A loss in a score of the whole set is what most people ask for: CLIP first, where it stands.
    return dict(sorted(made.items(), key=lambda item: not re.match(r"at most #% clip", item[1][0])))


def wish(board: Board, study: int, paired: Paired | None) -> Choice | None:
    """Draw the question and return the answer; None while there is none, which is said. paired: for being sure."""
    known = templates(board)
    if not known:
        return None
    with st.container(border=True):
        ask, amount, certain = st.columns([5, 2, 2], vertical_alignment="bottom")
        sentence = ask.selectbox(
            "**Which plan do I take?**", list(known), key=f"wish-{study}", accept_new_options=True, index=0,
            persist_state="session",
            help="Choose a sentence and set its number, or type your own, such as `at least 2x, best clip` or "
            "`psnr >= 30 and at most 1% clip loss`.",
        )  # fmt: skip
        words, start = known.get(sentence, (sentence or "", 0.0))
        number = amount.number_input(
            _unit(words), value=start, min_value=0.0, step=0.01 if start < 1 else 0.5,
            key=f"wish-number-{study}-{words}", disabled="#" not in words, format="%g", persist_state="session",
        )  # fmt: skip
        sure = certain.toggle(
            "Be sure", key="wish-sure", persist_state="session",
            help="Hold the worse end of each 95% interval against the limit, not the value.",
        )  # fmt: skip
        try:
            wanted = parse_wish(words.replace("#", f"{number:.6f}".rstrip("0").rstrip(".")), list(board.columns))
            found = choose(board.measured, wanted, board.control, sure=sure, paired=paired)
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


def _unit(words: str) -> str:
    """What the number counts."""
    if "#" not in words:
        return "Number"
    return "Per cent" if "#%" in words else "Times" if "#x" in words else "Value"
