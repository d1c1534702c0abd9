"""Compare: two to four plans on the same prompts, their scores with paired differences, and their masks overlaid."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from dashboard.context import (
    COMPARED,
    PLAN,
    board_of,
    choose_compared,
    choose_trial,
    chosen_study,
    chosen_trial,
    compared,
    nothing_scored,
    open_store,
)
from dashboard.palette import CONFIG
from dashboard.parts.compare_pictures import show_grid
from dashboard.parts.compare_scores import Differences, compare_table, difference_figure, metrics_of
from dashboard.parts.rivals import rival
from dashboard.pictures.overlay import LETTERS, overlay, overlay_figure
from dashboard.pictures.steps import Steps, evaluations_of, network_words, steps_of
from dashboard.students import held_students
from dashboard.wording import headed, plain, say
from explorer.errors import PlanError
from explorer.plans.cast import TEACHER
from explorer.plans.plan import InheritancePlan
from explorer.unet.mask import Mask
from studies.choosing.paired import difference
from studies.results.board import Board
from studies.results.rows import TrialRow, trial
from studies.storage.store import Store, StudyRecord


def page() -> None:
    headed("Compare", "**Which of these plans is better, and by how much?** The same prompts and seeds, side by side.")
    with open_store() as store:
        study = chosen_study(store)
        board = board_of(store, study)
        if not len(board):
            raise nothing_scored(study, board.rows)
        numbers = _choose(board)
        if len(numbers) < 2:
            say(f"choose two to {COMPARED} plans above, or tick them in the table of the Front page.")
            return
        named = {letter: trial(store, study, number) for letter, number in zip(LETTERS, numbers, strict=False)}
        _heads(named)
        _scores(store, study, named)
        show_grid(store, study, named, board.control)
        _masks(named, held_students(study.settings).lacks if _runs_students(named) else {})


def _choose(board: Board) -> list[int]:
    """The box of plans: those of the front, the baselines, and whatever was chosen elsewhere."""
    scored = {row.number: row for row in board.measured if row.number is not None}
    standing = [number for number in dict.fromkeys(compared() or start(board)) if number in scored]
    front = [board.measured[i].number for i in board.front]
    baselines = [row.number for row in board.measured if row.origin == "baseline"]
    options = [n for n in dict.fromkeys([*standing, *front, *baselines]) if n is not None]
    st.session_state["compare-box"] = standing[:COMPARED]
    chosen = st.multiselect(
        "Plans", options, key="compare-box", max_selections=COMPARED, on_change=_box_changed,
        format_func=lambda n: f"{scored[n].speedup or 0:.2f}x, {scored[n].title}",
        help="Plans of the front and baselines. The others are compared with the first.",
    )  # fmt: skip
    choose_compared(chosen)
    return compared()  # which writes them into the address


def start(board: Board) -> list[int]:
    """What is compared when nobody has chosen: the plan opened last, or else the fastest without loss, and the fewer
    plain steps that come next to it in speed."""
    opened = chosen_trial()
    scored = {row.number: row for row in board.measured if row.number is not None}
    first = scored.get(opened) if opened is not None else None
    if first is None:
        first = board.lossless[0] if board.lossless else board.measured[board.front[0]] if board.front else None
    if first is None:
        return []
    other = rival(first, board)
    return [row.number for row in (first, other) if row is not None and row.number is not None]


def _box_changed() -> None:
    choose_compared(list(st.session_state["compare-box"]))


def _heads(named: dict[str, TrialRow]) -> None:
    for column, (letter, row) in zip(st.columns(len(named)), named.items(), strict=True):
        with column.container(border=True, gap="small"):
            speed = "" if row.speedup is None else f"{row.speedup:.2f}x"
            st.metric(f"**{letter}**, trial {row.number}", speed)
            st.caption(plain(row.nickname), help=plain(row.words) if row.words != row.nickname else None)
            if st.button("Open", key=f"open-{letter}", icon=":material/grid_on:") and row.number is not None:
                choose_trial(row.number)
                st.switch_page(PLAN)


def _scores(store: Store, study: StudyRecord, named: dict[str, TrialRow]) -> None:
    objectives = study.settings.objectives
    metrics = metrics_of(list(named.values()), objectives)
    first, *others = named
    differences: Differences = {
        (letter, metric): difference(store, study, named[letter], named[first], metric)
        for letter in others
        for metric in metrics
    }
    st.subheader(f"What differs from {first}", anchor=False)
    if not metrics:
        say("these plans have no score in common.")
        return
    st.plotly_chart(
        difference_figure(named, metrics, differences, objectives), key="differences", config=CONFIG,
        alt=f"The difference of each plan from {first} in every metric, with 95% intervals",
    )  # fmt: skip
    st.caption(
        f"Each mark is a plan minus {first}, with its 95% interval, in the metric's unit. Blue, pointing up: "
        "measurably better; red, pointing down: measurably worse; grey circles: tied, the interval contains 0. Scores "
        "of single pictures are paired by prompt; others are treated as independent."
    )
    st.dataframe(
        compare_table(named, metrics, differences), hide_index=True, alt="The scores of the plans side by side"
    )
    st.caption(
        "Values with 95% intervals; ↑ measurably better, ↓ measurably worse, = tied; N counts pictures (of latency and "
        "speed-up: pairs of timings)."
    )


def _networks(each: dict[str, Steps]) -> str:
    """Which networks run when, where it is not the model's own UNet alone."""
    if all({*steps.networks} <= {TEACHER} for steps in each.values()):
        return ""
    words = "; ".join(f"{letter}: {network_words(steps.networks)}" for letter, steps in each.items())
    return f"{plain(words)}. "


def _runs_students(named: dict[str, TrialRow]) -> bool:
    return any(row.facts.networks != (TEACHER,) for row in named.values())


def _masks(named: dict[str, TrialRow], lacks: Mapping[str, Mask]) -> None:
    st.subheader("What they compute", anchor=False)
    each: dict[str, Steps] = {}
    for letter, row in named.items():
        try:
            plan = InheritancePlan.from_json(row.plan)
            each[letter] = steps_of(plan, row.evaluations or evaluations_of(plan, row.key) or plan.steps, lacks)
        except PlanError as error:
            say(f"the plan of {letter} cannot be drawn: {error}")
            return
    if len({steps.nodes for steps in each.values()}) > 1:
        say("these plans are for different architectures, so their masks cannot be compared.")
        return
    shown = overlay(list(each.values()))
    st.plotly_chart(
        overlay_figure(shown), key="overlay", config=CONFIG, alt="Where the plans compute the same units and where not"
    )
    stretched = (
        " Runs of different lengths are scaled: a column shows what each plan does at that fraction of its run."
        if shown.stretched
        else ""
    )
    st.caption(
        "Each column is one evaluation of the UNet, each row one of its units or samplers, from the input at the top. "
        f"{_networks(each)}The plans do the same in {shown.agree:.0%} of the cells. Nodes that are not "
        f"computed are inherited or not run.{stretched}"
    )


if __name__ == "__main__":
    page()
