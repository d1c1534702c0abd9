"""By which number of an interval a plan is judged.

A latency is quoted, and the best of many is chosen by it: the best of many noisy values is partly the luckiest. So a
latency or a speed-up counts with the worse end of its 95% interval, on fronts, in choices and in headlines. A quality
counts with its value: its interval is of the prompts, which all plans share, and what is chosen by it is certified.
"""

from __future__ import annotations

from typing import Any, Protocol

import sqlalchemy as sa

from studies.metrics import SPEEDS
from studies.storage.tables import measurements


class Interval(Protocol):
    """An `Estimate`, a column of them, or a row of the table of measurements."""

    @property
    def value(self) -> Any: ...

    @property
    def low(self) -> Any: ...

    @property
    def high(self) -> Any: ...


COLUMNS: tuple[sa.Column[Any], ...] = tuple(measurements.c[name] for name in ("value", "low", "high"))
"""What a query must read of a measurement that is to be judged."""


def judged(metric: str, score: Interval) -> Any:
    """The number that counts: the worse end of a latency or speed-up, the value of any other metric."""
    return getattr(score, SPEEDS[metric].worse_end if metric in SPEEDS else "value")
