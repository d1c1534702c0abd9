from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from studies.config import STORAGE_VARIABLE
from tests.dashboard.small_study import storage

APP = Path(__file__).parents[2] / "dashboard" / "app.py"


@pytest.fixture(scope="session")
def small_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with one whole study; not to be changed."""
    return storage(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture
def open_app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """The app on a storage, on the page that it opens with or on another one's file, with what the address asks."""

    def open_app(path: Path | str, page: str | None = None, **asked: str) -> AppTest:
        monkeypatch.setenv(STORAGE_VARIABLE, str(path))
        app = AppTest.from_file(APP, default_timeout=120)
        for name, value in asked.items():
            app.query_params[name] = value
        app.run()
        return app.switch_page(page).run() if page else app

    return open_app
