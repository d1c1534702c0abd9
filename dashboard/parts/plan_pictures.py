"""The Plan page's pictures: a plan's beside the un-accelerated ones of the same seed, the worst first."""

from __future__ import annotations

import streamlit as st
from PIL import Image

from dashboard.parts.picture_pairs import Pair, pairs
from dashboard.parts.picture_views import DIFFERENCE, FLICKER, LARGE, SIDE, SMALL, VIEWS, difference, in_turn, strip
from dashboard.wording import plain, say
from explorer.errors import StudyError
from studies.results.rows import PictureRow, TrialRow
from studies.storage.pictures import read_picture
from studies.storage.store import Store, StudyRecord

FIRST = 6  # pairs that are shown before somebody asks for all
GAINS = (1, 2, 4, 8, 16)


def show_pictures(store: Store, study: StudyRecord, row: TrialRow, control: TrialRow | None) -> None:
    st.subheader("Pictures", anchor=False)
    found = pairs(store, study, row, control)
    if not found:
        say("this plan has no pictures. A study that measures only latency makes none.")
        return
    if control is not None and control.key == row.key:
        _grid(store, found, SIDE, 1, alone=True)
        st.caption("These are the un-accelerated pictures, with which other plans are compared.")
        return
    view, gain, large = _boxes()
    everything = len(found) <= FIRST or st.session_state.get("all-pairs", False)
    _grid(store, found if everything else found[:FIRST], view, gain, large=large)
    if len(found) > FIRST:
        st.toggle(f"Show all {len(found)} pairs", key="all-pairs")
    st.caption(_words(view, gain))


def show_few(store: Store, study: StudyRecord, row: TrialRow, control: TrialRow | None) -> None:
    """Three pairs, spread over the prompts from the most changed to the least; nothing where no pictures were kept."""
    found = pairs(store, study, row, control)
    chosen = [found[i] for i in sorted({0, len(found) // 2, len(found) - 1})] if found else []
    if not chosen:
        return
    alone = control is None or control.key == row.key
    _grid(store, chosen, SIDE, 1, alone=alone)
    if not alone:
        st.caption("Left: this plan. Right: stock, with the same prompt and seed. The most changed pair comes first.")


def _boxes() -> tuple[str, int, bool]:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        view = st.segmented_control("View", VIEWS, default=DIFFERENCE, key="view", required=True)
        gain = 4
        if view == DIFFERENCE:
            gain = st.select_slider(
                "Difference times", GAINS, value=4, key="gain", format_func=lambda g: f"{g}x", width=170
            )
        large = st.toggle("Full size", key="full-size", help="Show the stored pictures instead of thumbnails.")
    return view or DIFFERENCE, gain, large


def _words(view: str, gain: int) -> str:
    order = (
        " The largest change comes first, by PSNR against the un-accelerated picture of the same prompt and seed: "
        "above 40 dB it is hardly visible, below 20 dB it is another picture."
    )
    if view == FLICKER:
        return "This plan's picture alternates with the un-accelerated one: what moves has changed." + order
    words = "Left: this plan. Next: the un-accelerated pipeline with the same prompt and seed."
    if view == DIFFERENCE:
        words += f" Right: their absolute difference, {gain} times amplified; black where they agree."
    return words + order


def _grid(store: Store, shown: list[Pair], view: str, gain: int, *, large: bool = False, alone: bool = False) -> None:
    # Row by row, so that the order also holds where a narrow screen puts columns below each other.
    across = 6 if alone else 4 if view == FLICKER else 3
    across = max(1, across // 2) if large else across
    for start in range(0, len(shown), across):
        for column, pair in zip(st.columns(across), shown[start : start + across], strict=False):
            with column.container(border=True, gap="small"):
                _pair(store, pair, view, gain, large, alone)


def _pair(store: Store, pair: Pair, view: str, gain: int, large: bool, alone: bool) -> None:
    problems: list[str] = []
    ours = _read(store, pair.ours, large, problems)
    theirs = None if alone or pair.plain is None else _read(store, pair.plain, large, problems)
    if pair.plain is None and not alone:
        problems.append("the un-accelerated picture of this prompt was not stored.")
    side = LARGE if large else SMALL
    if ours is not None and theirs is not None and ours.size != theirs.size:
        problems.append("the two pictures differ in size, so they cannot be compared pixel by pixel.")
        view = SIDE
    if ours is not None and theirs is not None and view == FLICKER:
        st.image(in_turn(ours, theirs, side), width=side, output_format="PNG")
    elif ours is not None or theirs is not None:
        pictures = [picture for picture in (ours, theirs) if picture is not None]
        if len(pictures) == 2 and view == DIFFERENCE:
            pictures.append(difference(pictures[0], pictures[1], gain))
        st.image(strip(pictures, side), width="stretch" if len(pictures) > 1 else side, output_format="PNG")
    psnr = "" if alone or pair.psnr is None else f"**{plain(f'{pair.psnr:.1f} dB')}**, "
    st.caption(psnr + plain(f"seed {pair.ours.seed}: {pair.ours.prompt or 'no prompt'}"))
    for problem in problems:
        st.caption(f":material/broken_image: {plain(problem)}")


def _read(store: Store, picture: PictureRow, large: bool, problems: list[str]) -> Image.Image | None:
    try:
        return read_picture(store.folder, picture.path if large else picture.thumbnail)
    except StudyError as error:
        problems.append(str(error))
        return None
