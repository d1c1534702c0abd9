"""Plans whose timings were disturbed: kept with every sample, quoted nowhere, timed again within limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.errors import StudyError
from studies.certificates.export import find_trial
from studies.cli.commands.browse import study_document
from studies.metrics import UNSTEADY_LATENCY
from studies.queue.queue import Counts, counts, enqueue
from studies.results.board import Board
from studies.results.rows import samples, trials
from studies.results.summary import front_of, scored_rows, without_loss
from studies.scored import LATENCY, Part, Scored
from studies.searching.driver import Outcome, run_worker
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import DONE, UNSTEADY
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

SPACE = ToySpace()
PLANS = [ToyPlan(2, 2), ToyPlan(3, 4), ToyPlan(4, 6), ToyPlan(5, 8)]


class Disturbed(ToyEvaluator):
    """An evaluator whose n-th measurement of a latency is disturbed where `times` has n, counted from 0."""

    def __init__(self, *times: int) -> None:
        super().__init__()
        self.times, self.measured, self.order = times, 0, list[str]()

    def score(self, plan: ToyPlan, part: Part | None = None) -> Scored:
        scored = super().score(plan, part)
        if part == "quality":
            return scored
        self.order.append(f"{plan.period}x{plan.width}")
        number, self.measured = self.measured, self.measured + 1
        if number not in self.times:
            return scored
        seconds = scored.estimates["latency"]
        kept = {name: value for name, value in scored.estimates.items() if name not in ("latency", "speedup")}
        return replace(
            scored,
            estimates=kept | {UNSTEADY_LATENCY: seconds},
            samples={UNSTEADY_LATENCY: [[1.0, 0.5], [9.0, 0.5, 1.0], [8.0, 0.5 + number, 1.0]]},
            unsteady="2 of 3 timed pairs were stalled",
        )


@pytest.fixture()
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "explorer.db") as opened:
        yield opened


@pytest.fixture()
def study(store: Store) -> StudyRecord:
    return store.create_study("s", toy_settings())


def run(store: Store, study: StudyRecord, evaluator: ToyEvaluator, total: int = 4, **how: Any) -> Outcome:
    enqueue(store, study, PLANS, SPACE, evaluator.evaluations)
    return run_worker(store, "s", SPACE, evaluator, ToyPlan.from_json, total, **how)


def test_an_unsteady_plan_is_timed_again_once_the_machine_is_quiet(store: Store, study: StudyRecord) -> None:
    evaluator = Disturbed(1)
    outcome = run(store, study, evaluator)
    # After the steady plan that follows, before the next one.
    assert evaluator.order == ["2x2", "3x4", "4x6", "3x4", "5x8"]
    assert counts(store, study) == Counts(done=4) and (outcome.scored, outcome.failed) == (4, 0)
    row = next(row for row in trials(store, study) if row.words == "4 parts every 3")
    assert row.speedup is not None and row.state == DONE
    assert len(samples(store, study, row.key, UNSTEADY_LATENCY)) == 3  # what was disturbed is kept beside it
    states = [trial.state.name for trial in store.optuna_study(study).trials]
    assert states == ["COMPLETE"] * 4


def test_what_stays_unsteady_is_quoted_nowhere_and_keeps_every_sample(store: Store, study: StudyRecord) -> None:
    evaluator = Disturbed(*range(3, 100))
    outcome = run(store, study, evaluator)
    assert evaluator.order == ["2x2", "3x4", "4x6", "5x8", "5x8"]  # once more at the end, and no more
    assert counts(store, study) == Counts(done=3, unsteady=1)
    assert outcome.stopped == "total" and "1 is unsteady" in outcome.words
    rows = trials(store, study)
    row = rows[-1]
    assert (row.state, row.reason, row.speedup) == (UNSTEADY, "2 of 3 timed pairs were stalled", None)
    assert set(row.scores) == {"fd_toy", "clip", UNSTEADY_LATENCY}
    kept = samples(store, study, row.key, UNSTEADY_LATENCY)
    assert [pair[1] for pair in kept] == [0.5, 0.5, 3.5, 0.5, 0.5, 4.5]
    objectives = study.settings.objectives
    assert row not in front_of(rows, objectives) and row not in scored_rows(rows, objectives)
    assert row not in without_loss(rows, objectives, 50) and row not in Board.of(rows, study.settings).measured
    document = json.loads(json.dumps(study_document(store, study)))
    shown = document["trials"][-1]
    assert (shown["state"], shown["speedup"]) == ("unsteady", None) and row.number not in document["front"]
    assert not {"latency", "speedup"} & set(shown["scores"])
    assert row.number is not None
    with pytest.raises(StudyError, match=r"is unsteady .* times it again"):
        find_trial(store, study, row.number)


def test_the_next_run_times_it_again(store: Store, study: StudyRecord) -> None:
    run(store, study, Disturbed(*range(3, 100)))
    evaluator = Disturbed()
    outcome = run(store, study, evaluator)
    assert evaluator.order == ["5x8"] and outcome.scored == 1
    assert counts(store, study) == Counts(done=4)
    assert all(trial.state.name == "COMPLETE" for trial in store.optuna_study(study).trials)


def test_a_busy_machine_all_along_ends_in_bounded_time(store: Store, study: StudyRecord) -> None:
    evaluator = Disturbed(*range(1000))
    outcome = run(store, study, evaluator, total=8)
    assert len(evaluator.order) == 16 and outcome.stopped == "total"
    assert counts(store, study) == Counts(unsteady=8)


def test_a_timeout_ends_it_too(store: Store, study: StudyRecord) -> None:
    evaluator = Disturbed(*range(1000))
    evaluator.seconds = 0.05
    assert run(store, study, evaluator, total=1000, timeout=0.5).stopped == "timeout"


def test_a_worker_of_another_device_leaves_it_alone(store: Store, study: StudyRecord) -> None:
    run(store, study, Disturbed(*range(3, 100)))
    outcome = run(store, study, Disturbed(), quality_only=True)
    assert outcome.scored == 0 and counts(store, study).unsteady == 1


def test_what_is_interrupted_while_it_is_timed_again_stays_unsteady(store: Store, study: StudyRecord) -> None:
    run(store, study, Disturbed(*range(3, 100)))

    class Interrupted(ToyEvaluator):
        def score(self, plan: ToyPlan, part: Part | None = None) -> Scored:
            assert part == LATENCY
            raise KeyboardInterrupt

    before = trials(store, study)
    with pytest.raises(KeyboardInterrupt):
        run(store, study, Interrupted())
    assert counts(store, study) == Counts(done=3, unsteady=1)
    assert [row.number for row in trials(store, study)] == [row.number for row in before]


def test_a_steady_plan_without_a_latency_is_still_refused(store: Store, study: StudyRecord) -> None:
    class Silent(ToyEvaluator):
        def score(self, plan: ToyPlan, part: Part | None = None) -> Scored:
            return super().score(plan, "quality")

    with pytest.raises(StudyError, match="without latency"):
        run(store, study, Silent())
