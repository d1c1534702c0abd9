"""Plan: what one plan gives up, what that did to the pictures, how sure its scores are, and how to take it home."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from dashboard.context import choose_trial, chosen_study, chosen_trial, nothing_scored, open_store, rows_of
from dashboard.picture_pairs import Pair, pairs
from dashboard.steps_picture import evaluations_of, steps_figure, steps_of
from dashboard.wording import file_name, interval, metric_words, number, plain, say, score_words
from explorer.errors import PlanError, StudyError
from explorer.plan import InheritancePlan
from studies.charts import group_of
from studies.pictures import read_picture
from studies.rows import TrialRow, trial
from studies.store import Store, StudyRecord
from studies.summary import front_of, plain_row
from studies.tables import DONE

FIRST = 6  # pairs of pictures that are shown before somebody asks for all


def page() -> None:
    st.title("Plan")
    with open_store() as store:
        study = chosen_study(store)
        rows = rows_of(store, study)
        row = _choose(store, study, rows)
        st.header(plain(row.words), anchor=False)
        st.caption(plain(_origin(row)))
        if row.state != DONE:
            say(f"this plan is {row.state}{f': {row.reason}' if row.reason else ', so it has no scores yet'}.")
        control = plain_row(rows, study.settings.steps)
        _metrics(study, row)
        _take_home(study, row)
        _pictures(store, study, row, control)
        if row.scores:
            _scores(row, control)


def _choose(store: Store, study: StudyRecord, rows: list[TrialRow]) -> TrialRow:
    """The chosen trial, with a box to choose another: those of the front, and the one that is open."""
    numbered = {row.number: row for row in rows if row.number is not None}
    front = [row.number for row in front_of(rows, study.settings.objectives) if row.number is not None]
    asked = chosen_trial()
    if not front and asked is None:
        raise nothing_scored(study, rows)
    if asked is None:
        choose_trial(front[0])
    elif asked not in numbered:
        st.session_state.pop("trial")
        raise StudyError(f"the study {study.name} has no trial {asked}; choose a point on the Front page.")
    number = chosen_trial()
    assert number is not None
    options = front if number in front else [number, *front]
    st.session_state["trial-box"] = number
    st.selectbox(
        "Trial (the front's, fastest first)", options, key="trial-box", on_change=_box_changed,
        format_func=lambda n: _option(numbered[n]),
    )  # fmt: skip
    return trial(store, study, number)


def _box_changed() -> None:
    choose_trial(st.session_state["trial-box"])


def _option(row: TrialRow) -> str:
    speed = "" if row.speedup is None else f"{row.speedup:.2f}x, "
    return f"trial {row.number}: {speed}{row.words}"


def _origin(row: TrialRow) -> str:
    origin = group_of(row) if row.origin == "baseline" else "found by the search"
    also = f"; also named {', '.join(row.aliases)}" if row.aliases else ""
    return f"trial {row.number}, {origin}{also}" + (f"; measured on {row.device}" if row.device else "")


def _metrics(study: StudyRecord, row: TrialRow) -> None:
    names = ["speedup", *(o.name for o in study.settings.objectives if o.name != "speedup")]
    names = [name for name in names if name in row.scores]
    for column, name in zip(st.columns(max(len(names), 1)), names, strict=False):
        score = row.scores[name]
        value = f"{score.value:.2f}x" if name == "speedup" else number(score.value)
        column.metric("measured speed-up" if name == "speedup" else plain(metric_words(name)), value)
        column.caption(f"95%: {interval(score)}, N = {score.n}")


def _take_home(study: StudyRecord, row: TrialRow) -> None:
    try:
        plan = InheritancePlan.from_json(row.plan)
    except PlanError as error:
        say(f"the plan of this trial cannot be drawn or taken home: {error}")
        return
    file = f"{file_name(study.name, 'trial', row.number)}.json"
    st.subheader("Take it home", anchor=False)
    code, button = st.columns([3, 1], vertical_alignment="top")
    code.code(f'from explorer import InheritancePlan, inherit\ninherit(pipe, InheritancePlan.load("{file}"))')
    button.download_button(
        "Download the plan", plan_text(plan), file, "application/json", on_click="ignore", type="primary",
        width="stretch", icon=":material/download:",
    )  # fmt: skip
    st.caption(f"Then draw as always, with `num_inference_steps={plan.steps}`; `pipe` is your diffusers pipeline.")
    _steps(plan, row)


def plan_text(plan: InheritancePlan) -> str:
    """The file that `InheritancePlan.load` reads."""
    return json.dumps(plan.to_json(), ensure_ascii=False, indent=1) + "\n"


def _steps(plan: InheritancePlan, row: TrialRow) -> None:
    st.subheader("What each step computes", anchor=False)
    count = evaluations_of(plan, row.key)
    steps = steps_of(plan, count or plan.steps)
    st.plotly_chart(steps_figure(steps), key="steps", alt="What each node of the UNet does at each evaluation")
    doubt = "" if count else " (the scheduler's number of evaluations is not known: one for each step is assumed)"
    st.caption(
        f"Each column is one evaluation of the UNet{doubt}, each row one of its units or samplers, from the input at "
        f"the top to the output. {steps.full} of {steps.evaluations} evaluations compute everything; {steps.saved:.0%} "
        "of the cells are not computed (cells differ in cost). Residual inherited: the unit's own work is taken from "
        f"earlier evaluations, its input still passes. Output inherited: its whole output is. Rule: {plan.rule.name}."
    )


def _scores(row: TrialRow, control: TrialRow | None) -> None:
    st.subheader("Scores", anchor=False)
    st.dataframe(score_table(row, control), hide_index=True, alt="Every score of this plan with its interval")
    st.caption(
        "Intervals are 95%; N counts pictures (of latency and speed-up: pairs of timings). Scores of a search are a "
        "little optimistic, as the best of many noisy values is chosen."
    )


def score_table(row: TrialRow, control: TrialRow | None) -> list[dict[str, Any]]:
    """A line for each score."""
    return [
        {
            "metric": metric_words(metric),
            "value": float(number(score.value)),
            "95% interval": interval(score),
            "N": score.n,
            "un-accelerated": score_words(control.scores[metric]) if control and metric in control.scores else "",
            "extractor": row.extractors.get(metric, ""),
            "device": row.device or "",
        }
        for metric, score in row.scores.items()
    ]


def _pictures(store: Store, study: StudyRecord, row: TrialRow, control: TrialRow | None) -> None:
    st.subheader("Pictures", anchor=False)
    found = pairs(store, study, row, control)
    if not found:
        say("no pictures were kept of this plan.")
        return
    itself = control is not None and control.key == row.key
    left, right = st.columns(2)
    everything = len(found) <= FIRST or left.toggle(f"Show all {len(found)} pairs", key="all-pairs")
    large = right.toggle("Full size", key="full-size", help="The stored pictures themselves, not their thumbnails.")
    # Row by row, so that the order also holds where a narrow screen puts columns below each other.
    shown, across = found if everything else found[:FIRST], 2 if large else 3
    for start in range(0, len(shown), across):
        for column, pair in zip(st.columns(across), shown[start : start + across], strict=False):
            with column.container(border=True):
                _pair(store, pair, large, alone=itself)
    st.caption(
        "The un-accelerated pictures themselves." if itself else
        "Left: this plan. Right: the un-accelerated pipeline with the same prompt and seed. The largest change first, "
        "by peak signal-to-noise ratio in dB: lower is further from the un-accelerated picture."
    )  # fmt: skip


def _pair(store: Store, pair: Pair, large: bool, alone: bool) -> None:
    shown = [pair.ours] if alone or pair.plain is None else [pair.ours, pair.plain]
    images, problems = [], []
    for picture in shown:
        try:
            images.append(read_picture(store.folder, picture.path if large else picture.thumbnail))
        except StudyError as error:
            problems.append(str(error))
    if images:
        st.image(images, width=240 if large else 96)
    if pair.plain is None and not alone:
        problems.append("the un-accelerated picture of this prompt was not kept.")
    psnr = "" if alone or pair.psnr is None else f"{pair.psnr:.1f} dB, "
    st.caption(plain(f"{psnr}seed {pair.ours.seed}: {pair.ours.prompt or 'no prompt'}"))
    for problem in problems:
        st.caption(plain(problem))


if __name__ == "__main__":
    page()
