"""The store: one database that holds Optuna's tables and the explorer's, with the pictures as files beside it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, get_storage
from optuna.study import StudyDirection
from sqlalchemy.engine import URL, Connection, Engine

from explorer.errors import StudyError
from studies import schema, sqlite, tables
from studies.settings import StudySettings, check_same

_NAME = re.compile(r"\w[\w .+-]{0,98}\w|\w")


@dataclass(frozen=True)
class StudyRecord:
    """A study that stands: its row's id, name, settings and when it was made (seconds since the epoch)."""

    id: int
    name: str
    settings: StudySettings
    created: float


class Store:
    """An open database. Use `Store.open`; close it, or use it as a context manager.

    Every method raises StudyError, in one sentence, when the database cannot be read or written.
    """

    def __init__(self, url: URL, engine: Engine, read_only: bool) -> None:
        self.url, self.engine, self.read_only = url, engine, read_only

    @classmethod
    def open(cls, url_or_path: str | os.PathLike[str] = sqlite.DEFAULT_URL, read_only: bool = False) -> Store:
        """Open a database by SQLAlchemy URL or by the path of a SQLite file, make its tables or migrate older ones.

        read_only: open for reading alone, which neither makes a database nor blocks the workers of one.

        Raises:
            StudyError: when it cannot be opened or written, is no database, is of a newer schema, or (reading) has no
                studies of the explorer.
        """
        url = sqlite.parse_url(url_or_path)
        store = cls(url, sqlite.reading_engine(url) if read_only else sqlite.writing_engine(url), read_only)
        try:
            if read_only:
                store._check_readable()
            else:
                with store.begin() as connection:
                    schema.migrate(connection, store.where)
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
        return self.url.render_as_string(hide_password=True)

    @property
    def folder(self) -> Path:
        """What the pictures' paths are relative to: the SQLite file's folder, otherwise the working folder."""
        return Path(str(self.url.database)).absolute().parent if sqlite.is_sqlite(self.url) else Path.cwd()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on any exception."""
        with sqlite.in_words(self.url), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()
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
        """Optuna's storage on the same database, with the same recipe."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return get_storage(sqlite.optuna_storage(self.url))

    def optuna_study(self, study: StudyRecord, sampler: BaseSampler | None = None) -> optuna.Study:
        """Optuna's study of the same name; made when it does not stand yet."""
        directions = [StudyDirection[objective.direction.upper()] for objective in study.settings.objectives]
        with sqlite.in_words(self.url):
            made = optuna.create_study(
                study_name=study.name,
                storage=self.optuna_storage,
                sampler=sampler,
                directions=directions,
                load_if_exists=True,
            )
        if made.directions != directions:
            raise StudyError(
                f"the storage {self.where} has an Optuna study {study.name!r} with other objectives that the explorer "
                "did not make; choose another --study name."
            )
        return made

    # Studies ---------------------------------------------------------------------------------------------------------

    def create_study(self, name: str, settings: StudySettings) -> StudyRecord:
        """The study `name`: a new one, or the one that stands if it measures the same.

        Raises:
            StudyError: when it stands with other settings (both sides are named), or the name cannot be used.
        """
        if not _NAME.fullmatch(name):
            raise StudyError(
                f"{name!r} cannot name a study; use up to 100 letters, digits, spaces and . _ + - that begin and end "
                "with a letter or digit."
            )
        with self.begin() as connection:
            if _find(connection, name) is None:
                row = {"name": name, "settings": settings.to_json(), "created": time.time()}
                connection.execute(sa.insert(tables.studies).values(row))
        study = self.study(name)
        check_same(name, study.settings, settings)
        self.optuna_study(study)
        return study

    def study(self, name: str) -> StudyRecord:
        """The study `name`. Raises StudyError, naming those that stand, when there is none."""
        with self.begin() as connection:
            found = _find(connection, name)
        if found is None:
            names = ", ".join(study.name for study in self.studies()) or "none"
            raise StudyError(f"there is no study {name!r} in {self.where} (it has: {names}); run `explorer list`.")
        return found

    def studies(self) -> list[StudyRecord]:
        """Every study, the oldest first."""
        with self.begin() as connection:
            return [_record(row) for row in connection.execute(sa.select(tables.studies).order_by(tables.studies.c.id))]

    def check_settings(self, study: StudyRecord, settings: StudySettings) -> None:
        """Raises StudyError, saying both sides, unless a worker with `settings` measures what the study measures."""
        check_same(study.name, study.settings, settings)

    def device(self, facts: Mapping[str, Any]) -> int:
        """The id of the device with these facts (`explorer.devices.DeviceInfo.to_json()`); made when it is new."""
        text = json.dumps(dict(facts), sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        with self.begin() as connection:
            known = sa.select(tables.devices.c.id).where(tables.devices.c.fingerprint == fingerprint)
            found = connection.execute(known).scalar()
            if found is None:
                row = {
                    "fingerprint": fingerprint,
                    "name": str(facts.get("name", "unknown")),
                    "details": dict(facts),
                    "created": time.time(),
                }
                connection.execute(sa.insert(tables.devices).values(row))
                found = connection.execute(known).scalar()
        assert found is not None
        return int(found)


def _find(connection: Connection, name: str) -> StudyRecord | None:
    row = connection.execute(sa.select(tables.studies).where(tables.studies.c.name == name)).first()
    return None if row is None else _record(row)


def _record(row: sa.Row[Any]) -> StudyRecord:
    return StudyRecord(row.id, row.name, StudySettings.from_json(row.settings), row.created)
