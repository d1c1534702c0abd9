"""A study's rows kept up to date: after the first reading only what has changed is read again.

A plan that is finished stays as it is (the queue's rule), so the rows that can have changed are those which were not
finished when they were read, and those that are newer.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from studies.board import Board
from studies.queue import Counts, count
from studies.rows import TrialRow, read_rows
from studies.store import Store, StudyRecord
from studies.tables import FINISHED, plans

CHUNK = 500  # ids in one query


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: of a million new objects that all stay it would look at each again and again
    (50,000 plans: 4.9 s with it, 2.9 s without)."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Reading:
    """The rows of one study, without their plans' JSON. Safe to share between threads.

    version rises whenever something has changed.
    """

    def __init__(self, study: StudyRecord) -> None:
        self.study, self.version, self.counts = study, 0, Counts()
        self.rows: list[TrialRow] = []
        self._board: tuple[int, Board] | None = None
        self._by_id: dict[int, TrialRow] = {}
        self._open: set[int] = set()
        self._lock = threading.Lock()

    def board(self, store: Store) -> Board:
        """What follows from the rows as they stand now; made anew when something has changed."""
        version = self.refresh(store)
        with self._lock:
            if self._board is None or self._board[0] != version:
                self._board = (self.version, Board.of(self.rows, self.study.settings))
            return self._board[1]

    def refresh(self, store: Store) -> int:
        """Read what has changed; returns the version. Raises StudyError when the storage cannot be read."""
        with self._lock, uncollected(), store.begin() as connection:
            counts, top = count(connection, self.study), max(self._by_id, default=0)
            # Plans that wait, run or end change the counts, unless one takes another's place: `changed` sees that.
            if counts == self.counts and not self._changed(connection):
                return self.version
            mine = plans.c.study_id == self.study.id
            found = read_rows(connection, sa.and_(mine, plans.c.id > top), keep_plans=False)
            waiting = sorted(self._open)
            for start in range(0, len(waiting), CHUNK):
                chosen = plans.c.id.in_(waiting[start : start + CHUNK])
                found |= read_rows(connection, sa.and_(mine, chosen), keep_plans=False)
            self._by_id |= found
            if counts != self._tally():  # a finished plan was put back or removed by other means: read all anew
                self._by_id = read_rows(connection, mine, keep_plans=False)
            self._open = {id for id, row in self._by_id.items() if row.state not in FINISHED}
            self.rows = [self._by_id[id] for id in sorted(self._by_id)]
            self.counts = counts
            self.version += 1
            return self.version

    def _changed(self, connection: sa.Connection) -> bool:
        """Whether a plan that was not finished has another state now."""
        if not self._open:
            return False
        query = sa.select(plans.c.id, plans.c.state).where(
            plans.c.study_id == self.study.id, plans.c.state.not_in(FINISHED)
        )
        now = {row.id: row.state for row in connection.execute(query)}
        return now != {id: self._by_id[id].state for id in self._open}

    def _tally(self) -> Counts:
        states = [row.state for row in self._by_id.values()]
        return Counts(**{state: states.count(state) for state in set(states)})
