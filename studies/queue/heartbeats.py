"""Workers: their rows, their heartbeats, and the recovery of what dead ones left behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from explorer.errors import StudyError
from studies.queue import finishing, queue
from studies.storage import postgresql
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import plans, workers

ALIVE, STOPPED, DEAD = "running", "stopped", "dead"
BEAT_SECONDS = 5.0
STALE_SECONDS = 120.0  # of a worker on another host, where a pid says nothing
PARENT_VARIABLE = "EXPLORER_PARENT_PID"  # set by `studies.searching.processes`: a worker ends when this process is gone


def host() -> str:
    """Where a pid means something: the host's name and, on Linux, the pid namespace (containers share names)."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


class Worker:
    """This process as a worker of a study: a row, kept fresh by a thread, until `stop`."""

    def __init__(self, store: Store, study: StudyRecord, id: int, number: int, device_id: int | None) -> None:
        self.store, self.study, self.id, self.number, self.device_id = store, study, id, number, device_id
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)

    @classmethod
    def start(cls, store: Store, study: StudyRecord, device: Mapping[str, Any] | None = None) -> Worker:
        """Register this process. device: facts of the device that it measures on."""
        device_id = None if device is None else store.device(device)
        me = psutil.Process()

        def register(connection: Connection, _again: bool) -> tuple[int, int]:
            queue.lock(connection, study)
            query = sa.select(sa.func.count()).select_from(workers).where(workers.c.study_id == study.id)
            number = int(connection.execute(query).scalar_one())
            row = {
                "study_id": study.id,
                "number": number,
                "host": host(),
                "pid": me.pid,
                "process_started": me.create_time(),
                "heartbeat": postgresql.now(connection),
                "state": ALIVE,
                "device_id": device_id,
            }
            key = connection.execute(sa.insert(workers).values(row)).inserted_primary_key
            assert key is not None
            return int(key[0]), number

        worker = cls(store, study, *store.transact(register), device_id)
        worker._thread.start()
        return worker

    def _keep_beating(self) -> None:
        parent = os.environ.get(PARENT_VARIABLE)
        last = time.monotonic()
        while not self._stopping.wait(min(1.0, BEAT_SECONDS)):
            if parent is not None and os.getppid() != int(parent):
                os.kill(os.getpid(), signal.SIGINT)  # the command that started this worker is gone: end as on Ctrl-C
                return
            if time.monotonic() - last >= BEAT_SECONDS:
                last = time.monotonic()
                try:
                    with self.store.begin() as connection:
                        self._write(connection, ALIVE)
                except StudyError:  # the main thread meets the same trouble and tells it
                    self.store.patience.troubled = time.monotonic()

    def _write(self, connection: Connection, state: str) -> None:
        change = {"state": state, "heartbeat": postgresql.now(connection)}
        connection.execute(sa.update(workers).where(workers.c.id == self.id).values(change))

    def stop(self) -> None:
        """End the heartbeat and say so in the row."""
        self._stopping.set()
        self._thread.join()
        self.store.transact(lambda connection, _: self._write(connection, STOPPED))


@dataclass(frozen=True)
class Found:
    """What a recovery found: workers that had died, and how many plans were taken from them."""

    dead: int = 0
    requeued: int = 0


def is_dead(row: sa.Row[Any], here: str, now: float | None) -> bool:
    """Whether the worker of this row is dead: by its pid on this host, by its heartbeat elsewhere. now: None if
    heartbeats say nothing because the storage was not reachable."""
    if row.host != here:
        return now is not None and bool(now - row.heartbeat > STALE_SECONDS)
    try:
        process = psutil.Process(row.pid)
        same = abs(process.create_time() - row.process_started) < 1.0  # otherwise the pid is another process's
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def recover(store: Store, study: StudyRecord) -> Found:
    """Find workers that died and put what they were scoring back into the queue.

    It is one transaction, so of two workers that look at once, one finds and the other sees what it did.
    """
    here = host()

    def find(connection: Connection, _again: bool) -> Found:
        queue.lock(connection, study)
        steady = time.monotonic() - store.patience.troubled > STALE_SECONDS
        now = postgresql.now(connection) if steady else None
        mine = workers.c.study_id == study.id
        alive = connection.execute(sa.select(workers).where(mine, workers.c.state == ALIVE)).all()
        dead = [row.id for row in alive if is_dead(row, here, now)]
        if dead:
            connection.execute(sa.update(workers).where(workers.c.id.in_(dead)).values(state=DEAD))
        gone = sa.select(workers.c.id).where(mine, workers.c.state != ALIVE)
        requeued = finishing.requeue(connection, plans.c.study_id == study.id, plans.c.worker_id.in_(gone))
        return Found(len(dead), requeued)

    return store.transact(find)


def gone_workers(store: Store, study: StudyRecord) -> set[int]:
    """The ids of the study's workers that have stopped or died."""
    query = sa.select(workers.c.id).where(workers.c.study_id == study.id, workers.c.state != ALIVE)
    return {row.id for row in store.read(query)}
