"""The schema's version: a new database is made, an older one migrated, a newer one refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.errors import StudyError

HEAD = "0008"  # the version that this code reads and writes: the last file of `migrations/versions`
VERSION_TABLE = "explorer_schema"  # Optuna keeps its own in `alembic_version`
_FOLDER = Path(__file__).parent / "migrations"

if TYPE_CHECKING:
    from alembic.config import Config


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration. Alembic is loaded here, for a database that is not up to date."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def version(connection: Connection) -> str | None:
    """The database's version; None when it has none of the explorer's tables."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def check(connection: Connection, where: str) -> bool:
    """Whether the database is up to date. Raises StudyError when a newer version of the explorer wrote it."""
    current = version(connection)
    if current is None or current == HEAD:
        return current == HEAD
    from alembic.script import ScriptDirectory

    if current not in {revision.revision for revision in ScriptDirectory.from_config(config()).walk_revisions()}:
        raise StudyError(
            f"the storage {where} has schema {current} and this version of the explorer reads up to {HEAD}; "
            "upgrade inheritance-explorer, or name another --storage."
        )
    return False


def migrate(connection: Connection, where: str) -> None:
    """Bring the tables up to date inside the caller's transaction: all of it happens, or nothing.

    Raises:
        StudyError: when the database is of a newer schema.
    """
    if check(connection, where):
        return
    from alembic import command

    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config(connection), "head")
