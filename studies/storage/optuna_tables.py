"""Optuna's own tables in the same database as the explorer's: whether this Optuna can use them, and the
changes for which its storage has no method. Its tables are called `studies`, `trials`, `trial_params` and so on.
"""

from __future__ import annotations

import shlex
from functools import cache

import optuna
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.errors import StudyError, brief

VERSION_TABLE = "alembic_version"
_OF_TRIALS = (
    "trial_user_attributes", "trial_system_attributes", "trial_params", "trial_values", "trial_intermediate_values",
    "trial_heartbeats",
)  # fmt: skip
_OF_STUDIES = ("trials", "study_directions", "study_user_attributes", "study_system_attributes")
_STUDIES = sa.table("studies", sa.column("study_id"), sa.column("study_name"))
_TRIALS = sa.table("trials", sa.column("trial_id"), sa.column("study_id"), sa.column("number"))
_ATTRIBUTES = sa.table(
    "trial_user_attributes", sa.column("trial_id"), sa.column("key"), sa.column("value_json", sa.Text)
)


@cache
def known_versions() -> tuple[str, ...]:
    """The versions of its schema that the installed Optuna knows, the one that it uses first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    made = Config()
    made.set_main_option("script_location", "optuna.storages._rdb:alembic")
    return tuple(revision.revision for revision in ScriptDirectory.from_config(made).walk_revisions())


def check(connection: Connection, where: str) -> None:
    """Raises StudyError where another Optuna made the tables, whose schema this one does not use. Tables that do not
    stand yet, or that another process is making now, are no trouble. where: the storage's URL, for the message."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return
    found = [str(row[0]) for row in connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))]
    head, *older = known_versions()
    if found in ([], [head]):
        return
    known = set(found) <= {head, *older}
    upgrade = shlex.join(["optuna", "storage", "upgrade", "--storage", where])
    remedy = f"bring them up to date with `{upgrade}`" if known else "upgrade Optuna (pip install --upgrade optuna)"
    raise StudyError(
        f"the Optuna tables in the storage {where} have schema {brief(', '.join(found), 60)}, and the installed Optuna "
        f"{optuna.__version__} uses {head}; {remedy}, or name another --storage."
    )


def attribute(connection: Connection, study: str, number: int, key: str) -> str | None:
    """The JSON text of a user attribute of a trial; None where there is none, or where another Optuna's tables do not
    have it. Reads the tables as they are: opening Optuna's storage would write to a new database."""
    inspector = sa.inspect(connection)
    for table in (_STUDIES, _TRIALS, _ATTRIBUTES):
        if not inspector.has_table(table.name):
            return None
        if not set(table.c.keys()) <= {column["name"] for column in inspector.get_columns(table.name)}:
            return None
    joined = _ATTRIBUTES.join(_TRIALS, _ATTRIBUTES.c.trial_id == _TRIALS.c.trial_id).join(
        _STUDIES, _TRIALS.c.study_id == _STUDIES.c.study_id
    )
    query = sa.select(_ATTRIBUTES.c.value_json).select_from(joined)
    found: str | None = connection.execute(
        query.where(_STUDIES.c.study_name == study, _TRIALS.c.number == number, _ATTRIBUTES.c.key == key)
    ).scalar()
    return found


def has_study(connection: Connection, name: str) -> bool:
    return _id(connection, name) is not None


def rename_study(connection: Connection, name: str, new: str) -> None:
    """Give Optuna's study another name, where there is one."""
    if sa.inspect(connection).has_table(_STUDIES.name):
        connection.execute(sa.update(_STUDIES).where(_STUDIES.c.study_name == name).values(study_name=new))


def delete_study(connection: Connection, name: str) -> None:
    """Delete Optuna's study with its trials, where there is one."""
    study_id = _id(connection, name)
    if study_id is None:
        return
    trials = sa.select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study_id)
    for table in _OF_TRIALS:
        connection.execute(sa.delete(sa.table(table)).where(sa.column("trial_id").in_(trials)))
    for table in (*_OF_STUDIES, _STUDIES.name):
        connection.execute(sa.delete(sa.table(table)).where(sa.column("study_id") == study_id))


def _id(connection: Connection, name: str) -> int | None:
    if not sa.inspect(connection).has_table(_STUDIES.name):
        return None
    found: int | None = connection.execute(sa.select(_STUDIES.c.study_id).where(_STUDIES.c.study_name == name)).scalar()
    return found
