"""A study's rows kept up to date for those who show them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from studies.queue.plan_feed import PlanFeed
from studies.queue.queue import Counts
from studies.results.board import Board
from studies.results.rows import TrialRow, read_rows
from studies.storage.store import Store, StudyRecord


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
        self.study, self.version = study, 0
        self.rows: list[TrialRow] = []
        self._board: tuple[int, Board] | None = None
        self._feed = PlanFeed(study, lambda connection, where: read_rows(connection, where, keep_plans=False))
        self._lock = threading.Lock()

    @property
    def counts(self) -> Counts:
        """How many plans were in which state at the last look."""
        return self._feed.counts

    def board(self, store: Store) -> Board:
        """What follows from the current rows; computed again when something has changed."""
        version = self.refresh(store)
        with self._lock:
            if self._board is None or self._board[0] != version:
                self._board = (self.version, Board.of(self.rows, self.study.settings))
            return self._board[1]

    def refresh(self, store: Store) -> int:
        """Read what has changed; returns the version. Raises StudyError when the storage cannot be read."""
        with self._lock, uncollected():
            if self._feed.refresh(store) is not None:
                self.rows = list(self._feed.rows.values())
                self.version += 1
            return self.version
