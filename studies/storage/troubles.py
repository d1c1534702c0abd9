"""The words for what can go wrong with a database, and which of it may pass."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import URL

from explorer.errors import StudyError
from studies.storage.postgresql import PASSING, is_postgresql
from studies.storage.sqlite import BUSY_SECONDS, DEFAULT_URL

_SECRETS = ("password", "passfile", "sslpassword", "sslkey")


class StorageGone(StudyError):
    """The storage cannot be reached for now; what was asked of it may be asked again."""


def shown(url: URL) -> str:
    """The URL without its passwords, for messages."""
    hidden = {name: "***" for name in url.query if name in _SECRETS}
    return url.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A", "*")


def has_secret(url: URL) -> bool:
    """Whether the URL holds a password, or the name of a file with one."""
    return url.password is not None or any(name in _SECRETS for name in url.query)


@contextmanager
def in_words(url: URL) -> Iterator[None]:
    """Turn a database's error into a StudyError of one sentence: StorageGone where it may pass."""
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError) as error:
        if getattr(error.orig, "sqlstate", None) != "42501":
            raise  # a mistake of the code's, not of the place: its traceback is wanted
        raise StudyError(
            f"cannot write the storage {shown(url)}: its user may not ({_first_line(error.orig)}); grant it the right."
        ) from error
    except (sa.exc.SQLAlchemyError, StorageInternalError, sqlite3.Error, ImportError) as error:
        kind = StorageGone if _may_pass(url, error) else StudyError
        raise kind(_sentence(shown(url), error)) from error


def _cause(error: BaseException) -> BaseException | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (sa.exc.SQLAlchemyError, sqlite3.Error)):
        cause = cause.__cause__ or cause.__context__
    return cause


def _may_pass(url: URL, error: BaseException) -> bool:
    cause = _cause(error)
    if not is_postgresql(url) or not isinstance(cause, sa.exc.DBAPIError):
        return False
    state = getattr(cause.orig, "sqlstate", None)
    lost = isinstance(cause, (sa.exc.OperationalError, sa.exc.InterfaceError)) and state is None
    return cause.connection_invalidated or lost or str(state).startswith(PASSING)


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _sentence(url: str, error: BaseException) -> str:
    cause = _cause(error)
    origin = getattr(cause, "orig", None) or cause or error
    text = _first_line(origin)
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
