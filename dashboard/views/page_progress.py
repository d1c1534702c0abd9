"""Progress: how the front grew and at what cost, what failed and why, which units matter, who is working."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np
import sqlalchemy as sa
import streamlit as st

from dashboard.context import board_of, chosen_study, open_store
from dashboard.palette import CONFIG
from dashboard.parts.proposed import proposal_table
from dashboard.pictures.progress_charts import Line, effects_chart, growth_chart
from dashboard.views.page_studies import ago, workers_alive
from dashboard.wording import axis_words, headed, plain, say
from studies.metrics import direction_of, metric_of
from studies.queue.heartbeats import ALIVE
from studies.results.board import Board
from studies.results.history import history, seconds_of
from studies.results.importance import Effects, by_block, describe, effects
from studies.results.rows import TrialRow, worker_rows
from studies.results.summary import scale_of
from studies.settings import differences
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import FAILED, SCREENED, plans

# In these, studies may differ whose fronts are set against each other: they measure the same, and search otherwise.
FREE = {"sampler", "sampler seed", "sampler arguments", "space", "calibrated"}
SAMPLE = 1500  # plans that the importances are found from


def page() -> None:
    headed("Progress", "**Is it worth searching on?** How the front grew, what failed, and who is working.")
    with open_store() as store:
        study = chosen_study(store)
        board = board_of(store, study)
        _counts(store, study, board)
        _growth(store, study, board)
        _proposals(board)
        _failures(board.rows)
        _importances(store, study, board)
        _workers(store, study)


def _counts(store: Store, study: StudyRecord, board: Board) -> None:
    states = [row.state for row in board.rows]
    alive = workers_alive(worker_rows(store, study), time.time())
    spent = sum(seconds_of(row) for row in board.rows)
    shown = [("Done", f"{states.count('done'):,}"), ("Screened out", f"{states.count(SCREENED):,}"),
             ("Failed", f"{states.count(FAILED):,}"),
             ("Running", f"{states.count('running'):,}"), ("Waiting", f"{states.count('waiting'):,}"),
             ("Workers alive", f"{alive}"), (seconds_words(study, short=True), duration(spent))]  # fmt: skip
    with st.container(horizontal=True, gap="xsmall"):
        for label, value in shown:
            st.metric(label, value, border=True)


def seconds_words(study: StudyRecord, short: bool = False) -> str:
    """What a measured second is on the study's device."""
    kind = "GPU time" if study.settings.device.startswith(("cuda", "mps")) else "Measured time"
    return kind if short else f"{kind.lower().replace('gpu', 'GPU')} (seconds, summed over workers)"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def comparable(study: StudyRecord, others: list[StudyRecord]) -> list[StudyRecord]:
    """Those of `others` that measure what `study` measures, itself included."""
    return [
        other for other in others
        if {name for name, _, _ in differences(study.settings, other.settings)} <= FREE
    ]  # fmt: skip


def _growth(store: Store, study: StudyRecord, board: Board) -> None:
    st.subheader("How the front grew", anchor=False)
    fitting = {other.name: other for other in comparable(study, store.studies())}
    names = [study.name]
    if len(fitting) > 1:
        names = st.multiselect(
            "Studies", list(fitting), default=[study.name], key=f"studies-{study.id}", placeholder="choose some",
            help="Studies that measure the same on the same device. Proposals, seed and space may differ.",
        ) or [study.name]  # fmt: skip
    over = st.segmented_control(
        "Against", ["plans", "time"], default="plans", required=True, key="growth-over", label_visibility="collapsed",
        format_func=lambda choice: "Against plans" if choice == "plans" else "Against measured time",
    )  # fmt: skip
    boards = [(fitting[name], board if name == study.name else board_of(store, fitting[name])) for name in names]
    scale = scale_of([row for _, one in boards for row in one.measured], study.settings.objectives)
    if scale is None:
        say("no baseline is scored yet, and hypervolumes are relative to them; continue the search.")
        return
    lines = [Line(one.name, _way(one), history(of.rows, study.settings.objectives, scale)) for one, of in boards]
    figure = growth_chart([line for line in lines if line.history.trials], "trials" if over == "plans" else "seconds",
                          seconds_words(study))  # fmt: skip
    st.plotly_chart(figure, key="growth", config=CONFIG, alt="Hypervolume of the front as the search went on")
    st.caption(
        f"How much of the space of {', '.join(plain(o.name) for o in study.settings.objectives)} the front covers "
        "(hypervolume). Each objective is scaled to its range over the baselines of the shown studies, and the "
        "reference point is a tenth of that range beyond the worst one, so compare only lines of one chart. Every "
        "study measures the baselines first."
    )


def _way(study: StudyRecord) -> str:
    """How plans of the study are proposed: by predictions in a calibrated one, else as its sampler says."""
    return "calibrated" if study.settings.extra.get("calibrated") else study.settings.sampler.name


def _proposals(board: Board) -> None:
    table = proposal_table(board)
    if not table:
        return
    st.subheader("Who proposed what", anchor=False)
    st.dataframe(
        table, hide_index=True, alt="What each kind of proposer found", column_config={
            "share": st.column_config.ProgressColumn(
                "share of the hypervolume", format="%.0f%%", min_value=0, max_value=100,
                help="Share of what all plans added to the front when they were finished.",
            ),
            "a plan": st.column_config.NumberColumn("hypervolume a plan", format="%.2g",
                                                    help="What a plan of this kind added on average."),
        },
    )  # fmt: skip
    st.caption(
        "Where each plan came from. A calibrated study measures the plan with the greatest expected gain of any kind. "
        "Baselines come first and find what is easy, so compare the other kinds with each other."
    )


def _failures(rows: list[TrialRow]) -> None:
    st.subheader("Failures", anchor=False)
    table = failure_table(rows)
    if not table:
        st.caption("No plan has failed.")
        return
    columns: Any = {
        "why": st.column_config.TextColumn(width="large"), "plans": st.column_config.NumberColumn(width="small"),
    }  # fmt: skip
    st.dataframe(table, hide_index=True, alt="Why plans failed", column_config=columns)
    st.caption("Why plans failed, the most frequent reason first. A failed plan is not tried again.")


def failure_table(rows: list[TrialRow]) -> list[dict[str, Any]]:
    """A line for each reason, the most frequent first."""
    reasons: dict[str, list[TrialRow]] = defaultdict(list)
    for row in rows:
        if row.state == FAILED:
            reasons[row.reason or "no reason was recorded"].append(row)
    lines = [
        {
            "plans": len(members), "why": reason, "first": members[0].title,
            "trials": ", ".join(str(row.number) for row in members[:8]) + (" ..." if len(members) > 8 else ""),
        }
        for reason, members in reasons.items()
    ]  # fmt: skip
    return sorted(lines, key=lambda line: -int(line["plans"]))


def _importances(store: Store, study: StudyRecord, board: Board) -> None:
    st.subheader("Which units matter", anchor=False)
    metrics = [metric for metric in board.columns if metric != "latency"]
    if not metrics:
        say("no plan is scored yet.")
        return
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    metric = left.selectbox("Effect on", metrics, key="effect-metric", format_func=axis_words)
    level = right.segmented_control(
        "Of", ["blocks", "units"], default="blocks", required=True, key="effect-level", label_visibility="collapsed"
    )
    names, numbers, features = _features(str(store.url), study.id, study.created, _rounded(len(board)), store, study)
    at = np.array([board.by_number.get(number, -1) for number in numbers], dtype=int)
    found: Effects | None = None
    if len(names):
        scores = np.where(at >= 0, board.columns[metric].value[at], np.nan)
        known = metric_of(metric)
        if known is not None and known.ceiling is not None:  # 100 dB of the un-accelerated run must not rule
            scores = np.minimum(scores, known.ceiling)
        shown = by_block(names, features) if level == "blocks" else (names, features)
        found = effects(shown[0], shown[1], scores)
    if found is None:
        say("too few different plans are scored to compare units; 20 are needed.")
        return
    low = direction_of(metric, board.objectives) == "minimize"
    st.plotly_chart(effects_chart(found, metric, low), key="effects", config=CONFIG,
                    alt=f"The effect of inheriting each unit on {metric}")  # fmt: skip
    st.caption(effects_words(found, metric, level))


def effects_words(found: Effects, metric: str, level: str) -> str:
    """The caption, as Markdown: what is drawn, and whether to believe it."""
    trust = (
        "so the bars say little: **do not choose by them**" if found.explained < 0.2
        else "so they are a rough guide" if found.explained < 0.6 else "so they can be trusted as a guide"
    )  # fmt: skip
    return (
        f"The effect of inheriting a {level[:-1]} at every evaluation instead of none on {plain(axis_words(metric))}: "
        "blue is better, vermilion worse, grey not different from zero; thin bars are 95% intervals. A linear fit "
        f"(ridge) over {found.n:,} scored plans, which explains {max(0.0, found.explained):.0%} of the variance "
        f"of plans that it was not fitted to, {trust}. Units that are always inherited together cannot be separated."
    )


def _rounded(count: int) -> int:
    """Two digits of a count: the fit is done again when a tenth or so has been added, not after every plan."""
    return round(count, 2 - len(str(count))) if count >= 100 else count


@st.cache_resource(max_entries=4, show_spinner="Reading what each plan gives up ...")
def _features(
    url: str, study_id: int, created: float, about: int, _store: Store, _study: StudyRecord
) -> tuple[tuple[str, ...], list[int], Any]:
    """Names, trials and what they give up, of at most SAMPLE scored plans spread evenly over the study."""
    chosen = sa.select(plans.c.id, plans.c.trial_number).where(
        plans.c.study_id == _study.id, plans.c.state == "done", plans.c.trial_number.is_not(None)
    )
    with _store.begin() as connection:
        known = connection.execute(chosen.order_by(plans.c.id)).all()
        step = max(1, -(-len(known) // SAMPLE))
        ids = [row.id for row in known[::step]]
        query = sa.select(plans.c.trial_number, plans.c.plan).where(plans.c.id.in_(ids))
        found = connection.execute(query.order_by(plans.c.id)).all()
    names, features = describe([row.plan for row in found], _study.settings.steps)
    return names, [row.trial_number for row in found], features


def _workers(store: Store, study: StudyRecord) -> None:
    rows = worker_rows(store, study)
    if not rows:
        return
    now = time.time()
    st.subheader("Workers", anchor=False)
    st.dataframe(
        [
            {
                "worker": row.number, "state": "alive" if workers_alive([row], now) else
                "silent" if row.state == ALIVE else row.state, "last heard": ago(now - row.heartbeat),
                "host": row.host.split()[0], "process": row.pid,
            }
            for row in reversed(rows)
        ],
        hide_index=True, alt="The study's workers", height="content" if len(rows) < 12 else 420,
    )  # fmt: skip
    st.caption(
        "Every process that worked on this study, the latest first. Silent: no heartbeat for a long time, so it is "
        "probably dead; another worker takes its plan."
    )


if __name__ == "__main__":
    page()
