"""The time that a command was given: everything it does counts, loading and calibration too."""

from __future__ import annotations

import time
from collections.abc import Iterable

from explorer.errors import StudyError

LEAST_PLANS = 3
LEAST_SHARE = 0.1


class OutOfTime(StudyError):
    """The time is over in the middle of something that is kept as far as it came, in one sentence."""


class Clock:
    """The time limit of a command. seconds: None for no limit. started: when it began, by the monotonic clock."""

    def __init__(self, seconds: float | None, started: float | None = None) -> None:
        self.seconds = seconds
        self.started = time.monotonic() if started is None else started

    @property
    def left(self) -> float | None:
        """Seconds, never less than 0; None where there is no limit."""
        return None if self.seconds is None else max(0.0, self.started + self.seconds - time.monotonic())

    @property
    def over(self) -> bool:
        return self.left == 0.0

    @property
    def words(self) -> str:
        return f"the time of {self.seconds:g} s is over"


def fitting(seconds: Iterable[float], left: float) -> int:
    """How many tasks, which take `seconds` each and run one after the other, fit into the time that is left."""
    count = 0
    for each in seconds:
        left -= each
        if left < 0:
            break
        count += 1
    return count


def tells(gained: int, seconds: float, limit: float) -> bool:
    """Whether the plans finished in `seconds` are enough to know the pace: 3 of them, or one that took a tenth of the
    `limit`."""
    return gained >= LEAST_PLANS or (gained > 0 and seconds >= LEAST_SHARE * limit)
