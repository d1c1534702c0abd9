"""The load of other processes, and waiting for its end within a study's limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from explorer import strategy
from explorer.devices import describe
from explorer.errors import StudyError
from studies.metrics import UNSTEADY_LATENCY
from studies.queue import quiet_machine
from studies.queue.heartbeats import PARENT_VARIABLE
from studies.queue.quiet_machine import Busy, Load, Quiet, StudyLedger, load_of_others, stall_ratio
from studies.scoring.assembly import make_evaluator
from studies.scoring.evaluator import CandidateEvaluator
from studies.scoring.latency_meter import LatencyMeter
from studies.storage.store import Store
from tests.conftest import embeds, make_pipeline
from tests.studies.toy_study import toy_settings

CPU = torch.device("cpu")
SPIN = "while True: pass"


def usage_of(pid: int, seconds: float = 0.5) -> float:
    """CPU cores that a process gets on this machine, which other tests use as well."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds


@pytest.fixture()
def spinning() -> Iterator[subprocess.Popen[bytes]]:
    """A child process that computes."""
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    yield process
    process.kill()
    process.wait()


def test_own_processes_are_no_load_and_others_are(
    spinning: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage_of(spinning.pid)  # until it has started
    key = (spinning.pid, psutil.Process(spinning.pid).create_time())
    assert key not in quiet_machine._cpu_seconds()
    assert (os.getpid(), psutil.Process().create_time()) not in quiet_machine._cpu_seconds()
    monkeypatch.setenv(PARENT_VARIABLE, str(spinning.pid))  # of a worker, the command that started it
    assert key not in quiet_machine._cpu_seconds()
    # Seen from a process that did not start it.
    found = f"{key[0]} in [pid for pid, _ in _cpu_seconds()]"
    program = f"from studies.queue.quiet_machine import _cpu_seconds; print({found})"
    environment = {name: value for name, value in os.environ.items() if name != PARENT_VARIABLE}
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert seen.stdout.strip() == "True"


@pytest.mark.skipif(os.name != "posix", reason="priorities by number are POSIX")
def test_what_runs_at_a_low_priority_gives_way(spinning: subprocess.Popen[bytes]) -> None:
    psutil.Process(spinning.pid).nice(19)
    found = f"{spinning.pid} in [pid for pid, _ in _cpu_seconds()]"
    program = f"from studies.queue.quiet_machine import _cpu_seconds; print({found})"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "False"


def test_the_load_is_measured() -> None:
    load = load_of_others(0.2)
    assert 0 <= load.cores <= (psutil.cpu_count() or 1) * 1.5


class Neighbours:
    """Loads that were written down, one for each look; the last one stays."""

    def __init__(self, *cores: float) -> None:
        self.cores, self.looks = list(cores), 0

    def __call__(self) -> Load:
        self.looks += 1
        return Load(self.cores.pop(0) if len(self.cores) > 1 else self.cores[0], "make")


@pytest.fixture()
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of `studies.queue.quiet_machine`, which passes in its sleeps alone."""
    now = [0.0]

    class Time:
        time = staticmethod(time.time)
        monotonic = staticmethod(lambda: now[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            now[0] += seconds

    monkeypatch.setattr(quiet_machine, "time", Time)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    monkeypatch.delenv(quiet_machine.WAIT_VARIABLE)
    return now


def test_a_busy_machine_is_said_once_and_waited_for(clock: list[float]) -> None:
    said: list[str] = []
    waiting = Quiet(2, say=said.append, look=Neighbours(1.8, 1.8, 1.8, 0.1, 1.9, 0.1))
    waiting.wait()
    assert 2 <= clock[0] <= 6
    assert said == [
        "the machine is busy: other processes use 1.8 of 2 CPU cores (most of it make), which stalls timings; waiting "
        "for quiet, 120 s at most"
    ]
    waiting.wait()
    waiting.stalled("2 of 9 timed pairs stalled")
    assert len(said) == 1


def test_stalls_are_said_where_no_load_is_seen(clock: list[float]) -> None:
    said: list[str] = []
    waiting = Quiet(2, say=said.append, look=Neighbours(0.0))
    waiting.wait()
    assert clock[0] == 0 and said == []
    waiting.stalled("2 of 9 timed pairs stalled")
    assert said == ["the machine is busy: 2 of 9 timed pairs stalled; they were taken again"]


def test_cores_that_the_measurement_leaves_free_may_be_used(clock: list[float]) -> None:
    Quiet(1, look=Neighbours(1.4)).wait()
    assert clock[0] == 0


def test_a_study_waits_two_minutes_in_all_of_its_runs(clock: list[float], tmp_path: Path) -> None:
    with Store.open(tmp_path / "explorer.db") as store:
        study = store.create_study("s", toy_settings())
        ledger = StudyLedger(store, study)
        parent = Busy(ledger)
        assert parent.words() is None
        Quiet(2, ledger, look=Neighbours(*[2.0] * 15, 0.0)).wait()
        first = clock[0]
        assert 0 < first < 60 and ledger.spent() == pytest.approx(first)
        assert "wait for quiet" in str(parent.words()) and parent.words() is None
    with Store.open(tmp_path / "explorer.db") as store:  # another run of it
        again = StudyLedger(store, store.study("s"))
        Quiet(2, again, look=Neighbours(2.0)).wait()
        assert clock[0] == pytest.approx(quiet_machine.SECONDS) and again.spent() == pytest.approx(
            quiet_machine.SECONDS
        )
        neighbours = Neighbours(2.0)
        Quiet(2, again, look=neighbours).wait()
        assert clock[0] == pytest.approx(quiet_machine.SECONDS) and neighbours.looks == 0


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [
        (quiet_machine.WAIT_VARIABLE, "long"),
        (quiet_machine.WAIT_VARIABLE, "-1"),
        (quiet_machine.STALL_VARIABLE, "0.9"),
        (quiet_machine.STALL_VARIABLE, "inf"),
    ],
)
def test_variables_that_are_no_numbers_are_refused(variable: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, wrong)
    with pytest.raises(StudyError, match=f"{variable} must be a number .* got '{wrong}'"):
        stall_ratio() if variable == quiet_machine.STALL_VARIABLE else quiet_machine.wait_seconds()


class Recorded:
    def __init__(self) -> None:
        self.waits, self.said = 0, list[str]()

    def wait(self) -> None:
        self.waits += 1

    def stalled(self, words: str) -> None:
        self.said.append(words)


def test_a_meter_waits_at_first_and_after_what_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded()
    monkeypatch.delenv(quiet_machine.STALL_VARIABLE)
    meter = LatencyMeter(CPU, describe(CPU), pairs=3, quiet=recorded)  # type: ignore[arg-type]
    times: list[float] = []
    clock = type("Clock", (), {"time": lambda self, call: times.pop(0)})()
    monkeypatch.setattr("explorer.timing.latency.clock_for", lambda device: clock)

    def measure(*seconds: float, limit: float | None = None) -> str | None:
        times[:] = seconds
        return meter.measure(lambda: None, lambda: None, limit).unsteady

    assert measure(2, 1, 1, 2, 2, 1) is None and recorded.waits == 1  # at first
    assert measure(2, 1, 1, 2, 2, 1) is None and recorded.waits == 1
    assert measure(2, 1, 1, 9, 2, 1, 1, 2) is None and recorded.waits == 2  # before the pair that is taken again
    assert recorded.said == ["1 of 4 timed pairs stalled"]
    assert measure(2, 1, 1, 2, 2, 1) is None and recorded.waits == 3  # as the one before had stalled
    unsteady = measure(20, 1, 1, 20, 20, 1, limit=1.3 * 2.6)
    assert unsteady == "20.00x was measured, and even inherit steps at no cost would give at most 2.60x"
    measure(2, 1, 1, 2, 2, 1)
    assert recorded.waits == 4


def evaluator_of(pipe: object) -> CandidateEvaluator:
    return make_evaluator(
        pipe, steps=4, guidance=2.0, prompts=(), scorer=None, device=CPU, info=describe(CPU), pairs=3, size=(32, 32),
        embeds=embeds(),
    )  # fmt: skip


def test_what_cannot_be_true_is_stored_as_unsteady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A baseline that stalls at every call looks steady; the plan would need inherit steps of less than nothing."""
    pipe = make_pipeline()
    evaluator, plan = evaluator_of(pipe), strategy("CO6", mode="P2", steps=4, unet=pipe.unet)
    assert evaluator.predictions.speed_limit(plan) == pytest.approx(1.3 * 2)
    times = [20.0, 1.0, 1.0, 20.0, 20.0, 1.0]

    class Clock:
        def time(self, call: Callable[[], object]) -> float:
            call()
            return times.pop(0)

    monkeypatch.setattr("explorer.timing.latency.clock_for", lambda device: Clock())
    scored = evaluator.score(plan)
    assert "latency" not in scored.estimates and "speedup" not in scored.estimates
    assert len(scored.samples[UNSTEADY_LATENCY]) == 3
    assert scored.unsteady is not None and "even inherit steps at no cost would give at most 2.00x" in scored.unsteady
