"""The one reader of a study that grows: what it gives is what is stored, and only what has changed is read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from studies import Store, StudyRecord, counts, enqueue, run_worker, trials
from studies.proposing.proposers.record import Record
from studies.queue import finishing, queue
from studies.queue.heartbeats import Worker
from studies.queue.plan_feed import PlanFeed
from studies.results.reading import Reading
from studies.results.rows import TrialRow, read_rows
from studies.scoring.racing import Race
from studies.settings import Objective
from studies.storage import tables
from tests.studies.scoring.test_racing import Racing
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

SPACE, EVALUATOR = ToySpace(9, 9), ToyEvaluator()
plans = tables.plans


class Counting:
    """A reader of rows that keeps how many it was asked for."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, connection: sa.Connection, where: sa.ColumnElement[bool]) -> dict[int, TrialRow]:
        found = read_rows(connection, where, keep_plans=False)
        self.read += len(found)
        return found


def add(store: Store, study: StudyRecord, count: int, start: int = 2) -> None:
    every = [ToyPlan(period, width) for period in range(start, 9) for width in range(1, 9)]
    enqueue(store, study, every[:count], SPACE, EVALUATOR.evaluations)


def by_hand(store: Store, query: Any) -> None:
    with store.begin() as connection:
        connection.execute(query)


def first(study: StudyRecord, *states: str) -> sa.ColumnElement[bool]:
    """The first plan in one of the states."""
    mine = (plans.c.study_id == study.id, plans.c.state.in_(states))
    return plans.c.id == sa.select(sa.func.min(plans.c.id)).where(*mine).scalar_subquery()


def claim_and(store: Store, study: StudyRecord, worker: int, end: Callable[[queue.Claim], Any]) -> None:
    claim = queue.claim_waiting(store, study, worker, None)
    if claim is not None:
        finishing.set_number(store, claim, claim.id)
        end(claim)


OPERATIONS: dict[str, Callable[[Store, StudyRecord, int], None]] = {
    "enqueue": lambda store, study, worker: add(store, study, counts(store, study).begun + 3),
    "finish": lambda store, study, worker: claim_and(
        store, study, worker, lambda claim: finishing.finish(store, study, claim, EVALUATOR.score(ToyPlan(3, 3)))
    ),
    "fail": lambda store, study, worker: claim_and(
        store, study, worker, lambda claim: finishing.fail(store, claim, "it broke")
    ),
    "begin": lambda store, study, worker: claim_and(store, study, worker, lambda claim: None),
    "release": lambda store, study, worker: claim_and(
        store, study, worker, lambda claim: finishing.release(store, claim)
    ),
    "put back": lambda store, study, worker: by_hand(
        store, sa.update(plans).where(first(study, *tables.FINISHED)).values(state="waiting")
    ),
    "mark": lambda store, study, worker: by_hand(
        store, sa.update(plans).where(first(study, "done")).values(state="failed")
    ),
    "remove": lambda store, study, worker: by_hand(
        store,
        sa.delete(plans).where(
            first(study, "waiting"), sa.not_(sa.exists().where(tables.measurements.c.plan_id == plans.c.id))
        ),
    ),
}


def test_whatever_happens_a_look_gives_what_is_stored(store_file: Store) -> None:
    @given(st.lists(st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=4), min_size=1, max_size=6))
    @example([["enqueue", "remove"], ["begin", "remove", "enqueue"]])
    @example([["enqueue"], ["fail", "put back", "release"]])
    @settings(max_examples=25, deadline=None)
    def hold(looks: list[list[str]]) -> None:
        study = store_file.create_study(f"s{len(store_file.studies())}", toy_settings())
        worker = Worker.start(store_file, study, {"name": "here"})
        feed = PlanFeed(study, Counting())
        for operations in looks:
            for name in operations:
                OPERATIONS[name](store_file, study, worker.id)
                if name == "put back":  # one that finishes again before a look is not told from one that stayed
                    feed.refresh(store_file)
            feed.refresh(store_file)
            assert list(feed.rows.values()) == trials(store_file, study, keep_plans=False)
            assert feed.counts == counts(store_file, study)
            assert feed.refresh(store_file) is None
        worker.stop()

    hold()


def test_only_plans_that_changed_are_read_again(store: Store) -> None:
    """However many wait: a study begins with all of its baselines in the queue."""
    study = store.create_study("s", toy_settings())
    worker = Worker.start(store, study, {"name": "here"})
    add(store, study, 40)
    counting = Counting()
    feed = PlanFeed(study, counting)
    assert feed.refresh(store) is not None and counting.read == 40
    for operation, expected in (("begin", 1), ("finish", 1), ("fail", 1), ("release", 0), ("put back", 1)):
        before = counting.read
        OPERATIONS[operation](store, study, worker.id)
        news = feed.refresh(store)
        assert counting.read - before == expected == (0 if news is None else len(news.rows))
        assert news is None or not news.anew
    add(store, study, 43)
    news = feed.refresh(store)
    assert news is not None and len(news.rows) == 3 and len(feed.rows) == 43
    worker.stop()


def test_a_worker_that_takes_over_a_plan_is_seen(store_file: Store) -> None:
    """Its state is the same as at the look before, and so are all counts."""
    study = store_file.create_study("s", toy_settings())
    workers = [Worker.start(store_file, study, {"name": "here"}) for _ in range(2)]
    add(store_file, study, 1)
    reading = Reading(study)
    for worker in workers:
        claim = queue.claim_waiting(store_file, study, worker.id, None)
        assert claim is not None
        reading.refresh(store_file)
        assert [(row.state, row.worker) for row in reading.rows] == [("running", worker.number)]
        finishing.release(store_file, claim)
    for worker in workers:
        worker.stop()


def race_study(store: Store, total: int) -> StudyRecord:
    objectives = (Objective("latency", "minimize"), Objective("ssim", "maximize"))
    study = store.create_study("s", toy_settings(objectives=objectives))
    enqueue(store, study, [ToyPlan(1, name="plain@50"), ToyPlan(8, 9, 2)], SPACE, EVALUATOR.evaluations)
    run_worker(store, "s", SPACE, Racing(), ToyPlan.from_json, total_trials=total)
    return study


def test_every_reader_sees_what_was_put_back_or_removed_by_other_means(store_file: Store) -> None:
    study = race_study(store_file, 6)
    reading, record, race = Reading(study), Record(store_file, study), Race(store_file, study)

    def seen() -> tuple[int, int, int, int]:
        reading.refresh(store_file)
        record.refresh()
        done = [row for row in reading.rows if row.state == "done"]
        assert {plan.key for plan in record.plans.values() if plan.losses is not None} == {row.key for row in done}
        return len(reading.rows), len(done), len(record.keys), len(race.rivals())

    assert seen() == (6, 6, 6, 6)
    by_hand(store_file, sa.update(plans).where(first(study, "done")).values(state="waiting"))
    assert seen() == (6, 5, 5, 5)
    last = sa.select(sa.func.max(plans.c.id)).scalar_subquery()
    by_hand(store_file, sa.delete(tables.measurements).where(tables.measurements.c.plan_id == last))
    by_hand(store_file, sa.delete(plans).where(plans.c.id == last))
    assert seen() == (5, 4, 4, 4)
    known, fresh = record.scale, Record(store_file, study)
    fresh.refresh()
    assert known is not None and fresh.scale is not None and np.array_equal(known.low, fresh.scale.low)


def test_a_look_before_a_proposal_asks_twice(store_file: Store) -> None:
    """For what changed, and for the changed plans with their scores: many workers wait for it."""
    study = race_study(store_file, 4)
    record = Record(store_file, study)
    record.refresh()
    asked: list[str] = []
    race_study(store_file, 5)
    sa.event.listen(store_file.engine, "before_cursor_execute", lambda c, k, statement, *_: asked.append(statement))
    record.refresh()
    assert len([each for each in asked if each.startswith("SELECT")]) == 2
    assert len(record.plans) == 5 and all(plan.losses is not None for plan in record.plans.values())


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_look_of_a_worker_sees_one_moment(url: str) -> None:
    """A plan that another worker finishes between two queries of a look counts at the next one."""
    with Store.open(url) as store, Store.open(url) as other:
        study = race_study(store, 3)
        add(store, study, 1, start=5)
        record = Record(store, study)
        finished: list[int] = []

        def finish(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if "UNION ALL" in statement and not finished:
                finished.append(run_worker(other, "s", SPACE, Racing(), ToyPlan.from_json, total_trials=4).scored)

        sa.event.listen(store.engine, "after_cursor_execute", finish)
        record.refresh()
        assert finished == [1]
        assert [plan.state for plan in record.plans.values()] == ["done", "done", "done", "waiting"]
        record.refresh()
        assert [plan.state for plan in record.plans.values()] == ["done"] * 4
