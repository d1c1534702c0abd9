"""Each page on a small real storage, without a browser."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app import PAGES
from studies import Store
from tests.dashboard.small_study import fill, storage

Open = Callable[..., AppTest]
FRONT, PLAN = "views/page_front.py", "views/page_plan.py"


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
        "all 2 scored plans of the study sad failed; the first one: plan 0 ran out of memory."
    ]


HOSTILE = ["x", "-1", "1e3", "\u0661\u0662", "9" * 10, "9" * 5000, "x" * 100_000, "\0", "<b>1</b>[a](http://b)", "1,2"]


@pytest.mark.parametrize("page", [PLAN, "views/page_compare.py"])
@pytest.mark.parametrize("name", ["study", "trial", "compared"])
def test_an_address_of_any_length_and_content_works_or_is_one_sentence(
    name: str, page: str, open_app: Open, small_storage: Path
) -> None:
    """On the pages that read more of an address than the study; what is refused leaves a way on."""
    app = open_app(small_storage, page)
    for value in HOSTILE:
        for chosen in ("trial", "compared"):
            if chosen in app.session_state:
                del app.session_state[chosen]
        app.query_params.clear()
        app.query_params[name] = value
        app.run()
        assert not app.exception, value[:40]
        assert len(app.title) == 1 and len(texts(app)) < 50_000
        refused = [info.value for info in app.info if "address" in info.value]
        assert not refused or (name == "trial" and len(refused) == 1 and len(refused[0]) < 400), value[:40]
    app.query_params.clear()
    assert not app.run().exception and not [info for info in app.info if "address" in info.value]


def test_a_trial_that_is_not_there_is_named(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage, PLAN)
    del app.session_state["trial"]
    app.query_params["trial"] = "999999999"
    app.run()
    assert not app.exception and any("no trial 999999999" in info.value for info in app.info)


@pytest.mark.parametrize("version", ["v9.0.0.a", "v2.6.0.a"])
def test_every_page_of_a_storage_whose_optuna_tables_are_another_version_s_works(
    version: str, open_app: Open, tmp_path: Path
) -> None:
    path = storage(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = ?", [version])
    connection.execute("ALTER TABLE trial_user_attributes RENAME COLUMN value_json TO value")
    connection.commit()
    connection.close()
    for page, (title, _, _) in PAGES.items():
        whole(open_app(path, page), title)


def test_the_command_for_an_empty_storage_names_it_quoted(open_app: Open, tmp_path: Path) -> None:
    Store.open(tmp_path / "my studies.db").close()
    app = open_app(tmp_path / "my studies.db")
    assert app.code[0].value == f"explorer search --trials 60 --storage '{tmp_path}/my studies.db'"


def test_every_page_says_first_what_question_it_answers(open_app: Open, small_storage: Path) -> None:
    app = open_app(small_storage)
    for page, (title, _, _) in PAGES.items():
        app.switch_page(page).run()
        assert "?**" in app.markdown[0].value, title
