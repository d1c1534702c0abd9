"""A storage that goes away in the middle: waited for, then a clear stop, and the study is whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from explorer.errors import StudyError
from explorer.estimate import Estimate
from explorer.models.workload import Workload
from explorer.timing.profile import Profile
from explorer.timing.profiling import profile_pipeline
from studies import Counts, Store, counts, enqueue, run_worker
from studies.predicting import calibration
from studies.queue import finishing, queue
from studies.results.rows import worker_rows
from studies.searching import findings
from studies.searching.profiles import newest_profile, save_profile
from studies.storage import tables
from studies.storage.patience import VARIABLE, Patience
from studies.storage.store import StudyRecord
from studies.storage.troubles import StorageGone
from tests.conftest import make_pipeline
from tests.studies.cluster import Server
from tests.studies.conftest import text_of
from tests.studies.queue.test_queue import worker_row
from tests.studies.searching.test_profiles import TINY
from tests.studies.test_parts import plans, whole
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

ROOT = Path(__file__).parents[3]

PATIENCE = 600.0  # seconds for a process to end, on a machine that has other things to do


@pytest.fixture
def outage_url(server: Server, template: str) -> Iterator[str]:
    if not server.own:
        pytest.skip("the server that the environment names is not this test's to stop")
    made = server.database(template)
    yield text_of(made)
    server.drop(made)


def worker(url: str, total: int, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.studies.toy_worker", url, "s", str(total), "0.05", str(log)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def fill(url: str, n: int) -> None:
    with Store.open(url) as store:
        study = store.create_study("s", toy_settings())
        enqueue(store, study, plans(n), ToySpace(), ToyEvaluator().evaluations)


def wait_for_finished(url: str, n: int, *running: subprocess.Popen[str]) -> None:
    """Until n plans are finished and each of the workers has begun, on a machine however busy; none may have ended."""
    with Store.open(url) as store:
        study, workers = store.study("s"), len(running)
        while counts(store, study).finished < n or len(worker_rows(store, study)) < workers:
            assert all(each.poll() is None for each in running), "a worker ended before it was cut off"
            time.sleep(0.05)


def until_it_tries_again(process: subprocess.Popen[str]) -> str:
    """What a worker says until it has found the storage gone."""
    assert process.stderr is not None
    said = ""
    while "Trying again" not in said:
        line = process.stderr.readline()
        assert line, f"the worker ended: {said}"
        said += line
    return said


def test_workers_go_on_when_the_server_is_back(outage_url: str, server: Server, tmp_path: Path) -> None:
    n = 80
    fill(outage_url, n)
    workers = [worker(outage_url, n, tmp_path / "log") for _ in range(2)]
    try:
        wait_for_finished(outage_url, 4, *workers)
        server.stop()
        first = [until_it_tries_again(each) for each in workers]  # however long a busy machine takes for it
        server.start()
        said = [words + each.communicate(timeout=PATIENCE)[1] for words, each in zip(first, workers, strict=True)]
    finally:
        for each in workers:
            each.kill()
        if not (server.folder / "data" / "postmaster.pid").exists():  # type: ignore[operator]
            server.start()
    assert [each.returncode for each in workers] == [0, 0], said
    assert all("Trying again for 300 s" in words and "the storage is back after" in words for words in said)
    assert "Traceback" not in "".join(said) and "telling" not in "".join(said)
    with Store.open(outage_url) as store:
        whole(store, store.study("s"), n)
    scored = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(scored) == len(set(scored)) == n  # what was in hand was recorded, not scored again


def test_workers_stop_when_the_server_stays_away_and_the_study_resumes(
    outage_url: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 14
    fill(outage_url, n)
    monkeypatch.setenv(VARIABLE, "1.5")
    process = worker(outage_url, n, tmp_path / "log")
    try:
        wait_for_finished(outage_url, 3, process)
        server.stop()
        words = process.communicate(timeout=PATIENCE)[1].strip().splitlines()
    finally:
        process.kill()
        server.start()
    assert process.returncode == 1
    assert "Trying again for 2 s" in words[0]
    assert "did not come back in 2 s" in words[-1] and "to resume" in words[-1]
    assert len(words) == 2 and "telling" not in "".join(words)
    with Store.open(outage_url) as store:
        study = store.study("s")
        run_worker(store, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=n)
        assert counts(store, study) == Counts(done=n)
        whole(store, study, n)
        assert not [t for t in store.optuna_study(study).trials if t.state == TrialState.RUNNING]


def cut_after(store: Store, work: Callable[[], Any]) -> Any:
    """Do `work` while the first commit's answer is lost: it stands, and its caller does not know."""
    cut: list[bool] = []

    def lose(connection: sa.Connection) -> None:
        if not cut:
            cut.append(True)
            connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
            raise StorageGone("the connection was cut.")

    sa.event.listen(store.engine, "commit", lose)
    try:
        return work()
    finally:
        sa.event.remove(store.engine, "commit", lose)
        assert cut


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_was_committed_unknown_to_its_caller_is_not_done_twice(store: Store) -> None:
    study = store.create_study("s", toy_settings())
    enqueue(store, study, plans(2), ToySpace(), ToyEvaluator().evaluations)
    me = worker_row(store, study)
    claim = cut_after(store, lambda: queue.claim_waiting(store, study, me, 2))
    assert claim is not None and counts(store, study) == Counts(waiting=1, running=1)
    scored = ToyEvaluator().score(plans(1)[0])
    assert cut_after(store, lambda: finishing.finish(store, study, claim, scored)) is True
    row = queue.row_of(study, ToyPlan(7, 7), 51, None, "search")
    new = cut_after(store, lambda: queue.claim_new(store, study, me, 3, row, 5))
    assert isinstance(new, queue.Claim) and new.key == row["key"]
    assert cut_after(store, lambda: finishing.fail(store, new, "too wide")) is True
    assert counts(store, study) == Counts(waiting=1, done=1, failed=1)


# What is found once ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_profile() -> Profile:
    pipe = make_pipeline(**TINY)
    return profile_pipeline(pipe, "tiny", Workload(1, (64, 64), "cpu", "float32", "off"), steps=2, rounds=3)


def a_part(store: Store, study: StudyRecord, _profile: Profile) -> sa.Table:
    calibration.save_part(store, study, "plain/3", {"plain": 3, "parts": ["plain/3"]}, {"distance": np.ones(1)}, 1.0)
    assert calibration.standing(store, study).whole
    assert calibration.parts(store, study)["plain/3"].arrays["distance"] == 1
    return tables.calibrations


def a_finding(store: Store, study: StudyRecord, _profile: Profile) -> sa.Table:
    findings.keep(store, study, findings.FLOOR, {"fd": Estimate(5.0, 4.0, 6.0, 12).to_json()})
    assert findings.floors_of(store, study)["fd"].value == 5.0
    return tables.findings


def a_profile(store: Store, _study: StudyRecord, profile: Profile) -> sa.Table:
    save_profile(store, profile)
    assert newest_profile(store, "tiny", profile.architecture.signature) == profile
    return tables.profiles


FOUND_ONCE = pytest.mark.parametrize("keep", [a_part, a_finding, a_profile])


@FOUND_ONCE
def test_what_is_found_once_waits_for_the_server(
    keep: Callable[[Store, StudyRecord, Profile], sa.Table], outage_url: str, server: Server, tiny_profile: Profile,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with Store.open(outage_url) as store:
        study = store.create_study("s", toy_settings())
        server.stop()

        def back_once_it_is_missed() -> None:
            while store.patience.troubled < 0:
                time.sleep(0.02)
            server.start()

        mender = threading.Thread(target=back_once_it_is_missed)
        mender.start()
        try:
            table = keep(store, study, tiny_profile)
        finally:
            store.patience.troubled = 0.0
            mender.join()
        assert len(store.read(sa.select(table.c.id))) == 1
    said = capsys.readouterr().err
    assert "Trying again for 300 s" in said and "the storage is back after" in said


@FOUND_ONCE
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_is_found_once_is_not_kept_twice(
    keep: Callable[[Store, StudyRecord, Profile], sa.Table], store: Store, tiny_profile: Profile
) -> None:
    study = store.create_study("s", toy_settings())
    table = cut_after(store, lambda: keep(store, study, tiny_profile))
    assert len(store.read(sa.select(table.c.id))) == 1


def test_patience_ends_once_and_for_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(0.3)

    def gone(_again: bool) -> None:
        raise StorageGone("the storage is gone.")

    with pytest.raises(StudyError, match=r"did not come back in 0 s \(the storage is gone\)"):
        patience.keep_trying(gone)
    monkeypatch.setattr(
        "studies.storage.patience.time.sleep", lambda seconds: pytest.fail(f"it waited {seconds} s more")
    )
    with pytest.raises(StorageGone):
        patience.keep_trying(gone)
    assert capsys.readouterr().err.count("\n") == 1
    assert Patience(5.0).keep_trying(lambda again: again) is False


@pytest.mark.parametrize("value", ["soon", "-1", "inf"])
def test_patience_is_a_number(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(StudyError, match=f"{VARIABLE} must be a number of seconds"):
        Store.open(tmp_path / "explorer.db")
    assert list(tmp_path.iterdir()) == []


# SQLite --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_deleted_file_stops_the_run_with_a_sentence(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    url = f"sqlite:///{place / 'explorer.db'}"
    fill(url, 400)
    process = worker(url, 400, tmp_path / "log")
    try:
        wait_for_finished(url, 3, process)
        if what == "folder":
            shutil.rmtree(place)
        else:
            (place / "explorer.db").rename(tmp_path / "moved.db")
        words = process.communicate(timeout=PATIENCE)[1].strip().splitlines()
    finally:
        process.kill()
    assert process.returncode == 1 and len(words) == 1
    assert "was deleted or moved while it was in use" in words[0]
    assert not (place / "explorer.db").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_becomes_read_only_stops_the_run_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "explorer.db"
    fill(f"sqlite:///{path}", 5)
    with Store.open(path) as store:
        path.chmod(0o444)
        with pytest.raises(StudyError, match="read-only"):
            run_worker(store, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=5)


def test_a_disk_that_fills_up_stops_the_run_and_the_study_resumes(tmp_path: Path) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        study = store.create_study("s", toy_settings())

        def no_more_pages(connection: sqlite3.Connection, _record: object) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={pages + 6}")

        store.engine.dispose()
        sa.event.listen(store.engine, "connect", no_more_pages)
        with pytest.raises(StudyError, match="the disk is full; free some space"):
            run_worker(store, "s", ToySpace(500, 500), ToyEvaluator(), ToyPlan.from_json, total_trials=200)
    with Store.open(tmp_path / "explorer.db") as store:
        done = counts(store, study).done
        run_worker(store, "s", ToySpace(500, 500), ToyEvaluator(), ToyPlan.from_json, total_trials=done + 3)
        whole(store, study, done + 3)


def test_an_interrupt_ends_the_wait(capsys: pytest.CaptureFixture[str]) -> None:
    import signal

    patience = Patience(60.0)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)

    def gone(_again: bool) -> None:
        raise StorageGone("the storage is gone.")

    try:
        with pytest.raises(KeyboardInterrupt):
            patience.keep_trying(gone)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert patience.over
