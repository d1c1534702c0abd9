"""Each page on a small real storage, without a browser."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from studies import Store
from tests.dashboard.small_study import fill

Open = Callable[..., AppTest]
FRONT, PLAN = "page_front.py", "page_plan.py"


def texts(app: AppTest) -> str:
    """Everything that Streamlit reads as Markdown."""
    parts = [*app.markdown, *app.caption, *app.header, *app.subheader, *app.info]
    return "\n".join(str(part.value) for part in parts)


def whole(app: AppTest, title: str) -> AppTest:
    assert not app.exception
    assert [shown.value for shown in app.title] == [title]
    return app


def _newer(path: Path) -> None:
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE explorer_schema SET version_num = '9999'")


def _failed(path: Path) -> None:
    with Store.open(path) as store:
        fill(store, "sad", ["plain@20", "DC0/P3"], broken=True)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "there is no database at"),
    "empty": (lambda path: Store.open(path).close(), "holds no study"),
    "no tables": (lambda path: sqlite3.connect(path).close(), "holds no study"),
    "newer": (_newer, "has schema 9999"),
    "no database": (lambda path: path.write_bytes(b"not a database at all" * 100), "is not a SQLite database"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_storage_is_one_sentence(case: str, open_app: Open, tmp_path: Path) -> None:
    make, words = BAD[case]
    path = tmp_path / "explorer.db"
    make(path)
    app = open_app(path)
    assert not app.exception
    assert len(app.info) == 1
    assert words in app.info[0].value.replace("\\", "")
    assert not app.title


@pytest.mark.parametrize("page", [FRONT, PLAN])
def test_a_study_of_failures_says_why(page: str, open_app: Open, tmp_path: Path) -> None:
    _failed(tmp_path / "sad.db")
    app = open_app(tmp_path / "sad.db")
    assert {metric.label: metric.value for metric in app.metric}["Failed"] == "2"
    app = open_app(tmp_path / "sad.db", page)
    assert not app.exception
    assert [info.value.replace("\\", "") for info in app.info] == [
        "all 2 plans that were tried in the study sad failed; the first said: plan 0 ran out of memory."
    ]
