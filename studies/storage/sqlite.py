"""How SQLite is opened.

The recipe: write-ahead log, `BEGIN IMMEDIATE` on every transaction, a busy timeout of a minute, `synchronous=NORMAL`.
Without it parallel workers lose and double-claim trials: a deferred transaction that reads first and writes later acts
on what another worker has changed in between.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from explorer.errors import StudyError

BUSY_SECONDS = 60
DEFAULT_URL = "sqlite:///explorer.db"
CONNECT = {"timeout": BUSY_SECONDS}


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def file_of(url: URL) -> Path:
    return Path(str(url.database))


def identity(url: URL) -> tuple[int, int] | None:
    """What tells the database's file from another one at the same place; None when none is there."""
    try:
        found = file_of(url).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def install(engine: Engine) -> None:
    """Give an engine the recipe; connections that it holds already are dropped."""
    engine.dispose()
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver must not open transactions of its own (deferred) kind
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA foreign_keys=ON")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=NORMAL")


def _write_ahead(connection: sqlite3.Connection) -> None:
    # Changing the journal's mode needs the file alone and does not always honour the busy timeout.
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _on_begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def reading_engine(url: URL) -> Engine:
    """An engine that cannot write and that never blocks the workers. All reads of a transaction see the same moment."""
    path = file_of(url)
    if not path.exists():
        raise StudyError(f"there is no database at {path}; run `explorer search` first or name another --storage.")
    if path.is_dir():
        raise StudyError(f"the storage {path} is a folder; give a file, like {path / 'explorer.db'}.")

    def connect() -> sqlite3.Connection:
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            # A write-ahead log cannot be shared in a folder that may not be written; with no log there, the file is
            # whole and nobody can be writing it.
            if "locked" in str(error) or path.with_name(path.name + "-wal").exists():
                raise
            connection = sqlite3.connect(address + "&immutable=1", uri=True, check_same_thread=False)
        connection.isolation_level = None  # the driver begins a transaction only for what writes
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool)
    sa.event.listen(engine, "begin", _on_begin_reading)
    return engine


def check_place(url: URL) -> None:
    """Raises StudyError when a database can neither be opened nor made there."""
    path = file_of(url)
    folder = path.absolute().parent
    if path.is_dir():
        raise StudyError(f"the storage {path} is a folder; give a file, like {path / 'explorer.db'}.")
    if not folder.is_dir():
        raise StudyError(f"cannot open the storage {path}: the folder {folder} does not exist; make it first.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise StudyError(f"cannot write the storage {path}: the place is read-only; choose another --storage.")
