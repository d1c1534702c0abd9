"""Tables that another Optuna made: what writes is refused in a sentence, what reads works."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from explorer.errors import StudyError
from studies import Store
from studies.cli import run
from studies.results.lineage import lineage
from studies.results.rows import trial
from studies.storage.optuna_tables import attribute, known_versions
from studies.storage.tables import PARENTS
from tests.studies.scored_study import fill

VERSIONS = {
    "newer": (["v9.0.0.a"], "upgrade Optuna"),
    "older": (["v2.6.0.a"], "optuna storage upgrade --storage"),
    "first": (["v0.9.0.a"], "optuna storage upgrade --storage"),
    "no version": (["'; DROP TABLE x" + "y" * 500], "upgrade Optuna"),
    "two versions": (["v3.2.0.a", "v9.0.0.a"], "upgrade Optuna"),
}
WRITING = [
    ["search", "--study", "small", "--model", "emoji"],
    ["calibrate", "--study", "small"],
    ["worker", "--study", "small"],
    ["rename", "small", "other"],
    ["delete", "small", "--yes"],
]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "explorer.db") as store:
        fill(store)
    return tmp_path / "explorer.db"


def stamp(storage: Path, versions: list[str]) -> None:
    connection = sqlite3.connect(storage)
    connection.execute("DELETE FROM alembic_version")
    connection.executemany("INSERT INTO alembic_version VALUES (?)", [(version,) for version in versions])
    connection.commit()
    connection.close()


@pytest.mark.parametrize("case", VERSIONS)
def test_another_schema_is_refused_before_anything_is_written(case: str, storage: Path) -> None:
    versions, remedy = VERSIONS[case]
    stamp(storage, versions)
    with pytest.raises(StudyError, match=f"have schema .*uses {known_versions()[0]}; .*{remedy}") as caught:
        Store.open(storage)
    assert len(str(caught.value)) < 500


def test_a_database_that_another_kind_of_server_holds_is_refused_as_well(url: str) -> None:
    with Store.open(url) as store:
        assert store.optuna_storage is not None
        with store.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v9.0.0.a'"))
    with pytest.raises(StudyError, match="v9"):
        Store.open(url)


@pytest.mark.parametrize("command", WRITING, ids=lambda command: command[0])
def test_every_command_that_writes_says_it(
    command: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp(storage, ["v9.0.0.a"])
    before = sqlite3.connect(storage).execute("SELECT count(*) FROM explorer_plans").fetchone()
    assert run([*command, "--storage", str(storage)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the Optuna tables in the storage") and error.count("\n") == 1
    assert sqlite3.connect(storage).execute("SELECT count(*) FROM explorer_plans").fetchone() == before


def test_what_reads_alone_works(storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stamp(storage, ["v9.0.0.a"])
    place = ["--storage", str(storage)]
    assert run(["list", *place]) == 0
    capsys.readouterr()
    assert run(["show", "small", *place, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 5
    assert run(["export", "small", "--trial", "2", "--out", str(tmp_path / "plan"), *place]) == 0


CHANGES: dict[str, Callable[[sqlite3.Connection], object]] = {
    "a table that is gone": lambda made: made.execute("DROP TABLE trial_user_attributes"),
    "a column of another name": lambda made: made.execute(
        "ALTER TABLE trial_user_attributes RENAME COLUMN value_json TO value"
    ),
    "studies of another name": lambda made: made.execute("ALTER TABLE studies RENAME COLUMN study_name TO name"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_of_tables_that_are_unknown_has_no_parents(change: str, storage: Path) -> None:
    connection = sqlite3.connect(storage)
    CHANGES[change](connection)
    connection.commit()
    connection.close()
    with Store.open(storage, read_only=True) as store:
        study = store.study("small")
        assert lineage(store, study, trial(store, study, 2)).parents == ()


def test_an_attribute_is_read_as_optuna_wrote_it(store: Store) -> None:
    study = fill(store)
    number = store.with_optuna(lambda: store.optuna_study(study).ask())
    number.set_user_attr(PARENTS, [1, 2])
    with store.begin() as connection:
        assert json.loads(attribute(connection, "small", number.number, PARENTS) or "") == [1, 2]
        assert attribute(connection, "small", number.number, "none") is None
        assert attribute(connection, "none", number.number, PARENTS) is None
