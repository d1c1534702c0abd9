"""What every page starts from: the storage, the chosen study and trial, and the study's rows."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import NoReturn

import streamlit as st

from explorer.errors import StudyError, brief
from studies.config import STORAGE_VARIABLE
from studies.results.board import Board
from studies.results.reading import Reading
from studies.results.rows import TrialRow
from studies.storage.sqlite import DEFAULT_URL
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import FAILED, FINISHED

STUDIES, FRONT, PLAN, COMPARE = (
    "views/page_studies.py",
    "views/page_front.py",
    "views/page_plan.py",
    "views/page_compare.py",
)
ANATOMY, CALIBRATION, PROGRESS = "views/page_anatomy.py", "views/page_calibration.py", "views/page_progress.py"
STUDENTS = "views/page_students.py"
COMPARED = 4  # plans that are set side by side at most
DIGITS = 9  # of the largest trial number that an address may name


def storage() -> str:
    """The storage that the app was started with: of the environment, as a URL may hold a password."""
    return os.environ.get(STORAGE_VARIABLE, DEFAULT_URL)


def open_store() -> Store:
    """The storage, for reading alone. Raises StudyError in one sentence."""
    return Store.open(storage(), read_only=True)


def choose_study(names: list[str]) -> None:
    """The study's box in the sidebar. The choice is kept over pages and in the address."""
    asked = st.session_state.get("study") or st.query_params.get("study")
    st.session_state["study"] = asked if asked in names else names[-1]
    st.sidebar.selectbox("Study", names[::-1], key="study", on_change=_forget_choices)
    _in_address("study", st.session_state["study"])


def set_study(name: str) -> None:
    """Choose a study from elsewhere than its box: in a callback alone, which runs before the box is drawn."""
    st.session_state["study"] = name
    _forget_choices()


def _forget_choices() -> None:
    for name in ("trial", "compared", "ticked"):
        st.session_state.pop(name, None)
        st.session_state.get("_addressed", {}).pop(name, None)
        st.query_params.pop(name, None)


def chosen_study(store: Store) -> StudyRecord:
    return store.study(str(st.session_state["study"]))


def choose_trial(number: int) -> None:
    st.session_state["trial"] = number


def chosen_trial() -> int | None:
    """The trial that was chosen in this visit, or that the address names; None when there is none yet.

    Raises:
        StudyError: when what the address names is no trial's number.
    """
    asked = st.query_params.get("trial")
    if "trial" not in st.session_state and asked:
        number = _number(asked)
        if number is None:
            raise StudyError(
                f"the address asks for the trial {brief(asked, 40)!r}, which is not the number of a trial; choose a "
                "point on the Front page."
            )
        choose_trial(number)
    number = st.session_state.get("trial")
    if number is not None:
        _in_address("trial", str(number))
    return number


def _number(text: str) -> int | None:
    """The number of a trial in an address, which anybody may have written; None where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS else None


def choose_compared(numbers: list[int]) -> None:
    """Set the trials that the Compare page puts side by side."""
    st.session_state["compared"] = numbers[:COMPARED]


def compared() -> list[int]:
    """The trials to compare: those chosen in this visit, or that the address names (`?compared=3,7`)."""
    if "compared" not in st.session_state:
        asked = st.query_params.get("compared", "").split(",")
        choose_compared([number for each in asked if (number := _number(each)) is not None])
    numbers: list[int] = st.session_state["compared"]
    if numbers:
        _in_address("compared", ",".join(str(number) for number in numbers))
    return numbers


def go(page: str) -> NoReturn:
    """Show another page, with what is chosen in its address at once: one step back leads here again."""
    names = ("study", "trial") if page == PLAN else ("study",)
    chosen = {name: st.session_state.get(name) for name in names}
    st.switch_page(page, query_params={name: str(value) for name, value in chosen.items() if value is not None})


def enter(page: str) -> None:
    """Say which page is shown, by its file, before anything of it goes into the address."""
    if st.session_state.get("_page") != page:
        st.session_state["_page"], st.session_state["_addressed"] = page, {}


def _in_address(name: str, value: str) -> None:
    """Once a visit of a page: whoever goes back to an address without it must not be led forward again."""
    addressed: dict[str, str] = st.session_state.setdefault("_addressed", {})
    if addressed.get(name) != value:
        addressed[name] = value
        if st.query_params.get(name) != value:
            st.query_params[name] = value


def board_of(store: Store, study: StudyRecord) -> Board:
    """The study's rows and what follows from them, found once for each change."""
    reading = _reading(str(store.url), study.id, study.created, study)
    with st.spinner("Reading the trials ...") if not reading.version else nullcontext():
        return reading.board(store)


@st.cache_resource(max_entries=64, show_spinner=False)
def _reading(url: str, study_id: int, created: float, _study: StudyRecord) -> Reading:
    return Reading(_study)


def nothing_scored(study: StudyRecord, rows: list[TrialRow]) -> StudyError:
    """Why a study has nothing to show, in one sentence."""
    failed = [row for row in rows if row.state == FAILED]
    if failed and len(failed) == len([row for row in rows if row.state in FINISHED]):
        return StudyError(
            f"all {len(failed)} scored plans of the study {study.name} failed; the first one: "
            f"{(failed[0].reason or 'nothing').rstrip('.')}."
        )
    return StudyError(f"nothing has been scored in the study {study.name} yet; continue the search.")
