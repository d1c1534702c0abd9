from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from explorer.errors import StudyError
from studies import Objective, SamplerSettings, Store, StudySettings, counts, enqueue, run_worker
from studies.results.reading import Reading
from studies.storage import sqlite, tables
from studies.storage.database import parse_url, show_url
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_recipe_is_on_both_engines(store: Store) -> None:
    study = store.create_study("s", toy_settings())
    engines = [store.engine, store.optuna_storage._backend.engine]  # type: ignore[attr-defined]
    for engine in engines:
        begun: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", lambda c, k, statement, *_, b=begun: b.append(statement))
        with engine.begin() as connection:
            pragma = lambda name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()  # noqa: E731
            assert (pragma("journal_mode"), pragma("busy_timeout"), pragma("synchronous")) == ("wal", 60_000, 1)
        assert begun[0] == "BEGIN IMMEDIATE"
    assert store.optuna_study(study).study_name == "s"


def test_settings_come_back_as_they_were(store: Store) -> None:
    settings = toy_settings(extra={"floor": 3.5}, sampler=SamplerSettings("nsgaii", {"population_size": 20}, 5))
    store.create_study("a study", settings)
    assert store.study("a study").settings == settings
    assert [study.name for study in store.studies()] == ["a study"]


@pytest.mark.parametrize(
    ("change", "sides"),
    [
        ({"device": "NVIDIA RTX 2080"}, ("device", "cpu", "NVIDIA RTX 2080")),
        ({"dtype": "float16"}, ("dtype", "float32", "float16")),
        ({"steps": 25}, ("steps", "50", "25")),
        ({"resolution": (32, 64)}, ("resolution", "64x64", "32x64")),
        ({"model": "emoji"}, ("model", "toy", "emoji")),
        ({"architecture": "sd15"}, ("architecture", "toy-8", "sd15")),
        ({"scheduler": "DDIMScheduler"}, ("scheduler", "PNDMScheduler", "DDIMScheduler")),
        ({"prompts_hash": "1" * 64}, ("prompts", "000000000000", "111111111111")),
        ({"guidance": 5.0}, ("guidance", "7.5", "5.0")),
        ({"sampler": SamplerSettings("tpe", {}, 3)}, ("sampler", "random", "tpe")),
        ({"sampler": SamplerSettings("random", {}, 4)}, ("seed", "3", "4")),
        ({"objectives": (Objective("latency", "minimize"),)}, ("objectives", "maximize clip", "minimize latency")),
        ({"extra": {"floor": 2}}, ("floor", "None", "2")),
    ],
)
def test_other_settings_are_refused_saying_both_sides(
    store: Store, change: dict[str, Any], sides: tuple[str, ...]
) -> None:
    store.create_study("s", toy_settings())
    store.create_study("s", toy_settings())
    with pytest.raises(StudyError) as caught:
        store.create_study("s", toy_settings(**change))
    assert all(side in str(caught.value) for side in sides)
    if "device" in change:  # another device measures quality alone
        assert "NVIDIA RTX 2080" in store.check_settings(store.study("s"), toy_settings(**change))
        return
    with pytest.raises(StudyError):
        store.check_settings(store.study("s"), toy_settings(**change))


@pytest.mark.parametrize("name", ["", "../up", "a/b", " blank", "x" * 101, "line\nbreak"])
def test_names_that_are_no_folder_name_are_refused(store: Store, name: str) -> None:
    with pytest.raises(StudyError, match="cannot name a study"):
        store.create_study(name, toy_settings())


def test_an_unknown_study_names_those_that_stand(store: Store) -> None:
    store.create_study("mine", toy_settings())
    with pytest.raises(StudyError, match="mine"):
        store.study("yours")


@pytest.mark.parametrize("objectives", [(), (Objective("clip", "maximize"),) * 2])
def test_objectives_must_be_different_and_some(objectives: tuple[Objective, ...]) -> None:
    with pytest.raises(StudyError, match="objectives"):
        toy_settings(objectives=objectives)


def test_a_foreign_optuna_study_of_the_same_name_is_refused(store: Store) -> None:
    import optuna

    optuna.create_study(study_name="s", storage=store.optuna_storage, directions=["minimize"])
    with pytest.raises(StudyError, match="other objectives"):
        store.create_study("s", toy_settings())


# The schema ----------------------------------------------------------------------------------------------------------


# Bad places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////nowhere/at/all/explorer.db", "does not exist"),
        ("sqlite:////proc/explorer.db", "cannot (open|write) the storage"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://", "names no file"),
        ("no://such/kind", "unknown kind"),
        ("://", "cannot be read"),
        ("/", "is a folder"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "check that it is reachable"),
    ],
)
def test_places_that_cannot_be_opened_give_a_sentence(url: str, words: str) -> None:
    with pytest.raises(StudyError, match=words) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, not a database. " * 100)
    with pytest.raises(StudyError, match="not a SQLite database"):
        Store.open(path, read_only=read_only)
    assert path.read_text().startswith("These are notes")


def test_reading_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no database"):
        Store.open(tmp_path / "explorer.db", read_only=True)
    assert list(tmp_path.iterdir()) == []
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(StudyError, match="holds no study"):
        Store.open(tmp_path / "empty.db", read_only=True)


def test_a_full_disk_is_a_sentence_and_the_study_survives_it(tmp_path: Path) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        study = store.create_study("s", toy_settings())

        def no_more_pages(connection: sqlite3.Connection, _record: object) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={pages + 2}")

        store.engine.dispose()
        sa.event.listen(store.engine, "connect", no_more_pages)
        plans = [ToyPlan(period, 5, name=f"plan {period}" * 40) for period in range(2, 200)]
        with pytest.raises(StudyError, match="the disk is full"):
            enqueue(store, study, plans, ToySpace(999), ToyEvaluator().evaluations)
    with Store.open(tmp_path / "explorer.db") as store:
        assert counts(store, study) == counts(store, study).__class__()
        run_worker(store, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=2)
        assert counts(store, study).done == 2


@contextmanager
def _where_permissions_count() -> Iterator[None]:
    """Root may write everywhere, so as root be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="file permissions")
@pytest.mark.parametrize("exists", [False, True])
def test_a_read_only_folder_can_be_read_and_not_written(tmp_path: Path, exists: bool) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if exists:
        with Store.open(place / "explorer.db") as store:
            store.create_study("kept", toy_settings())
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):  # a runner of several processes adds a level
        if folder != Path(folder.anchor) and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    place.chmod(0o555)
    try:
        with _where_permissions_count():
            with pytest.raises(StudyError, match=r"read-only|folder exists and may be written"):
                Store.open(place / "explorer.db")
            if not exists:
                with pytest.raises(StudyError, match="no database"):
                    Store.open(place / "explorer.db", read_only=True)
                return
            with Store.open(place / "explorer.db", read_only=True) as reader:
                assert [study.name for study in reader.studies()] == ["kept"]
        assert [path.name for path in place.iterdir()] == ["explorer.db"]
    finally:
        place.chmod(0o755)


def test_a_reader_neither_writes_nor_waits_for_a_writer(url: str) -> None:
    with Store.open(url) as writer:
        writer.create_study("s", toy_settings())
        with Store.open(url, read_only=True) as reader, writer.begin() as connection:
            connection.execute(sa.update(tables.studies).values(name="renamed"))
            assert [study.name for study in reader.studies()] == ["s"]
            with pytest.raises(StudyError, match="read-only"), reader.begin() as other:
                other.execute(sa.delete(tables.studies))


def test_a_reader_sees_one_moment(url: str) -> None:
    """A plan that is finished after its scores were asked for is not yet finished to whom asks."""
    with Store.open(url) as writer:
        study = writer.create_study("s", toy_settings())
        evaluator = ToyEvaluator()
        enqueue(writer, study, [ToyPlan(3, 4)], ToySpace(), evaluator.evaluations)
        finished: list[int] = []

        def finish(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "FROM explorer_measurements" in statement and not finished:
                finished.append(run_worker(writer, "s", ToySpace(), evaluator, ToyPlan.from_json, 1).scored)

        with Store.open(url, read_only=True) as reader:
            sa.event.listen(reader.engine, "after_cursor_execute", finish)
            reading = Reading(study)
            reading.refresh(reader)
            assert finished == [1] and [(row.state, row.scores) for row in reading.rows] == [("waiting", {})]
            reading.refresh(reader)
            assert [(row.state, len(row.scores)) for row in reading.rows] == [("done", 4)]


def test_devices_are_kept_once(store: Store) -> None:
    facts = {"name": "cpu", "torch": "2.11"}
    assert store.device(facts) == store.device(dict(facts)) != store.device(facts | {"torch": "2.12"})


def test_a_newer_settings_field_is_no_trouble() -> None:
    data = toy_settings().to_json() | {"invented later": 1}
    assert StudySettings.from_json(data) == toy_settings()


def test_urls() -> None:
    assert parse_url("some/explorer.db").database == "some/explorer.db"
    assert not sqlite.is_sqlite(parse_url("postgresql://host/name"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host/name",
        "postgresql://me:secret@host:port/name",  # cannot be read
        "postgresql://me:sec@secret@host/name",
        "postgresql://host/name?user=me&password=secret",
        "nosuch://me:secret@host/name",
    ],
)
def test_no_message_has_a_password(url: str) -> None:
    try:
        said = show_url(url)
    except StudyError as error:
        said = str(error)
    assert "host" in said and "***" in said and "secret" not in said
