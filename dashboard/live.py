"""Following a search: a line in the sidebar that looks for news by itself, and redraws a page only when there are some.

Looking costs one count over an index; the page is not run for it. Pages on which people work with their hands (a zoomed
chart, open pictures) are redrawn when they ask for it, the others at once.
"""

from __future__ import annotations

import streamlit as st

from dashboard.context import CALIBRATION, PROGRESS, STUDIES, chosen_study, open_store
from dashboard.wording import plain
from explorer.errors import ExplorerError
from studies.predicting import calibration
from studies.queue.queue import Counts, counts

SECONDS = 5.0
AT_ONCE = (STUDIES, PROGRESS)


@st.fragment(run_every=SECONDS)
def follow(page: str) -> None:
    """page: the file of the page that is shown. Call it where the line belongs, before the page runs."""
    try:
        with open_store() as store:
            study = chosen_study(store)
            now = counts(store, study)
            all_now = {other.name: counts(store, other) for other in store.studies()} if page == STUDIES else {}
            parts = calibration.standing(store, study).done if page == CALIBRATION else 0
    except ExplorerError as error:
        st.caption(plain(error))
        return
    news = (study.name, now, all_now, parts)
    # An app run draws the page in any case; only a run of this fragment can find that the page is out of date.
    if not st.session_state.get("_live_seen") or not _alone():
        st.session_state["_live_seen"] = news
    seen = st.session_state["_live_seen"]
    if seen != news and (page in AT_ONCE or (seen[0], seen[3]) != (study.name, parts)):
        st.rerun()
    st.caption(words(now))
    new = now.finished - seen[1].finished
    if new > 0 and st.button(
        f"Show {new:,} new plan{'s' if new > 1 else ''}", icon=":material/refresh:", width="stretch"
    ):
        st.rerun()


def _alone() -> bool:
    """Whether this is a run of the fragment alone."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx()
    return bool(context and context.fragment_ids_this_run)


def words(now: Counts) -> str:
    """The progress of the study, as Markdown."""
    untimed = f", {now.untimed:,} untimed" if now.untimed else ""
    untimed += f", {now.unsteady:,} unsteady" if now.unsteady else ""
    if now.running:
        running = (
            f":material/autorenew: {now.finished:,} plans finished, {now.running} running, {now.waiting:,} waiting"
        )
        return running + untimed
    waiting = f", {now.waiting:,} waiting" if now.waiting else ""
    return f"{now.finished:,} plans finished, none running{waiting}{untimed}"
