"""Databases of every earlier schema open, and get what the newer schema has."""

from __future__ import annotations

import sqlite3
from dataclasses import fields
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from explorer.errors import StudyError
from studies import Store, counts, run_worker, trials
from studies.storage import schema, sqlite, tables
from studies.storage.database import parse_url, writing_engine
from studies.storage.facts import PlanFacts
from tests.dashboard.small_study import plan_of
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

FACTS = [field.name for field in fields(PlanFacts)]


LATER = ("attempts", "proposed_by", *FACTS)  # columns of the plans that the first schema did not have


DATA = Path(__file__).parents[1] / "data"


def older_database(path: Path, version: str = "0001") -> Path:
    connection = sqlite3.connect(path)
    connection.executescript((DATA / f"schema-{version}.sql").read_text())
    connection.close()
    return path


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_the_first_schema_is_migrated_and_resumed(tmp_path: Path, read_only: bool) -> None:
    path = older_database(tmp_path / "older.db")
    with Store.open(path, read_only=read_only) as store:
        study = store.study("older")
        with store.begin() as connection:
            assert schema.version(connection) == schema.HEAD != "0001"
        before = {row.key: row for row in trials(store, study)}
        assert counts(store, study).finished == 10
    with Store.open(path) as store:
        run_worker(store, "older", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=14)
        after = {row.key: row for row in trials(store, study)}
        assert counts(store, study).finished == 14
    assert all(after[key] == row for key, row in before.items() if row.state != "waiting")


AS_SHOWN_BEFORE = [
    PlanFacts("none", "none", "none", 20, nickname="plain@20"),
    PlanFacts("none", "none", "none", 10, nickname="plain@10"),
    PlanFacts("P3", "output", "copy", 20, nickname="DC0/P3"),
    PlanFacts("P5†", "residual", "copy", 20, nickname="CO6/P5†"),
    PlanFacts("N", "output", "forecast1", 20, nickname="DC1/N+f1"),
    PlanFacts("none", "none", "none", 10, "DPMSolverMultistep", nickname="plain@10/DPMSolverMultistep"),
    PlanFacts("P2", "output", "forecast2", 20, nickname="DC0/P2+f2@20"),
    PlanFacts("N", "both", "forecast1", 20, nickname="~DC0/N5+f1@20"),
    PlanFacts("free", "both", "copy", 4, nickname="DC0·AI/S2@4"),
    PlanFacts("P3", "output", "forecast2", 20, "DDIM", nickname="DC0/P3+f2@20/DDIM"),
    PlanFacts("P3†", "output", "copy", 20, nickname="DC0/P3†@20"),
    PlanFacts("P2", "residual", "copy", 20, nickname="AI/P2@20"),  # masks and schedule as schema 1 of plans has them
    PlanFacts("other", "residual", "copy", 20, nickname="dn3 up0 dn0.l0.res dn0.l1.res dn1.l0.res 12  ..."),  # a later
    PlanFacts("other", "other", "other", 50, nickname="dn0 up3 / P3, 20 steps"),  # of another kind of plan
]
"""What the version that wrote data/schema-0006.sql showed of its plans, in their order."""


@pytest.mark.parametrize("read_only", [False, True])
def test_plans_of_an_earlier_schema_get_their_facts(tmp_path: Path, read_only: bool) -> None:
    path = older_database(tmp_path / "older.db", "0006")
    with Store.open(path, read_only=read_only) as store:
        rows = trials(store, store.study("older"))
        assert [row.facts for row in rows] == AS_SHOWN_BEFORE
        assert [row.title for row in rows][7:] == [
            "#7 ~DC0/N5+f1@20", "#8 DC0·AI/S2@4", "#9 DC0/P3+f2@20/DDIM", "#10 DC0/P3†@20", "#11 AI/P2@20",
            AS_SHOWN_BEFORE[12].nickname, AS_SHOWN_BEFORE[13].nickname,
        ]  # fmt: skip
        states = {state: sum(row.state == state for row in rows) for state in {row.state for row in rows}}
        assert states == {"done": 10, "failed": 1, "screened": 1, "waiting": 2}
        scores = {metric for row in rows if row.state == "done" for metric in row.scores}
        assert scores == {"latency", "speedup", "fd_toy", "clip", "psnr"}


def test_facts_are_found_for_every_row_of_a_large_database(new_url: str) -> None:
    """The migration goes through the plans by ids that need not be consecutive, in several pieces."""
    documents = [plan.to_json() for plan in (plan_of("DC0/P3", "search"), plan_of("plain@10", "search"))]
    ids = [3 * number + 1 for number in range(1200)]
    engine = writing_engine(parse_url(new_url))
    with engine.begin() as connection:
        command.upgrade(schema.config(connection), "0006")
        study = {"id": 1, "name": "s", "settings": toy_settings().to_json(), "created": 0.0}
        connection.execute(sa.insert(tables.studies).values(study))
        columns = [sa.column(column.name, column.type) for column in tables.plans.c if column.name not in FACTS]
        row = {"study_id": 1, "words": "a plan", "origin": "search", "aliases": [], "state": "waiting"}
        connection.execute(
            sa.insert(sa.table("explorer_plans", *columns)),
            [row | {"id": id, "key": str(id), "plan": documents[id % 2]} for id in ids],
        )
    engine.dispose()
    with Store.open(new_url) as store:
        found = store.read(sa.select(tables.plans.c.id, tables.plans.c.nickname, tables.plans.c.networks))
        assert {row.id: row.nickname for row in found} == {id: ["DC0/P3@20", "plain@10"][id % 2] for id in ids}
        assert all(row.networks == ["teacher"] for row in found)


def test_a_worker_of_an_earlier_version_goes_on_after_a_migration(store: Store) -> None:
    """It inserts rows without the newer columns; they are shown by their description."""
    study = store.create_study("s", toy_settings())
    columns = [sa.column(column.name, column.type) for column in tables.plans.c if column.name not in FACTS]
    older = sa.table("explorer_plans", *columns)
    row = {"study_id": study.id, "key": "k", "plan": plan_of("DC0/P3", "search").to_json(), "words": "dn0 / P3"}
    with store.begin() as connection:
        connection.execute(sa.insert(older).values(row | {"origin": "search", "aliases": [], "state": "waiting"}))
    (found,) = trials(store, study)
    assert found.nickname == "dn0 / P3" and found.facts == PlanFacts(nickname="dn0 / P3")


def test_migrations_lead_to_the_tables_of_the_code(store: Store) -> None:
    assert ScriptDirectory.from_config(schema.config()).get_heads() == [schema.HEAD]
    with store.begin() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "table" or str(name).startswith("explorer_"),
                "version_table": schema.VERSION_TABLE,
            },
        )
        assert compare_metadata(context, tables.metadata) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_schema_is_refused(url: str, read_only: bool) -> None:
    with Store.open(url) as store, store.begin() as connection:
        connection.execute(sa.text("UPDATE explorer_schema SET version_num = '9999'"))
    with pytest.raises(StudyError, match=rf"schema 9999 .* up to {schema.HEAD}; upgrade"):
        Store.open(url, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_the_first_schema_of_a_new_kind_of_database_is_migrated(new_url: str, read_only: bool) -> None:
    """Every step of the migrations runs on every kind of database, on rows that stand."""
    engine = writing_engine(parse_url(new_url))
    with engine.begin() as connection:
        command.upgrade(schema.config(connection), "0001")
        study = {"id": 1, "name": "s", "settings": toy_settings().to_json(), "created": 0.0}
        connection.execute(sa.insert(tables.studies).values(study))
        columns = [column for column in tables.plans.c if column.name not in LATER]
        for number, plan in enumerate([ToyPlan(2, 3), ToyPlan(3, 3)], start=1):
            row = {"study_id": 1, "key": plan.key(51), "plan": plan.to_json(), "words": "a plan", "origin": "search"}
            older = sa.table("explorer_plans", *(sa.column(column.name, column.type) for column in columns))
            row |= {"id": number, "aliases": [], "state": "waiting"}
            connection.execute(sa.insert(older).values(row))
        if not sqlite.is_sqlite(engine.url):  # rows were given their ids here, which a sequence does not see
            for table in ("explorer_studies", "explorer_plans"):
                connection.execute(sa.text(f"SELECT setval('{table}_id_seq', 10)"))
    engine.dispose()
    with Store.open(new_url, read_only=read_only) as store:
        assert counts(store, store.study("s")).waiting == 2
        with store.begin() as connection:
            assert schema.version(connection) == schema.HEAD != "0001"
    with Store.open(new_url) as store:
        run_worker(store, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=3)
        assert counts(store, store.study("s")).done == 3


def test_a_migration_that_fails_leaves_the_older_schema(tmp_path: Path) -> None:
    path = older_database(tmp_path / "older.db")
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE explorer_plans ADD COLUMN attempts INTEGER")  # what the migration wants to add
    connection.commit()
    with pytest.raises(StudyError):
        Store.open(path)
    assert connection.execute("SELECT version_num FROM explorer_schema").fetchall() == [("0001",)]
    connection.close()
