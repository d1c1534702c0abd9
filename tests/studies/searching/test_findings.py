"""What is found once a study: by a search, kept in the storage, read without the model."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from explorer import ModelError, anatomy
from explorer.timing.anatomy import Anatomy
from explorer.unet.architecture import Architecture
from studies import Store, StudyRecord
from studies.config import make_config
from studies.predicting.calibration import save_part
from studies.searching import findings
from studies.searching.session import Session, open_session
from studies.storage import tables
from tests.architectures import sd15_anatomy
from tests.studies.toy_study import toy_settings


@pytest.fixture(scope="module")
def session() -> Session:
    given = {"study": "once", "model": "emoji", "steps": 3, "prompt_count": 8, "objectives": "latency,fd", "pairs": 3}
    return open_session(make_config(given, None))


@pytest.fixture
def standing(session: Session, tmp_path: Path) -> tuple[Store, StudyRecord]:
    store = Store.open(tmp_path / "explorer.db")
    return store, store.create_study("once", session.settings)


def test_a_search_finds_them_once(session: Session, standing: tuple[Store, StudyRecord]) -> None:
    store, study = standing
    with store:
        assert findings.anatomy_of(store, study) is None and findings.sensitivity_of(store, study) is None
        assert findings.floors_of(store, study) == {}
        assert findings.record(store, study, session) == ["anatomy", "sensitivity", "floor"]
        assert findings.record(store, study, session) == []
        assert findings.anatomy_of(store, study) == anatomy(session.evaluator.pipe.unet, 8)
        found = findings.sensitivity_of(store, study)
        assert found is not None and found.units == Architecture.of(session.evaluator.pipe.unet).units
        assert (
            found.evaluations == 4 and found.pictures == findings.PICTURES == 4
        )  # PNDM evaluates once more than its steps
        assert np.nanmin(found.values) > 0 and np.nanmax(found.values) < 10
        floors = findings.floors_of(store, study)
        assert list(floors) == ["fd_emojiclip"] and floors["fd_emojiclip"].n == 8


def test_what_is_damaged_counts_as_missing(session: Session, standing: tuple[Store, StudyRecord]) -> None:
    store, study = standing
    with store:
        findings.record(store, study, session)
        with store.begin() as connection:
            connection.execute(sa.update(tables.findings).values(value={"units": 3, "fd": "x"}))
        assert findings.anatomy_of(store, study) is None
        assert findings.sensitivity_of(store, study) is None
        assert findings.floors_of(store, study) == {}
        assert findings.record(store, study, session) == ["anatomy", "sensitivity", "floor"]
        assert findings.record(store, study, session) == []
        assert findings.anatomy_of(store, study) == anatomy(session.evaluator.pipe.unet, 8)


def test_two_processes_that_keep_one_thing_at_once(url: str) -> None:
    """Both try to insert at the same moment. The study's row is locked for it, so they take turns, and the slower one's
    is left out."""
    meet = threading.Barrier(2)

    def wait(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT"):
            with suppress(threading.BrokenBarrierError):  # the other one waits for the lock
                meet.wait(2)

    def keep() -> None:
        with Store.open(url) as store:
            study = store.study("s")
            if not store.beside_its_file:
                sa.event.listen(store.engine, "before_cursor_execute", wait)
            findings.keep(store, study, findings.FLOOR, {})
            save_part(store, study, "plain/3", {"plain": 3}, {"distance": np.ones(1)}, 1.0)

    with Store.open(url) as store:
        study = store.create_study("s", toy_settings())
        with ThreadPoolExecutor(2) as both:
            for done in [both.submit(keep) for _ in range(2)]:
                done.result()
        for table in (tables.findings, tables.calibrations):
            assert len(store.read(sa.select(table.c.id).where(table.c.study_id == study.id))) == 1


def test_an_anatomy_is_kept_as_json() -> None:
    found = sd15_anatomy()
    assert Anatomy.from_json(found.to_json()) == found
    for change in ({"nodes": []}, {"latent": 3}, {"nodes": [{}]}, {"architecture": None}):
        with pytest.raises(ModelError):
            Anatomy.from_json(found.to_json() | change)
