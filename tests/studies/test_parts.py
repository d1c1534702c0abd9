"""Workers of another device: they score quality alone, and latency is left to the study's device."""

from __future__ import annotations

import collections
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from explorer.errors import StudyError
from studies import Counts, Objective, Store, StudyRecord, counts, enqueue, run_worker, trials
from studies.queue import finishing, heartbeats, queue
from studies.queue.optuna_mirror import Mirror
from studies.results.rows import sample_pictures
from studies.scored import QUALITY
from studies.storage import tables
from tests.studies.queue.test_queue import dead_worker, mirror, worker_row
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

HERE, ELSEWHERE = {"name": "the study's device"}, {"name": "another device"}
SPACE = ToySpace(500, 500)


@pytest.fixture
def study(store: Store) -> StudyRecord:
    return store.create_study("s", toy_settings())


def plans(n: int) -> list[ToyPlan]:
    return [ToyPlan(2 + i, 3, name=f"plan {i}") for i in range(n)]


def run(store: Store, total: int | None, quality_only: bool = False, **change: Any) -> Any:
    evaluator = change.pop("evaluator", None) or ToyEvaluator(pictures=True)
    device = ELSEWHERE if quality_only else HERE
    return run_worker(
        store, "s", SPACE, evaluator, ToyPlan.from_json, total, device=device, quality_only=quality_only, **change
    )


def whole(store: Store, study: StudyRecord, n: int) -> None:
    """Every plan is done once, with every score and one complete trial that has its values; nothing else is left."""
    rows = trials(store, study)
    names = [objective.name for objective in study.settings.objectives]
    assert [row.state for row in rows] == ["done"] * n
    found = collections.defaultdict(list)
    for trial in store.optuna_study(study).trials:
        assert trial.state.is_finished()
        if trial.state == TrialState.COMPLETE and "duplicate_of" not in trial.user_attrs:
            found[trial.user_attrs["key"]].append(trial)
    for row in rows:
        assert set(row.scores) == {"latency", "speedup", "fd_toy", "clip"}
        assert [trial.number for trial in found[row.key]] == [row.number]
        assert found[row.key][0].values == [row.scores[name].value for name in names]


@pytest.mark.parametrize("enqueued", [6, 0])  # out of the queue; proposed
def test_quality_there_and_latency_here_make_a_plan_whole(store: Store, study: StudyRecord, enqueued: int) -> None:
    enqueue(store, study, plans(enqueued), SPACE, ToyEvaluator().evaluations)
    outcome = run(store, 6, quality_only=True)
    assert (outcome.scored, outcome.stopped) == (6, "total") and "6 wait for their latency" in outcome.words
    assert counts(store, study) == Counts(untimed=6)
    running = [trial.state for trial in store.optuna_study(study).trials]
    assert running == [TrialState.RUNNING] * 6  # told once both parts stand
    before = trials(store, study)
    assert all(set(row.scores) == {"fd_toy", "clip"} for row in before)
    assert run(store, 6).scored == 6
    whole(store, study, 6)
    for row, quality in zip(trials(store, study), before, strict=True):
        assert row.devices == {
            "fd_toy": "another device", "clip": "another device", "latency": "the study's device",
            "speedup": "the study's device",
        }  # fmt: skip
        assert row.device == "the study's device"
        assert (row.number, row.scores["clip"]) == (quality.number, quality.scores["clip"])
        assert len(sample_pictures(store, study, row.key)) == 1


def test_the_studys_device_times_what_waits_before_it_scores_plans_whole(store: Store, study: StudyRecord) -> None:
    enqueue(store, study, plans(5), SPACE, ToyEvaluator().evaluations)
    run(store, 2, quality_only=True)
    run(store, 1)
    assert counts(store, study) == Counts(waiting=3, untimed=1, done=1)
    run(store, 4)
    assert counts(store, study) == Counts(waiting=1, done=4)


def test_no_more_is_proposed_than_the_studys_device_may_time_soon(
    store: Store, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.searching.driver.UNTIMED_MOST", 3)
    for _ in range(30):  # a busy machine needs more than one go until as many wait as may
        assert run(store, None, quality_only=True, timeout=1.0).stopped == "timeout"
        if counts(store, study).untimed >= 3:
            break
    assert run(store, None, quality_only=True, timeout=1.0).stopped == "timeout"
    assert counts(store, study) == Counts(untimed=3)


@pytest.mark.parametrize("quality_only", [True, False])
def test_a_part_that_fails_ends_the_plan(store: Store, study: StudyRecord, quality_only: bool) -> None:
    enqueue(store, study, plans(1), SPACE, ToyEvaluator().evaluations)
    if not quality_only:
        run(store, 1, quality_only=True)
    run(store, 1, quality_only, evaluator=ToyEvaluator(broken=(3,)))
    assert [(row.state, row.reason) for row in trials(store, study)] == [("failed", "width 3 cannot be scored")]
    assert [trial.state for trial in store.optuna_study(study).trials] == [TrialState.FAIL]


class Stopped(ToyEvaluator):
    def score(self, plan: ToyPlan, part: Any = None) -> Any:
        raise KeyboardInterrupt


@pytest.mark.parametrize("quality_only", [True, False])
def test_an_interrupt_gives_back_the_part_in_hand(store: Store, study: StudyRecord, quality_only: bool) -> None:
    enqueue(store, study, plans(2), SPACE, ToyEvaluator().evaluations)
    if not quality_only:
        run(store, 2, quality_only=True)
    with pytest.raises(KeyboardInterrupt):
        run(store, 2, quality_only, evaluator=Stopped())
    assert counts(store, study) == (Counts(waiting=2) if quality_only else Counts(untimed=2))
    run(store, 2)
    whole(store, study, 2)


@pytest.mark.parametrize("part", ["quality", "latency"])
def test_the_part_of_a_dead_worker_returns_to_the_queue(store: Store, study: StudyRecord, part: str) -> None:
    enqueue(store, study, plans(2), SPACE, ToyEvaluator().evaluations)
    if part == "latency":
        run(store, 2, quality_only=True)
    worker_id = dead_worker(store, study)
    claim = queue.claim_waiting(store, study, worker_id, None, QUALITY if part == "quality" else None)
    assert claim is not None and claim.part == part
    number = mirror(store, study, worker_id).begin(claim)
    assert (number == claim.number) == (part == "latency")
    assert heartbeats.recover(store, study) == heartbeats.Found(1, 1)
    assert counts(store, study) == (Counts(waiting=2) if part == "quality" else Counts(untimed=2))
    assert mirror(store, study, worker_row(store, study)).reconcile() == (1 if part == "quality" else 0)
    run(store, 2)
    whole(store, study, 2)


def test_a_latency_part_that_was_taken_from_a_worker_leaves_the_trial_to_its_new_one(
    store: Store, study: StudyRecord
) -> None:
    enqueue(store, study, plans(1), SPACE, ToyEvaluator().evaluations)
    run(store, 1, quality_only=True)

    class Slow(ToyEvaluator):
        def score(self, plan: ToyPlan, part: Any = None) -> Any:
            with store.begin() as connection:  # it is taken for dead, and another one claims the part
                connection.execute(sa.update(tables.workers).values(state="dead"))
            heartbeats.recover(store, study)
            other.append(queue.claim_waiting(store, study, worker_row(store, study), None))
            return super().score(plan, part)

    other: list[Any] = []
    for seconds in (0.5, 5.0, 60.0):  # it waits for the other one until its time is over
        run_worker(store, "s", SPACE, Slow(), ToyPlan.from_json, timeout=seconds, total_trials=1)
        if other:
            break
    claim = other[0]
    hand: Mirror = mirror(store, study, claim.worker_id)
    number = hand.begin(claim)
    assert number == claim.number
    assert finishing.finish(store, study, claim, ToyEvaluator().score(plans(1)[0], "latency"))
    hand.tell(number, finishing.values_of(store, study, claim.id))
    whole(store, study, 1)


def test_a_study_of_latency_alone_has_nothing_for_another_device(store: Store) -> None:
    store.create_study("s", toy_settings(objectives=(Objective("latency", "minimize"),)))
    with pytest.raises(StudyError, match="latency alone"):
        run(store, 3, quality_only=True)


@pytest.mark.parametrize("name", ["device", "torch", "driver", "threads"])
def test_another_device_is_told_from_another_measurement(store: Store, name: str) -> None:
    there = toy_settings(extra={"torch": "2.15", "driver": "9", "threads": 2, "weights": "abc"})
    study = store.create_study("s", there)
    change = {"device": "gpu"} if name == "device" else {"extra": {**there.extra, name: "other"}}
    assert store.check_settings(study, there) == ""
    assert name in store.check_settings(study, toy_settings(**({"extra": there.extra} | change)))
    with pytest.raises(StudyError, match="weights: the study has 'abc', this run 'xyz'"):
        store.check_settings(study, toy_settings(device="gpu", extra={**there.extra, "weights": "xyz"}))
    with pytest.raises(StudyError, match="dtype"):
        store.check_settings(study, toy_settings(device="gpu", dtype="float16", extra=there.extra))


def test_workers_of_two_devices_are_killed_at_random_and_nothing_is_lost(url: str, tmp_path: Path) -> None:
    n, log, chance = 60, tmp_path / "log", random.Random(3)
    module = [sys.executable, "-m", "tests.studies.toy_worker"]
    root = Path(__file__).parents[2]
    with Store.open(url) as store:
        study = store.create_study("s", toy_settings())
        enqueue(store, study, plans(40), ToySpace(), ToyEvaluator().evaluations)
        arguments = [url, "s", str(n), "0.05", str(log)]
        workers = [subprocess.Popen([*module, *arguments, *(["quality"] if i % 2 else [])], cwd=root) for i in range(6)]
        try:
            for i, victim in enumerate(workers[:4]):  # two of each kind
                while counts(store, study).finished < 8 * (i + 1):
                    assert victim.poll() is None
                    time.sleep(0.05)
                time.sleep(chance.uniform(0.0, 0.1))
                victim.send_signal(signal.SIGKILL)
            assert [worker.wait(900) for worker in workers] == [-signal.SIGKILL] * 4 + [0, 0]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        whole(store, study, n)
        measured = collections.Counter(tuple(line.split()[::2]) for line in log.read_text().splitlines())
        parts = collections.Counter(part for _, part in measured)
        assert parts["quality"] > 0 and parts["latency"] > 0
        # What was measured twice was in a killed worker's hands.
        assert sum(measured.values()) - len(measured) <= 4
