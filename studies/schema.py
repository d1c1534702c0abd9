"""The schema's version: a new database is made, an older one migrated, a newer one refused."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from explorer.errors import StudyError

VERSION_TABLE = "explorer_schema"  # Optuna keeps its own in `alembic_version`
_FOLDER = Path(__file__).parent / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The version that this code reads and writes."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def version(connection: Connection) -> str | None:
    """The database's version; None when it has none of the explorer's tables."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def check(connection: Connection, where: str) -> bool:
    """Whether the database is up to date. Raises StudyError when a newer version of the explorer wrote it."""
    current = version(connection)
    script = ScriptDirectory.from_config(_config())
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise StudyError(
            f"the storage {where} has schema {current} and this version of the explorer reads up to {head()}; "
            "upgrade inheritance-explorer, or name another --storage."
        )
    return current == head()


def migrate(connection: Connection, where: str, target: str = "head") -> None:
    """Bring the tables to `target` inside the caller's transaction: all of it happens, or nothing.

    Raises:
        StudyError: when the database is of a newer schema.
    """
    if check(connection, where):
        return
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(_config(connection), target)
