"""Whether other work on the machine disturbs a measurement, and waiting for its end within a limit.

Processes are counted that compute now and are not of this command: not its workers, its parents' shells (which do not
compute), or what runs at a low priority (a positive `nice` of `LOW_PRIORITY` or more) and gives way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.errors import StudyError
from explorer.timing.latency import STALLED
from studies.queue import queue
from studies.queue.heartbeats import PARENT_VARIABLE
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import findings

WAIT_VARIABLE, STALL_VARIABLE = "EXPLORER_QUIET_SECONDS", "EXPLORER_STALL_RATIO"
SECONDS = 120.0
"""How long one study waits for a quiet machine, over all of its runs and workers."""
LOOK_SECONDS, PAUSE_SECONDS = 0.5, 2.0
LOW_PRIORITY = 10
SPARE = 0.5
"""CPU cores that others may use beyond those that a measurement leaves free."""
KIND = "quiet"
"""The kind of finding under which a study keeps how long it has waited."""


def wait_seconds() -> float:
    """`EXPLORER_QUIET_SECONDS`, otherwise two minutes. Raises StudyError when the variable is no number of seconds."""
    return _number(WAIT_VARIABLE, SECONDS, 0.0, "a number of seconds, 0 for no wait")


def stall_ratio() -> float:
    """`EXPLORER_STALL_RATIO`, otherwise `explorer.timing.latency.STALLED`. Raises StudyError when it is no number above
    1."""
    return _number(STALL_VARIABLE, STALLED, 1.0, "a number of at least 1")


def _number(variable: str, default: float, least: float, wanted: str) -> float:
    text = os.environ.get(variable, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value < float("inf"):
        raise StudyError(f"{variable} must be {wanted}, got {text!r}.")
    return value


@dataclass(frozen=True)
class Load:
    """What other processes compute: CPU cores in use, and the name of the process that uses most."""

    cores: float
    busiest: str | None = None


def load_of_others(seconds: float = LOOK_SECONDS) -> Load:
    """What other processes than those of this command use, measured for `seconds`."""
    before, began = _cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    after, spent = _cpu_seconds(), time.monotonic() - began
    used = {key: (now - before.get(key, (0.0, ""))[0], name) for key, (now, name) in after.items()}
    most, busiest = max(used.values(), default=(0.0, ""))
    return Load(sum(max(0.0, each) for each, _ in used.values()) / spent, busiest if most > 0 else None)


def _cpu_seconds() -> dict[tuple[int, float], tuple[float, str]]:
    """CPU seconds and name of each process of others that does not give way, by pid and time of its start."""
    found, parents = {}, {}
    for process in psutil.process_iter(["pid", "ppid", "name", "nice", "cpu_times", "create_time"]):
        facts = process.info
        parents[facts["pid"]] = facts["ppid"]
        # On Windows `nice` is a class of priority, an enumeration that says nothing as a number.
        gives_way = os.name == "posix" and (facts["nice"] or 0) >= LOW_PRIORITY
        if facts["cpu_times"] is not None and not gives_way:
            times = facts["cpu_times"]
            found[facts["pid"], facts["create_time"]] = (times.user + times.system, facts["name"] or "?")
    root = int(os.environ.get(PARENT_VARIABLE) or os.getpid())  # of a worker: the command that started it
    return {key: value for key, value in found.items() if not _descends(key[0], root, parents)}


def _descends(pid: int, root: int, parents: dict[int, int | None]) -> bool:
    """Whether `pid` is `root` or was started by it or by one of its children."""
    seen = set()
    current: int | None = pid
    while current is not None and current not in seen:
        if current in (root, os.getpid()):
            return True
        seen.add(current)
        current = parents.get(current)
    return False


class Ledger(Protocol):
    """Where it is kept how long has been waited."""

    def spent(self) -> float:
        """Seconds waited so far."""

    def add(self, seconds: float) -> None: ...


class Memory:
    """For what is no study: a certificate, a benchmark."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def spent(self) -> float:
        return self._seconds

    def add(self, seconds: float) -> None:
        self._seconds += seconds


class StudyLedger:
    """Of a study, shared by its runs and workers."""

    def __init__(self, store: Store, study: StudyRecord) -> None:
        self._store, self._study = store, study

    def spent(self) -> float:
        return self._store.transact(lambda connection, _: self._read(connection) or 0.0)

    def add(self, seconds: float) -> None:
        def write(connection: Connection, _again: bool) -> None:
            queue.lock(connection, self._study)
            standing = self._read(connection)
            row = {"value": {"seconds": (standing or 0.0) + seconds}, "created": time.time()}
            if standing is None:
                connection.execute(sa.insert(findings).values(row | {"study_id": self._study.id, "kind": KIND}))
            else:
                connection.execute(sa.update(findings).where(*self._mine()).values(row))

        self._store.transact(write)

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return findings.c.study_id == self._study.id, findings.c.kind == KIND

    def _read(self, connection: Connection) -> float | None:
        found = connection.execute(sa.select(findings.c.value).where(*self._mine())).first()
        if found is None:
            return None
        value = found.value.get("seconds") if isinstance(found.value, dict) else None
        return float(value) if isinstance(value, int | float) else 0.0


class Busy:
    """Tells once, from the ledger, that the workers of a study wait for a quiet machine: they have no terminal."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._before, self._told = ledger, ledger.spent(), False

    def words(self) -> str | None:
        """The message, the first time that it applies; otherwise None."""
        if self._told or self._ledger.spent() <= self._before:
            return None
        self._told = True
        return (
            "the machine is busy: other processes stall the workers' timings, which wait for quiet, "
            f"{max(0.0, wait_seconds() - self._before):.0f} s at most"
        )


class Quiet:
    """Waits for a quiet machine, and says once what it waits for.

    Args:
        threads: CPU threads that a measurement computes with.
        ledger: Where the time is counted.
        say: Told at most one sentence.
        look: Measures the load of others.
    """

    def __init__(
        self,
        threads: int,
        ledger: Ledger | None = None,
        say: Callable[[str], None] = lambda sentence: None,
        look: Callable[[], Load] = load_of_others,
    ) -> None:
        self.threads, self.ledger, self.say = threads, ledger or Memory(), say
        self._look, self._limit, self._told = look, wait_seconds(), False
        self._cores = float(psutil.cpu_count() or 1)

    def on(self, ledger: Ledger, say: Callable[[str], None]) -> Quiet:
        """The same, counted and shown by another process."""
        return Quiet(self.threads, ledger, say, self._look)

    def wait(self) -> None:
        """Wait until others leave the measurement its cores, as long as the study's limit allows."""
        left = self._limit - self.ledger.spent() if self._limit else 0.0
        if left <= 0 or not self._busy(load := self._look()):
            return
        self._tell(
            f"the machine is busy: other processes use {load.cores:.1f} of {self._cores:.0f} CPU cores"
            f"{f' (most of it {load.busiest})' if load.busiest else ''}, which stalls timings; waiting for quiet, "
            f"{left:.0f} s at most"
        )
        began = counted = time.monotonic()
        while time.monotonic() - began < left and self._busy(self._look()):
            time.sleep(min(PAUSE_SECONDS, max(0.0, left - (time.monotonic() - began))))
            now = time.monotonic()
            self.ledger.add(now - counted)  # as it goes, so that a run that is killed has counted
            counted = now
        self.ledger.add(time.monotonic() - counted)

    def stalled(self, words: str) -> None:
        """Timings stalled, whatever `wait` has seen."""
        self._tell(f"the machine is busy: {words}; they were taken again")

    def _busy(self, load: Load) -> bool:
        return load.cores > max(0.0, self._cores - self.threads) + SPARE

    def _tell(self, sentence: str) -> None:
        if not self._told:
            self._told = True
            self.say(sentence)
