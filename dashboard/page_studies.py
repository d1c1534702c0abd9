"""Studies: what each one measures, how far it is, and the best speed-up at no measurable loss."""

from __future__ import annotations

import time
from dataclasses import dataclass

import streamlit as st

from dashboard.context import FRONT, open_store, rows_of, set_study
from dashboard.wording import plain
from studies.claims import ALIVE, STALE_SECONDS
from studies.queue import Counts, counts
from studies.rows import TrialRow, WorkerRow, worker_rows
from studies.store import Store, StudyRecord
from studies.summary import LATENCIES, without_loss


@dataclass(frozen=True)
class Overview:
    """A study in a few numbers. best: the fastest row without measurable loss; last: seconds since the epoch."""

    study: StudyRecord
    counts: Counts
    workers_alive: int
    best: TrialRow | None
    last: float


def overview(store: Store, study: StudyRecord, now: float | None = None) -> Overview:
    rows, workers = rows_of(store, study), worker_rows(store, study)
    kept = without_loss(rows, study.settings.objectives, study.settings.steps)
    times = [study.created, *(row.finished or row.started or 0.0 for row in rows), *(w.heartbeat for w in workers)]
    alive = workers_alive(workers, time.time() if now is None else now)
    return Overview(study, counts(store, study), alive, kept[0] if kept else None, max(times))


def workers_alive(workers: list[WorkerRow], now: float) -> int:
    """Workers that have not stopped and whose heart has beaten of late."""
    return sum(worker.state == ALIVE and now - worker.heartbeat < STALE_SECONDS for worker in workers)


def ago(seconds: float) -> str:
    """A span of time in the largest unit that counts it."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def page() -> None:
    st.title("Studies")
    with open_store() as store:
        overviews = [overview(store, study) for study in reversed(store.studies())]
    for shown in overviews:
        _card(shown)
    st.caption(
        "Speed-up is measured: the un-accelerated pipeline's time over the plan's, side by side on the study's device. "
        "No measurable loss: every quality objective is at least as good as the worse end of the un-accelerated "
        "pipeline's 95% interval. A worker is alive when its heart has beaten in the last "
        f"{STALE_SECONDS:.0f} seconds."
    )


def _card(shown: Overview) -> None:
    settings = shown.study.settings
    with st.container(border=True):
        name, button = st.columns([4, 1], vertical_alignment="center")
        name.subheader(plain(shown.study.name), anchor=False)
        key, label = f"open-{shown.study.id}", "Open the front"
        if button.button(label, key=key, width="stretch", on_click=set_study, args=(shown.study.name,)):
            st.switch_page(FRONT)
        objectives = ", ".join(objective.name for objective in settings.objectives)
        st.caption(
            plain(f"{settings.model} on {settings.device}, {settings.dtype}, {settings.steps} steps of "
                  f"{settings.scheduler}, {' x '.join(map(str, settings.resolution))} pixels; prompts: "
                  f"{settings.prompts}; objectives: {objectives}; last activity: {ago(time.time() - shown.last)}")
        )  # fmt: skip
        best, *numbers = st.columns([2, 1, 1, 1, 1, 1])
        best.metric("Best at no measurable loss", f"{shown.best.speedup:.2f}x" if shown.best else "none yet")
        count = shown.counts
        values = [("Done", count.done), ("Failed", count.failed), ("Running", count.running)]
        values += [("Waiting", count.waiting), ("Workers alive", shown.workers_alive)]
        for column, (label, value) in zip(numbers, values, strict=True):
            column.metric(label, value)
        best.caption(_best_words(shown))


def _best_words(shown: Overview) -> str:
    if shown.best is not None:
        return plain(shown.best.words)
    quality = [o for o in shown.study.settings.objectives if o.name not in LATENCIES]
    if not quality:
        return "this study measures no quality"
    return plain(f"plain@{shown.study.settings.steps}, which others are held against, is not scored yet")


if __name__ == "__main__":
    page()
