from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from dashboard.parts.picture_pairs import pairs
from dashboard.wording import file_name, plain
from explorer.errors import StudyError
from studies import Store, trials
from studies.results.summary import plain_row
from studies.storage import tables
from studies.storage.pictures import FOLDER, MAX_BYTES, read_picture
from tests.dashboard.small_study import PROMPTS, STEPS


def _png(path: Path) -> Path:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(path, "PNG")
    return path


def test_pairs_are_of_one_prompt_and_seed(small_storage: Path) -> None:
    with Store.open(small_storage, read_only=True) as store:
        study = store.study("small")
        rows = trials(store, study)
        found = pairs(store, study, rows[2], plain_row(rows, STEPS))
        assert len(found) == len(PROMPTS)
        for pair in found:
            assert pair.plain is not None
            assert (pair.plain.prompt, pair.plain.seed) == (pair.ours.prompt, pair.ours.seed)
            assert pair.plain.path != pair.ours.path
        values = [pair.psnr or 0.0 for pair in found]
        assert values == sorted(values)
        assert all(pair.plain is None for pair in pairs(store, study, rows[2], None))


def test_another_seed_is_no_partner(small_storage: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_storage.parent, tmp_path / "copy") / small_storage.name
    with Store.open(copy) as store:
        study = store.study("small")
        rows = trials(store, study)
        with store.begin() as connection:
            control = sa.select(tables.plans.c.id).where(tables.plans.c.key == rows[0].key).scalar_subquery()
            change = sa.update(tables.pictures).where(
                tables.pictures.c.plan_id == control, tables.pictures.c.number == 3
            )
            connection.execute(change.values(seed=99))
        found = {pair.ours.number: pair.plain for pair in pairs(store, study, rows[2], rows[0])}
    assert [number for number, partner in found.items() if partner is None] == [3]


def test_a_picture_inside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    assert read_picture(tmp_path, _png(tmp_path / FOLDER / "a.png")).getpixel((0, 0)) == (1, 2, 3)


def test_a_path_stays_inside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    outside = _png(tmp_path / "secret.png")  # beside the database, but none of its pictures
    (folder / "link.png").symlink_to(outside)
    for path in (folder / ".." / "secret.png", outside, folder / "link.png", Path(os.sep, "etc", "passwd")):
        with pytest.raises(StudyError, match="leaves the pictures' folder"):
            read_picture(tmp_path, path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "text.png").write_text("no picture")
    (folder / "cut.png").write_bytes(_png(folder / "a.png").read_bytes()[:40])
    Image.new("RGB", (4, 4)).save(folder / "jpeg.png", "JPEG")
    for name in ("text.png", "cut.png", "jpeg.png"):
        with pytest.raises(StudyError, match="not a complete PNG"):
            read_picture(tmp_path, folder / name)
    with pytest.raises(StudyError, match="missing"):
        read_picture(tmp_path, folder / "gone.png")
    with pytest.raises(StudyError):
        read_picture(tmp_path, folder)
    with (folder / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(StudyError, match="larger than"):
        read_picture(tmp_path, folder / "huge.png")


@given(some.text())
def test_plain_text_has_no_live_punctuation(text: str) -> None:
    escaped = plain(text)
    rest = escaped.replace("\\\\", "")
    for mark in "*_`<>[]$:#&~|":
        assert rest.count(mark) == rest.count("\\" + mark)
    assert "\n" not in escaped


@pytest.mark.parametrize(
    ("parts", "name"),
    [(("small", "trial", 3), "small-trial-3"), (("../a b", 1), "..-a-b-1"), (("†",), "x"), (("a/b",), "a-b")],
)
def test_file_names(parts: tuple[object, ...], name: str) -> None:
    assert file_name(*parts) == name
