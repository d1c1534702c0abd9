from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from explorer.errors import PlanError, StudyError
from explorer.estimate import Estimate
from studies import Counts, Progress, Scored, Store, StudyRecord, counts, enqueue, front_rows, run_worker, trials
from studies.results.rows import objective_losses, sample_pictures, samples, worker_rows
from studies.scored import Part
from studies.storage import tables
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

BASELINES = [
    ToyPlan(1, name="plain@50"),
    ToyPlan(1, steps=20, name="plain@20"),  # another step count: outside of the space
    ToyPlan(5, 9, name="DC0/P5"),
    ToyPlan(25, 9, name="DC0/P25"),  # outside as well
    ToyPlan(3, 4, 1, name="CO6/P3"),
]


def run(store: Store, total: int | None = None, **change: Any) -> Any:
    evaluator = change.pop("evaluator", None) or ToyEvaluator()
    space = change.pop("space", ToySpace())
    return run_worker(store, "s", space, evaluator, ToyPlan.from_json, total_trials=total, **change)


@pytest.fixture
def study(store: Store) -> StudyRecord:
    made = store.create_study("s", toy_settings())
    assert enqueue(store, made, BASELINES, ToySpace(), ToyEvaluator().evaluations) == len(BASELINES)
    return made


def keys(log: Path) -> list[str]:
    return [line.split()[0] for line in log.read_text().splitlines()]


def test_every_baseline_runs_first_whether_the_space_holds_it_or_not(store: Store, study: StudyRecord) -> None:
    run(store, 12)
    rows = trials(store, study)
    assert [(row.number, row.origin, row.name) for row in rows[:5]] == [
        (i, "baseline", plan.name) for i, plan in enumerate(BASELINES)
    ]
    assert all(row.origin == "search" and row.name is None for row in rows[5:])
    optuna_trials = store.optuna_study(study).trials
    assert [bool(trial.params) for trial in optuna_trials[:5]] == [True, False, True, False, True]
    for row in rows:
        assert row.number is not None
        trial = optuna_trials[row.number]
        assert trial.user_attrs["key"] == row.key
        names = [objective.name for objective in study.settings.objectives]
        assert trial.values == [row.scores[name].value for name in names]


def test_enqueueing_again_changes_nothing_and_keeps_both_names(store: Store, study: StudyRecord) -> None:
    evaluations = ToyEvaluator().evaluations
    same = ToyPlan(1, 7, name="EX9")  # inherits at no step, so it comes to plain@50
    assert enqueue(store, study, [*BASELINES, same], ToySpace(), evaluations) == 0
    first = trials(store, study)[0]
    assert (first.name, first.aliases) == ("plain@50", ["EX9"])
    run(store, 5)
    assert enqueue(store, study, [*BASELINES, same], ToySpace(), evaluations) == 0
    assert counts(store, study) == Counts(done=5)


def test_a_searched_plan_that_is_enqueued_later_becomes_a_baseline(store: Store, study: StudyRecord) -> None:
    run(store, 12)
    found = next(row for row in trials(store, study) if row.origin == "search")
    named = ToyPlan.from_json(found.plan | {"name": "mine"})
    assert enqueue(store, study, [named], ToySpace(), ToyEvaluator().evaluations) == 0
    row = next(row for row in trials(store, study) if row.key == found.key)
    assert (row.origin, row.name, row.scores) == ("baseline", "mine", found.scores)


def test_total_is_the_studys_and_a_resumed_run_goes_on(store: Store, study: StudyRecord, tmp_path: Path) -> None:
    evaluator = ToyEvaluator(log=tmp_path / "log")
    assert run(store, 9, evaluator=evaluator).scored == 9
    assert run(store, 9, evaluator=evaluator).scored == 0
    outcome = run(store, 16, evaluator=evaluator)
    assert (outcome.scored, outcome.stopped) == (7, "total")
    done = keys(tmp_path / "log")
    assert len(done) == len(set(done)) == 16
    assert [row.number for row in worker_rows(store, study)] == [0, 1, 2]


def test_a_resumed_run_does_not_repeat_its_proposals(store: Store, study: StudyRecord) -> None:
    space = ToySpace(500, 500)  # a duplicate by chance is all but impossible
    assert run(store, 15, space=space).duplicates == 0
    assert run(store, 25, space=space).duplicates == 0


def test_a_small_total_leaves_the_rest_of_the_queue(store: Store, study: StudyRecord) -> None:
    run(store, 3)
    assert counts(store, study) == Counts(waiting=2, done=3)


def test_failures_are_recorded_with_their_reason_and_count(store: Store, study: StudyRecord) -> None:
    seen: list[Progress] = []
    outcome = run(store, 30, evaluator=ToyEvaluator(broken=(4, 5)), on_progress=seen.append)
    rows = trials(store, study)
    failed = [row for row in rows if row.state == "failed"]
    assert outcome.failed == len(failed) > 0
    assert outcome.scored + outcome.failed == len(rows) == 30
    assert {row.reason for row in failed} <= {"width 4 cannot be scored", "width 5 cannot be scored"}
    assert failed[0].name == "CO6/P3" and failed[0].scores == {}
    states = [trial.state for trial in store.optuna_study(study).trials if trial.number == failed[0].number]
    assert states == [TrialState.FAIL]
    assert "width 4 cannot be scored" in {event.reason for event in seen}
    last = seen[-1]
    assert (last.done, last.failed, last.running, last.total) == (outcome.scored, outcome.failed, 0, 30)
    assert last.seconds_left == 0 and seen[0].seconds_left is None


def test_a_duplicate_is_told_the_standing_values_and_not_scored(store: Store, tmp_path: Path) -> None:
    store.create_study("s", toy_settings())
    evaluator = ToyEvaluator(log=tmp_path / "log", broken=(2,))
    outcome = run(store, 18, space=ToySpace(4, 3), evaluator=evaluator)
    assert outcome.duplicates > 0
    optuna_trials = store.optuna_study(store.study("s")).trials
    duplicates = [trial for trial in optuna_trials if "duplicate_of" in trial.user_attrs]
    assert len(duplicates) == outcome.duplicates
    for trial in duplicates:
        standing = optuna_trials[trial.user_attrs["duplicate_of"]]
        assert (trial.values, trial.state) == (standing.values, standing.state)
        assert "duplicate_of" not in standing.user_attrs
    done = keys(tmp_path / "log")
    assert len(done) == len(set(done)) == outcome.scored
    assert counts(store, store.study("s")).finished == 18


@pytest.mark.parametrize("total", [None, 500])
def test_a_space_that_runs_dry_ends_with_a_word(store: Store, total: int | None) -> None:
    study = store.create_study("s", toy_settings())
    outcome = run(store, total, space=ToySpace(3, 2))
    assert outcome.stopped == "exhausted" and "exhausted" in outcome.words
    assert counts(store, study).done == 1 + 2 * 2 * 3  # one plan of period 1; two periods, two widths, three orders


def test_time_runs_out(store: Store, study: StudyRecord) -> None:
    outcome = run(store, 1000, evaluator=ToyEvaluator(seconds=0.2), timeout=4.0)
    # Each takes 0.2 s or more, so no machine scores 21; a busy one scores one in 4 s.
    assert outcome.stopped == "timeout" and 0 < outcome.scored <= 21


@dataclass
class Stops(ToyEvaluator):
    """Raises `error` instead of the `after`-th score."""

    error: BaseException = field(default_factory=KeyboardInterrupt)
    after: int = 3
    calls: int = 0

    def score(self, plan: ToyPlan, part: Part | None = None) -> Scored:
        self.calls += 1
        if self.calls == self.after:
            raise self.error
        return super().score(plan, part)


@pytest.mark.parametrize("after", [3, 8])  # in the queue; in the search
def test_ctrl_c_gives_the_plan_back_and_leaves_the_study_whole(
    store: Store, study: StudyRecord, tmp_path: Path, after: int
) -> None:
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        run(store, 12, evaluator=Stops(after=after, log=log))
    assert counts(store, study) == Counts(waiting=max(1, 6 - after), done=after - 1)
    assert [row.state for row in worker_rows(store, study)] == ["stopped"]
    assert not [trial for trial in store.optuna_study(study).trials if trial.state == TrialState.RUNNING]
    run(store, 12, evaluator=ToyEvaluator(log=log))
    assert counts(store, study) == Counts(done=12)
    assert len(set(keys(log))) == len(keys(log)) == 12


def test_a_plan_that_ends_every_worker_is_given_up(store: Store, study: StudyRecord) -> None:
    for _ in range(3):
        with pytest.raises(KeyError):
            run(store, 12, evaluator=Stops(error=KeyError("a bug"), after=1))
    run(store, 12)
    first = trials(store, study)[0]
    assert (first.name, first.state) == ("plain@50", "failed")
    assert first.reason == "3 workers ended while they scored it"
    assert counts(store, study) == Counts(done=11, failed=1)


def test_an_objective_that_is_not_measured_stops_the_run(store: Store) -> None:
    class Half(ToyEvaluator):
        def score(self, plan: ToyPlan, part: Part | None = None) -> Scored:
            return Scored({"latency": Estimate(1.0, 1.0, 1.0, 1)})

    study = store.create_study("s", toy_settings())
    with pytest.raises(StudyError, match="without fd_toy, clip"):
        run(store, 3, evaluator=Half())
    assert counts(store, study).finished == 0


def test_trouble_that_is_no_plans_own_stops_the_run_and_gives_the_plan_back(store: Store, study: StudyRecord) -> None:
    with pytest.raises(StudyError, match="no space left"):
        run(store, 12, evaluator=Stops(error=StudyError("no space left"), after=3))
    assert counts(store, study) == Counts(waiting=3, done=2)
    run(store, 12)
    assert counts(store, study) == Counts(done=12)


def test_all_that_was_measured_is_kept(store: Store, study: StudyRecord) -> None:
    run(store, 5, evaluator=ToyEvaluator(pictures=True), device={"name": "a processor", "threads": 2})
    row = trials(store, study)[2]
    assert set(row.scores) == {"latency", "speedup", "fd_toy", "clip"}
    latency = row.scores["latency"]
    assert latency.low < latency.value < latency.high and latency.n == 8
    assert row.speedup == pytest.approx(1 / latency.value)
    assert (row.seconds, row.extractors, row.device) == ({"latency": 0.5}, {"fd_toy": "toy"}, "a processor")
    assert samples(store, study, row.key, "latency")[0] == latency.value
    assert samples(store, study, row.key, "clip") == []
    picture = sample_pictures(store, study, row.key)[0]
    assert picture.path == store.folder / "explorer-pictures" / study.folder / row.key / "000.png"
    assert (picture.path.read_bytes(), picture.thumbnail.read_bytes()) == (b"\x89PNG whole", b"\x89PNG small")
    assert (picture.prompt, picture.seed) == ("a red car", 7)
    assert not list(picture.path.parent.glob(".*"))
    assert ToyPlan.from_json(json.loads(json.dumps(row.plan))) == BASELINES[2]


def test_pictures_that_cannot_be_written_stop_the_run_without_a_row(store: Store, study: StudyRecord) -> None:
    (store.folder / "explorer-pictures").write_text("in the way")
    with pytest.raises(StudyError, match="cannot write the pictures"):
        run(store, 5, evaluator=ToyEvaluator(pictures=True))
    assert counts(store, study) == Counts(waiting=5)
    (store.folder / "explorer-pictures").unlink()
    run(store, 5, evaluator=ToyEvaluator(pictures=True))
    assert counts(store, study) == Counts(done=5)


def test_the_front_is_read_back(store: Store, study: StudyRecord) -> None:
    run(store, 40)
    rows, objectives = trials(store, study), study.settings.objectives
    front = front_rows(rows, objectives)
    best = objective_losses(front, objectives)
    for row, point in zip(rows, objective_losses(rows, objectives), strict=True):
        beaten = any((other <= point).all() and (other < point).any() for other in best)
        assert beaten != (row in front)
    assert front_rows([], objectives) == []


def test_a_plan_that_can_no_longer_be_read_is_a_failure(store: Store, study: StudyRecord) -> None:
    with store.begin() as connection:
        change = sa.update(tables.plans).where(tables.plans.c.name == "DC0/P5").values(plan={"period": 0})
        connection.execute(change)

    def read(data: dict[str, Any]) -> ToyPlan:
        if not data["period"]:
            raise PlanError("this is not a plan")
        return ToyPlan.from_json(data)

    run_worker(store, "s", ToySpace(), ToyEvaluator(), read, total_trials=6)
    assert [row.reason for row in trials(store, study) if row.state == "failed"] == ["this is not a plan"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"total": 0}, "more than zero"),
        ({"timeout": -1.0}, "more than zero"),
        ({"space": ToySpace(name="other")}, "'toy', not 'other'"),
    ],
)
def test_bad_requests_are_refused(store: Store, study: StudyRecord, change: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        run(store, **change)
    assert worker_rows(store, study) == []


def test_what_is_screened_out_stays_in_the_study_with_the_reason(
    store: Store, study: StudyRecord, tmp_path: Path
) -> None:
    """Proposals that need not be measured are not; baselines always are."""
    evaluator = ToyEvaluator(log=tmp_path / "log", screened=(7, 8, 9))
    run(store, 25, evaluator=evaluator)
    rows = trials(store, study)
    widths = [row.plan["width"] for row in rows if row.origin == "search"]
    assert widths and not set(widths) & {7, 8, 9}
    assert {row.plan["width"] for row in rows if row.origin == "baseline"} >= {9}
    failed = [trial for trial in store.optuna_study(study).trials if trial.state == TrialState.FAIL]
    assert failed and all(trial.user_attrs["reason"] == "too wide" for trial in failed)


def test_a_plan_that_cannot_be_screened_is_not_drawn(store: Store) -> None:
    @dataclass
    class Fails(ToyEvaluator):
        def rejection(self, plan: ToyPlan) -> str | None:
            if plan.width:
                raise PlanError("its schedule does not fit")
            return None

    store.create_study("s", toy_settings())
    assert run(store, 5, evaluator=Fails()).stopped == "exhausted"
    assert counts(store, store.study("s")) == Counts(done=1)
