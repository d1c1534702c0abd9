from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from explorer.errors import StudyError
from studies import Counts, Store, counts, enqueue, run_worker, run_workers, trials
from studies.results.rows import worker_rows
from tests.studies.toy_study import ToyEvaluator, ToyPlan, ToySpace, toy_settings

ROOT = Path(__file__).parents[3]
SPACE = ToySpace()
PATIENCE = 900.0  # seconds; on a busy machine eight processes get little of it


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def command(store: Store, total: int, seconds: float, log: Path) -> Callable[[int], list[str]]:
    module = "tests.studies.toy_worker"
    url = store.url.render_as_string(hide_password=False)
    return lambda _: [sys.executable, "-m", module, url, "s", str(total), str(seconds), str(log)]


def plans(n: int) -> list[ToyPlan]:
    """Distinct plans, most of them outside of the space."""
    return [ToyPlan(2 + i, 3, name=f"plan {i}") for i in range(n)]


def wait_for(what: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_every_enqueued_plan_is_finished_once_however_many_workers_are_killed(url: str, tmp_path: Path) -> None:
    n, killed, signed_in = (200 if url.startswith("sqlite") else 100), 0, 0
    log, chance = tmp_path / "log", random.Random(5)
    with Store.open(url) as store:
        study = store.create_study("s", toy_settings())
        assert enqueue(store, study, plans(n), SPACE, ToyEvaluator().evaluations) == n
        start = command(store, n, 0.05, log)
        workers = [subprocess.Popen(start(i)) for i in range(8)]
        try:
            # Kill five of the eight at random moments while they run; the others find what these had in hand.
            for victim in chance.sample(workers, 5):
                goal = min(n - n // 5, counts(store, study).finished + n // 14)
                wait_for(lambda goal=goal: counts(store, study).finished >= goal)
                time.sleep(chance.uniform(0.0, 0.2))
                killed += victim.poll() is None
                victim.send_signal(signal.SIGKILL)
                victim.wait(PATIENCE)
                # One that starts slowly may not have signed in yet; it has no row then, and held no plan.
                signed_in += victim.pid in {row.pid for row in worker_rows(store, study)}
            statuses = [worker.wait(PATIENCE) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        assert statuses.count(-signal.SIGKILL) == killed == 5
        assert statuses.count(0) == 3

        rows = trials(store, study)
        assert counts(store, study) == Counts(done=n)
        assert [row.name for row in rows] == [f"plan {i}" for i in range(n)]
        # What Optuna has agrees: each plan has one complete trial, and nothing is left running.
        states = collections.defaultdict(list)
        for trial in store.optuna_study(study).trials:
            states[trial.user_attrs.get("key")].append(trial.state)
        assert all(sorted(states[row.key]).count(TrialState.COMPLETE) == 1 for row in rows)
        assert not [state for found in states.values() for state in found if not state.is_finished()]
        # Nothing was scored twice, but for plans that were in a killed worker's hands after their score was logged.
        scored = collections.Counter(line.split()[0] for line in log.read_text().splitlines())
        assert scored.keys() == {row.key for row in rows}
        again = sum(scored.values()) - n
        assert again <= killed
        died = sum(found.count(TrialState.FAIL) for found in states.values())
        print(
            f"{n} plans, {killed} of 8 workers killed in {died} trials: {n} recorded once, {again} scored anew, 0 lost"
        )
        assert sorted(row.state for row in worker_rows(store, study)) == ["dead"] * signed_in + ["stopped"] * 3
        assert signed_in >= 3


def test_workers_that_search_share_one_total_and_score_nothing_twice(url: str, tmp_path: Path) -> None:
    log, polls = tmp_path / "log", []
    with Store.open(url) as store:
        study = store.create_study("s", toy_settings())
        exits = run_workers(3, command(store, 40, 0.01, log), on_poll=polls.append, poll_seconds=0.05)
        assert [(end.status, end.crashed) for end in exits] == [(0, False)] * 3
        assert counts(store, study) == Counts(done=40)
        scored = [line.split() for line in log.read_text().splitlines()]
        assert len({key for key, *_ in scored}) == len(scored) == 40
        assert len({pid for _, pid, _ in scored}) > 1
    assert polls[0] == 3


def test_first_workers_that_open_a_new_store_at_once_make_one(new_url: str) -> None:
    script = (
        "import sys; from studies import Store; from tests.studies.toy_study import toy_settings\n"
        "with Store.open(sys.argv[1]) as store: store.device({'name': 'cpu'}), "
        "store.create_study('s', toy_settings())"
    )
    exits = run_workers(4, lambda _: [sys.executable, "-c", script, new_url], poll_seconds=0.05)
    assert [str(end) for end in exits if end.crashed] == []
    with Store.open(new_url, read_only=True) as store:
        assert len(store.studies()) == 1


def test_ctrl_c_ends_all_workers_and_a_later_run_finishes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Store.open(tmp_path / "explorer.db") as store:
        study = store.create_study("s", toy_settings())
        enqueue(store, study, plans(20), SPACE, ToyEvaluator().evaluations)

        def interrupt(_alive: int) -> None:
            if counts(store, study).finished >= 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_workers(2, command(store, 20, 0.1, log), on_poll=interrupt, poll_seconds=0.05)
        left = counts(store, study)
        assert left.running == 0 and left.waiting > 0
        assert [row.state for row in worker_rows(store, study)] == ["stopped"] * 2
        assert not [t for t in store.optuna_study(study).trials if t.state == TrialState.RUNNING]
        run_worker(store, "s", SPACE, ToyEvaluator(), ToyPlan.from_json, total_trials=20)
        assert counts(store, study) == Counts(done=20)


def test_workers_end_when_the_command_that_started_them_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Store.open(tmp_path / "explorer.db") as store:
        study = store.create_study("s", toy_settings())
        enqueue(store, study, plans(200), SPACE, ToyEvaluator().evaluations)
        arguments = command(store, 200, 0.2, log)(0)
        script = f"from studies import run_workers; run_workers(2, lambda _: {arguments!r})"
        parent = subprocess.Popen([sys.executable, "-c", script])
        wait_for(lambda: counts(store, study).finished >= 2)
        pids = [row.pid for row in worker_rows(store, study)]
        parent.kill()
        parent.wait()
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
        assert [row.state for row in worker_rows(store, study)] == ["stopped"] * len(pids)
        assert counts(store, study).running == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no such study')", "status 1: no such study"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
    ],
)
def test_a_crash_is_reported_with_its_last_words(code: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    ends = run_workers(2, lambda i: [sys.executable, "-c", code if i else "print('talk')"], poll_seconds=0.02)
    assert [end.crashed for end in ends] == [False, True]
    assert words in str(ends[1])
    assert capfd.readouterr() == ("", "")


def test_bad_requests_are_refused() -> None:
    with pytest.raises(StudyError, match="at least 1"):
        run_workers(0, lambda _: ["true"])
    with pytest.raises(StudyError, match="cannot start a worker"):
        run_workers(1, lambda _: ["/no/such/program"])


def test_a_worker_that_ignores_ctrl_c_is_killed_by_a_second_one(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    code = (
        "import pathlib, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        f"pathlib.Path({str(deaf)!r}).touch(); time.sleep(3600)"
    )

    def interrupt(_alive: int) -> None:
        if deaf.exists():
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_workers(1, lambda _: [sys.executable, "-c", code], on_poll=interrupt, poll_seconds=0.1)
    finally:
        signal.signal(signal.SIGINT, previous)
    # Had it waited for the worker, this would have taken an hour.
