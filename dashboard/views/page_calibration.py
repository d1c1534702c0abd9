"""Calibration: what inheriting one step costs in error and time, what errors do, and how well that predicts plans."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dashboard.context import PLAN, board_of, choose_trial, chosen_study, go, open_store, storage
from dashboard.palette import CONFIG
from dashboard.pictures.calibration import bars, effects_line, ends_of, error_map, node_map, percent, prediction_chart
from dashboard.views.page_front import clicked
from dashboard.views.page_progress import duration
from dashboard.wording import axis_words, headed, plain, say
from explorer.errors import PlanError
from explorer.plans.rules import rule_type
from studies.predicting import calibration
from studies.predicting.calibration import Calibration, CalibrationState
from studies.results.board import Board
from studies.results.shared import Shared, shared_drift
from studies.results.summary import Agreement, agreements, cost_agreement, predicted_rows
from studies.storage.command_lines import command_line
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, SCREENED

OVER_MASKS, OVER_RULES = "Every mask, one rule", "One mask, every rule"


def page() -> None:
    headed("Calibration", "**How well can a plan be judged without running it?**")
    with open_store() as store:
        study = chosen_study(store)
        so_far = calibration.standing(store, study)
        found = _read(str(store.url), study.id, study.created, so_far, store, study) if so_far.whole else None
        board = board_of(store, study)
        finished = sum(row.state in (DONE, SCREENED) for row in board.rows)
        shared = None if found is None else _shared(str(store.url), study.id, finished, store, study, board)
    if found is None:
        _missing(study, so_far)
        return
    st.markdown(
        "A calibration lets one step at a time inherit in un-accelerated runs. It measures the error of that step's "
        "prediction and how far it moves the final latents. From this the search predicts the drift of any plan."
    )
    _counts(found, board, shared)
    _errors(found)
    _effects(found)
    _times(found)
    _nodes(found)
    _predictions(board, shared)


@st.cache_resource(max_entries=8, show_spinner="Reading the calibration ...")
def _read(
    url: str, study_id: int, created: float, so_far: CalibrationState, _store: Store, _study: StudyRecord
) -> Calibration | None:
    """Without the moments of the features, which are megabytes and which no chart shows."""
    return calibration.load(_store, _study, with_moments=False)


@st.cache_resource(max_entries=8, show_spinner=False)
def _shared(url: str, study_id: int, finished: int, _store: Store, _study: StudyRecord, _board: Board) -> Shared | None:
    """Read again once more plans are finished, as it reads single pictures' drift."""
    return shared_drift(_store, _study, _board.rows, _board.objectives)


def command(study: StudyRecord, *, again: bool = False) -> str:
    """The line that calibrates the study."""
    words = ("calibrate", "--study", study.name, *(["--again"] if again else []))
    return command_line(*words, storage=storage())


def _missing(study: StudyRecord, so_far: CalibrationState) -> None:
    if so_far.done:
        say(
            f"{so_far.done} of {so_far.total} parts of this study's calibration are stored "
            f"({duration(so_far.seconds)} so far). If it is not running, the same command resumes it:"
        )
    else:
        say(
            "This study is not calibrated. A calibration runs a few un-accelerated pictures once and then predicts "
            "plans without running them. Only a study created with --calibrate has the rule fitted. To calibrate:"
        )
    st.code(command(study), language="bash")
    st.caption("A model with random weights cannot be calibrated.")


def _counts(found: Calibration, board: Board, shared: Shared | None) -> None:
    design = found.design
    agreed = agreements(board.rows, board.objectives, shared)
    shown = [("Pictures", f"{found.errors.pictures}"),
             ("Evaluations", f"{len(design.steps)} of {design.evaluations}"),
             ("Masks", f"{len(design.masks)}"),
             ("Cost", duration(found.seconds)),
             ("Rank correlation", f"{agreed[0].spearman:.2f}" if agreed else "none yet")]  # fmt: skip
    with st.container(horizontal=True):
        for label, value in shown:
            st.metric(label, value, border=True, width=148)


def _errors(found: Calibration) -> None:
    st.subheader("How wrong one inherited step is", anchor=False)
    design = found.design
    view = st.segmented_control(
        "Rows", [OVER_MASKS, OVER_RULES], default=OVER_MASKS, required=True, key="calibration-rows",
        label_visibility="collapsed",
    )  # fmt: skip
    with st.container(horizontal=True):
        if view == OVER_MASKS:
            rule = st.selectbox("Rule", design.rules, key="calibration-rule", format_func=label_of, width=220)
            age = st.selectbox(
                "Age", design.ages, index=min(1, len(design.ages) - 1), key="calibration-age", width=220,
                format_func=_age, help="Evaluations since the features were extracted.",
            )  # fmt: skip
            place = design.ages.index(age)
            values = np.stack([found.error_map(mask, rule)[:, place] for mask in design.masks])
            rows, what = list(design.masks), "mask"
        else:
            mask = st.selectbox("Mask", list(design.masks), key="calibration-mask", width=220)
            values = np.concatenate([found.error_map(mask, rule).T for rule in design.rules])
            rows, what = [f"{label_of(rule)}, age {age}" for rule in design.rules for age in design.ages], "rule"
    # One scale for every choice, so that a colour keeps its meaning.
    ends = ends_of(np.concatenate([found.error_map(mask, rule) for mask in design.masks for rule in design.rules]))
    st.plotly_chart(
        error_map(values, rows, design.steps, what, ends), key="calibration-errors", config=CONFIG,
        alt="Error of the guided prediction where one evaluation inherits, by evaluation and "
        + ("mask" if view == OVER_MASKS else "rule and age"),
    )  # fmt: skip
    st.caption(
        "The error of the guided prediction when only this evaluation inherits: RMS over the RMS of the prediction, on "
        "a logarithmic scale; dark is small. Age: evaluations since the features were extracted. A forecast reads two "
        "or three extract steps at this distance. A cell is empty if there are too few earlier evaluations."
    )


def label_of(rule: str) -> str:
    """What a rule is, in a few words; its name where a later version measured one that is not known here."""
    try:
        return rule_type(rule).label
    except PlanError:
        return rule


def _age(age: int) -> str:
    return f"{age} evaluation{'s' if age > 1 else ''}"


def _effects(found: Calibration) -> None:
    st.subheader("What an error at each step does", anchor=False)
    st.plotly_chart(
        effects_line(found), key="calibration-effects", config=CONFIG,
        alt="How far the final latents move for an error of one per cent at each evaluation",
    )  # fmt: skip
    st.caption(
        "How far the final latents move, in per cent of their RMS, when the guided prediction of one evaluation has an "
        "error of one per cent and all later ones are computed. Where the line is high, an evaluation should be "
        "computed."
    )


def _times(found: Calibration) -> None:
    st.subheader("What it saves", anchor=False)
    errors, left, right = found.errors, *st.columns(2)
    full = float(errors.seconds[-1])
    shares = {mask: float(errors.seconds[m] / full) for m, mask in enumerate(found.design.masks)}
    shares = dict(sorted(shares.items(), key=lambda item: item[1]))
    words = [f"{share:.0%}, {1e3 * full * share:.3g} ms" for share in shares.values()]
    left.plotly_chart(
        bars(shares, words, "time of an inherit step"), key="calibration-times", config=CONFIG,
        alt="Time of a step under each mask, as a share of a full step",
    )  # fmt: skip
    left.caption(
        f"Median time of a step that inherits the mask, relative to a full step of {1e3 * full:.3g} ms. These times "
        "are rough; the search measures plans separately."
    )
    if found.plain:
        size = float(np.sqrt(errors.latents.flat[0]))
        moved = {f"plain@{steps}": float(np.sqrt(square)) / size for steps, square in sorted(found.plain.items())[::-1]}
        right.plotly_chart(
            bars(moved, [percent(value) for value in moved.values()], "move of the final latents"),
            key="calibration-plain", config=CONFIG, alt="How far fewer plain steps move the final latents",
        )  # fmt: skip
        right.caption("How far fewer plain steps move the final latents, without inheritance.")


def _nodes(found: Calibration) -> None:
    st.subheader("Which nodes matter", anchor=False)
    with st.expander(f"Each of {len(found.design.nodes)} nodes by itself", icon=":material/grid_on:", expanded=True):
        st.plotly_chart(
            node_map(found), key="calibration-nodes", config=CONFIG,
            alt="Error of the guided prediction when a single node is copied, by node and evaluation",
        )  # fmt: skip
    st.caption(
        "The same error when a single node is copied from two evaluations before (one, at the first that inherits): "
        "the residual branch of a unit, the output of another node. The UNet's input is at the top. Dark nodes can be "
        "inherited at little loss; the Anatomy page shows what they save."
    )


def _predictions(board: Board, shared: Shared | None) -> None:
    st.subheader("Predicted against measured", anchor=False)
    agreed = {each.metric: each for each in agreements(board.rows, board.objectives, shared)}
    if not agreed:
        say("fewer than three plans of this study are both predicted and measured; continue the search.")
    else:
        _drift(board, agreed)
    if (cost := cost_agreement(board.rows)) is not None:
        st.caption(
            f"Rank correlation of predicted cost with measured latency: **{cost.spearman:.2f}** over {cost.over}."
        )


def _drift(board: Board, agreed: dict[str, Agreement]) -> None:
    metric = st.segmented_control(
        "Measured", list(agreed), default=next(iter(agreed)), required=True, key="calibration-metric",
        format_func=axis_words, label_visibility="collapsed",
    )  # fmt: skip
    one = agreed[metric]
    event = st.plotly_chart(
        prediction_chart(predicted_rows(board.rows, metric), metric), on_select="rerun", selection_mode="points",
        key="calibration-predictions", config=CONFIG, alt=f"Predicted drift of each plan against measured {metric}",
    )  # fmt: skip
    st.caption(
        f"Each point is a completely scored plan: predicted against measured. Click one to open it. Rank correlation "
        f"(Spearman) of predicted drift with the loss in {plain(axis_words(metric))}: **{one.spearman:.2f}** over "
        f"{one.over}; 1 is a perfect ranking, 0 none."
    )
    if (trial := clicked(event)) is not None:
        choose_trial(trial)
        go(PLAN)


if __name__ == "__main__":
    page()
