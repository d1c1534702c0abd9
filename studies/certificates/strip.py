"""Before and after in one picture: stored samples of a plan below the un-accelerated ones of the same seeds."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

from explorer.errors import StudyError
from studies.results.rows import PictureRow, TrialRow, sample_pictures
from studies.storage.pictures import read_picture
from studies.storage.store import Store, StudyRecord

COLUMNS = 6
CELL = 128
_GAP, _LABEL = 4, 18


def picture_strip(store: Store, study: StudyRecord, row: TrialRow, control: TrialRow | None) -> bytes | None:
    """A PNG of the first prompts' pictures, un-accelerated above and the plan's below; None when none were kept, or
    their files are gone. control: the un-accelerated trial, whose row is left out where the plan is itself."""
    ours = sample_pictures(store, study, row.key)
    itself = control is None or control.key == row.key
    partners = {} if control is None or itself else {p.number: p for p in sample_pictures(store, study, control.key)}
    columns: list[list[PictureRow]] = []
    for picture in ours:
        plain = partners.get(picture.number)
        if itself:
            columns.append([picture])
        elif plain is not None and (plain.prompt, plain.seed) == (picture.prompt, picture.seed):
            columns.append([plain, picture])
    try:
        cells = [[_cell(store, picture) for picture in column] for column in columns[:COLUMNS]]
    except StudyError:
        return None
    if not cells:
        return None
    labels = ["this run"] if itself else [f"un-accelerated, {study.settings.steps} steps", "this plan"]
    return _drawn(cells, labels)


def _cell(store: Store, picture: PictureRow) -> Image.Image:
    image = read_picture(store.folder, picture.path)
    if max(image.size) <= CELL // 2:
        factor = CELL // max(image.size)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return image


def _drawn(cells: list[list[Image.Image]], labels: list[str]) -> bytes:
    width = max(image.width for column in cells for image in column)
    height = max(image.height for column in cells for image in column)
    across, down = len(cells) * (width + _GAP) - _GAP, len(labels) * (_LABEL + height + _GAP) - _GAP
    canvas = Image.new("RGB", (across, down), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    for number, label in enumerate(labels):
        top = number * (_LABEL + height + _GAP)
        draw.text((2, top + 1), label, fill="#333333", font=font)
        for place, column in enumerate(cells):
            canvas.paste(column[number], (place * (width + _GAP), top + _LABEL))
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()
