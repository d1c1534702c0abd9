"""The store: one database that holds Optuna's tables and the explorer's, with the pictures as files beside it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, get_storage
from optuna.study import StudyDirection
from sqlalchemy.engine import URL, Connection, Engine

from explorer.errors import StudyError, brief
from studies import removed
from studies.interrupts import held
from studies.names import check_study_name, is_name
from studies.settings import StudySettings, check_elsewhere, check_same
from studies.storage import database, optuna_tables, postgresql, schema, sqlite, tables
from studies.storage.patience import Patience, patience_seconds
from studies.storage.troubles import in_words, shown

PICTURES_VARIABLE = "EXPLORER_PICTURES"
T = TypeVar("T")


def pictures_folder(storage: str | os.PathLike[str] | URL) -> Path:
    """What the pictures' paths of a storage are relative to: the SQLite file's folder; for a server, which has none,
    the folder that `EXPLORER_PICTURES` names (one that all machines share), otherwise the working folder."""
    url = storage if isinstance(storage, URL) else database.parse_url(storage)
    if sqlite.is_sqlite(url):
        return sqlite.file_of(url).absolute().parent
    return Path(os.environ.get(PICTURES_VARIABLE) or Path.cwd()).absolute()


@dataclass(frozen=True)
class StudyRecord:
    """A study of a storage.

    Attributes:
        id: Of its row.
        name: Its name.
        settings: What it measures.
        created: When it was made, in seconds since the epoch.
        folder: Name of its folders of pictures, saved files and certificates. Another storage in the same place may
            have a study of the same name, so the folder has a suffix. It stays when the study is renamed.
    """

    id: int
    name: str
    settings: StudySettings
    created: float
    folder: str


class Store:
    """An open database. Use `Store.open`, and close it or use it as a context manager.

    Every method raises StudyError when the database cannot be read or written.
    """

    def __init__(self, url: URL, engine: Engine, read_only: bool) -> None:
        self.url, self.engine, self.read_only = url, engine, read_only
        self.patience = Patience(0.0)  # a storage that cannot be opened is said at once
        self._file: tuple[int, int] | None = None

    @classmethod
    def open(cls, url_or_path: str | os.PathLike[str] = sqlite.DEFAULT_URL, read_only: bool = False) -> Store:
        """Open a database. Its tables are made, or migrated from an older schema.

        Args:
            url_or_path: A SQLAlchemy URL or the path of a SQLite file.
            read_only: Only read. Does not create a database and does not block its workers.

        Raises:
            StudyError: When it cannot be opened or written, is not a database, or has a newer schema. To write: when
                another version of Optuna made its tables, or the environment names Optuna's removed proxy. To read:
                when it has no study.
        """
        seconds = patience_seconds()
        if not read_only:
            removed.check_environment()
        url = database.parse_url(url_or_path)
        store = cls(url, database.reading_engine(url) if read_only else database.writing_engine(url), read_only)
        try:
            if read_only:
                store._check_readable()
            else:
                with store.begin() as connection:
                    postgresql.lock_tables(connection)
                    optuna_tables.check(connection, store.where)
                    schema.migrate(connection, store.where)
                store.patience = Patience(seconds)
                store._file = sqlite.identity(url) if sqlite.is_sqlite(url) else None
        except BaseException:
            store.close()
            raise
        return store

    def _check_readable(self) -> None:
        with self.begin() as connection:
            if schema.check(connection, self.where):
                return
            if schema.version(connection) is None:
                raise StudyError(f"the storage {self.where} holds no study; run `explorer search` first.")
        Store.open(self.url.render_as_string(hide_password=False)).close()  # migrates, where the place may be written

    @property
    def where(self) -> str:
        """The URL without its password, for messages."""
        return shown(self.url)

    @property
    def beside_its_file(self) -> bool:
        """Whether the storage is a file, with its pictures in the same folder, and not a server."""
        return sqlite.is_sqlite(self.url)

    @property
    def folder(self) -> Path:
        """The folder that the paths of pictures are relative to."""
        return pictures_folder(self.url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an exception. It is not repeated."""
        self.check_stands()
        with held(), in_words(self.url), self.engine.begin() as connection:
            yield connection

    def check_stands(self) -> None:
        """Check that the SQLite file was not deleted or replaced. Open connections would go on writing to the old one.

        Raises:
            StudyError: When it was.
        """
        if self._file is not None and sqlite.identity(self.url) != self._file:
            raise StudyError(
                f"the storage {self.where} was deleted or moved while it was in use; restore it, or name another "
                "--storage, and run the command again."
            )

    def transact(self, work: Callable[[Connection, bool], T]) -> T:
        """Run `work` in one transaction and return its result. It is repeated while the storage is not reachable.

        Args:
            work: Gets the connection, and whether an earlier try may have been committed (its answer was lost).

        Raises:
            StudyError: When the storage does not come back in time.
        """

        def once(again: bool) -> T:
            with self.begin() as connection:
                return work(connection, again)

        return self.patience.keep_trying(once)

    def at_one_moment(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, whose queries all see the same state. It is repeated while the storage is not reachable.

        Args:
            work: Only reads, and may be called again.
        """
        moment = self.engine
        if postgresql.is_postgresql(self.url):  # where each query of a transaction sees a moment of its own otherwise
            moment = moment.execution_options(isolation_level="REPEATABLE READ")

        def once(_again: bool) -> T:
            self.check_stands()
            with held(), in_words(self.url), moment.begin() as connection:
                return work(connection)

        return self.patience.keep_trying(once)

    def read(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        """The rows of a query, which is repeated while the storage is not reachable."""
        return self.transact(lambda connection, _: list(connection.execute(query).all()))

    def with_optuna(self, work: Callable[[], T]) -> T:
        """Run `work`, which calls Optuna and may be called twice. It is repeated while the storage is not reachable."""

        def once(_again: bool) -> T:
            self.check_stands()
            with held(), in_words(self.url):
                return work()

        return self.patience.keep_trying(once)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self.close_optuna()

    def close_optuna(self) -> None:
        """Close Optuna's storage, which is opened again when it is needed. It caches studies by name and id, so it is
        closed when one is renamed or deleted."""
        if "optuna_storage" in self.__dict__:
            storage = self.__dict__.pop("optuna_storage")
            storage._backend.remove_session()
            storage._backend.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Optuna ----------------------------------------------------------------------------------------------------------

    @cached_property
    def optuna_storage(self) -> BaseStorage:
        """Optuna's storage on the same database. The explorer's own tables decide what is scored."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return get_storage(database.optuna_storage(self.url))

    def optuna_study(self, study: StudyRecord, sampler: BaseSampler | None = None) -> optuna.Study:
        """The Optuna study of the same name. It is created if it does not exist.

        Raises:
            StudyError: When it has other objectives.
        """
        directions = [StudyDirection[objective.direction.upper()] for objective in study.settings.objectives]
        made = self.with_optuna(
            lambda: optuna.create_study(
                study_name=study.name,
                storage=self.optuna_storage,
                sampler=sampler,
                directions=directions,
                load_if_exists=True,
            )
        )
        if made.directions != directions:
            raise StudyError(
                f"the storage {self.where} has an Optuna study {study.name!r} with other objectives that the explorer "
                "did not make; choose another --study name."
            )
        return made

    # Studies ---------------------------------------------------------------------------------------------------------

    def create_study(self, name: str, settings: StudySettings) -> StudyRecord:
        """Create a study, or open the existing one of that name if it measures the same. Its model may have moved.

        Raises:
            StudyError: When it exists with other settings, which are named, or the name is not allowed.
        """
        check_study_name(name)
        folder = f"{name}-{secrets.token_hex(4)}"
        row = {"name": name, "settings": settings.to_json(), "created": time.time(), "folder": folder}
        self.transact(lambda connection, _: _add(connection, tables.studies, tables.studies.c.name == name, row))
        study = self.study(name)
        check_same(name, study.settings, settings)
        self.optuna_study(study)
        return study if study.settings.model == settings.model else self._moved(study, settings.model)

    def _moved(self, study: StudyRecord, model: str) -> StudyRecord:
        """The study with the place where its model is now, which further workers and commands load it from."""
        settings = replace(study.settings, model=model)
        update = sa.update(tables.studies).where(tables.studies.c.id == study.id)
        self.transact(lambda connection, _: connection.execute(update.values(settings=settings.to_json())))
        return replace(study, settings=settings)

    def study(self, name: str) -> StudyRecord:
        """The study of that name.

        Raises:
            StudyError: When there is none; the message lists the studies that exist.
        """
        found = self.read(sa.select(tables.studies).where(tables.studies.c.name == name))
        if not found:
            names = ", ".join(study.name for study in self.studies()) or "none"
            raise StudyError(f"there is no study {name!r} in {self.where} (it has: {names}); run `explorer list`.")
        return self._record(found[0])

    def studies(self) -> list[StudyRecord]:
        """Every study, the oldest first."""
        return [self._record(row) for row in self.read(sa.select(tables.studies).order_by(tables.studies.c.id))]

    def _record(self, row: sa.Row[Any]) -> StudyRecord:
        folder = row.folder or row.name
        if not is_name(folder):  # a database may come from anybody, and files are written and deleted there
            raise StudyError(
                f"the study {row.name!r} of {self.where} has {brief(folder, 60)!r} for the name of its folder, which "
                "is not allowed; name another --storage."
            )
        return StudyRecord(row.id, row.name, StudySettings.from_json(row.settings), row.created, folder)

    def check_settings(self, study: StudyRecord, settings: StudySettings) -> str:
        """How the device of a worker differs from the study's, as text. Such a worker may only measure quality.

        Args:
            study: The study.
            settings: What the worker would measure.

        Returns:
            An empty text on the study's device.

        Raises:
            StudyError: When anything else differs.
        """
        return check_elsewhere(study.name, study.settings, settings)

    def device(self, facts: Mapping[str, Any]) -> int:
        """The id of a device, which is added if it is new.

        Args:
            facts: As `explorer.devices.DeviceInfo.to_json` gives them.
        """
        text = json.dumps(dict(facts), sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        row = {
            "fingerprint": fingerprint,
            "name": str(facts.get("name", "unknown")),
            "details": dict(facts),
            "created": time.time(),
        }
        same = tables.devices.c.fingerprint == fingerprint
        return self.transact(lambda connection, _: _add(connection, tables.devices, same, row))


def _add(connection: Connection, table: sa.Table, same: sa.ColumnElement[bool], row: dict[str, Any]) -> int:
    """The id of the row that is the `same`; made when there is none, by one of the processes that want it at once."""
    known = sa.select(table.c.id).where(same)
    found = connection.execute(known).scalar()
    if found is None:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(table).values(row))
        except sa.exc.IntegrityError:
            pass  # another process was quicker; its row is there once its transaction has ended
        found = connection.execute(known).scalar_one()
    return int(found)
