"""The storages that tests run on: SQLite, and PostgreSQL where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from studies import Store
from studies.storage.store import PICTURES_VARIABLE
from tests.studies.cluster import Server, running_server, why_not

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server; the test is skipped where there is none."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """A database with all tables, to copy: making them takes longer than most tests."""
    url = server.database()
    with Store.open(text_of(url)) as store:
        assert store.optuna_storage is not None
    return str(url.database)


def text_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture(params=KINDS)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a storage that holds nothing yet, on SQLite and on PostgreSQL."""
    yield from _url(request, tmp_path, lambda: None)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a storage without studies, on SQLite and on PostgreSQL."""
    yield from _url(request, tmp_path, lambda: request.getfixturevalue("template"))


def _url(request: pytest.FixtureRequest, tmp_path: Path, template: Callable[[], str | None]) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'explorer.db'}"
        return
    running: Server = request.getfixturevalue("server")
    made = running.database(template())
    yield text_of(made)
    running.drop(made)


@pytest.fixture(autouse=True)
def _pictures_in_the_tests_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PICTURES_VARIABLE, str(tmp_path))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def store_file(tmp_path: Path) -> Iterator[Store]:
    """A SQLite storage, for what does not depend on the kind of storage."""
    with Store.open(tmp_path / "explorer.db") as store:
        yield store
