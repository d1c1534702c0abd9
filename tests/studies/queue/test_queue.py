from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from studies import Counts, Store, StudyRecord, counts, enqueue, run_worker, trials
from studies.queue import finishing, heartbeats, queue, samplers
from studies.queue.optuna_mirror import WORKER_DIED, Mirror
from studies.storage import tables
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

PLANS = [ToyPlan(period, 3) for period in range(2, 8)]
SCORED = ToyEvaluator().score(PLANS[0])


@pytest.fixture
def study(store: Store) -> StudyRecord:
    made = store.create_study("s", toy_settings())
    enqueue(store, made, PLANS, ToySpace(), ToyEvaluator().evaluations)
    return made


def worker_row(store: Store, study: StudyRecord, **change: object) -> int:
    """The row of a worker, this process unless said otherwise; returns its id."""
    me = psutil.Process()
    row = {
        "study_id": study.id,
        "host": heartbeats.host(),
        "pid": me.pid,
        "process_started": me.create_time(),
        "heartbeat": time.time(),
        "state": "running",
    }
    with store.begin() as connection:
        row["number"] = connection.execute(sa.select(sa.func.count()).select_from(tables.workers)).scalar_one()
        key = connection.execute(sa.insert(tables.workers).values(row | change)).inserted_primary_key
    assert key is not None
    return int(key[0])


def dead_worker(store: Store, study: StudyRecord) -> int:
    """A worker's row whose process has ended without a word."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
        worker_id = worker_row(store, study, pid=process.pid, process_started=started)
        assert heartbeats.recover(store, study) == heartbeats.Found(0, 0)
        process.kill()
    return worker_id


def mirror(store: Store, study: StudyRecord, worker_id: int) -> Mirror:
    sampler = samplers.make(study.settings.sampler)
    return Mirror(store, study, ToySpace(), ToyEvaluator().evaluations, worker_id, sampler)


def test_plans_come_in_their_order_and_to_one_worker_each(store: Store, study: StudyRecord) -> None:
    workers = [worker_row(store, study) for _ in range(8)]
    got = [queue.claim_waiting(store, study, worker, None) for worker in workers]
    assert [claim.plan["period"] for claim in got if claim] == [plan.period for plan in PLANS]
    assert got[6:] == [None, None]


def test_threads_that_claim_at_once_never_share_a_plan(store: Store, study: StudyRecord) -> None:
    space = ToySpace(500)
    many = [ToyPlan(period, 3) for period in range(2, 62)]
    enqueue(store, study, many, space, ToyEvaluator().evaluations)
    claimed: list[str] = []

    def work(worker: int) -> None:
        while claim := queue.claim_waiting(store, study, worker, None):
            claimed.append(claim.key)

    threads = [threading.Thread(target=work, args=(worker_row(store, study),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 60


def test_the_total_counts_what_is_being_scored(store: Store, study: StudyRecord) -> None:
    first, second = worker_row(store, study), worker_row(store, study)
    assert queue.claim_waiting(store, study, first, 2) is not None
    assert queue.claim_waiting(store, study, second, 2) is not None
    assert queue.claim_waiting(store, study, second, 2) is None
    row = queue.row_of(study, ToyPlan(8, 8), 51, None, "search")
    assert isinstance(queue.claim_new(store, study, first, 2, row, 5), queue.Full)
    assert isinstance(queue.claim_new(store, study, first, 3, row, 5), queue.Claim)
    standing = queue.claim_new(store, study, second, 9, row, 6)
    assert isinstance(standing, queue.KnownPlan) and (standing.state, standing.number) == ("running", 5)


def test_only_the_holder_of_a_claim_can_finish_it(store: Store, study: StudyRecord) -> None:
    worker_id = dead_worker(store, study)
    lost = queue.claim_waiting(store, study, worker_id, None)
    assert lost is not None
    assert heartbeats.recover(store, study) == heartbeats.Found(1, 1)
    again = queue.claim_waiting(store, study, worker_row(store, study), None)
    assert again is not None and again.key == lost.key
    assert not finishing.finish(store, study, lost, SCORED)
    assert not finishing.fail(store, lost, "too late")
    assert not finishing.release(store, lost)
    assert finishing.finish(store, study, again, SCORED)
    assert not finishing.finish(store, study, again, SCORED)
    assert counts(store, study) == Counts(waiting=5, done=1)


def test_two_finders_put_a_dead_workers_plan_back_once(store: Store, study: StudyRecord) -> None:
    claim = queue.claim_waiting(store, study, dead_worker(store, study), None)
    assert claim is not None
    found: list[heartbeats.Found] = []
    threads = [threading.Thread(target=lambda: found.append(heartbeats.recover(store, study))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=lambda f: f.dead) == [heartbeats.Found(0, 0)] * 3 + [heartbeats.Found(1, 1)]
    assert counts(store, study) == Counts(waiting=6)


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        ({}, False),
        ({"heartbeat": 0.0}, False),  # a process of this host that lives is alive, however busy
        ({"process_started": 1.0}, True),  # its pid was given to another process
        ({"host": "elsewhere", "pid": 1}, False),
        ({"host": "elsewhere", "heartbeat": 0.0}, True),
        ({"state": "stopped"}, False),
    ],
)
def test_who_counts_as_dead(store: Store, study: StudyRecord, change: dict[str, object], dead: bool) -> None:
    worker_row(store, study, **change)
    assert heartbeats.recover(store, study).dead == dead


def test_a_killed_process_that_nobody_has_waited_for_is_dead(store: Store, study: StudyRecord) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    worker = heartbeats.Worker.start(store, study)
    with store.begin() as connection:
        connection.execute(sa.update(tables.workers).values(pid=process.pid, process_started=started))
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert heartbeats.recover(store, study).dead == 1
    process.communicate()
    worker.stop()


def test_the_heart_beats(store: Store, study: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.05)
    worker = heartbeats.Worker.start(store, study)
    with store.begin() as connection:
        connection.execute(sa.update(tables.workers).values(heartbeat=0.0, state="dead"))  # taken for dead elsewhere
    query = sa.select(tables.workers.c.heartbeat, tables.workers.c.state)
    deadline = time.monotonic() + 120
    row = (0.0, "dead")
    while row[0] == 0.0 and time.monotonic() < deadline:
        time.sleep(0.05)
        with store.begin() as connection:
            row = tuple(connection.execute(query).one())
    assert row[0] > 0 and row[1] == "running"
    worker.stop()


@pytest.mark.parametrize(
    ("moment", "state", "reason"),
    [
        ("begun", TrialState.FAIL, WORKER_DIED),
        ("recorded", TrialState.COMPLETE, None),  # the plan was done and its trial not yet told
        ("failed", TrialState.FAIL, "too wide"),
    ],
)
def test_trials_of_a_dead_worker_are_settled_and_its_plan_runs_once(
    store: Store, study: StudyRecord, moment: str, state: TrialState, reason: str | None
) -> None:
    worker_id = dead_worker(store, study)
    claim = queue.claim_waiting(store, study, worker_id, None)
    assert claim is not None
    number = mirror(store, study, worker_id).begin(claim)
    if moment == "recorded":
        assert finishing.finish(store, study, claim, SCORED)
    if moment == "failed":
        assert finishing.fail(store, claim, "too wide")
    run_worker(store, "s", ToySpace(), ToyEvaluator(), ToyPlan.from_json, total_trials=6)
    trial = store.optuna_study(study).trials[number]
    assert (trial.state, trial.user_attrs.get("reason")) == (state, reason)
    assert all(row.state == ("failed" if row.reason else "done") for row in trials(store, study))
    if state == TrialState.COMPLETE:
        assert trial.values == [SCORED.estimates[name].value for name in ("latency", "fd_toy", "clip")]


def test_a_trial_that_was_asked_for_and_left_is_settled_after_a_while(
    store: Store, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna_study = store.optuna_study(study)
    optuna_study.ask()
    assert mirror(store, study, 1).reconcile() == 0
    monkeypatch.setattr("studies.queue.optuna_mirror.ORPHAN_SECONDS", -1.0)
    assert mirror(store, study, 1).reconcile() == 1
    assert optuna_study.trials[0].state == TrialState.FAIL


def test_hosts_are_told_apart_by_more_than_their_name() -> None:
    assert heartbeats.host() == heartbeats.host()
    if os.path.exists("/proc/self/ns/pid"):
        assert "pid:" in heartbeats.host()
