"""Renaming and deleting studies: every row of a study in one transaction, Optuna's included, then its files.

A study that a living worker searches is left alone. What other studies share with it stays: profiles, devices, features
of reference pictures, and files that another storage of the same folder names as well.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from explorer.errors import StudyError
from studies.certificates import document
from studies.names import check_study_name
from studies.queue import heartbeats, queue
from studies.storage import optuna_tables, pictures, postgresql, saved, sqlite, tables
from studies.storage.store import Store, StudyRecord

FOLDERS = (pictures.FOLDER, saved.FOLDER, document.FOLDER)
"""What a study has beside the storage: a folder of its own in each of these."""
_OF_PLANS = (tables.measurements, tables.pictures)
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Contents:
    """What a study holds. calibrated: whether parts of a calibration are stored."""

    plans: int
    measurements: int
    pictures: int
    calibrated: bool

    @property
    def words(self) -> str:
        parts = [_counted(self.plans, "plan"), _counted(self.measurements, "measurement")]
        parts.append(_counted(self.pictures, "picture"))
        return ", ".join(parts) + (" and a calibration" if self.calibrated else "")


def contents(store: Store, study: StudyRecord) -> Contents:
    """Count what deleting the study would delete."""

    def count(connection: Connection, _again: bool) -> Contents:
        mine, calibrations = _plans_of(study), tables.calibrations
        of_plans = (sa.select(table.c.id).where(table.c.plan_id.in_(mine)) for table in _OF_PLANS)
        measurements, pictures = (_rows(connection, query) for query in of_plans)
        parts = sa.select(calibrations.c.id).where(calibrations.c.study_id == study.id)
        return Contents(_rows(connection, mine), measurements, pictures, _rows(connection, parts) > 0)

    return store.transact(count)


def rename_study(store: Store, study: StudyRecord, new: str) -> StudyRecord:
    """Give a study another name and return it. Its files stay where they are, as their folder has a name of its own.

    Raises:
        StudyError: when the name cannot be used or is taken, or a worker is searching the study.
    """
    check_study_name(new)

    def rename(connection: Connection, again: bool) -> None:
        taken = connection.execute(sa.select(tables.studies.c.id).where(tables.studies.c.name == new)).scalar()
        if taken == study.id and again:
            return  # by the try whose answer was lost
        queue.lock(connection, study)
        _check_idle(connection, store, study, "renamed")
        if taken is not None or optuna_tables.has_study(connection, new):
            raise StudyError(f"the storage {store.where} already has a study {new!r}; choose another name.")
        change = {"name": new, "folder": study.folder}
        connection.execute(sa.update(tables.studies).where(tables.studies.c.id == study.id).values(change))
        optuna_tables.rename_study(connection, study.name, new)

    store.transact(rename)
    store.close_optuna()
    return store.study(new)


def delete_study(store: Store, study: StudyRecord) -> Path | None:
    """Delete a study with its plans, measurements, calibration, pictures, saved files and certificates.

    Returns:
        None; where another storage of the same folder has the study's files as well (a copy of this one, or one of an
        earlier version with a study of the same name), that storage: the files stay then.

    Raises:
        StudyError: when a worker is searching the study, or its files cannot be deleted.
    """
    shared = _also_of(store, study)

    def delete(connection: Connection, again: bool) -> None:
        if (
            again
            and connection.execute(sa.select(tables.studies).where(tables.studies.c.id == study.id)).first() is None
        ):
            return  # by the try whose answer was lost
        queue.lock(connection, study)
        _check_idle(connection, store, study, "deleted")
        for table in _OF_PLANS:
            connection.execute(sa.delete(table).where(table.c.plan_id.in_(_plans_of(study))))
        for table in (tables.plans, tables.workers, tables.findings, tables.calibrations):
            connection.execute(sa.delete(table).where(table.c.study_id == study.id))
        connection.execute(sa.delete(tables.studies).where(tables.studies.c.id == study.id))
        optuna_tables.delete_study(connection, study.name)

    store.transact(delete)
    store.close_optuna()
    if shared is None:
        _delete_files(store.folder, study)
    return shared


def _plans_of(study: StudyRecord) -> sa.Select[tuple[int]]:
    return sa.select(tables.plans.c.id).where(tables.plans.c.study_id == study.id)


def _rows(connection: Connection, query: sa.Select[tuple[int]]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one())


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _check_idle(connection: Connection, store: Store, study: StudyRecord, done: str) -> None:
    """Raises StudyError while a worker is searching the study. The caller holds the study's lock."""
    here, now = heartbeats.host(), postgresql.now(connection)
    mine = (tables.workers.c.study_id == study.id, tables.workers.c.state == heartbeats.ALIVE)
    alive = [
        row
        for row in connection.execute(sa.select(tables.workers).where(*mine))
        if not heartbeats.is_dead(row, here, now)
    ]
    if alive:
        named = ", ".join(f"worker {row.number} (process {row.pid} on {row.host.split()[0]})" for row in alive[:3])
        more = f" and {len(alive) - 3} more" if len(alive) > 3 else ""
        raise StudyError(
            f"the study {study.name!r} of {store.where} is being searched by {named}{more}, so it is not {done}; "
            "stop the search first."
        )


def _also_of(store: Store, study: StudyRecord) -> Path | None:
    """Another SQLite file in the folder of the study's files that has a study with the same folder of files. One that
    cannot be read is taken for such a file."""
    own = sqlite.identity(store.url) if store.beside_its_file else None
    for path in sorted(store.folder.iterdir()):
        try:
            if not path.is_file() or _starts(path) != _SQLITE:
                continue
            found = path.stat()
            if (found.st_dev, found.st_ino) != own and _names(path, study.folder):
                return path
        except (OSError, sa.exc.DatabaseError):
            return path
    return None


def _starts(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(_SQLITE))


def _names(path: Path, folder: str) -> bool:
    """Whether the SQLite file has a study whose files lie in a folder of that name."""
    engine = sqlite.reading_engine(URL.create("sqlite", database=str(path)))
    try:
        with engine.connect() as connection:
            inspector, name = sa.inspect(connection), tables.studies.name
            if not inspector.has_table(name):
                return False
            column: sa.ColumnElement[str] = (
                tables.studies.c.name
            )  # of an earlier version, where the name was the folder's
            if tables.studies.c.folder.name in {each["name"] for each in inspector.get_columns(name)}:
                column = sa.func.coalesce(sa.func.nullif(tables.studies.c.folder, ""), tables.studies.c.name)
            return connection.execute(sa.select(tables.studies.c.id).where(column == folder)).first() is not None
    finally:
        engine.dispose()


def _delete_files(folder: Path, study: StudyRecord) -> None:
    for kind in FOLDERS:
        place = folder / kind / study.folder
        try:
            if place.exists():
                shutil.rmtree(place)
        except OSError as error:
            raise StudyError(
                f"the study {study.name!r} is deleted, but not all of its files in {place} "
                f"({error.strerror or error}); delete that folder yourself."
            ) from error
        with suppress(OSError):  # it holds files of other studies, or was not there
            place.parent.rmdir()
