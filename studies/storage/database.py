"""A database by its URL: engines to write and to read, and Optuna's storage on the same place."""

from __future__ import annotations

import os
import random
import re
import time
from typing import Any

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, Engine, make_url

from explorer.errors import StudyError, brief
from studies.storage import postgresql, sqlite
from studies.storage.troubles import in_words, shown

ATTEMPTS = 8


def parse_url(url_or_path: str | os.PathLike[str]) -> URL:
    """A SQLAlchemy URL, or a path that is taken for a SQLite file. Raises StudyError when it is neither."""
    text = os.fspath(url_or_path)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    safe = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StudyError(
            f"the storage URL {safe!r} cannot be read; give one like {sqlite.DEFAULT_URL} or postgresql://host/name."
        ) from error
    if "@" in (url.host or ""):
        raise StudyError(f"the storage URL {safe!r} cannot be read; write an @ of the password's as %40.")
    if sqlite.is_sqlite(url) and url.database in (None, "", ":memory:"):
        raise StudyError(f"the storage URL {safe!r} names no file; a study needs one, like {sqlite.DEFAULT_URL}.")
    return url


def show_url(url_or_path: str | os.PathLike[str]) -> str:
    """What the user gave as a storage, without the password, for messages."""
    text = os.fspath(url_or_path)
    return text if "://" not in text else shown(parse_url(text))


def engine_arguments(url: URL) -> dict[str, Any]:
    """Keyword arguments for `create_engine`, Optuna's included."""
    if sqlite.is_sqlite(url):
        return {"connect_args": dict(sqlite.CONNECT)}
    return postgresql.engine_arguments(url) if postgresql.is_postgresql(url) else {"pool_pre_ping": True}


def writing_engine(url: URL) -> Engine:
    """An engine whose every transaction may write. Raises StudyError in one sentence when the place cannot be used."""
    if sqlite.is_sqlite(url):
        sqlite.check_place(url)
    with in_words(url):
        engine = sa.create_engine(url, **engine_arguments(url))
    if sqlite.is_sqlite(url):
        sqlite.install(engine)
    return engine


def reading_engine(url: URL) -> Engine:
    """An engine that cannot write and that never blocks the workers (the dashboard, `explorer show`). All reads of a
    transaction see the same moment."""
    if sqlite.is_sqlite(url):
        return sqlite.reading_engine(url)
    with in_words(url):
        engine = sa.create_engine(url, **engine_arguments(url))
    if not postgresql.is_postgresql(url):
        return engine
    return engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")


def optuna_storage(url: URL) -> RDBStorage:
    """Optuna's storage, with the recipe on SQLite. Its constructor reads in one connection while it writes in another,
    which immediate transactions would block, so the recipe comes after it; two processes that make its tables at once
    are told apart by trying again.

    Raises:
        StudyError: when Optuna cannot use its tables there, as another version made them.
    """
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
            except RuntimeError as error:  # Optuna's word for a schema of another version
                reason = brief(error).rstrip(".")
                raise StudyError(
                    f"Optuna cannot use the storage {shown(url)} ({reason}), or name another --storage."
                ) from error
    if sqlite.is_sqlite(url):
        sqlite.install(storage.engine)
    return storage
