"""The one reader of a study that grows: after the first look, only the plans that have changed are read again.

What is looked at is the state, the claim, the trial and the key of each plan that is not finished, and of each newer
one. A finished plan stays as it is (the queue's rule). Where the counts of the states tell that one was changed or
removed by other means, everything is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from studies.queue.queue import Counts
from studies.storage.store import Store, StudyRecord
from studies.storage.tables import FINISHED, plans

CHUNK = 500
"""Ids in one query."""


class Stated(Protocol):
    """What a reader makes of a plan."""

    @property
    def state(self) -> str: ...


R = TypeVar("R", bound=Stated)
Stamp = tuple[Any, ...]
Read = Callable[[Connection, sa.ColumnElement[bool]], dict[int, R]]
"""What a reader makes of the rows of `explorer_plans` that a condition chooses, by id."""
_STAMP = [plans.c[name] for name in ("state", "claimed", "finished", "trial_number", "name", "key")]
"""The key too, as SQLite gives the id of the last plan, once removed, to the next."""


@dataclass(frozen=True)
class News(Generic[R]):
    """What a look found.

    Attributes:
        rows: By id, in the queue's order: plans that are new or have changed.
        anew: Whether `rows` are all plans and replace the earlier ones.
    """

    rows: dict[int, R]
    anew: bool


class PlanFeed(Generic[R]):
    """The plans of one study, kept up to date.

    Args:
        study: The study.
        read: Makes what the reader needs of a plan. It may be called again for the same plans.

    Attributes:
        rows: By id, in the queue's order, what `read` made of each plan.
        counts: How many plans were in which state at the last look.
    """

    def __init__(self, study: StudyRecord, read: Read[R]) -> None:
        self.study = study
        self.rows: dict[int, R] = {}
        self.counts = Counts()
        self._read = read
        self._open: dict[int, Stamp] = {}
        self._last = 0

    def refresh(self, store: Store) -> News[R] | None:
        """Read what has changed, at one moment of the storage; None where nothing has.

        Raises:
            StudyError: when the storage cannot be read.
        """
        look = store.at_one_moment(self._look)
        if look is None:
            return None
        self.counts, self._open, news = look
        if news.anew:
            self.rows, self._last = {}, 0
        self.rows.update(news.rows)
        self._last = max([self._last, *news.rows])
        return news

    def _look(self, connection: Connection) -> tuple[Counts, dict[int, Stamp], News[R]] | None:
        """Changes nothing here, as the transaction may be tried again."""
        counts, seen = self._seen(connection)
        changed = [id for id, stamp in seen.items() if self._open.get(id) != stamp]
        changed += [id for id in self._open if id not in seen]
        if not changed and counts == self.counts:
            return None
        rows, anew = self._of(connection, sorted(changed)), False
        if self._counts_with(rows) != counts:
            mine = plans.c.study_id == self.study.id
            every = connection.scalars(sa.select(plans.c.id).where(mine).order_by(plans.c.id)).all()
            rows, anew = self._of(connection, every), True
        return counts, {id: stamp for id, stamp in seen.items() if stamp[0] not in FINISHED}, News(rows, anew)

    def _seen(self, connection: Connection) -> tuple[Counts, dict[int, Stamp]]:
        """The counts of all plans, and the stamps of those that are not finished or newer; in one query, as workers
        look before every proposal."""
        mine = plans.c.study_id == self.study.id
        looked_at = sa.or_(plans.c.id > self._last, plans.c.state.not_in(FINISHED))
        stamps = sa.select(plans.c.id, *_STAMP).where(mine, looked_at)
        none = sa.null()
        counted = sa.select(none, plans.c.state, none, none, sa.func.count(), none, none).where(mine)
        counts, seen = Counts(), dict[int, Stamp]()
        for id, *stamp in connection.execute(stamps.union_all(counted.group_by(plans.c.state))):
            if id is None:
                counts = replace(counts, **{stamp[0]: stamp[3]})
            else:
                seen[id] = tuple(stamp)
        return counts, seen

    def _of(self, connection: Connection, ids: Sequence[int]) -> dict[int, R]:
        rows: dict[int, R] = {}
        for some in pieces(ids):
            rows |= self._read(connection, plans.c.id.in_(some))
        return rows

    def _counts_with(self, rows: dict[int, R]) -> Counts:
        """The counts of the last look, with these rows as they are now."""
        states = Counter({state: n for state, n in vars(self.counts).items() if n})
        states.subtract(self.rows[id].state for id in rows if id in self.rows)
        states.update(row.state for row in rows.values())
        return Counts(**states)


def pieces(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Ids in as many pieces as queries need."""
    yield from (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
