"""The Compare page's pictures: the same prompt and seed from every plan, in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st
from PIL import Image, ImageDraw, ImageFont

from dashboard.palette import palette
from dashboard.parts.picture_views import GAP, LARGE, SMALL, fitted
from dashboard.wording import plain, say
from explorer.errors import StudyError
from studies.results.rows import PictureRow, TrialRow, sample_pictures, samples
from studies.storage.pictures import read_picture
from studies.storage.store import Store, StudyRecord

FIRST = 6
LETTERING = 30  # a row is this many times as wide as its text is high, so that the text stays readable when shrunk
STOCK = "un-accelerated"


@dataclass(frozen=True)
class Row:
    """One prompt and seed: the picture of each plan by its letter (None: not kept), and its PSNR in dB."""

    prompt: str
    seed: int | None
    pictures: dict[str, PictureRow | None]
    psnr: dict[str, float]

    @property
    def worst(self) -> float:
        return min(self.psnr.values(), default=float("inf"))


def picture_rows(
    store: Store, study: StudyRecord, named: Mapping[str, TrialRow], control: TrialRow | None
) -> list[Row]:
    """The prompts that at least two of the plans kept a picture of, the worst PSNR of any plan first. No file is read.

    A picture counts as of the same prompt when number, prompt and seed are the same.
    """
    keys = {letter: row.key for letter, row in named.items()}
    if control is not None and control.key not in keys.values():
        keys = {STOCK: control.key, **keys}
    kept = {letter: {_identity(p): p for p in sample_pictures(store, study, key)} for letter, key in keys.items()}
    values = {letter: samples(store, study, row.key, "psnr") for letter, row in named.items()}
    found = []
    for identity in dict.fromkeys(identity for letter in named for identity in kept[letter]):
        if sum(identity in kept[letter] for letter in named) < 2:
            continue
        number, prompt, seed = identity
        psnr = {
            letter: float(each[number])
            for letter, each in values.items()
            if number < len(each) and isinstance(each[number], int | float)
        }
        pictures = {letter: kept[letter].get(identity) for letter in keys}
        found.append(Row(prompt or "no prompt", seed, pictures, psnr))
    return sorted(found, key=lambda row: row.worst)


def _identity(picture: PictureRow) -> tuple[int, str | None, int | None]:
    return picture.number, picture.prompt, picture.seed


def show_grid(store: Store, study: StudyRecord, named: Mapping[str, TrialRow], control: TrialRow | None) -> None:
    st.subheader("The same prompts, the same seeds", anchor=False)
    rows = picture_rows(store, study, named, control)
    if not rows:
        say("these plans have no pictures of the same prompt and seed to compare.")
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        everything = len(rows) <= FIRST or st.toggle(f"Show all {len(rows)} prompts", key="all-prompts")
        large = st.toggle("Full size", key="full-size", help="Show the stored pictures instead of thumbnails.")
    across = 1 if large else 2
    shown = rows if everything else rows[:FIRST]
    for start in range(0, len(shown), across):
        for column, row in zip(st.columns(across), shown[start : start + across], strict=False):
            with column.container(border=True, gap="small"):
                _show(store, row, large)
    st.caption(
        "Each row is one prompt and seed. Above each picture: the plan's letter and its PSNR in dB against the "
        "un-accelerated picture. The prompts that changed most come first."
    )


def _show(store: Store, row: Row, large: bool) -> None:
    problems: list[str] = []
    tiles = []
    for letter, picture in row.pictures.items():
        image = None if picture is None else _read(store, picture, large, letter, problems)
        words = letter + (f"  {row.psnr[letter]:.1f} dB" if letter in row.psnr else "")
        tiles.append((words, image))
        if picture is None:
            problems.append(f"{letter}: this picture was not kept.")
    st.image(labelled(tiles, LARGE if large else SMALL), width="stretch", output_format="PNG")
    st.caption(plain(f"seed {row.seed}: {row.prompt}"))
    for problem in problems:
        st.caption(f":material/broken_image: {plain(problem)}")


def _read(store: Store, picture: PictureRow, large: bool, letter: str, problems: list[str]) -> Image.Image | None:
    try:
        return read_picture(store.folder, picture.path if large else picture.thumbnail)
    except StudyError as error:
        problems.append(f"{letter}: {error}")
        return None


def labelled(tiles: list[tuple[str, Image.Image | None]], side: int) -> Image.Image:
    """Pictures in a row, each under its words; a missing one is an empty frame. In the page's colours."""
    shown = palette()
    fitted_tiles = [None if picture is None else fitted(picture, side) for _, picture in tiles]
    height = max((tile.height for tile in fitted_tiles if tile is not None), default=side)
    width = len(tiles) * (side + GAP) - GAP
    size = max(14, width // LETTERING)
    band = size + 8
    row = Image.new("RGBA", (width, band + height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(row)
    font = ImageFont.load_default(size)
    for i, ((words, _), tile) in enumerate(zip(tiles, fitted_tiles, strict=True)):
        left = i * (side + GAP)
        draw.text((left + 1, 1), words, fill=shown.text, font=font)
        if tile is None:
            draw.rectangle((left, band, left + side - 1, band + height - 1), outline=shown.faint)
            draw.text((left + 8, band + 8), "no picture", fill=shown.faint, font=font)
        else:
            row.paste(tile, (left, band))
    return row
