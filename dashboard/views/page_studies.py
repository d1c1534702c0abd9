"""Studies: what each one measures, how far it is, and the best speed-up at no measurable loss."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from dashboard.context import FRONT, PROGRESS, board_of, go, open_store, set_study
from dashboard.wording import headed, plain
from studies.metrics import SPEEDS
from studies.queue.heartbeats import ALIVE, STALE_SECONDS
from studies.queue.queue import Counts, counts
from studies.results.history import History
from studies.results.rows import TrialRow, WorkerRow, worker_rows
from studies.settings import scheduler_words
from studies.storage.store import Store, StudyRecord


@dataclass(frozen=True)
class Overview:
    """A study in a few numbers. best: the fastest row without measurable loss; last: seconds since the epoch; growth:
    hypervolume in the order of the plans, None while no baseline is scored."""

    study: StudyRecord
    counts: Counts
    workers_alive: int
    best: TrialRow | None
    last: float
    growth: History | None


def overview(store: Store, study: StudyRecord, now: float | None = None) -> Overview:
    board, workers = board_of(store, study), worker_rows(store, study)
    kept = board.lossless
    times = [
        study.created,
        *(row.finished or row.started or 0.0 for row in board.rows),
        *(w.heartbeat for w in workers),
    ]
    alive = workers_alive(workers, time.time() if now is None else now)
    return Overview(study, counts(store, study), alive, kept[0] if kept else None, max(times), board.growth)


def workers_alive(workers: list[WorkerRow], now: float) -> int:
    """Workers that have not stopped and have a recent heartbeat."""
    return sum(worker.state == ALIVE and now - worker.heartbeat < STALE_SECONDS for worker in workers)


def ago(seconds: float) -> str:
    """A span of time in the largest unit that counts it."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def page() -> None:
    headed("Studies", "**What was searched, and what is the best of it?**")
    with open_store() as store:
        overviews = [overview(store, study) for study in reversed(store.studies())]
    names = [shown.study.name for shown in overviews]
    chosen = names.index(str(st.session_state["study"]))
    key = f"studies-{len(names)}-{overviews[chosen].study.id}"  # another choice elsewhere begins with another tick

    def tick() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            set_study(names[rows[0]])

    st.dataframe(
        table(overviews, time.time()), hide_index=True, on_select=tick, selection_mode="single-row", key=key,
        selection_default={"selection": {"rows": [chosen]}}, alt="Every study of the storage, the newest first",
        column_config={
            "study": st.column_config.TextColumn(pinned=True),
            "lossless": st.column_config.NumberColumn("best speed-up", format="%.2fx",
                                                      help="The fastest plan at no measurable loss."),
            "growth": st.column_config.LineChartColumn("hypervolume", help="How the front grew, plan by plan."),
        },
    )  # fmt: skip
    st.caption(
        "Tick a row to choose a study. Best speed-up: the fastest plan with every quality objective at least as good "
        "as the worse end of the un-accelerated pipeline's 95% interval. Hypervolume: how much of the objectives' "
        "space the front covers, from the first plan to the last; each study has its own scale. A worker is alive if "
        f"its last heartbeat is less than {STALE_SECONDS:.0f} seconds old."
    )
    _card(overviews[chosen])


def table(overviews: list[Overview], now: float) -> list[dict[str, Any]]:
    """A line for each study."""
    return [
        {
            "study": shown.study.name,
            "lossless": shown.best.speedup if shown.best else None,
            "growth": shown.growth.volume if shown.growth else None,
            "done": shown.counts.done,
            "failed": shown.counts.failed,
            "running": shown.counts.running,
            "waiting": shown.counts.waiting,
            "workers": shown.workers_alive,
            "last activity": ago(now - shown.last),
            "model": shown.study.settings.model,
            "device": shown.study.settings.device,
        }
        for shown in overviews
    ]


def _card(shown: Overview) -> None:
    settings = shown.study.settings
    with st.container(border=True):
        st.subheader(plain(shown.study.name), anchor=False)
        objectives = ", ".join(objective.name for objective in settings.objectives)
        st.caption(
            plain(f"{settings.model} on {settings.device}, {settings.dtype}, {settings.steps} steps of "
                  f"{scheduler_words(settings)}, {' x '.join(map(str, settings.resolution))} pixels; prompts: "
                  f"{settings.prompts}; objectives: {objectives}; sampler: {settings.sampler.name}; last activity: "
                  f"{ago(time.time() - shown.last)}")
        )  # fmt: skip
        count = shown.counts
        values = [("Done", count.done), ("Failed", count.failed), ("Running", count.running)]
        values += [("Waiting", count.waiting), ("Workers", shown.workers_alive)]
        with st.container(horizontal=True):
            best = f"{shown.best.speedup:.2f}x" if shown.best else "none yet"
            st.metric("Best at no measurable loss", best, width=200)
            for label, value in values:
                st.metric(label, value, width=96)
        st.caption(_best_words(shown))
        with st.container(horizontal=True):
            for label, page, icon in (("Open the front", FRONT, "scatter_plot"), ("Progress", PROGRESS, "trending_up")):
                kind: Literal["primary", "secondary"] = "primary" if page == FRONT else "secondary"
                if st.button(label, key=f"open-{page}-{shown.study.id}", icon=f":material/{icon}:", type=kind,
                             on_click=set_study, args=(shown.study.name,)):  # fmt: skip
                    go(page)


def _best_words(shown: Overview) -> str:
    if shown.best is not None:
        return f"The best: {plain(shown.best.title)}"
    quality = [o for o in shown.study.settings.objectives if o.name not in SPEEDS]
    if not quality:
        return "this study measures no quality"
    return plain(f"plain@{shown.study.settings.steps}, with which others are compared, is not scored yet")


if __name__ == "__main__":
    page()
