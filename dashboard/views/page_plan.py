"""Plan: what one plan inherits, what that does to the pictures, its scores, and how to export it."""

from __future__ import annotations

import streamlit as st

from dashboard.context import (
    COMPARE,
    board_of,
    choose_compared,
    choose_trial,
    chosen_study,
    chosen_trial,
    nothing_scored,
    open_store,
)
from dashboard.costs import anatomy_of, timing_of
from dashboard.palette import CONFIG
from dashboard.parts.plan_pictures import show_pictures
from dashboard.parts.plan_scores import show_lineage, show_metrics, show_scores
from dashboard.parts.rivals import rival
from dashboard.parts.take_home import take_home
from dashboard.pictures.steps import evaluations_of, network_words, steps_figure, steps_of
from dashboard.pictures.unet import unet_figure
from dashboard.step_costs import Lacks, StepCosts, counted, timed
from dashboard.students import HeldStudents, held_students
from dashboard.wording import headed, plain, say
from explorer.errors import ModelError, PlanError, StudyError
from explorer.plans.plan import InheritancePlan
from search_spaces.axes import choices
from studies.results.board import Board
from studies.results.charts import group_of
from studies.results.rows import TrialRow, trial
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, SCREENED, UNSTEADY, UNTIMED

REMOVED_WORDS = "Removed: neither computed nor inherited; its input passes on, with or without the shortcut. "


def page() -> None:
    headed("Plan", "**What does this plan do to my pictures, and how do I take it home?**")
    with open_store() as store:
        study = chosen_study(store)
        board = board_of(store, study)
        row = _choose(store, study, board)
        st.header(plain(row.nickname), anchor=False)
        st.caption(plain(_origin(row)))
        if row.words != row.nickname:
            st.caption(f"In full: {plain(row.words)}")
        if row.state == UNTIMED:
            say("this plan's quality is measured; its latency waits for a worker on the study's device.")
        elif row.state == UNSTEADY:
            say(f"this plan's speed is not known, so it is on no front: {row.reason}. A search times it again.")
        elif row.state == SCREENED:
            say(f"this plan was not scored completely, so it is on no front: {row.reason}.")
        elif row.state != DONE:
            say(f"this plan is {row.state}{f': {row.reason}' if row.reason else ', so it has no scores yet'}.")
        plan = _plan(row)
        show_metrics(study, row, board.control)
        if row.state == DONE and plan is not None:
            take_home(study, row, plan)
        show_pictures(store, study, row, board.control)
        if plan is not None:
            _computed(store, study, plan, row)
        if row.scores:
            show_scores(store, study, row, board.control)
        show_lineage(store, study, row)


def _choose(store: Store, study: StudyRecord, board: Board) -> TrialRow:
    """The chosen trial, with a box to choose another: those of the front, and the one that is open."""
    numbered = {row.number: row for row in board.rows if row.number is not None}
    front = [row.number for row in (board.measured[i] for i in board.front) if row.number is not None]
    asked = chosen_trial()
    if not front and asked is None:
        raise nothing_scored(study, board.rows)
    if asked is None:
        lossless = [row.number for row in board.lossless if row.number in front]
        choose_trial((lossless or front)[0])
    elif asked not in numbered:
        st.session_state.pop("trial")
        raise StudyError(f"the study {study.name} has no trial {asked}; choose a point on the Front page.")
    number = chosen_trial()
    assert number is not None
    options = front if number in front else [number, *front]
    st.session_state["trial-box"] = number
    box, button = st.columns([5, 1], vertical_alignment="bottom")
    box.selectbox(
        "Trial (the front's, fastest first)", options, key="trial-box", on_change=_box_changed,
        format_func=lambda n: _option(numbered[n]),
    )  # fmt: skip
    if button.button("Compare", key="compare-this", icon=":material/compare:", width="stretch"):
        other = rival(numbered[number], board)
        choose_compared([number] if other is None or other.number is None else [number, other.number])
        st.switch_page(COMPARE)
    return trial(store, study, number)


def _box_changed() -> None:
    choose_trial(st.session_state["trial-box"])


def _option(row: TrialRow) -> str:
    speed = "" if row.speedup is None else f"{row.speedup:.2f}x, "
    return f"{speed}{row.title}"


def _origin(row: TrialRow) -> str:
    origin = group_of(row) if row.origin == "baseline" else "found by the search"
    also = f"; also named {', '.join(row.aliases)}" if row.aliases else ""
    return f"trial {row.number}, {origin}{also}" + (f"; measured on {row.device}" if row.device else "")


def _plan(row: TrialRow) -> InheritancePlan | None:
    try:
        return InheritancePlan.from_json(row.plan)
    except PlanError as error:
        say(f"the plan of this trial cannot be drawn or exported: {error}")
        return None


def _computed(store: Store, study: StudyRecord, plan: InheritancePlan, row: TrialRow) -> None:
    st.subheader("What is computed, and when", anchor=False)
    known = row.evaluations or evaluations_of(plan, row.key)
    count = known or plan.steps
    held = held_students(study.settings) if plan.cast is not None else HeldStudents()
    steps = steps_of(plan, count, held.lacks)
    costs = _costs(store, study, plan, count, held.lacks)
    drawn, facts = st.columns([5, 2], vertical_alignment="center")
    with drawn:
        st.plotly_chart(
            unet_figure(plan.architecture, steps), key="unet", config=CONFIG,
            alt="The UNet as a U, each unit coloured by the share of evaluations that compute it",
        )  # fmt: skip
    with facts:
        st.metric("evaluations that compute everything", f"{steps.full} of {steps.evaluations}")
        if costs is not None:
            st.metric(costs.ratio_name, f"{costs.ratio:.2f}x")
            st.caption(costs.ratio_words)
        st.metric("rule", plan.rule.name)
        for axis in choices():
            if (value := axis.of(plan)) is not None:
                st.metric(axis.name, axis.shown(value))
    st.caption(
        "The UNet from its input (top left) to its output (top right). R: residual units; A: attention units; arrows: "
        "samplers; dotted: the skips of each level. Blue units are computed in every evaluation, orange ones in none."
    )
    st.plotly_chart(
        steps_figure(steps, costs), key="steps", config=CONFIG,
        alt="What each node of the UNet does at each evaluation, and what each evaluation costs",
    )  # fmt: skip
    if plan.cast is not None:
        words = f"Networks: {network_words(steps.networks)}."
        if whole := [name for name in plan.cast.students if name not in held.lacks]:
            words += f" What {', '.join(whole)} lacks is not drawn, as the student is not on this machine."
        st.caption(plain(words))
    doubt = "" if known else " (assuming one for each step, as the scheduler's number is not known)"
    st.caption(
        f"Each column is one evaluation of the UNet{doubt}, each row one of its units or samplers, from the input "
        f"at the top to the output. {steps.full} of {steps.evaluations} evaluations compute everything; "
        f"{steps.saved:.0%} of the cells are not computed. Residual inherited: the residual branch is reused, "
        "the input still passes. Output inherited: the complete output is reused, and nodes that only it reads do not "
        f"run. {REMOVED_WORDS if steps.removes else ''}{plain(costs.words) if costs else ''}"
    )


def _costs(store: Store, study: StudyRecord, plan: InheritancePlan, count: int, lacks: Lacks) -> StepCosts | None:
    timing = timing_of(store, study)
    try:
        return timed(plan, count, timing, lacks) if timing else counted(plan, count, anatomy_of(store, study), lacks)
    except ModelError as error:
        say(error)
        return None


if __name__ == "__main__":
    page()
