"""The one place that knows how SQLite is opened, and the words for what can go wrong with a database.

The recipe: write-ahead log, `BEGIN IMMEDIATE` on every transaction, a busy timeout of a minute, `synchronous=NORMAL`.
Without it parallel workers lose and double-claim trials: a deferred transaction that reads first and writes later acts
on what another worker has changed in between.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, Connection, Engine, make_url

from explorer.errors import StudyError

BUSY_SECONDS = 60
ATTEMPTS = 8
DEFAULT_URL = "sqlite:///explorer.db"


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


def parse_url(url_or_path: str | os.PathLike[str]) -> URL:
    """A SQLAlchemy URL, or a path that is taken for a SQLite file. Raises StudyError when it is neither."""
    text = os.fspath(url_or_path)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except sa.exc.ArgumentError as error:
        raise StudyError(
            f"the storage URL {text!r} cannot be read; give one like {DEFAULT_URL} or postgresql://host/name."
        ) from error
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise StudyError(f"the storage URL {text!r} names no file; a study needs one, like {DEFAULT_URL}.")
    return url


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def engine_arguments(url: URL) -> dict[str, Any]:
    """Keyword arguments for `create_engine`, Optuna's included."""
    return {"connect_args": {"timeout": BUSY_SECONDS}} if is_sqlite(url) else {"pool_pre_ping": True}


def writing_engine(url: URL) -> Engine:
    """An engine whose every transaction may write. Raises StudyError in one sentence when the place cannot be used."""
    if is_sqlite(url):
        _check_place(Path(str(url.database)))
    with in_words(url):
        engine = sa.create_engine(url, **engine_arguments(url))
    if is_sqlite(url):
        install(engine)
    return engine


def optuna_storage(url: URL) -> RDBStorage:
    """Optuna's storage, with the recipe. Its constructor reads in one connection while it writes in another, which
    immediate transactions would block, so the recipe comes after it; two processes that make its tables at once are
    told apart by trying again."""
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    with in_words(url):
        for attempt in range(ATTEMPTS):
            try:
                storage = RDBStorage(text, engine_kwargs=engine_arguments(url))
                break
            except (sa.exc.SQLAlchemyError, StorageInternalError, AssertionError):
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0.1, 0.5))
    if is_sqlite(url):
        install(storage.engine)
    return storage


def reading_engine(url: URL) -> Engine:
    """An engine that cannot write and that never blocks the workers (the dashboard, `explorer show`)."""
    if not is_sqlite(url):
        with in_words(url):
            return sa.create_engine(url, pool_pre_ping=True)
    path = Path(str(url.database))
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
        return connection

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool)


def _check_place(path: Path) -> None:
    folder = path.absolute().parent
    if path.is_dir():
        raise StudyError(f"the storage {path} is a folder; give a file, like {path / 'explorer.db'}.")
    if not folder.is_dir():
        raise StudyError(f"cannot open the storage {path}: the folder {folder} does not exist; make it first.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise StudyError(f"cannot write the storage {path}: the place is read-only; choose another --storage.")


@contextmanager
def in_words(url: URL) -> Iterator[None]:
    """Turn a database's error into a StudyError of one sentence."""
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
        raise  # a mistake of the code's, not of the place: its traceback is wanted
    except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError) as error:
        raise StudyError(_sentence(url.render_as_string(hide_password=True), error)) from error
    except sqlite3.Error as error:
        raise StudyError(_sentence(url.render_as_string(hide_password=True), error)) from error


def _sentence(url: str, error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (sa.exc.SQLAlchemyError, sqlite3.Error)):
        cause = cause.__cause__ or cause.__context__
    origin = getattr(cause, "orig", None) or cause or error
    text = str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__
    if "unable to open" in text:
        return f"cannot open the storage {url}; check that its folder exists and may be written."
    if "readonly" in text or "read-only" in text:
        return f"cannot write the storage {url}: it is read-only; choose another --storage."
    if "is full" in text or "No space left" in text:
        return f"cannot write the storage {url}: the disk is full; free some space and run the command again."
    if "not a database" in text or "malformed" in text:
        return f"the storage {url} is not a SQLite database, or a damaged one; name another file with --storage."
    if "is locked" in text:
        return f"the storage {url} was locked by another process for {BUSY_SECONDS} s; end that process and try again."
    if isinstance(origin, ImportError):
        return f"the storage {url} needs a database driver that is not installed ({text}); install it with pip."
    if isinstance(cause, sa.exc.NoSuchModuleError):
        return f"the storage {url} is of an unknown kind; give a URL like {DEFAULT_URL} or postgresql://host/name."
    return f"the storage {url} cannot be used ({text}); check that it is reachable."
